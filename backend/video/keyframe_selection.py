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


def _list_seen_cells(frame: SurfaceFrame, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The packed coarse cells that a frame sees, and how well it sees each, up to ``GOOD_VISIBILITY``."""
    area = np.linalg.norm(np.cross(frame.across, frame.down), axis=1)
    usual = (side / COARSE) ** 2
    view = np.where(area > 0, np.clip(usual / np.maximum(area, usual * 1e-3), 0, GOOD_VISIBILITY), 0)
    found, index = np.unique(pack_cells(np.floor(frame.key / side).astype(np.int64), frame.ids), return_inverse=True)
    best = np.zeros(len(found))
    np.maximum.at(best, index.ravel(), view)
    return found, best


def select_keyframes(source: PassesSource, among: list[int], settings: Keyframes, known: SurfaceTexture | None = None) -> list[int]:
    """Up to ``settings.count`` of the frames ``among``, the most informative first; the frames' small copies decide.

    Of the surface that the frames show, each key frame shows at least the fraction ``least_gain`` that the key frames before it
    and the ``known`` texture do not show, or show much worse. Empty when everything is known. Linear in the number of pixels.
    """
    # cells of the small copies: a known texture's are as small as pixels of the frames
    side = COARSE * (known.side * compute_overview_scale(source) if known else cell_side(sample_frames(source.overview, among)))
    seen = []
    for n in among:  # prepared frames are large: one at a time
        passes = source.overview(n)
        seen.append(_list_seen_cells(prepare_surface_frame(passes.rest_position[0], passes.surface_index[0]), side))
    cells, index = np.unique(np.concatenate([found for found, _ in seen]), return_inverse=True)
    ends = np.cumsum([0, *(len(found) for found, _ in seen)])
    views = [(index.ravel()[a:b], view) for (a, b), (_, view) in zip(pairwise(ends), seen, strict=True)]
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
    return [among[n] for n in keyframes]
