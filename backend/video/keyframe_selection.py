"""Which frames become key frames: a few that between them show the whole surface."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...shared.shot import Keyframes
from .correspondence import SurfaceFrame, prepare_surface_frame
from .lattice import SurfaceTexture, cell_side, pack_cells, sample_frames, unpack_cells
from .source import PassesSource, compute_overview_scale

#: side of the cells to cover, in cells of a texture
COARSE = 4.0
#: a pixel with at least this visibility (1 is typical) covers its cell completely
GOOD_VISIBILITY = 0.5
#: a body part of which the key frames leave more than this fraction unseen gets one more, if there is a frame that shows at least
#: ``PART_GAIN`` of the part's surface beside what they do
MOST_UNSEEN, PART_GAIN = 0.2, 0.1
#: the fewest coarse cells of a part that is judged
FEWEST = 6


def _list_seen_cells(frame: SurfaceFrame, part: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The packed coarse cells that a frame sees, how well it sees each, up to ``GOOD_VISIBILITY``, and their body parts; ``part``
    (H, W) is the frame's pass."""
    area = np.linalg.norm(np.cross(frame.across, frame.down), axis=1)
    usual = (side / COARSE) ** 2
    view = np.where(area > 0, np.clip(usual / np.maximum(area, usual * 1e-3), 0, GOOD_VISIBILITY), 0)
    packed = pack_cells(np.floor(frame.key / side).astype(np.int64), frame.ids)
    found, first, index = np.unique(packed, return_index=True, return_inverse=True)
    best = np.zeros(len(found))
    np.maximum.at(best, index.ravel(), view)
    return found, best, part.ravel()[frame.pixels][first].astype(np.int64)


def select_keyframes(source: PassesSource, among: list[int], settings: Keyframes, known: SurfaceTexture | None = None) -> list[int]:
    """Up to ``settings.count`` of the frames ``among``, the most informative first; the frames' small copies decide.

    Of the surface that the frames show, each key frame shows at least the fraction ``least_gain`` that the key frames before it
    and the ``known`` texture do not show, or show much worse; a last one may show a hand or a foot that those hardly do. Empty when
    everything is known. Linear in the number of pixels.
    """
    # cells of the small copies: a known texture's are as small as pixels of the frames
    side = COARSE * (known.side * compute_overview_scale(source) if known else cell_side(sample_frames(source.overview, among)))
    seen = []
    for n in among:  # prepared frames are large: one at a time
        passes = source.overview(n)
        frame = prepare_surface_frame(passes.rest_position[0], passes.surface_index[0])
        seen.append(_list_seen_cells(frame, passes.part[0], side))
    cells, index = np.unique(np.concatenate([found for found, _, _ in seen]), return_inverse=True)
    ends = np.cumsum([0, *(len(found) for found, _, _ in seen)])
    views = [(index.ravel()[a:b], view) for (a, b), (_, view, _) in zip(pairwise(ends), seen, strict=True)]
    best, covered = np.zeros(len(cells)), np.zeros(len(cells))
    for where, view in views:
        best[where] = np.maximum(best[where], view)
    if known is not None:
        place, ids = unpack_cells(known.cells.cpu().numpy())
        large = pack_cells(np.floor((place + 0.5) * known.side / side).astype(np.int64), ids)
        covered[np.isin(cells, large)] = GOOD_VISIBILITY
    keyframes: list[int] = []
    while len(keyframes) < min(settings.count, len(among)):
        gains = [float(np.clip(view - covered[where], 0, None).sum()) for where, view in views]
        first = int(np.argmax(gains))
        if gains[first] <= settings.least_gain * float(best.sum()):
            break
        keyframes.append(first)
        where, view = views[first]
        covered[where] = np.maximum(covered[where], view)
    if keyframes and len(keyframes) < min(settings.count, len(among)):
        part_of = _find_parts(index.ravel(), np.concatenate([parts for _, _, parts in seen]), len(cells))
        more = _find_frame_for_unseen_parts(views, part_of, best, covered)
        keyframes += [] if more is None else [more]
    return [among[n] for n in keyframes]


def _find_parts(index: np.ndarray, parts: np.ndarray, count: int) -> np.ndarray:
    """(C,) the body part that most views of each cell give it."""
    most = int(parts.max(initial=0)) + 1
    found: np.ndarray = np.bincount(index * most + parts, minlength=count * most).reshape(count, most).argmax(1)
    return found


def _find_frame_for_unseen_parts(
    views: list[tuple[np.ndarray, np.ndarray]], part_of: np.ndarray, best: np.ndarray, covered: np.ndarray
) -> int | None:
    """The frame that shows most of the body parts that the key frames hardly show, each part counted alike; None where there is
    no such part or no such frame."""
    size = np.bincount(part_of, best)
    unseen = np.bincount(part_of, np.clip(best - covered, 0, None), len(size))
    judged = np.bincount(part_of, minlength=len(size)) >= FEWEST
    hidden = judged & (unseen > MOST_UNSEEN * size)
    if not hidden.any():
        return None
    share = np.where(hidden[part_of], 1 / np.maximum(size[part_of], 1e-9), 0.0)
    gains = [float((np.clip(view - covered[where], 0, None) * share[where]).sum()) for where, view in views]
    first = int(np.argmax(gains))
    return first if gains[first] > PART_GAIN else None
