"""How large a character is in the camera's picture, and what is said of it. Nothing here uses bpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: a character that is smaller than this share of the picture's height is called small
SMALL = 0.5
#: so much of the picture's side may a box reach out: it is a little larger than what is in it
TOLERANCE = 0.03


@dataclass(frozen=True)
class Framing:
    """``height`` and ``width`` of a character in the picture, as shares of its sides; whether it is ``partly`` or ``wholly``
    outside of the picture, or behind the camera."""

    height: float
    width: float
    partly: bool
    wholly: bool


def measure_framing(points: np.ndarray, world_to_camera: np.ndarray, projection: np.ndarray) -> Framing:
    """What points (N, 3) cover, such as the corners of a character's box, by 4x4 matrices of a camera that looks along -Z."""
    if not len(points):
        return Framing(0.0, 0.0, True, True)
    homogeneous = np.concatenate([np.asarray(points, np.float64), np.ones((len(points), 1))], 1)
    in_camera = homogeneous @ np.asarray(world_to_camera, np.float64).T
    clip = in_camera @ np.asarray(projection, np.float64).T
    # in an orthographic projection all have the weight 1, also those behind the camera
    in_front = (clip[:, 3] > 1e-9) & (in_camera[:, 2] < 0)
    if not in_front.any():
        return Framing(0.0, 0.0, True, True)
    seen = (clip[in_front, :2] / clip[in_front, 3:]) / 2 + 0.5
    low, high = seen.min(0), seen.max(0)
    wholly = bool((high <= 0).any() or (low >= 1).any())
    partly = bool(not in_front.all() or (low < -TOLERANCE).any() or (high > 1 + TOLERANCE).any())
    width, height = high - low
    return Framing(float(height), float(width), partly or wholly, wholly)


def explain_framing(framing: Framing, *, is_framed: bool = False) -> str:
    """A sentence about a character that is small or cut off; empty where it is well in the picture. With ``is_framed`` the camera
    stands where *Frame Character* has put it for the whole range: nearer it would lose a character that travels."""
    if framing.wholly:
        return "The camera does not see the character at this frame."
    if framing.partly:
        return "The character is partly outside of the picture at this frame."
    if framing.height < SMALL and not is_framed and framing.width < 0.9:
        return (
            f"The character takes {100 * framing.height:.0f} % of the picture's height at this frame: a small one gets few details."
        )
    return ""


def keeps_direction(rotation: np.ndarray) -> bool:
    """Whether a camera's 3x3 rotation suits a character: upright, and neither from far above nor from below."""
    right, up, back = np.asarray(rotation, np.float64).T
    return bool(abs(right[2]) < 0.2 and up[2] > 0 and -0.35 <= back[2] <= 0.77)
