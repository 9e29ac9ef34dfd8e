"""Where the background of one frame is in another: at the same pixel before a still camera, at the same place of the world
where surroundings were rendered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_dilation

from ....shared.passes import FramePasses
from ..cameras import Camera
from ..horizon import Horizon
from .matches import Matches, get_pixel_centres, shrink
from .surface import find_reference_pixels, match, prepare_background_frames


def find_occupied(passes: FramePasses, height: int, width: int) -> np.ndarray:
    """(F, height, width) bool: the cells of a coarse picture in which any pixel shows what moves: a character, or any surface
    where it is unknown which of them stand still."""
    return has_any(passes.mask > 0 if passes.position is not None else passes.surface_index > 0, height, width)


def has_any(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(F, height, width) bool: the cells of a coarse picture that hold at least one of the ``pixels`` (F, H, W) bool."""
    tall, wide = pixels.shape[1:]
    for axis, (size, count) in enumerate(((tall, height), (wide, width)), 1):
        pixels = np.logical_or.reduceat(pixels, np.arange(count) * size // count, axis=axis)
    return np.asarray(pixels)


def match_background(passes: FramePasses, height: int, width: int, replaced: np.ndarray | None = None) -> Matches:
    """Match every frame's background with the first frame's at (height, width).

    Rendered surroundings (props and scenery in ``position``) are found by their world position, so that a moving camera is
    followed; pixels that show no surface at all, and are not beside one in the first frame, keep their place. What moves in the
    scene is left to the surface matching, with every cell that holds any of it: hands and feet lie in cells that are mostly place.
    So are cells with pixels of the first frame that are ``replaced`` (H, W) bool.
    """
    index = shrink(passes.surface_index, height, width).reshape(passes.frame_count, -1)
    frames = prepare_background_frames(passes)
    occupied = find_occupied(passes, height, width).reshape(passes.frame_count, -1)
    # latents beside a character carry its shade
    taken = occupied[0] | binary_dilation(index[0].reshape(height, width) > 0, np.ones((3, 3))).ravel()
    if replaced is not None:
        taken |= has_any(replaced[None], height, width).ravel()
    nothing = np.empty(0, np.int64)
    targets, sources, places = [nothing], [nothing], [np.empty((0, 2), np.float32)]
    for frame in range(1, passes.frame_count):
        empty = np.flatnonzero((index[frame] == 0) & ~taken)
        here, there = empty, get_pixel_centres(empty, width)
        if frames is not None:
            pixels, found = match(frames[frame], frames[0], height, width)
            here, there = np.concatenate([here, pixels]), np.concatenate([there, found])
        source = find_reference_pixels(there, height, width)
        free = ~occupied[frame, here] & ~occupied[0, source]
        targets.append(here[free])
        places.append(there[free])
        sources.append(source[free])
    reference = tuple(-1 if n == 0 else 0 for n in range(passes.frame_count))
    return Matches(reference, tuple(targets), tuple(sources), tuple(places), height, width)


def match_turning_background(
    passes: FramePasses, cameras: Sequence[Camera], horizon: Horizon, height: int, width: int
) -> list[Matches]:
    """Match every frame's background with those of the frames before it at (height, width), where their ``cameras`` see the same
    place: first with the first frame's, then, what that one does not show, with the second's, and so on; to be copied in this
    order."""
    index = shrink(passes.surface_index, height, width)
    count = passes.frame_count
    occupied = find_occupied(passes, height, width)
    # latents beside a character carry its shade
    taken = [occupied[n] | binary_dilation(index[n] > 0, np.ones((3, 3))) for n in range(count)]
    places = [horizon.locate(camera, height, width) for camera in cameras]
    free = [(index[n] == 0) & ~occupied[n] for n in range(count)]
    out = []
    nothing = np.empty(0, np.int64)
    for reference in range(count - 1):
        targets, sources, found = [nothing] * count, [nothing] * count, [np.empty((0, 2), np.float32)] * count
        for frame in range(reference + 1, count):
            pixels, before = cameras[reference].project(places[frame], height, width)
            cell = np.floor(np.where(before[..., None], pixels, -1)).astype(int)
            inside = before & (cell >= 0).all(-1) & (cell[..., 0] < width) & (cell[..., 1] < height) & free[frame]
            rows, columns = cell[inside][:, 1], cell[inside][:, 0]
            shown = ~taken[reference][rows, columns]
            at = np.flatnonzero(inside)[shown]
            targets[frame], sources[frame] = at, (rows * width + columns)[shown]
            found[frame] = pixels[inside][shown].astype(np.float32)
            free[frame].ravel()[at] = False
        numbers = tuple(reference if n > reference else -1 for n in range(count))
        out.append(Matches(numbers, tuple(targets), tuple(sources), tuple(found), height, width))
    return out
