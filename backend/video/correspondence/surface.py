"""Exact matching by rest positions: where in the reference frame the surface point under a target pixel is.

A k-d tree finds the reference pixel whose rest position is nearest. The rest position's slopes across pixels then say how far
the point lies from that pixel's centre; a point that lies outside its pixel's reach is not visible in the reference. Slopes
also give the surface's orientation in the rest pose, which tells the two sides of a thin part from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from ....shared.passes import FramePasses
from .matches import Matches, find_reference

#: a neighbour farther away than this many typical footprints belongs to another piece of surface
BREAK = 8.0
#: how far from its pixel's centre, in pixels along each axis, a point may lie by the slopes and still be seen there. Half a
#: pixel is the pixel itself; at silhouettes the surface goes on behind the last pixel's centre, and it bends.
REACH = 2.0
#: but never is a point placed farther than this from the centre of the pixel that it was found at
NEAR = 0.75
#: how far off the pixel's tangent plane a point may lie, in footprints
LIFT = 3.0
#: the least cosine between the surface's orientations in both frames
FACING = 0.2
#: rounds of walking from the nearest pixel to the one that holds the point
ROUNDS = 4
#: keeps objects apart in the tree, in metres
OBJECT_GAP = 1000.0


@dataclass(frozen=True)
class SurfaceFrame:
    """One frame's surface points and their slopes, ready to be matched.

    ``pixels`` (N,) flat indices of the pixels with a surface; ``row_of`` (H*W,) their row in the other arrays, -1 for none;
    ``key`` (N, 3) rest positions in metres; ``across`` and ``down`` (N, 3) their change a pixel to the right and downwards;
    ``normal`` (N, 3) unit normals in the rest pose, zero where unknown; ``ids`` (N,) the surface; ``footprint`` the typical
    size of a pixel in metres.
    """

    pixels: np.ndarray
    row_of: np.ndarray
    key: np.ndarray
    across: np.ndarray
    down: np.ndarray
    normal: np.ndarray
    ids: np.ndarray
    footprint: float
    height: int
    width: int

    @cached_property
    def tree(self) -> cKDTree:
        """Of the keys, surfaces far apart; built when a match needs it."""
        return cKDTree(np.column_stack([self.key, self.ids * OBJECT_GAP]), balanced_tree=False)


def _compute_slopes(key: np.ndarray, ids: np.ndarray, axis: int) -> tuple[np.ndarray, float]:
    """Change of (H, W, 3) keys a pixel along an axis, and its typical size.

    The mean of both sides where the surface goes on smoothly, else the smaller one; 0 where neither side belongs to the
    same piece of surface.
    """
    step = np.diff(key, axis=axis)
    size = np.sqrt(np.einsum("...c,...c->...", step, step))
    first, second = (ids[:-1], ids[1:]) if axis == 0 else (ids[:, :-1], ids[:, 1:])
    size[(first != second) | (first == 0)] = np.inf
    known = size[np.isfinite(size) & (size > 0)]
    typical = float(np.median(known)) if len(known) else 0.0
    limit = BREAK * typical
    pads = [((0, 1), (0, 0)), ((1, 0), (0, 0))] if axis == 0 else [((0, 0), (0, 1)), ((0, 0), (1, 0))]
    a, b = (np.pad(size, pad, constant_values=np.inf) for pad in pads)
    forward, backward = (np.pad(step, (*pad, (0, 0))) for pad in pads)
    low, high = np.minimum(a, b), np.maximum(a, b)
    # weights of the two sides: halves, one alone, or none
    both = (high < 2 * low + typical) & (high < limit)
    of_forward = np.where(both, 0.5, np.where((a <= b) & (low < limit), 1.0, 0.0))
    of_backward = np.where(both, 0.5, np.where((a > b) & (low < limit), 1.0, 0.0))
    return of_forward[..., None] * forward + of_backward[..., None] * backward, typical


def prepare_surface_frame(key: np.ndarray, ids: np.ndarray) -> SurfaceFrame:
    """Prepare one frame: ``key`` (H, W, 3) rest positions in metres (or world positions of what stands still), ``ids``
    (H, W) the surface's number, 0 where there is none."""
    height, width = ids.shape
    pixels = np.flatnonzero(ids)
    row_of = np.full(ids.size, -1)
    row_of[pixels] = np.arange(len(pixels))
    if not len(pixels):
        nothing = np.empty((0, 3))
        return SurfaceFrame(pixels, row_of, nothing, nothing, nothing, nothing, pixels, 1e-3, height, width)
    # characters are small in most frames: work on their rectangle only
    rows, cols = np.flatnonzero(ids.any(1)), np.flatnonzero(ids.any(0))
    window = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    part, seen = np.asarray(key[window], np.float64), np.flatnonzero(ids[window])
    (across, a), (down, b) = (_compute_slopes(part, ids[window], axis) for axis in (1, 0))
    across, down, flat = (values.reshape(-1, 3)[seen] for values in (across, down, part))
    normal = np.cross(across, down)
    size = np.sqrt((normal**2).sum(1, keepdims=True))
    normal = np.divide(normal, size, out=np.zeros_like(normal), where=size > 1e-12)
    numbers = ids.ravel()[pixels].astype(np.int64)
    return SurfaceFrame(pixels, row_of, flat, across, down, normal, numbers, (a + b) / 2 or 1e-3, height, width)


def _compute_offsets(difference: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(N, 2) the pixels to the right and down by which a surface must be followed to come closest to a difference (N, 3)."""
    aa, ad, dd = (across**2).sum(1), (across * down).sum(1), (down**2).sum(1)
    pa, pd = (difference * across).sum(1), (difference * down).sum(1)
    # a little is added to the diagonal where the surface is seen from its edge and the two directions are nearly one
    loose = 1e-6 * (aa + dd) + 1e-18
    aa, dd = aa + loose, dd + loose
    determinant = np.maximum(aa * dd - ad**2, 1e-30)
    return np.stack([(pa * dd - pd * ad) / determinant, (pd * aa - pa * ad) / determinant], 1)


def _place(point: np.ndarray, reference: SurfaceFrame, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) as seen from reference pixels: offsets (N, 2) in pixels, and distances (N,) from the tangent planes."""
    difference = point - reference.key[near]
    across, down = reference.across[near], reference.down[near]
    offset = _compute_offsets(difference, across, down)
    return offset, np.linalg.norm(difference - offset[:, :1] * across - offset[:, 1:] * down, axis=1)


def _sample(target: SurfaceFrame, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The (height, width) pixels that show a surface: flat indices (N,), rows in the frame's arrays (N,), and how far their
    centres lie from the frame's pixels (N, 2), in the frame's pixels. Of the pixels around a centre the nearest is taken."""
    y = (np.arange(height) + 0.5) * target.height / height
    x = (np.arange(width) + 0.5) * target.width / width
    best, found = np.full((height, width), np.inf), np.full((height, width), -1)
    for row in (np.ceil(y - 1), np.floor(y)):
        for col in (np.ceil(x - 1), np.floor(x)):
            distance = ((row + 0.5 - y) ** 2)[:, None] + (col + 0.5 - x) ** 2
            here = target.row_of[
                (row.clip(0, target.height - 1).astype(int)[:, None] * target.width + col.clip(0, target.width - 1).astype(int))
            ]
            nearer = (here >= 0) & (distance < best - 1e-9)
            best[nearer], found[nearer] = distance[nearer], here[nearer]
    pixels = np.flatnonzero(found.ravel() >= 0)
    rows = found.ravel()[pixels]
    place = target.pixels[rows]
    shift = np.stack([x[pixels % width] - (place % target.width + 0.5), y[pixels // width] - (place // target.width + 0.5)], 1)
    return pixels, rows, shift


def match(target: SurfaceFrame, reference: SurfaceFrame, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the surface points under the pixel centres of a (height, width) target are in the reference.

    Returns flat target pixels (N,) int64 at (height, width), and (N, 2) float32 places in the reference in the same pixels,
    x to the right and y down, the first pixel's centre at 0.5. Points that the reference does not show are left out.
    """
    pixels, found, shift = _sample(target, height, width)
    if not len(pixels) or not len(reference.pixels):
        return np.empty(0, np.int64), np.empty((0, 2), np.float32)
    point = target.key[found] + shift[:, :1] * target.across[found] + shift[:, 1:] * target.down[found]
    _, near = reference.tree.query(np.column_stack([point, target.ids[found] * OBJECT_GAP]), workers=-1)
    offset, lift = _place(point, reference, near)
    for _ in range(ROUNDS):
        moving = np.flatnonzero(np.abs(offset).max(1) > 0.5)
        if not len(moving):
            break
        step = np.clip(np.round(offset[moving]), -1, 1).astype(int)
        place = reference.pixels[near[moving]]
        x = np.clip(place % reference.width + step[:, 0], 0, reference.width - 1)
        y = np.clip(place // reference.width + step[:, 1], 0, reference.height - 1)
        moved = reference.row_of[y * reference.width + x]
        there = (moved >= 0) & (reference.ids[moved] == target.ids[found[moving]])
        moving, moved = moving[there], moved[there]
        closer, higher = _place(point[moving], reference, moved)
        better = np.abs(closer).max(1) < np.abs(offset[moving]).max(1) - 1e-6
        better &= higher <= lift[moving] + reference.footprint
        if not better.any():
            break
        moving, moved = moving[better], moved[better]
        near[moving], offset[moving], lift[moving] = moved, closer[better], higher[better]
    seen = (np.abs(offset).max(1) <= REACH) & (lift <= LIFT * max(reference.footprint, target.footprint))
    normals, others = target.normal[found], reference.normal[near]
    unknown = ~normals.any(1) | ~others.any(1)
    seen &= unknown | ((normals * others).sum(1) > FACING)
    seen &= reference.ids[near] == target.ids[found]
    offset = np.clip(offset, -NEAR, NEAR)
    place = reference.pixels[near]
    x = (place % reference.width + 0.5 + offset[:, 0]) * width / reference.width
    y = (place // reference.width + 0.5 + offset[:, 1]) * height / reference.height
    return pixels[seen], np.stack([x, y], 1)[seen].astype(np.float32)


def settle(points: np.ndarray, ids: np.ndarray, frame: SurfaceFrame, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points (N, 3) of the surfaces ``ids`` (N,) are in a frame that shows them near ``places`` (N, 2), in its pixels as in
    ``match``: the settled places (N, 2), and (N,) bool whether they were found."""
    places, seen = places.copy(), np.zeros(len(points), bool)
    if not len(frame.pixels):
        return places, seen
    for _ in range(ROUNDS):
        pixels = find_reference_pixels(places, frame.height, frame.width)
        rows = frame.row_of[pixels]
        there = (rows >= 0) & (frame.ids[rows] == ids)
        offset, lift = _place(points, frame, rows)
        seen = there & (np.abs(offset).max(1) <= REACH) & (lift <= LIFT * frame.footprint)
        centres = np.stack([pixels % frame.width, pixels // frame.width], 1) + 0.5
        places[seen] = (centres + np.clip(offset, -NEAR, NEAR))[seen]
    return places, seen


def find_reference_pixels(places: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N,) flat indices of the pixels that hold the places (N, 2)."""
    cols = np.clip(places[:, 0].astype(np.int64), 0, width - 1)
    rows = np.clip(places[:, 1].astype(np.int64), 0, height - 1)
    return rows * width + cols


def prepare_surface_frames(passes: FramePasses) -> list[SurfaceFrame]:
    """Every frame of a shot, prepared: characters and, where they were rendered, props."""
    return [prepare_surface_frame(rest, ids) for rest, ids in zip(passes.rest_position, passes.surface_index, strict=True)]


def prepare_background_frames(passes: FramePasses) -> list[SurfaceFrame] | None:
    """Every frame's surfaces that are not characters, keyed by world position, so that what stands still is matched under a
    moving camera; None where the passes have no world positions."""
    if passes.position is None:
        return None
    still = (passes.surface_index > 0) & (passes.mask == 0)
    return [prepare_surface_frame(position, ids) for position, ids in zip(passes.position, still.astype(np.int64), strict=True)]


def match_surfaces(
    passes: FramePasses, height: int, width: int, reference: str, frames: list[SurfaceFrame] | None = None
) -> Matches:
    """Match every frame with its reference at (height, width); ``reference`` is ``first`` or else the previous frame.

    ``frames`` are the prepared frames, when there are some already.
    """
    frames = frames if frames is not None else prepare_surface_frames(passes)
    others = tuple(find_reference(frame, reference) for frame in range(len(frames)))
    targets, places = [np.empty(0, np.int64)], [np.empty((0, 2), np.float32)]
    for frame in range(1, len(frames)):
        pixels, found = match(frames[frame], frames[others[frame]], height, width)
        targets.append(pixels)
        places.append(found)
    sources = tuple(find_reference_pixels(place, height, width) for place in places)
    return Matches(others, tuple(targets), sources, tuple(places), height, width)
