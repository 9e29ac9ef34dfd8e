"""What the scene's camera sees: projections, and how much of the frame and of the depth range the surfaces take."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared import shot


@dataclass(frozen=True)
class View:
    """A camera at one frame: 4x4 ``world_to_camera`` (looking along -Z) and ``projection`` for a picture (width, height)."""

    world_to_camera: np.ndarray
    projection: np.ndarray
    width: int
    height: int

    def depth(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) in metres -> (N,) planar distances from the camera, negative behind it."""
        return -(points @ self.world_to_camera[2, :3] + self.world_to_camera[2, 3])

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) -> (N, 2) pixel positions, x to the right and y down; only for points before the camera."""
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
        clip = homogeneous @ (self.projection @ self.world_to_camera).T
        w = np.where(np.abs(clip[:, 3:]) > 1e-9, clip[:, 3:], 1e-9)
        return (clip[:, :2] / w * [0.5, -0.5] + 0.5) * [self.width, self.height]


def check_camera(scene: bpy.types.Scene) -> bpy.types.Object:
    """The scene's camera; ``ShotError`` when there is none that can be used."""
    camera = scene.camera
    if camera is None:
        raise shot.ShotError("camera", "There is no camera in the scene; add one with Add > Camera.")
    if camera.type != "CAMERA":
        raise shot.ShotError("camera", f"{camera.name} is no camera; choose a camera in the scene's properties.")
    if camera.data.type not in ("PERSP", "ORTHO"):
        raise shot.ShotError("camera", f"{camera.name} is panoramic; image models need a perspective or orthographic camera.")
    return camera


def view_of(scene: bpy.types.Scene, graph: bpy.types.Depsgraph, width: int, height: int) -> View:
    """The view of the current frame; markers that switch cameras are followed. Raises ``ShotError`` as ``check_camera``."""
    camera = check_camera(scene).evaluated_get(graph)
    projection = camera.calc_matrix_camera(graph, x=width, y=height)
    return View(np.array(camera.matrix_world.normalized().inverted()), np.array(projection), width, height)


@dataclass(frozen=True)
class Extent:
    """How far the surfaces reach at one frame: ``near`` and ``far`` in metres (inf, -inf if none is before the camera), and
    the rectangle of pixels (left, top, right, bottom; the last two exclusive) outside which nothing is seen."""

    near: float
    far: float
    box: tuple[int, int, int, int]


def extent_of(view: View, points: np.ndarray, margin: int) -> Extent:
    """The extent of world points (N, 3); ``margin`` pixels are added around the rectangle."""
    full = (0, 0, view.width, view.height)
    distance = view.depth(points)
    before = distance > 1e-3
    if not before.any():
        return Extent(np.inf, -np.inf, full)
    near, far = float(distance[before].min()), float(distance[before].max())
    if not before.all():  # a surface that passes the camera may cover any pixel
        return Extent(near, far, full)
    places = view.pixels(points)
    low = np.clip(np.floor(places.min(0)) - margin, 0, [view.width, view.height]).astype(int)
    high = np.clip(np.ceil(places.max(0)) + margin, 0, [view.width, view.height]).astype(int)
    if (high <= low).any():
        # nothing of it is in the picture: the smallest rectangle that can be rendered
        return Extent(near, far, (0, 0, min(8, view.width), min(8, view.height)))
    return Extent(near, far, (int(low[0]), int(low[1]), int(high[0]), int(high[1])))
