"""Where the background of one frame is in another: at the same pixel before a still camera, at the same place of the world
where surroundings were rendered."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

from ....shared.passes import FramePasses
from .matches import Matches, get_pixel_centres, shrink
from .surface import find_reference_pixels, match, prepare_background_frames


def match_background(passes: FramePasses, height: int, width: int) -> Matches:
    """Match every frame's background with the first frame's at (height, width).

    Rendered surroundings (props and scenery in ``position``) are found by their world position, so that a moving camera is
    followed; pixels that show no surface at all, and are not beside one in the first frame, keep their place. What moves in the
    scene is left to the surface matching.
    """
    index = shrink(passes.surface_index, height, width).reshape(passes.frame_count, -1)
    frames = prepare_background_frames(passes)
    # latents beside a character carry its shade
    taken = binary_dilation(index[0].reshape(height, width) > 0, np.ones((3, 3))).ravel()
    nothing = np.empty(0, np.int64)
    targets, sources, places = [nothing], [nothing], [np.empty((0, 2), np.float32)]
    for frame in range(1, passes.frame_count):
        empty = np.flatnonzero((index[frame] == 0) & ~taken)
        here, there = empty, get_pixel_centres(empty, width)
        if frames is not None:
            pixels, found = match(frames[frame], frames[0], height, width)
            here, there = np.concatenate([here, pixels]), np.concatenate([there, found])
        targets.append(here)
        places.append(there)
        sources.append(find_reference_pixels(there, height, width))
    reference = tuple(-1 if n == 0 else 0 for n in range(passes.frame_count))
    return Matches(reference, tuple(targets), tuple(sources), tuple(places), height, width)
