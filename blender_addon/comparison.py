"""Two results in one picture: by a wipe, next to each other, or their flicker.

Pictures are (H, W, 4) float32 from 0 to 1, rows from the bottom up, as Blender has them. Nothing here uses bpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

#: the flicker map is white where a pixel is this far from the mean of its neighbours in time, of 1
FULL_FLICKER = 0.25
#: black, blue, red, yellow, white: what changes little to what changes much
_RAMP = np.array([[0, 0, 0], [0.1, 0.1, 0.6], [0.9, 0.1, 0.1], [1, 0.85, 0.1], [1, 1, 1]], np.float32)


def find_shown(numbers: Sequence[int], frame: int) -> int:
    """The place in ``numbers`` (ascending scene frames, at least one) of the picture that is seen at a scene frame: the last one at
    or before it, the first one before its time."""
    return max(bisect_right(numbers, frame) - 1, 0)


def fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture in another size, by the nearest pixel."""
    if picture.shape[:2] == (height, width):
        return picture
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    return picture[rows[:, None], columns[None]]


def wipe(left: np.ndarray, right: np.ndarray, position: float) -> np.ndarray:
    """The left picture up to a fraction of the width, the right one behind it, with a line between them."""
    height, width = left.shape[:2]
    edge = round(width * min(max(position, 0.0), 1.0))
    out = left.copy()
    out[:, edge:] = fit(right, height, width)[:, edge:]
    if 0 < edge < width:
        out[:, edge - 1 : edge + max(1, width // 512)] = 1.0
    return out


def put_beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Both pictures next to each other, the right one in the height of the left one."""
    height = left.shape[0]
    width = max(1, round(right.shape[1] * height / right.shape[0]))
    return np.concatenate([left, fit(right, height, width)], 1)


def map_flicker(before: np.ndarray | None, picture: np.ndarray, after: np.ndarray | None) -> np.ndarray:
    """How far each pixel is from the mean of the frames before and after it, as colours: what jumps to and fro is bright, what
    moves evenly is darker. At an end of the shot the one neighbour counts; black where there is none."""
    height, width = picture.shape[:2]
    around = [fit(one, height, width)[..., :3] for one in (before, after) if one is not None]
    out = np.ones_like(picture)
    change = np.abs(picture[..., :3] - np.mean(around, 0)).mean(-1) if around else np.zeros((height, width), np.float32)
    place = np.clip(change / FULL_FLICKER, 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(place.astype(int), len(_RAMP) - 2)
    share = (place - low)[..., None]
    out[..., :3] = _RAMP[low] * (1 - share) + _RAMP[low + 1] * share
    return out
