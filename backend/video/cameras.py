"""The cameras of a shot as matrices: the rays of their pixels, and where points of the world are in their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...shared.manifest import CameraEntry, PassesManifest

#: a camera moves when it shows a place in the distance, or the corners of what is before it, elsewhere by this many pixels
STILL = 0.25


@dataclass(frozen=True)
class Camera:
    """``world_to_camera`` and ``projection`` (4, 4) float64, as in ``CameraEntry``."""

    world_to_camera: np.ndarray
    projection: np.ndarray

    @classmethod
    def from_entry(cls, entry: CameraEntry) -> Camera:
        """The camera that an entry describes."""
        matrices = (np.array(values, np.float64).reshape(4, 4) for values in (entry.world_to_camera, entry.projection))
        return cls(*matrices)

    @classmethod
    def unpack(cls, values: np.ndarray) -> Camera:
        """The inverse of ``pack``. Raises ``ValueError`` for numbers that are no camera."""
        matrices = np.asarray(values, np.float64).reshape(2, 4, 4)
        found = cls(matrices[0], matrices[1])
        if not found.is_usable:
            raise ValueError("a camera in it is none")
        return found

    @property
    def is_usable(self) -> bool:
        """Whether every pixel has a ray."""
        matrix = self.projection @ self.world_to_camera
        return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12)

    def pack(self) -> np.ndarray:
        """(32,) float64, for files."""
        return np.concatenate([self.world_to_camera.ravel(), self.projection.ravel()])

    def find_rays(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the rays of all pixels of a picture (height, width) begin, at the camera's near plane, and their unit directions,
        (H, W, 3) each in the world's coordinates."""
        x = (np.arange(width) + 0.5) / width * 2 - 1
        y = 1 - (np.arange(height) + 0.5) / height * 2
        back = np.linalg.inv(self.projection @ self.world_to_camera)
        ends = []
        for depth in (-1.0, 1.0):
            flat = np.stack(np.broadcast_arrays(x[None], y[:, None], depth, 1.0), -1) @ back.T
            ends.append(flat[..., :3] / flat[..., 3:])
        way = ends[1] - ends[0]
        return ends[0], way / np.linalg.norm(way, axis=-1, keepdims=True)

    def find_points(self, distance: np.ndarray) -> np.ndarray:
        """(H, W, 3) where in the world the pixels' surfaces are, from their planar distances (H, W) in metres."""
        origin, way = self.find_rays(*distance.shape)
        axis, offset = self.world_to_camera[2, :3], self.world_to_camera[2, 3]
        start, speed = -(origin @ axis + offset), -(way @ axis)
        return origin + way * ((distance - start) / speed)[..., None]

    def project(self, points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (..., 3) -> (..., 2) pixels, x to the right and y down, and (...) bool which of them are before the camera."""
        whole = self.projection @ self.world_to_camera
        flat = points @ whole[:, :3].T + whole[:, 3]
        before = -(points @ self.world_to_camera[2, :3] + self.world_to_camera[2, 3]) > 0
        w = np.where(before & (flat[..., 3] > 1e-9), flat[..., 3], 1.0)
        pixels = (flat[..., :2] / w[..., None] * [0.5, -0.5] + 0.5) * [width, height]
        return pixels, before & (flat[..., 3] > 1e-9)


def list_cameras(manifest: PassesManifest | None) -> list[Camera]:
    """The cameras of a manifest's frames; none where it does not say them, or says what is no camera."""
    if manifest is None:
        return []
    cameras = [Camera.from_entry(entry) for entry in manifest.cameras]
    return cameras if all(camera.is_usable for camera in cameras) else []


def moves(cameras: Sequence[Camera], height: int, width: int, nearest: float = 1.0) -> bool:
    """Whether cameras of pictures (height, width) do not all see the same, from a metre on, or from what is ``nearest`` in metres
    where that is nearer."""
    if len(cameras) < 2:
        return False
    origin, way = cameras[0].find_rays(2, 2)
    points = np.concatenate([origin + way * distance for distance in (min(nearest, 1.0), 1.0, 10.0, 1000.0)])
    first = cameras[0].project(points, height, width)[0]
    for camera in cameras[1:]:
        pixels, before = camera.project(points, height, width)
        if not before.all() or np.abs(pixels - first).max() > STILL:
            return True
    return False
