"""Rotations in the forms in which files keep them, and which of them a file's numbers are. No bpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX
from ...shared.vectors import normalise
from .rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_matrix, rotation_6d_to_matrix
from .sampling import spread_frames

#: names of the forms, as the dialog, scripts and descriptions know them
AXIS_ANGLE, MATRICES = "AXIS_ANGLE", "MATRICES"
ROWS, COLUMNS, INTERLEAVED = "ROWS", "COLUMNS", "INTERLEAVED"
WXYZ, XYZW = "WXYZ", "XYZW"
#: numbers of a rotation -> the forms that they may have
FORMS: dict[int, tuple[str, ...]] = {
    3: (AXIS_ANGLE,),
    4: (WXYZ, XYZW),
    6: (ROWS, COLUMNS, INTERLEAVED),
    9: (MATRICES,),
}
TITLES = {
    AXIS_ANGLE: "axis-angle vectors",
    MATRICES: "rotation matrices",
    ROWS: "6D rotations by rows",
    COLUMNS: "6D rotations by columns",
    INTERLEAVED: "6D rotations, interleaved",
    WXYZ: "quaternions w, x, y, z",
    XYZW: "quaternions x, y, z, w",
}
#: rotation matrices and 6D rotations may miss being orthonormal by this much
TOLERANCE = 0.2
#: frames that are looked at
SAMPLE = 200
#: radians by which knees and elbows must bend on average to tell a rotation from its inverse
MIN_BEND = 0.06


@dataclass(frozen=True)
class Guess:
    """What was found in a file's numbers, and whether something else would fit them nearly as well."""

    value: str
    is_doubtful: bool = False


def to_matrices(values: np.ndarray, form: str) -> np.ndarray:
    """(..., 3, 3) float64 rotations of values (..., K) in one of the forms."""
    values = np.asarray(values, np.float64)
    if form == AXIS_ANGLE:
        return axis_angle_to_matrix(values)
    if form == MATRICES:
        return np.array(values.reshape(*values.shape[:-1], 3, 3))
    if form == ROWS:
        return rotation_6d_to_matrix(values)
    if form == COLUMNS:
        return np.swapaxes(rotation_6d_to_matrix(values), -1, -2)
    if form == INTERLEAVED:
        return np.swapaxes(rotation_6d_to_matrix(values[..., [0, 2, 4, 1, 3, 5]]), -1, -2)
    quaternions = values if form == WXYZ else values[..., [3, 0, 1, 2]]
    return quaternion_to_matrix(normalise(quaternions))


def to_vectors(matrices: np.ndarray) -> np.ndarray:
    """(..., 3) axis-angle vectors of rotation matrices (..., 3, 3), no longer than half a turn."""
    quaternions = matrix_to_quaternion(matrices)
    quaternions = np.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    sine = np.linalg.norm(quaternions[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternions[..., :1])
    return np.where(sine > 1e-9, quaternions[..., 1:] / np.maximum(sine, 1e-12) * angle, 2 * quaternions[..., 1:])


def measure_bends(local: np.ndarray) -> float:
    """Radians by which knees and elbows bend the way they can, on average, in rotations (F, J, 3, 3) of SMPL's joints; negative
    where they bend the other way."""
    vectors = to_vectors(local[:, [JOINT_INDEX[name] for name in ("left_knee", "right_knee", "left_elbow", "right_elbow")]])
    return float(np.mean([vectors[:, 0, 0], vectors[:, 1, 0], -vectors[:, 2, 1], vectors[:, 3, 1]]))


def guess_form(values: np.ndarray, usual: str = "") -> Guess:
    """The form of rotations (F, J, K) of SMPL's joints, the pelvis first; ``usual`` is taken where the numbers do not tell.

    Raises ``MotionError`` for numbers that are no rotations.
    """
    forms = FORMS.get(values.shape[-1], ())
    if not forms:
        raise MotionError(f"rotations of {values.shape[-1]} numbers are unknown.")
    sample = np.asarray(values[spread_frames(len(values), SAMPLE)], np.float64)
    if not np.isfinite(sample).all():
        # which of them does not matter: the motion is refused with the frame's number
        return Guess(forms[0])
    if values.shape[-1] == 3:
        return Guess(AXIS_ANGLE)
    if values.shape[-1] == 9:
        if _measure_skew(sample.reshape(*sample.shape[:-1], 3, 3)) > TOLERANCE:
            raise MotionError("its numbers are no rotation matrices; export it again.")
        return Guess(MATRICES)
    if values.shape[-1] == 4:
        return _guess_quaternions(sample, usual)
    return _guess_6d(sample, usual)


def _guess_quaternions(sample: np.ndarray, usual: str) -> Guess:
    if np.abs(np.linalg.norm(sample, axis=-1) - 1).mean() > TOLERANCE:
        raise MotionError("its numbers are no quaternions; export it again.")
    # joints turn little from the rest pose, so that w is the largest
    sizes = np.abs(sample[:, 1:]).mean((0, 1))
    first, last = float(sizes[0]), float(sizes[3])
    if max(first, last) - min(first, last) < 0.15:
        return Guess(usual or WXYZ, True)
    return Guess(WXYZ if first > last else XYZW)


def _guess_6d(sample: np.ndarray, usual: str) -> Guess:
    halves = sample.reshape(*sample.shape[:-1], 2, 3)
    pairs = np.swapaxes(sample.reshape(*sample.shape[:-1], 3, 2), -1, -2)
    in_halves, in_pairs = _measure_skew(halves), _measure_skew(pairs)
    if min(in_halves, in_pairs) > TOLERANCE:
        raise MotionError("its numbers are no 6D rotations; denormalise them first.")
    if in_pairs < 0.5 * in_halves and in_halves > 1e-3:
        return Guess(INTERLEAVED)
    # rows and columns are each other's inverse: knees and elbows bend in one of them
    bend = measure_bends(to_matrices(sample, ROWS))
    near = in_pairs < 2 * in_halves + 1e-3
    if abs(bend) < MIN_BEND or near:
        return Guess(usual or (ROWS if bend >= 0 else COLUMNS), True)
    return Guess(ROWS if bend > 0 else COLUMNS)


def _measure_skew(rows: np.ndarray) -> float:
    """How far rows (..., N, 3) are from being orthonormal, on average."""
    product = rows @ np.swapaxes(rows, -1, -2)
    return float(np.abs(product - np.eye(rows.shape[-2])).mean())
