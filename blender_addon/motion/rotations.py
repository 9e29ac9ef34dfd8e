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
    u, _, vt = np.linalg.svd(np.einsum("fni,nj->fij", end, start))
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., -1] *= sign[:, None]
    return u @ vt


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


def quaternion_to_euler(quaternions: np.ndarray) -> np.ndarray:
    """(F, 3) XYZ Euler angles of unit quaternions (F, 4), as Blender reads them, without jumps of a whole turn."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    out = np.stack(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - x * z), -1, 1)),
            np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ],
        -1,
    )
    for frame in range(1, len(out)):
        # each rotation has two sets of angles; take the one nearer to the previous frame
        other = out[frame] + [np.pi, np.pi - 2 * out[frame, 1], np.pi]
        options = [o + 2 * np.pi * np.round((out[frame - 1] - o) / (2 * np.pi)) for o in (out[frame], other)]
        out[frame] = min(options, key=lambda o: np.abs(o - out[frame - 1]).sum())
    return out


def euler_to_quaternion(angles: np.ndarray) -> np.ndarray:
    """(F, 4) quaternions of XYZ Euler angles (F, 3) in radians, as Blender reads them."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles / 2).T, np.sin(angles / 2).T
    return np.stack(
        [cx * cy * cz + sx * sy * sz, sx * cy * cz - cx * sy * sz, cx * sy * cz + sx * cy * sz, cx * cy * sz - sx * sy * cz], -1
    )
