"""Rotations in numpy, float64, vectorised over any leading dimensions. Quaternions are (w, x, y, z), angles radians."""

from __future__ import annotations

import numpy as np

from ...shared.vectors import normalise

#: frames that are made continuous at a time
BLOCK = 1024


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the smallest rotations that turn unit vectors ``start`` (..., 3) into ``end`` (..., 3)."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(-1)[..., None, None]
    opposite = cosine[..., 0, 0] < -1 + 1e-8
    if opposite.any():
        # a half turn has no unique axis: any one perpendicular to the start will do
        helper = np.where(np.abs(start[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
        axis = np.where(opposite[..., None], normalise(np.cross(start, helper)), axis)
    k = skew_symmetric(axis)
    small = np.eye(3) + k + k @ k / np.maximum(1 + cosine, 1e-8)
    half_turn = 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
    return np.where(opposite[..., None, None], half_turn, small)


def skew_symmetric(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices whose product with another vector is its cross product with ``vectors`` (..., 3)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    o = np.zeros_like(x)
    return np.stack([np.stack([o, -z, y], -1), np.stack([z, o, -x], -1), np.stack([-y, x, o], -1)], -2)


def rotation_about_axis(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations by ``angle`` (...) radians about unit axes (..., 3), by Rodrigues' formula."""
    k = skew_symmetric(axis)
    s, c = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + s * k + (1 - c) * (k @ k)


def fit_rotations(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(F, 3, 3) rotations that turn directions ``start`` (N, 3) into ``end`` (F, N, 3) with the least squared error (Kabsch)."""
    return nearest_rotations(np.einsum("fni,nj->fij", end, start))


def nearest_rotations(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the rotations nearest to matrices (..., 3, 3) in the least-squares sense, never a mirror image."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return np.asarray(u @ vt)


def matrix_to_quaternion(matrices: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternions of rotation matrices (..., 3, 3), accurate at every angle."""
    m = matrices
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # four times the squares of w, x, y, z; the largest gives the rest without cancellation
    squares = np.stack([1 + trace, 1 + d0 - d1 - d2, 1 - d0 + d1 - d2, 1 - d0 - d1 + d2], -1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    table = np.stack(
        [
            np.stack([squares[..., 0], wx, wy, wz], -1),
            np.stack([wx, squares[..., 1], xy, xz], -1),
            np.stack([wy, xy, squares[..., 2], yz], -1),
            np.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None]
    return normalise(np.take_along_axis(table, best, -2)[..., 0, :])


def quaternion_to_matrix(quaternions: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation matrices of unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return np.stack(rows, -1).reshape(*quaternions.shape[:-1], 3, 3)


def axis_angle_to_matrix(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of axis-angle vectors (..., 3): the direction is the axis, the length the angle."""
    return rotation_about_axis(normalise(vectors), np.linalg.norm(vectors, axis=-1))


def rotation_6d_to_matrix(rows: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of the 6D representation (..., 6): their first two rows, made orthonormal (Zhou et al. 2019)."""
    first, second = rows[..., :3], rows[..., 3:]
    a = normalise(first)
    b = normalise(second - (a * second).sum(-1, keepdims=True) * a)
    return np.stack([a, b, np.cross(a, b)], -2)


def local_to_global(local: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(F, J, 3, 3) rotations in body space of rotations relative to the parent joint; parents come before their children."""
    out = np.empty_like(local)
    for joint, parent in enumerate(parents):
        out[:, joint] = local[:, joint] if parent < 0 else out[:, parent] @ local[:, joint]
    return out


def forward_kinematics(local: np.ndarray, rest: np.ndarray, pelvis: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(F, J, 3) joint positions for local rotations (F, J, 3, 3), rest joints (J, 3) and pelvis positions (F, 3)."""
    rotations = local_to_global(local, parents)
    out = np.empty((len(local), len(parents), 3))
    for joint, parent in enumerate(parents):
        out[:, joint] = pelvis if parent < 0 else (out[:, parent] + rotations[:, parent] @ (rest[joint] - rest[parent]))
    return out


def make_continuous(quaternions: np.ndarray, *, in_place: bool = False) -> np.ndarray:
    """The same rotations as quaternions (F, ..., 4), with signs chosen so that neighbouring frames do not jump.

    ``in_place`` changes the quaternions themselves: those of a long motion are large.
    """
    out = quaternions if in_place else quaternions.copy()
    sign = np.ones(quaternions.shape[1:-1])
    before = quaternions[:1].copy()
    for start in range(1, len(quaternions), BLOCK):
        given = quaternions[start : start + BLOCK].copy()
        dots = (given * np.concatenate([before, given[:-1]])).sum(-1)
        flips = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0) * sign
        out[start : start + BLOCK] = given * flips[..., None]
        sign, before = flips[-1], given[-1:]
    return out


def euler_to_quaternion(angles: np.ndarray, order: str = "XYZ") -> np.ndarray:
    """(F, 4) quaternions of Euler angles (F, 3) about X, Y and Z in radians; ``order`` is Blender's: the first axis turns first."""
    half = angles / 2
    out = np.zeros((len(angles), 4))
    out[:, 0] = 1.0
    for axis in ("XYZ".index(letter) for letter in order):
        turn = np.zeros_like(out)
        turn[:, 0], turn[:, 1 + axis] = np.cos(half[:, axis]), np.sin(half[:, axis])
        # later axes are those of the parent, so they stand on the left
        out = multiply_quaternions(turn, out)
    return out


def quaternion_to_euler(quaternions: np.ndarray, order: str = "XYZ") -> np.ndarray:
    """(F, 3) Euler angles about X, Y and Z of unit quaternions (F, 4) in one of Blender's orders, without jumps of a whole turn."""
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    m = quaternion_to_matrix(quaternions)
    level = np.hypot(m[:, i, i], m[:, j, i])
    locked = level < 1e-6
    out = np.empty((len(m), 3))
    out[:, i] = np.arctan2(sign * m[:, k, j], m[:, k, k])
    out[:, j] = np.arctan2(-sign * m[:, k, i], level)
    out[:, k] = np.where(locked, 0.0, np.arctan2(sign * m[:, j, i], m[:, i, i]))
    for frame in range(len(out)):
        before = out[max(frame - 1, 0)]
        # where two axes fall together only their sum counts: the last one stays, and the first one makes up for it
        if locked[frame]:
            out[frame, k] = before[k]
            out[frame, i] = _find_first_angle(quaternions[frame], out[frame], (i, j, k))
        # each rotation has two sets of angles; take the one nearer to the previous frame
        other = out[frame].copy()
        other[i], other[j], other[k] = out[frame, i] + np.pi, np.pi - out[frame, j], out[frame, k] + np.pi
        options = [o + 2 * np.pi * np.round((before - o) / (2 * np.pi)) for o in (out[frame], other)]
        out[frame] = min(options, key=lambda o: np.abs(o - before).sum())
    return out


def _find_first_angle(quaternion: np.ndarray, angles: np.ndarray, axes: tuple[int, int, int]) -> float:
    """The angle about the first of ``axes`` of a rotation (4,) whose two other Euler angles (3,) are known."""
    rest = quaternion
    for axis in (axes[2], axes[1]):
        back = np.zeros(4)
        back[0], back[1 + axis] = np.cos(angles[axis] / 2), -np.sin(angles[axis] / 2)
        rest = multiply_quaternions(back, rest)
    return 2 * float(np.arctan2(rest[1 + axes[0]], rest[0]))


def multiply_quaternions(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(..., 4) the rotations ``right`` (..., 4) followed by ``left`` (..., 4)."""
    a, b, c, d = np.moveaxis(left, -1, 0)
    w, x, y, z = np.moveaxis(right, -1, 0)
    return np.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


def axis_angle_to_quaternion(values: np.ndarray) -> np.ndarray:
    """(F, 4) quaternions of Blender's axis-angle channels (F, 4): the angle in radians, then an axis of any length."""
    axis = normalise(values[:, 1:])
    half = values[:, :1] / 2
    return np.concatenate([np.cos(half), axis * np.sin(half)], 1)


def quaternion_to_axis_angle(quaternions: np.ndarray) -> np.ndarray:
    """(F, 4) axis-angle channels of unit quaternions (F, 4), the angle first; neither angle nor axis jumps."""
    out = np.empty_like(quaternions)
    axis = np.array([0.0, 1.0, 0.0])
    angle = 0.0
    for frame, (w, *vector) in enumerate(quaternions):
        sine = float(np.linalg.norm(vector))
        # next to no rotation every axis is as good, so the one before stays
        new = axis if sine < 1e-7 else np.array(vector) / sine
        turn = 2 * float(np.arctan2(sine, w))
        if frame and new @ axis < 0:
            new, turn = -new, -turn
        if frame:
            turn += 2 * np.pi * np.round((angle - turn) / (2 * np.pi))
        axis, angle = new, turn
        out[frame] = [angle, *axis]
    return out


def encode_rotations(quaternions: np.ndarray, mode: str) -> np.ndarray:
    """(F, 3) or (F, 4) the channels of quaternions (F, 4) in one of Blender's rotation modes."""
    if mode == "QUATERNION":
        return make_continuous(quaternions)
    if mode == "AXIS_ANGLE":
        return quaternion_to_axis_angle(make_continuous(quaternions))
    return quaternion_to_euler(quaternions, mode)


def decode_rotations(values: np.ndarray, mode: str) -> np.ndarray:
    """(F, 4) the unit quaternions of channels (F, 3) or (F, 4) in one of Blender's rotation modes."""
    if mode == "QUATERNION":
        return normalise(values)
    if mode == "AXIS_ANGLE":
        return axis_angle_to_quaternion(values)
    return euler_to_quaternion(values, mode)
