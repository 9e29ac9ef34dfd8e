"""A vectorised z-buffer in numpy: perspective-correct, one sample at each pixel centre, like the add-on's passes.

Camera space is Blender's: +X right, +Y up, looking along -Z. Depth is planar (distance along the view axis), in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Raster:
    """What each pixel of a (H, W) image sees; row 0 is the top.

    ``triangle`` (H, W) int32, -1 for the background; ``barycentric`` (H, W, 3) float32, perspective-correct weights of
    the triangle's corners; ``depth`` (H, W) float32 metres, inf for the background.
    """

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: the pixels that see the mesh."""
        return self.triangle >= 0

    def interpolate(self, corner_values: np.ndarray) -> np.ndarray:
        """Values (T, 3, D) at triangle corners -> (N, D) at the N pixels of ``mask``, in row-major order."""
        seen = self.mask
        return np.einsum("nc,ncd->nd", self.barycentric[seen], corner_values[self.triangle[seen]])


def rasterise(points: np.ndarray, triangles: np.ndarray, focal: float, height: int, width: int) -> Raster:
    """Rasterise triangles (T, 3) over camera-space points (V, 3); ``focal`` is in pixels, the centre is the image's.

    Triangles that reach behind the camera are left out.
    """
    z = -points[:, 2]
    safe = np.maximum(z, 1e-6)
    sx = points[:, 0] / safe * focal + width / 2
    sy = height / 2 - points[:, 1] / safe * focal
    tx, ty, tz = sx[triangles], sy[triangles], z[triangles]
    x0 = np.clip(np.ceil(tx.min(1) - 0.5), 0, width).astype(np.int64)
    x1 = np.clip(np.floor(tx.max(1) - 0.5) + 1, 0, width).astype(np.int64)
    y0 = np.clip(np.ceil(ty.min(1) - 0.5), 0, height).astype(np.int64)
    y1 = np.clip(np.floor(ty.max(1) - 0.5) + 1, 0, height).astype(np.int64)
    area = (tx[:, 1] - tx[:, 0]) * (ty[:, 2] - ty[:, 0]) - (tx[:, 2] - tx[:, 0]) * (ty[:, 1] - ty[:, 0])
    wide, high = x1 - x0, y1 - y0
    count = np.where((wide > 0) & (high > 0) & (tz.min(1) > 1e-4) & (area != 0), wide * high, 0)
    owner = np.repeat(np.arange(len(triangles)), count)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    px, py = x0[owner] + nth % wide[owner], y0[owner] + nth // wide[owner]
    cx, cy = px + 0.5, py + 0.5
    ox, oy = tx[owner], ty[owner]
    w0 = ((ox[:, 1] - cx) * (oy[:, 2] - cy) - (ox[:, 2] - cx) * (oy[:, 1] - cy)) / area[owner]
    w1 = ((ox[:, 2] - cx) * (oy[:, 0] - cy) - (ox[:, 0] - cx) * (oy[:, 2] - cy)) / area[owner]
    w2 = 1 - w0 - w1
    inside = (w0 >= 0) & (w1 >= 0) & (w2 >= 0)
    owner, pixel = owner[inside], (py * width + px)[inside]
    weights = np.stack([w0, w1, w2], 1)[inside] / tz[owner]
    depth = 1 / weights.sum(1)
    far_first = np.argsort(-depth, kind="stable")
    nearest = np.full(height * width, -1, np.int64)
    nearest[pixel[far_first]] = far_first
    seen = nearest >= 0
    hit = nearest[seen]
    triangle = np.full(height * width, -1, np.int32)
    triangle[seen] = owner[hit]
    barycentric = np.zeros((height * width, 3), np.float32)
    barycentric[seen] = weights[hit] * depth[hit, None]
    buffer = np.full(height * width, np.inf, np.float32)
    buffer[seen] = depth[hit]
    return Raster(triangle.reshape(height, width), barycentric.reshape(height, width, 3), buffer.reshape(height, width))
