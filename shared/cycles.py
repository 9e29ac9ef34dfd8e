"""Motions that stay in place, and motions that repeat: how HumanML3D's vectors, joints and rotations are changed for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .made_motion import MadeMotion
from .motion import slerp
from .skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, JOINT_INDEX
from .vectors import smootherstep

#: seconds at the end of a motion that go over into its beginning
BLEND = 1.0
#: a loop comes back to its heading; what it turned by more than this many radians is worth a word
NOTABLE_TURN = np.radians(20.0)
#: columns of HumanML3D's vectors: turn, velocity of the root, velocities of all joints, contacts of the feet
_TURN, _VELOCITY, _JOINT_VELOCITIES, _CONTACTS = 0, slice(1, 3), slice(193, 259), slice(259, 263)


def put_in_place(made: MadeMotion) -> MadeMotion:
    """The same motions without their way over the ground: the pelvis goes up and down and turns, no more."""
    if made.joints is not None:
        travel = (made.joints[:, :, :1] - made.joints[:, :1, :1]) * np.array([1, 0, 1], np.float32)
        return replace(made, joints=made.joints - travel)
    assert made.vectors is not None
    vectors = made.vectors.copy()
    # the joints' own velocities are in the heading frame of their frame, the root's in that of the next one
    back = _rotate(vectors[..., _VELOCITY], -2 * vectors[..., _TURN])
    own = vectors[..., _JOINT_VELOCITIES].reshape(*vectors.shape[:2], HUMANML_JOINT_COUNT, 3)
    own[..., 0] -= back[..., :1]
    own[..., 2] -= back[..., 1:]
    vectors[..., _VELOCITY] = 0.0
    vectors[..., _JOINT_VELOCITIES] = own.reshape(*vectors.shape[:2], -1)
    return replace(made, vectors=vectors)


def _rotate(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Ground points (..., 2), x and z, rotated by ``angles`` (...) about the vertical."""
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([c * points[..., 0] + s * points[..., 1], -s * points[..., 0] + c * points[..., 1]], -1)


def make_ramp(frames: int, count: int) -> np.ndarray:
    """(frames,) weights of the beginning: 0, and over the last ``count`` frames up to 1 with no speed at either end."""
    weight = np.zeros(frames)
    count = int(np.clip(count, 1, max(frames - 1, 1)))
    weight[-count:] = smootherstep(np.arange(1, count + 1) / count)
    return weight


def close_loop(made: MadeMotion, seconds: float = BLEND) -> tuple[MadeMotion, float]:
    """The same motions with a last pose that is the first one, so that they can be repeated, each from where the one before ended;
    and the largest turn in radians that had to be taken out for it.

    Over the last ``seconds`` the pose goes over into the first one. The way over the ground is kept; a turn that is not a
    whole one is taken out evenly, as the next round would begin askew.
    """
    if made.joints is not None:
        return _close_joints(made, seconds)
    assert made.vectors is not None
    vectors = made.vectors.astype(np.float64)
    frames = vectors.shape[1]
    # half the angle of a turn; the last row's leads out of the motion
    turned = -2 * vectors[:, :-1, _TURN].sum(1)
    excess = _find_excess(turned)
    vectors[:, :-1, _TURN] += excess[:, None] / 2 / max(frames - 1, 1)
    weight = make_ramp(frames, round(seconds * HUMANML_FPS))[None, :, None]
    pose = np.r_[3 : _JOINT_VELOCITIES.start, _JOINT_VELOCITIES.stop : vectors.shape[2]]
    vectors[..., pose] += weight * (vectors[:, :1, pose] - vectors[..., pose])
    vectors[..., _CONTACTS] = vectors[..., _CONTACTS].round()
    vectors[:, -1] = vectors[:, 0]
    return replace(made, vectors=vectors.astype(np.float32)), float(np.abs(excess).max())


def _find_excess(turned: np.ndarray) -> np.ndarray:
    """What turns in radians have beyond whole ones, between -pi and pi."""
    return np.asarray((turned + np.pi) % (2 * np.pi) - np.pi)


def compute_headings(joints: np.ndarray) -> np.ndarray:
    """(..., F) the direction that hips and shoulders of joints (..., F, J, 3) face: an angle about the vertical, 0 along +Z,
    positive to the left, without jumps."""
    left = joints[..., [JOINT_INDEX["left_hip"], JOINT_INDEX["left_shoulder"]], :].sum(-2)
    right = joints[..., [JOINT_INDEX["right_hip"], JOINT_INDEX["right_shoulder"]], :].sum(-2)
    across = left - right
    return np.asarray(np.unwrap(np.arctan2(-across[..., 2], across[..., 0]), axis=-1))


def rotate_about_vertical(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Points (..., J, 3) rotated by ``angles`` (...) about the vertical through the origin."""
    c, s = np.cos(angles)[..., None], np.sin(angles)[..., None]
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([c * x + s * z, y, -s * x + c * z], -1)


def turn_quaternions(quaternions: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Global rotations (..., 4) turned by ``angles`` (...) about the vertical, in the world."""
    c, s = np.cos(angles / 2), np.sin(angles / 2)
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    return np.stack([c * w - s * y, c * x + s * z, c * y + s * w, c * z - s * x], -1)


def _close_joints(made: MadeMotion, seconds: float) -> tuple[MadeMotion, float]:
    assert made.joints is not None
    joints = made.joints.astype(np.float64)
    frames = joints.shape[1]
    heading = compute_headings(joints)
    excess = _find_excess(heading[:, -1] - heading[:, 0])
    change = -excess[:, None] * np.linspace(0, 1, frames)[None]
    root = joints[:, :, :1] * [1.0, 0, 1.0]
    # the pose in axes that turn with the body, and the path whose steps turn with it, too
    pose = rotate_about_vertical(joints - root, -heading)
    steps = rotate_about_vertical(np.diff(root, axis=1), change[:, 1:])
    path = np.concatenate([root[:, :1], root[:, :1] + np.cumsum(steps, 1)], 1)
    weight = make_ramp(frames, round(seconds * made.fps))
    pose += weight[None, :, None, None] * (pose[:, :1] - pose)
    new = heading + change
    closed = rotate_about_vertical(pose, new) + path
    rotations = made.rotations
    if rotations is not None:
        local = rotations.astype(np.float64)
        local[:, :, 0] = turn_quaternions(local[:, :, 0], -heading)
        local = slerp(local, np.broadcast_to(local[:, :1], local.shape), weight[None, :, None, None])
        local[:, :, 0] = turn_quaternions(local[:, :, 0], new)
        rotations = local.astype(np.float32)
    return replace(made, joints=closed.astype(np.float32), rotations=rotations), float(np.abs(excess).max())
