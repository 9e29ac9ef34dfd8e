"""Small copies of a shot's passes: what must know the whole shot, such as the choice of key frames, works from them.

A shot whose frames are small is its own overview. Of a larger one the sender renders the overview first, so that work on the
first frames can begin while the passes of later frames are still rendered.
"""

from __future__ import annotations

import numpy as np

from .passes import FramePasses
from .shot import ShotRequest

#: the longer side of an overview's frames in pixels
OVERVIEW_SIDE = 256


def compute_overview_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the small copies; the frames' own size where that is small already."""
    longer = max(width, height)
    if longer <= OVERVIEW_SIDE:
        return width, height
    return max(8, round(width * OVERVIEW_SIDE / longer)), max(8, round(height * OVERVIEW_SIDE / longer))


def needs_overview(request: ShotRequest) -> bool:
    """Whether a shot's sender renders an overview before the passes: large frames, of which a few are key frames."""
    small = compute_overview_size(request.width, request.height) == (request.width, request.height)
    return not small and request.get_method().keyframes is not None and len(request.frames) > 1


def shrink(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """(F, H, W, ...) -> (F, height, width, ...) by the nearest pixel: surface values must not be blended."""
    rows = ((np.arange(height) + 0.5) * array.shape[1] / height).astype(int)
    cols = ((np.arange(width) + 0.5) * array.shape[2] / width).astype(int)
    return array[:, rows][:, :, cols]


def shrink_passes(passes: FramePasses) -> FramePasses:
    """The small copies of frames (F, H, W, ...)."""
    height, width = passes.mask.shape[1:]
    small_width, small_height = compute_overview_size(width, height)
    if (small_width, small_height) == (width, height):
        return passes
    return FramePasses(**{name: shrink(array, small_height, small_width) for name, array in passes.arrays().items()})
