"""An independent z-buffer: one triangle after the other, in plain loops over bounding boxes."""

from __future__ import annotations

import numpy as np


def rasterise(camera_points: np.ndarray, triangles: np.ndarray, values: np.ndarray, focal: float, size: int):
    """Planar depth (S, S), inf for the background, and perspective-correct corner values (S, S, D).

    Camera-space points (V, 3) look along -Z; triangles (T, 3); values (T, 3, D) at corners.
    """
    depth = np.full((size, size), np.inf)
    out = np.zeros((size, size, values.shape[-1]))
    for triangle, corner_values in zip(triangles, values, strict=True):
        p = camera_points[triangle]
        z = -p[:, 2]
        xy = np.stack([p[:, 0] / z * focal + size / 2, size / 2 - p[:, 1] / z * focal], 1)
        low = np.maximum(np.floor(xy.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(xy.max(0)).astype(int), size - 1)
        if (low > high).any():
            continue
        (ax, ay), (bx, by), (cx, cy) = xy
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0:
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1) + 0.5, np.arange(low[1], high[1] + 1) + 0.5)
        wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
        wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
        weights = np.stack([wa, wb, 1 - wa - wb], -1)
        inside = (weights >= 0).all(-1)
        here = 1 / np.where(inside, weights @ (1 / z), 1.0)
        window = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
        nearer = inside & (here < depth[window])
        depth[window][nearer] = here[nearer]
        mixed = (weights / z @ corner_values) * here[..., None]
        out[window][nearer] = mixed[nearer]
    return depth, out
