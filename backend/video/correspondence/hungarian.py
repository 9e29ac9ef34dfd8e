"""LatentMan's matching (arXiv 2312.07133): an assignment within each body part, by texture coordinates and place."""

from __future__ import annotations

import os

import numpy as np
from scipy.optimize import linear_sum_assignment

from ....shared.passes import FramePasses
from ....shared.shot import ShotError
from .matches import Matches, find_reference, get_pixel_centres, shrink

#: scale of the texture coordinates and of the local distance, as in an 8-bit IUV image
UV_SCALE, DISTANCE_SCALE = 255.0, 63.75
#: bytes a cell of the cost matrix takes while it is made and solved
CELL_BYTES = 24
#: taken where the system does not say how much memory is free
ASSUMED_MEMORY = 4 << 30


def measure_free_memory() -> int:
    """Bytes of memory that are free right now."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = next(line for line in lines if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return ASSUMED_MEMORY


def _make_features(pixels: np.ndarray, uv: np.ndarray, width: int, *, centred: bool) -> np.ndarray:
    """(N, 3): texture coordinates, from their mean if ``centred``, and the L1 distance from the part's bounding box's centre."""
    rows, cols = pixels // width, pixels % width
    local = np.abs(rows - (rows.min() + rows.max()) / 2) + np.abs(cols - (cols.min() + cols.max()) / 2)
    local = local * (DISTANCE_SCALE / max(local.max(), 1e-9))
    values = uv[pixels] * UV_SCALE
    return np.column_stack([values - values.mean(0) if centred else values, local])


def match_pair(
    target_part: np.ndarray,
    target_uv: np.ndarray,
    reference_part: np.ndarray,
    reference_uv: np.ndarray,
    width: int,
    *,
    centred: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Within each part, the assignment of least total distance (arXiv 2312.07133, section 3).

    Parts are flat (P,) with 0 for the background, texture coordinates flat (P, 2) in [0, 1]; parts missing from either
    frame are skipped. With ``centred`` coordinates count from their mean over the part's pixels in each frame, as in the authors'
    code: where a part is half hidden, that shifts all of it. Raises ``ShotError`` when a part's cost matrix does not fit into
    memory.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in np.intersect1d(target_part[target_part > 0], reference_part[reference_part > 0]):
        here, there = np.flatnonzero(target_part == part), np.flatnonzero(reference_part == part)
        needed = len(here) * len(there) * CELL_BYTES
        if needed > measure_free_memory() / 2:
            raise ShotError(
                "size",
                f"Part {part} covers {len(here)} and {len(there)} pixels; the Hungarian matching needs "
                f"{needed / 1e9:.1f} GB for it. Lower the guidance resolution, or match by surface.",
            )
        a = _make_features(here, target_uv, width, centred=centred)
        b = _make_features(there, reference_uv, width, centred=centred)
        cost = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0))
        rows, cols = linear_sum_assignment(cost)
        found.append((here[rows], there[cols]))
    if not found:
        empty = np.empty(0, np.int64)
        return empty, empty
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _stretch_to_parts(passes: FramePasses) -> np.ndarray:
    """Texture coordinates (F, H, W, 2) stretched so that every part spans [0, 1] over the shot, as in an IUV image.

    Without it a part that is small in the atlas would be matched by its place in the frame rather than on the surface.
    """
    out = np.zeros(passes.uv.shape, np.float64)
    for part in np.unique(passes.part[passes.part > 0]):
        seen = passes.part == part
        values = passes.uv[seen]
        low, high = values.min(0), values.max(0)
        out[seen] = (values - low) / np.maximum(high - low, 1e-6)
    return out


def match_hungarian(passes: FramePasses, height: int, width: int, reference: str, *, centred: bool = False) -> Matches:
    """Match every frame with its reference at (height, width); ``centred`` as in ``match_pair``.

    ``reference``: ``first`` frame, ``prev`` frame, or ``prev_new``, the previous frame whose texture coordinates have
    themselves been replaced by what they were matched with.
    """
    parts = shrink(passes.part, height, width).reshape(passes.frame_count, -1)
    uvs = shrink(_stretch_to_parts(passes), height, width).reshape(passes.frame_count, -1, 2)
    references = [find_reference(frame, reference) for frame in range(passes.frame_count)]
    targets, sources = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for frame in range(1, passes.frame_count):
        other = references[frame]
        here, there = match_pair(parts[frame], uvs[frame], parts[other], uvs[other], width, centred=centred)
        if reference == "prev_new":
            uvs[frame][here] = uvs[other][there]
        targets.append(here)
        sources.append(there)
    return Matches(
        tuple(references), tuple(targets), tuple(sources), tuple(get_pixel_centres(s, width) for s in sources), height, width
    )
