"""Rotations in numpy, vectorised over any leading dimensions. Quaternions are (w, x, y, z)."""

from __future__ import annotations

import numpy as np

from ...shared.vectors import normalise


def swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the smallest rotations that turn unit vectors ``start`` into ``end``."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(-1)[..., None, None]
    opposite = cosine[..., 0, 0] < -1 + 1e-8
    if opposite.any():
        # any axis at right angles to the bone does for half a turn
        helper = np.where(np.abs(start[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
        axis = np.where(opposite[..., None], normalise(np.cross(start, helper)), axis)
    k = skew(axis)
    small = np.eye(3) + k + k @ k / np.maximum(1 + cosine, 1e-8)
    half_turn = 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
    return np.where(opposite[..., None, None], half_turn, small)


def skew(v: np.ndarray) -> np.ndarray:
    """(..., 3, 3) cross-product matrices."""
    x, y, z = np.moveaxis(v, -1, 0)
    o = np.zeros_like(x)
    return np.stack([np.stack([o, -z, y], -1), np.stack([z, o, -x], -1), np.stack([-y, x, o], -1)], -2)


def about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations by ``angle`` radians about unit axes."""
    k = skew(axis)
    s, c = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + s * k + (1 - c) * (k @ k)


def kabsch(rest: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(F, 3, 3) rotations that best turn rest directions (N, 3) into seen directions (F, N, 3)."""
    u, _, vt = np.linalg.svd(np.einsum("fni,nj->fij", seen, rest))
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., -1] *= sign[:, None]
    return u @ vt


def to_quaternions(matrices: np.ndarray) -> np.ndarray:
    """(..., 4) quaternions of rotation matrices (..., 3, 3), numerically safe for every angle."""
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


def to_matrices(quaternions: np.ndarray) -> np.ndarray:
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


def from_axis_angle(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of axis-angle vectors (..., 3) in radians."""
    return about(normalise(vectors), np.linalg.norm(vectors, axis=-1))


def orthonormal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations whose first two **rows** are two vectors (..., 3) made orthonormal (Zhou et al. 2019)."""
    a = normalise(first)
    b = normalise(second - (a * second).sum(-1, keepdims=True) * a)
    return np.stack([a, b, np.cross(a, b)], -2)


def chain(local: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(F, J, 3, 3) rotations in the body's space of local ones; parents come before their children."""
    out = np.empty_like(local)
    for joint, parent in enumerate(parents):
        out[:, joint] = local[:, joint] if parent < 0 else out[:, parent] @ local[:, joint]
    return out


def forward(local: np.ndarray, rest: np.ndarray, pelvis: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(F, J, 3) joint positions of local rotations (F, J, 3, 3), rest joints (J, 3) and pelvis positions (F, 3)."""
    turned = chain(local, parents)
    out = np.empty((len(local), len(parents), 3))
    for joint, parent in enumerate(parents):
        out[:, joint] = pelvis if parent < 0 else (out[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent]))
    return out


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """The same rotations over time (axis 0), with signs such that neighbours are close."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1)
    flips = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * flips[..., None]])
