"""Smoothing, cycles, trimming and joining of body motion. Pure numpy; frames count from 0."""

from __future__ import annotations

import numpy as np

from ...shared.motion import MotionError, slerp
from ...shared.skeleton import SMPL_PARENTS
from ...shared.vectors import normalise
from .retarget import RigMotion
from .rotations import chain, continuous, to_matrices


def from_local(quaternions: np.ndarray, pelvis: np.ndarray) -> RigMotion:
    """Body motion of local rotations (F, 24, 4)."""
    return RigMotion(chain(to_matrices(quaternions), SMPL_PARENTS), pelvis)


def _ramp(count: int) -> np.ndarray:
    """(count,) from just above 0 to just below 1, with no speed at the ends."""
    t = np.arange(1, count + 1) / (count + 1)
    return t * t * t * (t * (6 * t - 15) + 10)


def smoothed(motion: RigMotion, frames: float) -> RigMotion:
    """Gaussian smoothing of ``frames`` standard deviation over time; the first and last frame stay where they are."""
    if frames <= 0 or len(motion.pelvis) < 3:
        return motion
    reach = min(int(np.ceil(3 * frames)), len(motion.pelvis) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)
    kernel /= kernel.sum()

    def run(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        # mirrored through the end points, so that the ends keep both value and direction
        head, tail = 2 * flat[:1] - flat[reach:0:-1], 2 * flat[-1:] - flat[-2 : -reach - 2 : -1]
        padded = np.concatenate([head, flat, tail])
        out = np.stack([np.convolve(column, kernel, "valid") for column in padded.T], 1)
        return out.reshape(values.shape)

    return from_local(normalise(run(motion.quaternions)), run(motion.pelvis))


def trimmed(motion: RigMotion, start: int, end: int) -> RigMotion:
    """Frames ``start`` up to and including ``end``."""
    if not 0 <= start <= end < len(motion.pelvis):
        raise MotionError(f"Frames {start} to {end} are not all there; the motion has frames 0 to {len(motion.pelvis) - 1}.")
    return RigMotion(motion.turned[start : end + 1], motion.pelvis[start : end + 1])


def looped(motion: RigMotion, blend: int) -> RigMotion:
    """The motion with a last frame that is its first again, so that it can be repeated.

    Over the last ``blend`` frames the pose moves into the first one; the way travelled on the ground is kept, the height
    comes back. Play it without its last frame, or as a cycle that repeats with an offset.
    """
    frames = len(motion.pelvis)
    if frames < 4:
        raise MotionError("A motion needs at least 4 frames to be looped.")
    blend = int(np.clip(blend, 2, frames - 1))
    weight = np.zeros(frames)
    weight[-blend:] = np.append(_ramp(blend - 1), 1.0)
    local = motion.quaternions
    first = np.broadcast_to(local[:1], local.shape)
    turned = continuous(slerp(local, first, weight[:, None, None]))
    pelvis = motion.pelvis.copy()
    pelvis[:, 1] += weight * (pelvis[0, 1] - pelvis[-1, 1])
    return from_local(turned, pelvis)


def heading(motion: RigMotion, frame: int) -> float:
    """The way the pelvis faces, as an angle about the vertical in radians, 0 along +Z."""
    front = motion.turned[frame, 0] @ np.array([0.0, 0.0, 1.0])
    return float(np.arctan2(front[0], front[2]))


def moved(motion: RigMotion, angle: float, place: np.ndarray, about: np.ndarray) -> RigMotion:
    """Turned by an angle about the vertical through ``about`` (3,), then shifted along the ground so that it lies at
    ``place`` (3,)."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])
    pelvis = (motion.pelvis - about) @ turn.T + about
    pelvis[:, [0, 2]] += (place - about)[[0, 2]]
    return RigMotion(turn @ motion.turned, pelvis)


def joined(first: RigMotion, second: RigMotion, overlap: int) -> RigMotion:
    """The second motion goes on where the first one is and the way it faces, crossfaded over ``overlap`` frames."""
    if not 1 <= overlap <= min(len(first.pelvis), len(second.pelvis)):
        raise MotionError(
            f"An overlap of {overlap} frames does not fit motions of {len(first.pelvis)} and {len(second.pelvis)} frames."
        )
    at = len(first.pelvis) - overlap
    turn = heading(first, at) - heading(second, 0)
    second = moved(second, turn, first.pelvis[at], second.pelvis[0])
    weight = _ramp(overlap)
    a, b = first.quaternions[at:], second.quaternions[:overlap]
    mixed = slerp(a, b, weight[:, None, None])
    place = first.pelvis[at:] * (1 - weight[:, None]) + second.pelvis[:overlap] * weight[:, None]
    local = continuous(np.concatenate([first.quaternions[:at], mixed, second.quaternions[overlap:]]))
    return from_local(local, np.concatenate([first.pelvis[:at], place, second.pelvis[overlap:]]))
