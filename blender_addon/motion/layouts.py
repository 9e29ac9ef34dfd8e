"""Published motion layouts -> joints and rotations of the SMPL skeleton, pure numpy.

Everything that comes out has metres, Y up, facing +Z, left = +X, the floor at y = 0. ``MotionError`` is raised, in one
sentence, for arrays that are not what their layout says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, REST_PELVIS_HEIGHT, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from .rotations import continuous, forward, from_axis_angle, orthonormal, to_quaternions

REST = np.array(SMPL_REST_JOINTS)
BODY_JOINTS = len(SMPL_JOINTS)
#: AMASS is Z up and faces -Y: (x, y, z) -> (-x, z, y)
AMASS_TO_BODY = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])
#: SMPL's rest pelvis below its origin, which files of rotations count from
PELVIS_IN_SMPL = np.array([-0.002, -0.223, 0.028])
VECTOR_263, VECTOR_272, VECTOR_272_FPS = 263, 272, 30.0


@dataclass(frozen=True)
class Decoded:
    """``joints`` (F, 22, 3), ``rotations`` (F, 24, 4) or None, ``fps`` as the file or its layout gives it."""

    joints: np.ndarray
    fps: float
    rotations: np.ndarray | None = None


def from_rotations(local: np.ndarray, pelvis: np.ndarray, fps: float, grounded: bool = False) -> Decoded:
    """Joints of an average body for local rotations (F, 22..24, 3, 3) and pelvis positions (F, 3).

    ``lift_to_ground``: the body of the file is unknown, so its lowest toes are set where an average body's stand.
    """
    full = np.broadcast_to(np.eye(3), (len(local), BODY_JOINTS, 3, 3)).copy()
    full[:, : local.shape[1]] = local[:, :BODY_JOINTS]
    joints = forward(full, REST, pelvis, SMPL_PARENTS)[:, :HUMANML_JOINT_COUNT]
    if grounded:
        joints[..., 1] += REST_PELVIS_HEIGHT + REST[10, 1] - np.percentile(joints[:, [10, 11], 1].min(1), 2)
    return Decoded(joints, fps, continuous(to_quaternions(full)))


def _spin(angle: np.ndarray) -> np.ndarray:
    c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([c, o, s], -1), np.stack([o, o + 1, o], -1), np.stack([-s, o, c], -1)], -2)


def humanml_vectors(vectors: np.ndarray) -> np.ndarray:
    """(F, 22, 3) joints of denormalised HumanML3D vectors (F, 263).

    0 is the root's yaw velocity (half angle), 1:3 its velocity in the heading frame, 3 its height, 4:67 the other joints
    without root position and yaw. The 6D rotations in the vector belong to another skeleton and are not used.
    """
    data = np.asarray(vectors, np.float64)
    half = np.concatenate([[0.0], np.cumsum(data[:-1, 0])])
    # the stored quaternion turns the world into the heading frame; its inverse brings joints back
    back = _spin(-2 * half)
    step = np.zeros((len(data), 3))
    step[1:, [0, 2]] = data[:-1, 1:3]
    place = np.cumsum(np.einsum("fij,fj->fi", back, step), 0)
    joints = np.empty((len(data), HUMANML_JOINT_COUNT, 3))
    joints[:, 1:] = np.einsum("fij,fnj->fni", back, data[:, 4:67].reshape(len(data), -1, 3)) + place[:, None]
    joints[:, 0] = place
    joints[:, 0, 1] = data[:, 3]
    return joints


def looks_normalised(vectors: np.ndarray) -> bool:
    """Whether HumanML3D vectors still need ``Mean`` and ``Std``: their foot contacts are no longer 0 or 1."""
    contacts = np.asarray(vectors)[:, 259:263]
    return bool((np.minimum(np.abs(contacts), np.abs(contacts - 1)) > 0.25).mean() > 0.2)


def denormalised(vectors: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Vectors (F, 263) in their own units; refuses the evaluator's statistics, which would crush the root's motion."""
    if mean.shape != (VECTOR_263,) or std.shape != (VECTOR_263,):
        raise MotionError(f"Mean and Std have the shapes {mean.shape} and {std.shape}, expected ({VECTOR_263},) each.")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise MotionError("Mean or Std contains values that cannot be used; take HumanML3D's own Mean.npy and Std.npy.")
    if std[259:].mean() < 0.1 or std[3] < 0.03:
        raise MotionError(
            "Mean and Std are the evaluator's (t2m_mean, t2m_std), which would shrink the path 25 times; take "
            "HumanML3D's own Mean.npy and Std.npy."
        )
    return np.asarray(vectors, np.float64) * std + mean


def vectors_272(vectors: np.ndarray) -> Decoded:
    """Vectors (F, 272) of MotionStreamer and MoLingo, 30 fps: they hold SMPL's own local rotations.

    0:2 root velocity, 2:8 change of heading as the first two rows of a rotation, 8:74 joints, 140:272 local rotations.
    """
    data = np.asarray(vectors, np.float64)
    frames = len(data)
    change = orthonormal(data[:, 2:5], data[:, 5:8])
    heading = np.empty_like(change)
    heading[0] = change[0]
    for frame in range(1, frames):
        heading[frame] = change[frame] @ heading[frame - 1]
    back = np.swapaxes(heading, -1, -2)
    step = np.zeros((frames, 3))
    step[:, [0, 2]] = data[:, :2]
    step[1:] = np.einsum("fij,fj->fi", back[:-1], step[1:])
    place = np.cumsum(step, 0)
    joints = np.einsum("fij,fnj->fni", back, data[:, 8:74].reshape(frames, HUMANML_JOINT_COUNT, 3))
    joints[..., [0, 2]] += place[:, None, [0, 2]]
    rows = data[:, 140:272].reshape(frames, HUMANML_JOINT_COUNT, 6)
    local = np.broadcast_to(np.eye(3), (frames, BODY_JOINTS, 3, 3)).copy()
    local[:, :HUMANML_JOINT_COUNT] = orthonormal(rows[..., :3], rows[..., 3:])
    local[:, 0] = back @ local[:, 0]
    return Decoded(joints, VECTOR_272_FPS, continuous(to_quaternions(local)))


def _flat(data: dict[str, Any], key: str, columns: int, rows: int | None = None) -> np.ndarray:
    try:
        array = np.asarray(data[key], np.float64)
    except (TypeError, ValueError):
        raise MotionError(f"'{key}' holds no numbers.") from None
    array = array.reshape(len(array), -1) if array.ndim > 1 else array
    if array.ndim != 2 or array.shape[1] < columns or (rows is not None and len(array) != rows):
        raise MotionError(f"'{key}' has the shape {np.shape(data[key])}, expected (frames, {columns}).")
    return array[:, :columns]


def frame_rate(data: dict[str, Any], default: float) -> float:
    """The rate that an archive names, a hair's breadth from a whole number rounded; ``default`` where it names none."""
    for key in ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate"):
        if key in data:
            try:
                rate = float(np.asarray(data[key]).ravel()[0])
            except (TypeError, ValueError, IndexError):
                raise MotionError(f"'{key}' is no frame rate; enter the right one.") from None
            return float(round(rate)) if np.isfinite(rate) and abs(rate - round(rate)) < 0.01 else rate
    return default


def amass(data: dict[str, Any]) -> Decoded:
    """AMASS archives, Z up: SMPL+H (``poses`` (F, 156), ``trans``) or SMPL-X (``root_orient``, ``pose_body``, ``trans``)."""
    if "poses" in data:
        poses = _flat(data, "poses", 66)
    else:
        root = _flat(data, "root_orient", 3)
        poses = np.concatenate([root, _flat(data, "pose_body", 63, len(root))], 1)
    trans = _flat(data, "trans", 3, len(poses))
    local = from_axis_angle(poses.reshape(len(poses), HUMANML_JOINT_COUNT, 3))
    local[:, 0] = AMASS_TO_BODY @ local[:, 0]
    pelvis = (trans + PELVIS_IN_SMPL) @ AMASS_TO_BODY.T
    return from_rotations(local, pelvis, frame_rate(data, 120.0), grounded=True)


def hy_motion(data: dict[str, Any]) -> Decoded:
    """HY-Motion archives, Y up, 30 fps: ``poses`` (F, 156) axis-angle, ``trans``; ``Rh`` turns the root where it is given."""
    poses = _flat(data, "poses", 66)
    trans = _flat(data, "trans", 3, len(poses))
    local = from_axis_angle(poses.reshape(len(poses), HUMANML_JOINT_COUNT, 3))
    if "Rh" in data and np.abs(poses[:, :3]).max() < 1e-8:
        local[:, 0] = from_axis_angle(_flat(data, "Rh", 3, len(poses)))
    return from_rotations(local, trans + PELVIS_IN_SMPL, frame_rate(data, 30.0), grounded=True)


def smpl_params(data: dict[str, Any]) -> Decoded:
    """MDM's ``*_smpl_params.npy``: ``thetas`` (24, 6, F), the first two rows of each rotation, ``root_translation`` (3, F).

    The translation is the pelvis joint's position.
    """
    try:
        thetas, root = np.asarray(data["thetas"], np.float64), np.asarray(data["root_translation"], np.float64)
    except (TypeError, ValueError):
        raise MotionError("'thetas' or 'root_translation' holds no numbers.") from None
    if thetas.ndim != 3 or thetas.shape[:2] != (BODY_JOINTS, 6) or root.shape != (3, thetas.shape[2]):
        raise MotionError(
            f"'thetas' and 'root_translation' have the shapes {thetas.shape} and {root.shape}, expected "
            "(24, 6, frames) and (3, frames)."
        )
    length = int(np.ravel(data.get("length", thetas.shape[2]))[0])
    six = thetas.transpose(2, 0, 1)[:length]
    return from_rotations(orthonormal(six[..., :3], six[..., 3:]), root.T[:length], HUMANML_FPS)
