"""Where what is around the characters lies, as far as it is not rendered: on the ground under the feet, or very far away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cameras import Camera

#: metres to what is at infinity
FAR = 1e5


def find_ground_hits(camera: Camera, ground: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) where the pixels' rays meet the ground at a height in metres, and (H, W) bool where they do."""
    origin, way = camera.find_rays(height, width)
    down = way[..., 2] < -1e-6
    along = (ground - origin[..., 2]) / np.where(down, way[..., 2], -1.0)
    return origin + way * along[..., None], down & (along > 0)


@dataclass(frozen=True)
class Horizon:
    """How far away what is around the characters is: ``ground`` is the height in metres of the plane under the feet, None where it
    is not known; all else is at infinity."""

    ground: float | None

    def locate(self, camera: Camera, height: int, width: int) -> np.ndarray:
        """(H, W, 3) the places that the pixels of a picture (height, width) show."""
        origin, way = camera.find_rays(height, width)
        points = origin + way * FAR
        if self.ground is not None:
            hits, there = find_ground_hits(camera, self.ground, height, width)
            there &= np.linalg.norm(hits - origin, axis=-1) < FAR
            points[there] = hits[there]
        return points
