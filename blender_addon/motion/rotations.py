"""Rotations in numpy, vectorised over any leading dimensions. Quaternions are (w, x, y, z)."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the smallest rotations that turn unit vectors ``start`` into ``end``."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(-1)[..., None, None]
    opposite = cosine[..., 0, 0] < -1 + 1e-8
    if opposite.any():
        # any axis at right angles to the bone does for half a turn
        helper = np.where(np.abs(start[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0])
        axis = np.where(opposite[..., None], unit(np.cross(start, helper)), axis)
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
    table = np.stack([np.stack([squares[..., 0], wx, wy, wz], -1), np.stack([wx, squares[..., 1], xy, xz], -1),
                      np.stack([wy, xy, squares[..., 2], yz], -1), np.stack([wz, xz, yz, squares[..., 3]], -1)], -2)
    best = squares.argmax(-1)[..., None, None]
    return unit(np.take_along_axis(table, best, -2)[..., 0, :])


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """The same rotations over time (axis 0), with signs such that neighbours are close."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1)
    flips = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * flips[..., None]])
