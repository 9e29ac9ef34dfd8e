"""What the scene's camera sees: its projection, and the depth range and the pixels that surfaces cover."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np

from ...shared import shot
from ...shared.manifest import CameraEntry
from ..typed_access import get_camera
from .padding import Padding, pad_projection


@dataclass(frozen=True)
class View:
    """A camera at a frame: 4x4 matrices ``world_to_camera`` (looking along -Z) and ``projection`` for a picture (width, height), in
    Blender's units, of which one is ``metres_per_unit`` long."""

    world_to_camera: np.ndarray
    projection: np.ndarray
    width: int
    height: int
    metres_per_unit: float = 1.0

    def make_entry(self) -> CameraEntry:
        """The same camera for a world in metres."""
        to_camera, projection = self.world_to_camera.copy(), self.projection.copy()
        to_camera[:3, 3] *= self.metres_per_unit
        projection[:, :3] /= self.metres_per_unit
        if projection[3, 2]:  # perspective: homogeneous coordinates whose last one is the distance
            projection *= self.metres_per_unit
        return CameraEntry(tuple(map(float, to_camera.ravel())), tuple(map(float, projection.ravel())))

    def compute_depth(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) -> (N,) planar distances from the camera, negative behind it."""
        return -(points @ self.world_to_camera[2, :3] + self.world_to_camera[2, 3])

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) -> (N, 2) pixel positions, x to the right and y down; only for points in front of the camera."""
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
        clip = homogeneous @ (self.projection @ self.world_to_camera).T
        w = np.where(np.abs(clip[:, 3:]) > 1e-9, clip[:, 3:], 1e-9)
        return (clip[:, :2] / w * [0.5, -0.5] + 0.5) * [self.width, self.height]


def find_marker_camera(scene: bpy.types.Scene, frame: int | None = None) -> bpy.types.Object | None:
    """The camera that a marker binds to a frame, the current one by default: that of the last such marker at or before it, else of
    the first one. Those that are hidden for rendering do not count, as in Blender."""
    at = scene.frame_current if frame is None else frame
    bound = [marker for marker in scene.timeline_markers if marker.camera is not None and not marker.camera.hide_render]
    bound.sort(key=lambda marker: marker.frame)
    passed = [marker for marker in bound if marker.frame <= at]
    return passed[-1].camera if passed else bound[0].camera if bound else None


def find_camera(scene: bpy.types.Scene, frame: int, chosen: bpy.types.Object | None = None) -> bpy.types.Object:
    """The camera through which a render sees a frame: the one that a marker binds, else the scene's own, unless another is
    ``chosen``. Raises ``ShotError`` when there is none, or none that can be used."""
    camera = chosen or find_marker_camera(scene, frame) or scene.camera
    if camera is None:
        raise shot.ShotError("camera", "There is no camera in the scene; add one with Add > Camera.")
    if camera.type != "CAMERA":
        raise shot.ShotError("camera", f"{camera.name} is not a camera; choose a camera in the scene's properties.")
    if get_camera(camera).type not in ("PERSP", "ORTHO"):
        raise shot.ShotError("camera", f"{camera.name} is panoramic; image models need a perspective or orthographic camera.")
    return camera


def list_cameras(
    scene: bpy.types.Scene, frames: Sequence[int], chosen: bpy.types.Object | None = None
) -> tuple[bpy.types.Object, ...]:
    """The cameras that frames (ascending, at least one) are seen through, each once, in order. Raises ``ShotError`` as
    ``find_camera`` does, whose ``chosen`` it has."""
    first, last = frames[0], frames[-1]
    # only a marker changes it
    switches = sorted(
        {marker.frame for marker in scene.timeline_markers if marker.camera is not None and first < marker.frame <= last}
    )
    seen = [frames[bisect_left(frames, frame)] for frame in switches]
    return tuple(dict.fromkeys(find_camera(scene, frame, chosen) for frame in (first, *seen)))


def read_view(
    camera: bpy.types.Object,
    graph: bpy.types.Depsgraph,
    width: int,
    height: int,
    padding: Padding | None = None,
    metres_per_unit: float = 1.0,
) -> View:
    """What a camera sees at the current frame of evaluated data; with ``padding`` that is more than the camera's frame."""
    evaluated = camera.evaluated_get(graph)
    # in double precision, as cameras may be far from the world's origin
    to_camera = np.linalg.inv(np.array(evaluated.matrix_world.normalized(), np.float64))
    if padding is None:
        projection = np.array(evaluated.calc_matrix_camera(graph, x=width, y=height))
        return View(to_camera, projection, width, height, metres_per_unit)
    projection = np.array(evaluated.calc_matrix_camera(graph, x=padding.frame.width, y=padding.frame.height))
    return View(to_camera, pad_projection(projection, padding, width, height), width, height, metres_per_unit)


@dataclass(frozen=True)
class Extent:
    """What surfaces cover at one frame: ``near`` and ``far`` in Blender's units (inf and -inf when nothing is in front of the
    camera), and the rectangle of pixels (left, top, right, bottom; the last two exclusive) that contains everything seen."""

    near: float
    far: float
    box: tuple[int, int, int, int]


def find_extent(view: View, points: np.ndarray, margin: int) -> Extent:
    """The extent of world points (N, 3), with ``margin`` pixels added around the rectangle."""
    full = (0, 0, view.width, view.height)
    distance = view.compute_depth(points)
    in_front = distance * view.metres_per_unit > 1e-3
    if not in_front.any():
        return Extent(np.inf, -np.inf, full)
    near, far = float(distance[in_front].min()), float(distance[in_front].max())
    if not in_front.all():  # a surface that passes the camera may cover any pixel
        return Extent(near, far, full)
    pixels = view.project(points)
    low = np.clip(np.floor(pixels.min(0)) - margin, 0, [view.width, view.height]).astype(int)
    high = np.clip(np.ceil(pixels.max(0)) + margin, 0, [view.width, view.height]).astype(int)
    if (high <= low).any():
        # nothing is in the picture: use the smallest rectangle that can be rendered
        return Extent(near, far, (0, 0, min(8, view.width), min(8, view.height)))
    return Extent(near, far, (int(low[0]), int(low[1]), int(high[0]), int(high[1])))
