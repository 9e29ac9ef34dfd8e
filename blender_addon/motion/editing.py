"""Smoothing, looping, trimming and joining of body motion. No bpy; frames count from 0."""

from __future__ import annotations

import numpy as np

from ...shared.motion import MotionError, slerp
from ...shared.vectors import normalise, smootherstep
from .retarget import RigMotion
from .rotations import make_continuous


def _make_ramp(count: int) -> np.ndarray:
    """(count,) from just above 0 to just below 1, with no speed at the ends."""
    return smootherstep(np.arange(1, count + 1) / (count + 1))


def smooth_motion(motion: RigMotion, frames: float) -> RigMotion:
    """Gaussian smoothing over time with a standard deviation of ``frames``; the first and last frame stay where they are."""
    if frames <= 0 or len(motion.pelvis) < 3:
        return motion
    reach = min(int(np.ceil(3 * frames)), len(motion.pelvis) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)
    kernel /= kernel.sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        # mirrored through the end points, so that the ends keep both value and direction
        head, tail = 2 * flat[:1] - flat[reach:0:-1], 2 * flat[-1:] - flat[-2 : -reach - 2 : -1]
        padded = np.concatenate([head, flat, tail])
        out = np.stack([np.convolve(column, kernel, "valid") for column in padded.T], 1)
        return out.reshape(values.shape)

    return RigMotion.from_local(normalise(smooth(motion.quaternions)), smooth(motion.pelvis))


def trim_motion(motion: RigMotion, start: int, end: int) -> RigMotion:
    """Frames ``start`` up to and including ``end``; ``MotionError`` when some of them do not exist."""
    if not 0 <= start <= end < len(motion.pelvis):
        raise MotionError(f"Frames {start} to {end} are outside the motion; choose frames from 0 to {len(motion.pelvis) - 1}.")
    return RigMotion(motion.global_rotations[start : end + 1], motion.pelvis[start : end + 1])


def loop_motion(motion: RigMotion, blend: int) -> RigMotion:
    """The motion with a last pose equal to its first, so that it can be repeated; ``MotionError`` for fewer than 4 frames.

    Over the last ``blend`` frames the pose moves into the first one; the distance travelled on the ground is kept, the
    height comes back. Play it without its last frame, or as a cycle that repeats with an offset.
    """
    frames = len(motion.pelvis)
    if frames < 4:
        raise MotionError("A motion needs at least 4 frames to be looped; choose a longer one.")
    blend = int(np.clip(blend, 2, frames - 1))
    weight = np.zeros(frames)
    weight[-blend:] = np.append(_make_ramp(blend - 1), 1.0)
    local = motion.quaternions
    first = np.broadcast_to(local[:1], local.shape)
    quaternions = make_continuous(slerp(local, first, weight[:, None, None]))
    pelvis = motion.pelvis.copy()
    pelvis[:, 1] += weight * (pelvis[0, 1] - pelvis[-1, 1])
    return RigMotion.from_local(quaternions, pelvis)


def compute_heading(motion: RigMotion, frame: int) -> float:
    """The direction the pelvis faces in a frame, as an angle about the vertical in radians, 0 along +Z."""
    front = motion.global_rotations[frame, 0] @ np.array([0.0, 0.0, 1.0])
    return float(np.arctan2(front[0], front[2]))


def place_motion(motion: RigMotion, angle: float, position: np.ndarray, pivot: np.ndarray) -> RigMotion:
    """The motion rotated by ``angle`` radians about the vertical through ``pivot`` (3,), then shifted along the ground so
    that the pivot comes to ``position`` (3,)."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])
    pelvis = (motion.pelvis - pivot) @ rotation.T + pivot
    pelvis[:, [0, 2]] += (position - pivot)[[0, 2]]
    return RigMotion(rotation @ motion.global_rotations, pelvis)


def join_motions(first: RigMotion, second: RigMotion, overlap: int) -> RigMotion:
    """The second motion continues where the first one ends and faces the same way, cross-faded over ``overlap`` frames.

    Raises ``MotionError`` when either motion is shorter than the overlap.
    """
    if not 1 <= overlap <= min(len(first.pelvis), len(second.pelvis)):
        raise MotionError(
            f"An overlap of {overlap} frames does not fit motions of {len(first.pelvis)} and {len(second.pelvis)} frames; "
            "choose a shorter one."
        )
    at = len(first.pelvis) - overlap
    angle = compute_heading(first, at) - compute_heading(second, 0)
    second = place_motion(second, angle, first.pelvis[at], second.pelvis[0])
    weight = _make_ramp(overlap)
    mixed = slerp(first.quaternions[at:], second.quaternions[:overlap], weight[:, None, None])
    pelvis = first.pelvis[at:] * (1 - weight[:, None]) + second.pelvis[:overlap] * weight[:, None]
    quaternions = make_continuous(np.concatenate([first.quaternions[:at], mixed, second.quaternions[overlap:]]))
    return RigMotion.from_local(quaternions, np.concatenate([first.pelvis[:at], pelvis, second.pelvis[overlap:]]))


def hold_in_place(motion: RigMotion) -> RigMotion:
    """The motion without its path over the ground; heights stay."""
    pelvis = motion.pelvis.copy()
    pelvis[:, [0, 2]] = pelvis[0, [0, 2]]
    return RigMotion(motion.global_rotations, pelvis)
