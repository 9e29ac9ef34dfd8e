"""Where the background of one frame is in another: at the same pixel before a still camera, at the same place of the world
where surroundings were rendered."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

from ....shared.passes import FramePasses
from .matches import Matches, get_pixel_centres, shrink
from .surface import find_reference_pixels, match, prepare_background_frames


def find_occupied(passes: FramePasses, height: int, width: int) -> np.ndarray:
    """(F, height, width) bool: the cells of a coarse picture in which any pixel shows what moves: a character, or any surface
    where it is unknown which of them stand still."""
    moving = passes.mask > 0 if passes.position is not None else passes.surface_index > 0
    tall, wide = moving.shape[1:]
    for axis, (size, count) in enumerate(((tall, height), (wide, width)), 1):
        moving = np.logical_or.reduceat(moving, np.arange(count) * size // count, axis=axis)
    return np.asarray(moving)


def match_background(passes: FramePasses, height: int, width: int) -> Matches:
    """Match every frame's background with the first frame's at (height, width).

    Rendered surroundings (props and scenery in ``position``) are found by their world position, so that a moving camera is
    followed; pixels that show no surface at all, and are not beside one in the first frame, keep their place. What moves in the
    scene is left to the surface matching, with every cell that holds any of it: hands and feet lie in cells that are mostly place.
    """
    index = shrink(passes.surface_index, height, width).reshape(passes.frame_count, -1)
    frames = prepare_background_frames(passes)
    occupied = find_occupied(passes, height, width).reshape(passes.frame_count, -1)
    # latents beside a character carry its shade
    taken = occupied[0] | binary_dilation(index[0].reshape(height, width) > 0, np.ones((3, 3))).ravel()
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
