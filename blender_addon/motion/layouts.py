"""Published motion layouts -> joints and rotations of the SMPL skeleton. No bpy.

Results are in metres, Y up, facing +Z, left = +X, the floor at y = 0. ``MotionError`` is raised, in one sentence, for
arrays that do not have the shape of their layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, REST_PELVIS_HEIGHT, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from .rotations import (
    forward_kinematics,
    make_continuous,
    matrix_to_quaternion,
    rotation_6d_to_matrix,
)

#: (24, 3) rest joints of an average body
AVERAGE_REST_JOINTS = np.array(SMPL_REST_JOINTS)
JOINT_COUNT = len(SMPL_JOINTS)
#: where SMPL's rest pelvis lies from its origin, which files of rotations count from
PELVIS_IN_SMPL = np.array([-0.002, -0.223, 0.028])
VECTOR_263, VECTOR_272, VECTOR_272_FPS = 263, 272, 30.0
#: frames that are posed at a time
BLOCK = 1024


@dataclass(frozen=True)
class DecodedMotion:
    """A motion as its layout gives it, not yet checked.

    ``joints`` (F, 22, 3) metres; ``fps`` of the file, or its layout's usual rate; ``rotations`` (F, 24, 4) local unit
    quaternions, or None where the layout has none. ``follows_joints``: the rotations came from another skeleton, see ``Motion``.
    """

    joints: np.ndarray
    fps: float
    rotations: np.ndarray | None = None
    follows_joints: bool = False


def pose_average_body(local: np.ndarray, pelvis: np.ndarray, fps: float, to_ground: bool = False) -> DecodedMotion:
    """The motion of an average body with local rotations (F, 22..24, 3, 3) and pelvis positions (F, 3).

    ``to_ground``: the file's own body is unknown, so its lowest toes are moved to the height where an average body's stand.
    """
    return pose_in_blocks(lambda frames: local[frames], pelvis, fps, to_ground)


def pose_in_blocks(
    find_local: Callable[[slice], np.ndarray], pelvis: np.ndarray, fps: float, to_ground: bool = False
) -> DecodedMotion:
    """``pose_average_body`` of rotations that are made a few frames at a time: as matrices a long motion takes gigabytes."""
    joints = np.empty((len(pelvis), HUMANML_JOINT_COUNT, 3))
    quaternions = np.empty((len(pelvis), JOINT_COUNT, 4))
    for start in range(0, len(pelvis), BLOCK):
        frames = slice(start, start + BLOCK)
        local = find_local(frames)
        rotations = np.broadcast_to(np.eye(3), (len(local), JOINT_COUNT, 3, 3)).copy()
        rotations[:, : local.shape[1]] = local[:, :JOINT_COUNT]
        posed = forward_kinematics(rotations, AVERAGE_REST_JOINTS, pelvis[frames], SMPL_PARENTS)
        joints[frames] = posed[:, :HUMANML_JOINT_COUNT]
        quaternions[frames] = matrix_to_quaternion(rotations)
    if to_ground:
        toe_height = REST_PELVIS_HEIGHT + AVERAGE_REST_JOINTS[10, 1]
        joints[..., 1] += toe_height - np.percentile(joints[:, [10, 11], 1].min(1), 2)
    return DecodedMotion(joints, fps, make_continuous(quaternions, in_place=True))


def _rotate_about_vertical(angles: np.ndarray) -> np.ndarray:
    """(F, 3, 3) rotations by angles (F,) about the Y axis."""
    c, s, o = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    return np.stack([np.stack([c, o, s], -1), np.stack([o, o + 1, o], -1), np.stack([-s, o, c], -1)], -2)


def humanml_to_joints(vectors: np.ndarray) -> np.ndarray:
    """(F, 22, 3) joints in metres of HumanML3D vectors (F, 263) in their own units, not normalised.

    0 is the root's yaw velocity (half angle), 1:3 its velocity in the heading frame, 3 its height, 4:67 the other joints
    without root position and yaw. The 6D rotations in the vector belong to another skeleton and are not used.
    """
    data = np.asarray(vectors, np.float64)
    half_yaw = np.concatenate([[0.0], np.cumsum(data[:-1, 0])])
    # the stored quaternion turns the world into the heading frame; its inverse brings joints back
    to_world = _rotate_about_vertical(-2 * half_yaw)
    step = np.zeros((len(data), 3))
    step[1:, [0, 2]] = data[:-1, 1:3]
    position = np.cumsum(np.einsum("fij,fj->fi", to_world, step), 0)
    joints = np.empty((len(data), HUMANML_JOINT_COUNT, 3))
    joints[:, 1:] = np.einsum("fij,fnj->fni", to_world, data[:, 4:67].reshape(len(data), -1, 3)) + position[:, None]
    joints[:, 0] = position
    joints[:, 0, 1] = data[:, 3]
    return joints


def is_normalised(vectors: np.ndarray) -> bool:
    """Whether HumanML3D vectors (F, 263) still need ``Mean`` and ``Std``: their foot contacts are not 0 or 1."""
    contacts = np.asarray(vectors)[:, 259:263]
    return bool((np.minimum(np.abs(contacts), np.abs(contacts - 1)) > 0.25).mean() > 0.2)


def denormalise(vectors: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Vectors (F, 263) in their own units, float64, from normalised ones and their mean and std (263,).

    Raises ``MotionError`` for other shapes, unusable values, and the evaluator's statistics, which would shrink the root's
    motion.
    """
    if mean.shape != (VECTOR_263,) or std.shape != (VECTOR_263,):
        raise MotionError(f"Mean and Std have the shapes {mean.shape} and {std.shape}, expected ({VECTOR_263},) each.")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise MotionError("Mean or Std contains unusable values; take HumanML3D's own Mean.npy and Std.npy.")
    if std[259:].mean() < 0.1 or std[3] < 0.03:
        raise MotionError(
            "Mean and Std are the evaluator's (t2m_mean, t2m_std), which would shrink the path 25 times; take "
            "HumanML3D's own Mean.npy and Std.npy."
        )
    return np.asarray(vectors, np.float64) * std + mean


def decode_vectors_272(vectors: np.ndarray) -> DecodedMotion:
    """The motion of MotionStreamer's and MoLingo's vectors (F, 272), 30 fps, which hold SMPL's own local rotations.

    0:2 root velocity, 2:8 change of heading as the first two rows of a rotation, 8:74 joints, 140:272 local rotations.
    """
    data = np.asarray(vectors)
    frames = len(data)
    change = rotation_6d_to_matrix(data[:, 2:8].astype(np.float64))
    heading = np.empty_like(change)
    heading[0] = change[0]
    for frame in range(1, frames):
        heading[frame] = change[frame] @ heading[frame - 1]
    to_world = np.swapaxes(heading, -1, -2)
    step = np.zeros((frames, 3))
    step[:, [0, 2]] = data[:, :2]
    step[1:] = np.einsum("fij,fj->fi", to_world[:-1], step[1:])
    position = np.cumsum(step, 0)
    joints = np.einsum("fij,fnj->fni", to_world, data[:, 8:74].astype(np.float64).reshape(frames, HUMANML_JOINT_COUNT, 3))
    joints[..., [0, 2]] += position[:, None, [0, 2]]
    quaternions = np.empty((frames, JOINT_COUNT, 4))
    for start in range(0, frames, BLOCK):
        block = slice(start, start + BLOCK)
        rows = data[block, 140:272].astype(np.float64).reshape(-1, HUMANML_JOINT_COUNT, 6)
        local = np.broadcast_to(np.eye(3), (len(rows), JOINT_COUNT, 3, 3)).copy()
        local[:, :HUMANML_JOINT_COUNT] = rotation_6d_to_matrix(rows)
        local[:, 0] = to_world[block] @ local[:, 0]
        quaternions[block] = matrix_to_quaternion(local)
    return DecodedMotion(joints, VECTOR_272_FPS, make_continuous(quaternions, in_place=True))


def decode_smpl_params(data: dict[str, Any]) -> DecodedMotion:
    """The motion of MDM's ``*_smpl_params.npy``: ``thetas`` (24, 6, F), the first two rows of each rotation, and
    ``root_translation`` (3, F).

    The translation is the pelvis joint's position.
    """
    try:
        thetas, root = np.asarray(data["thetas"], np.float64), np.asarray(data["root_translation"], np.float64)
    except (TypeError, ValueError):
        raise MotionError("'thetas' or 'root_translation' does not contain numbers.") from None
    if thetas.ndim != 3 or thetas.shape[:2] != (JOINT_COUNT, 6) or root.shape != (3, thetas.shape[2]):
        raise MotionError(
            f"'thetas' and 'root_translation' have the shapes {thetas.shape} and {root.shape}, expected "
            "(24, 6, frames) and (3, frames)."
        )
    length = int(np.ravel(data.get("length", thetas.shape[2]))[0])
    rows = thetas.transpose(2, 0, 1)[:length]
    return pose_in_blocks(lambda frames: rotation_6d_to_matrix(rows[frames]), root.T[:length], HUMANML_FPS)


@dataclass(frozen=True)
class VectorLayout:
    """A layout with a fixed number of values a frame: ``decode`` takes an array (F, that number)."""

    name: str
    fps: float
    decode: Callable[[np.ndarray], DecodedMotion]


#: values a frame -> the layout; HumanML3D's, which needs its statistics from other files, is read apart
VECTOR_LAYOUTS: dict[int, VectorLayout] = {
    VECTOR_272: VectorLayout("272-number vectors", VECTOR_272_FPS, decode_vectors_272),
}
