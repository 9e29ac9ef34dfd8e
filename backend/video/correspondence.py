"""Which pixels of two frames show the same surface point.

A match is a pair of equally long integer arrays: flat pixel indices of the target frame, and of the reference frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from shared.shot import FramePasses, ShotError

#: the largest cost matrix of one part, in cells; beyond it the assignment takes minutes
MAX_ASSIGNMENT = 3000 * 3000
#: scale of the texture coordinates and of the local distance, as in an 8-bit IUV image
UV_SCALE, DISTANCE_SCALE = 255.0, 63.75


@dataclass(frozen=True)
class Matches:
    """For every frame the reference frame's number (-1 for none) and the matched flat pixel indices."""

    reference: tuple[int, ...]
    target_pixels: tuple[np.ndarray, ...]
    reference_pixels: tuple[np.ndarray, ...]
    height: int
    width: int


def shrink(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """(F, H, W, ...) -> (F, height, width, ...) by the nearest pixel: surface values must not be blended."""
    rows = ((np.arange(height) + 0.5) * array.shape[1] / height).astype(int)
    cols = ((np.arange(width) + 0.5) * array.shape[2] / width).astype(int)
    return array[:, rows][:, :, cols]


def _features(pixels: np.ndarray, uv: np.ndarray, width: int) -> np.ndarray:
    """(N, 3): texture coordinates and the L1 distance from the centre of the part's bounding box."""
    rows, cols = pixels // width, pixels % width
    local = np.abs(rows - (rows.min() + rows.max()) / 2) + np.abs(cols - (cols.min() + cols.max()) / 2)
    local = local * (DISTANCE_SCALE / max(local.max(), 1e-9))
    return np.column_stack([uv[pixels] * UV_SCALE, local])


def hungarian(target_part: np.ndarray, target_uv: np.ndarray, reference_part: np.ndarray, reference_uv: np.ndarray,
              width: int) -> tuple[np.ndarray, np.ndarray]:
    """LatentMan's matching (arXiv 2312.07133): within each part, the assignment of least total distance.

    Parts are flat (P,) with 0 for the background, texture coordinates flat (P, 2) in [0, 1]; parts missing from either
    frame are skipped. Raises ``ShotError`` when a part has too many pixels for a dense assignment.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in np.intersect1d(target_part[target_part > 0], reference_part[reference_part > 0]):
        here, there = np.flatnonzero(target_part == part), np.flatnonzero(reference_part == part)
        if len(here) * len(there) > MAX_ASSIGNMENT:
            raise ShotError("size", f"Part {part} covers {len(here)} and {len(there)} pixels, too many for the Hungarian "
                                    "matching; lower the guidance resolution.")
        a, b = _features(here, target_uv, width), _features(there, reference_uv, width)
        cost = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0))
        rows, cols = linear_sum_assignment(cost)
        found.append((here[rows], there[cols]))
    if not found:
        empty = np.empty(0, np.int64)
        return empty, empty
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _within_parts(passes: FramePasses) -> np.ndarray:
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


def hungarian_matches(passes: FramePasses, height: int, width: int, reference: str) -> Matches:
    """Match every frame with its reference at (height, width).

    ``reference``: ``first`` frame, ``prev`` frame, or ``prev_new``, the previous frame whose texture coordinates have
    themselves been replaced by what they were matched with.
    """
    parts = shrink(passes.part, height, width).reshape(passes.frame_count, -1)
    uvs = shrink(_within_parts(passes), height, width).reshape(passes.frame_count, -1, 2)
    references, targets, sources = [-1], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for frame in range(1, passes.frame_count):
        other = 0 if reference == "first" else frame - 1
        here, there = hungarian(parts[frame], uvs[frame], parts[other], uvs[other], width)
        if reference == "prev_new":
            uvs[frame][here] = uvs[other][there]
        references.append(other)
        targets.append(here)
        sources.append(there)
    return Matches(tuple(references), tuple(targets), tuple(sources), height, width)


def footprint(rest: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W) the size in metres of what each pixel sees: distance to its neighbours' rest positions, inf at edges."""
    out = np.full(mask.shape, np.inf)
    for axis in (0, 1):
        step = np.linalg.norm(np.diff(rest, axis=axis), axis=-1)
        both = np.logical_and(np.delete(mask, -1, axis), np.delete(mask, 0, axis))
        step = np.where(both, step, np.inf)
        for side in (slice(None, -1), slice(1, None)):
            index = (side, slice(None)) if axis == 0 else (slice(None), side)
            out[index] = np.minimum(out[index], step)
    return out


def surface(target_rest: np.ndarray, target_mask: np.ndarray, reference_rest: np.ndarray,
            reference_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest rest positions, no farther apart than a pixel's footprint.

    Rest positions (H, W, 3) in metres, masks (H, W); returns flat pixel indices of both frames.
    """
    here, there = np.flatnonzero(target_mask), np.flatnonzero(reference_mask)
    if not len(here) or not len(there):
        empty = np.empty(0, np.int64)
        return empty, empty
    a, b = target_rest.reshape(-1, 3)[here], reference_rest.reshape(-1, 3)[there]
    distance, nearest = cKDTree(b).query(a)
    _, back = cKDTree(a).query(b)
    limit = np.minimum(footprint(target_rest, target_mask.astype(bool)).ravel()[here], 0.05)
    keep = (back[nearest] == np.arange(len(a))) & (distance <= limit)
    return here[keep], there[nearest[keep]]
