"""Draws a figure for a small picture: triangles in space -> pixels, lit from above and the left. No bpy."""

from __future__ import annotations

import numpy as np

from ..reference_shots.rasteriser import rasterise

#: pixels along a side of a preview, and how many are drawn for each
SIDE, SAMPLES = 256, 2
#: where the picture is seen from, in heights of the figure: from the front and a little from its left and above
_VIEW = np.array([0.45, -1.0, 0.22])
_DISTANCE, _MARGIN = 4.0, 0.06
_COLOUR = np.array([0.80, 0.72, 0.63])
_LIGHTS = ((np.array([0.55, -0.55, 0.65]), 0.72), (np.array([-0.8, -0.3, 0.1]), 0.22))
_AMBIENT = 0.2


def draw_figure(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 4) float32 RGBA from 0 to 1, the lowest row first, of triangles (T, 3) over points (V, 3) in the world, Z up,
    as large as fits. Transparent where nothing is; all of it where there is nothing to draw."""
    side = SIDE * SAMPLES
    corners = np.unique(triangles)
    used = points[corners] if len(corners) else points[:0]
    if len(used) == 0 or not np.isfinite(used).all():
        return np.zeros((SIDE, SIDE, 4), np.float32)
    low, high = used.min(0), used.max(0)
    size = float(np.linalg.norm(high - low)) or 1.0
    forward = -_VIEW / np.linalg.norm(_VIEW)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), -forward])
    camera = (points - (low + high) / 2) @ axes.T / size - [0.0, 0.0, _DISTANCE]
    plane = (camera[:, :2] / -camera[:, 2:])[corners]
    middle, extent = (plane.min(0) + plane.max(0)) / 2, float(np.ptp(plane, axis=0).max()) or 1.0
    # shearing by the middle keeps every depth and brings the figure to the centre
    camera[:, :2] += camera[:, 2:] * middle
    raster = rasterise(camera, triangles, side * (1 - 2 * _MARGIN) / extent, side, side)
    normals = _smooth_normals(points, triangles)
    found = raster.interpolate(normals[triangles])
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    # a surface that is seen from behind is lit as from its other side
    found *= np.where(found @ forward > 0, -1.0, 1.0)[:, None]
    light = np.full(len(found), _AMBIENT)
    for direction, strength in _LIGHTS:
        light += strength * np.maximum(found @ (direction / np.linalg.norm(direction)), 0.0)
    seen = np.zeros((side, side, 4), np.float32)
    seen[raster.mask] = np.column_stack([np.minimum(light[:, None] * _COLOUR, 1.0) ** (1 / 1.4), np.ones(len(found))])
    parts = seen.reshape(SIDE, SAMPLES, SIDE, SAMPLES, 4)
    cover = parts[..., 3:].mean((1, 3))
    colour = (parts[..., :3] * parts[..., 3:]).mean((1, 3)) / np.maximum(cover, 1e-6)
    return np.concatenate([colour, cover], axis=2)[::-1].astype(np.float32)


def _smooth_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, n]] for n in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.zeros_like(points, dtype=np.float64)
    for n in range(3):
        np.add.at(normals, triangles[:, n], flat)
    return normals


def make_bone_triangles(heads: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(points (6 B, 3), triangles (8 B, 3)) of a double pyramid for each bone from its head (B, 3) to its tail (B, 3)."""
    along = tails - heads
    length = np.linalg.norm(along, axis=1, keepdims=True)
    up = np.where(np.abs(along[:, 2:]) > 0.9 * length, [[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]])
    side = np.cross(along, up)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(side, along) / np.maximum(length, 1e-9)
    middle, thick = heads + 0.15 * along, 0.1 * length
    ring = [middle + thick * one for one in (side, other, -side, -other)]
    points = np.stack([heads, *ring, tails], axis=1).reshape(-1, 3)
    faces = [(end, 1 + n, 1 + (n + 1) % 4) for n in range(4) for end in (0, 5)]
    triangles = (np.arange(len(heads))[:, None, None] * 6 + np.array(faces)[None]).reshape(-1, 3)
    return points, triangles
