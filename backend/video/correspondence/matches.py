"""What every kind of matching gives, and what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....shared.overview import shrink

__all__ = ["Matches", "find_reference", "get_pixel_centres", "shrink"]


@dataclass(frozen=True)
class Matches:
    """Matched pixels of every frame and its reference at (height, width).

    ``reference`` holds the reference frame's number of each frame, -1 for none. ``target_pixels`` and ``reference_pixels``
    are flat int64 indices of equal length. ``places`` (N, 2) float32 says where in the reference the target pixel's centre
    is: x to the right and y down in pixels, the first pixel's centre at 0.5.
    """

    reference: tuple[int, ...]
    target_pixels: tuple[np.ndarray, ...]
    reference_pixels: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]
    height: int
    width: int


def get_pixel_centres(pixels: np.ndarray, width: int) -> np.ndarray:
    """(N, 2) float32 places of flat pixel indices."""
    return np.stack([pixels % width + 0.5, pixels // width + 0.5], 1).astype(np.float32)


def find_reference(frame: int, reference: str) -> int:
    """The number of a frame's reference, -1 for the first frame."""
    if frame == 0:
        return -1
    return 0 if reference == "first" else frame - 1
