"""A picture that is larger than what the camera's frame shows: its projection, and a camera that has it. Nothing here uses bpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shared.picture_size import Crop


@dataclass(frozen=True)
class Padding:
    """The camera's frame is the rectangle ``frame`` of a picture of ``width`` x ``height`` pixels."""

    frame: Crop
    width: int
    height: int


def pad_projection(projection: np.ndarray, padding: Padding, width: int, height: int) -> np.ndarray:
    """The projection (4, 4) of the padded picture at the size (width, height), which may be a small copy of another aspect, as
    rounding leaves it: pixels are square, and the longer side decides how large they are.

    ``projection`` (4, 4) is that of the camera's frame at its own size, as Blender computes it.
    """
    frame = padding.frame
    scale = width / padding.width if padding.width >= padding.height else height / padding.height
    out = projection.copy()
    # where the frame's middle is in the picture, from the picture's middle in pixels, to the right and up
    right = frame.left + frame.width / 2 - padding.width / 2
    up = padding.height / 2 - frame.top - frame.height / 2
    out[0] = projection[0] * (frame.width * scale / width) + projection[3] * (2 * right * scale / width)
    out[1] = projection[1] * (frame.height * scale / height) + projection[3] * (2 * up * scale / height)
    return out


@dataclass(frozen=True)
class Lens:
    """Settings of a Blender camera whose ``sensor_fit`` is HORIZONTAL: ``lens`` for a ``sensor_width`` of 1, or, for an
    orthographic one, ``ortho_scale``; the other is 0."""

    lens: float
    ortho_scale: float
    shift_x: float
    shift_y: float


def compute_lens(projection: np.ndarray, width: int, height: int) -> Lens:
    """The camera that has a projection (4, 4) with square pixels in a picture of this size."""
    aspect = width / height
    if projection[3, 3] == 1:
        return Lens(0.0, float(2 / projection[0, 0]), float(-projection[0, 3] / 2), float(-projection[1, 3] / 2 / aspect))
    return Lens(float(projection[0, 0] / 2), 0.0, float(projection[0, 2] / 2), float(projection[1, 2] / 2 / aspect))
