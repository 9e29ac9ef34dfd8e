"""Small pictures of frames that are being made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: the most pixels along a side, and the most pictures at a time
SIDE, MOST = 128, 9


def choose_shown(count: int) -> list[int]:
    """Which of so many frames are shown: all of a few, else as many as there is room for, evenly spread."""
    return sorted({round(n) for n in np.linspace(0, count - 1, min(count, MOST))}) if count else []


def is_draft(pictures: object, count: int) -> bool:
    """Whether an array holds so many small pictures (N, h, w, 3) uint8."""
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.ndim != 4:
        return False
    found, height, width, channels = pictures.shape
    return found == count and 0 < count <= MOST and channels == 3 and 0 < height <= SIDE and 0 < width <= SIDE


def shrink(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 as one of at most ``SIDE`` pixels along a side: every pixel the mean of those it stands for."""
    height, width = picture.shape[:2]
    step = math.ceil(max(height, width) / SIDE)
    if step <= 1:
        return picture
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.float32), rows, 0), columns, 1)
    counts = np.diff([*rows, height])[:, None, None] * np.diff([*columns, width])[None, :, None]
    return (sums / counts).round().astype(np.uint8)


def make_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (h, w, 3) uint8 of one size beside and below each other, (H, W, 3) uint8; what is left over is black."""
    count = len(pictures)
    height, width = pictures[0].shape[:2]
    # as square as their shape allows
    columns = min(range(1, count + 1), key=lambda n: abs(math.log(n * width / (math.ceil(count / n) * height))))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for n, picture in enumerate(pictures):
        top, left = n // columns * height, n % columns * width
        sheet[top : top + height, left : left + width] = picture
    return sheet
