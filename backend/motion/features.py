"""Joint positions as HumanML3D's feature vectors: what motion models are trained on, and what pins are written in.

Layout of a row of 263 (J = 22 joints, 20 frames a second, Y up): 0 the root's yaw velocity as a half angle, 1:3 its velocity
x, z in the heading frame, 3 its height, 4:67 joints 1..21 without root position and yaw, 67:193 their rotations as the first
two columns of a matrix, 193:259 velocities of all joints in the heading frame, 259:263 contacts of left ankle and toe, right
ankle and toe (Guo et al. 2022).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT
from ...shared.vectors import normalise

#: joints of each chain from the root outwards, in the order HumanML3D solves them
CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
#: direction of every bone in its synthetic rest pose
REST = np.array(
    [
        (0, 0, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 1, 0),
        (0, 0, 1),
        (0, 0, 1),
        (0, 1, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 0, 1),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
    ],
    float,
)
#: hips and shoulders, left and right, say where the body faces; HumanML3D has the hips the wrong way round when it follows
#: the heading through a clip, and its vectors are only met with the same
ACROSS, ACROSS_SWAPPED = ((1, 2), (16, 17)), ((2, 1), (16, 17))
SMOOTHING = 20.0
#: left ankle and toe, right ankle and toe; a contact moves less than this many metres in a frame, squared
FEET, STILL = (7, 10, 8, 11), 0.002


def heading(joints: np.ndarray, across: tuple[tuple[int, int], ...], smoothing: float = 0.0) -> np.ndarray:
    """(F,) yaw in radians, 0 along +Z and positive to the left, of joints (F, 22, 3); ``smoothing`` in frames."""
    sideways = normalise(sum(joints[:, left] - joints[:, right] for left, right in across))
    facing = np.cross(sideways, [0.0, 1.0, 0.0])
    if smoothing:
        facing = gaussian_filter1d(facing, smoothing, axis=0, mode="nearest")
    return np.unwrap(np.arctan2(facing[:, 0], facing[:, 2]))


def _rotate_about_y(yaw: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (F, N, 3) turned by -yaw (F,) about Y: from the world into the heading frame."""
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([c * x - s * z, y, s * x + c * z], -1)


def _rotations(joints: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(F, 21, 6) columns of each joint's turn against the one before it in its chain, without twist."""
    out = np.zeros((len(joints), HUMANML_JOINT_COUNT, 3, 3))
    out[:] = np.eye(3)
    root = Rotation.from_euler("Y", -yaw[:, None])  # as HumanML3D has it: the turn from the heading to +Z
    for chain in CHAINS:
        whole = root
        for parent, child in pairwise(chain):
            bone = normalise(joints[:, child] - joints[:, parent])
            axis, cosine = np.cross(REST[child], bone), bone @ REST[child]
            rotation = Rotation.from_quat(normalise(np.concatenate([axis, 1 + cosine[:, None] + 1e-9], 1)))
            local = whole.inv() * rotation
            out[:, child] = local.as_matrix()
            whole = whole * local
    return np.swapaxes(out[:, 1:, :, :2], -1, -2).reshape(len(joints), -1, 6)


def encode(joints: np.ndarray, floor: float | None = None) -> np.ndarray:
    """(F, 22, 3) joints in metres, Y up, at 20 frames a second -> (F - 1, 263) float32, from the origin and facing +Z.

    Agrees with HumanML3D's own vectors to 1e-6, also in what looks wrong there.

    ``floor`` is the ground's height, the lowest joint when None. ``MotionError`` for fewer than two frames.
    """
    joints = np.asarray(joints, np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (HUMANML_JOINT_COUNT, 3) or len(joints) < 2:
        raise MotionError(f"A motion of shape {joints.shape} cannot be encoded; give two frames or more of 22 joints.")
    joints = joints - [0.0, joints[..., 1].min() if floor is None else floor, 0.0]
    joints = _rotate_about_y(np.full(len(joints), heading(joints[:1], ACROSS)[0]), joints - joints[0, 0] * [1, 0, 1])
    yaw = heading(joints, ACROSS_SWAPPED, SMOOTHING)
    root = joints[:, 0]
    step = np.diff(joints, axis=0)
    velocity = _rotate_about_y(yaw[1:], step[:, :1])[:, 0]
    local = _rotate_about_y(yaw, joints - root[:, None] * [1, 0, 1])[:-1]
    still = (np.square(step[:, FEET]).sum(-1) < STILL).astype(float)
    rows = [
        -np.diff(yaw)[:, None] / 2,
        velocity[:, [0, 2]],
        root[:-1, 1:2],
        local[:, 1:].reshape(len(step), -1),
        _rotations(joints, yaw)[:-1].reshape(len(step), -1),
        _rotate_about_y(yaw[:-1], step).reshape(len(step), -1),
        still,
    ]
    return np.concatenate(rows, 1).astype(np.float32)
