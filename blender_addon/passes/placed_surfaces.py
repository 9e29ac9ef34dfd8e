"""Captured surfaces as plain mesh objects in a scene of our own, and a camera that sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..typed_access import get_camera
from .camera import View
from .cutouts import CUT_ATTRIBUTE
from .geometry import Key, Shape, Surface
from .own_data import PREFIX, OwnData, show_only
from .padding import compute_lens
from .pass_material import NORMAL_ATTRIBUTE, PREVIOUS_ATTRIBUTE
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE, REST_POSITION_ATTRIBUTE, UV_LAYER

#: millimetres; any would do
SENSOR = 36.0


class _Mesh:
    """A mesh of the scene, and the shape that it has."""

    def __init__(self, data: OwnData) -> None:
        self.mesh: bpy.types.Mesh = data.keep(bpy.data.meshes, bpy.data.meshes.new(PREFIX))
        self._shape: Shape | None = None
        self._previous: np.ndarray | None = None

    def update(self, shape: Shape, previous: np.ndarray | None) -> None:
        """Give it another shape, and each point's position (V, 3) on the frame before where wanted."""
        before, mesh = self._shape, self.mesh
        if shape is before and previous is self._previous:
            return
        if before is None or not _has_same_faces(before, shape):
            mesh.clear_geometry()
            while mesh.uv_layers:
                mesh.uv_layers.remove(mesh.uv_layers[0])
            mesh.vertices.add(len(shape.points))
            mesh.loops.add(len(shape.corners))
            mesh.polygons.add(len(shape.starts))
            mesh.loops.foreach_set("vertex_index", shape.corners)
            mesh.polygons.foreach_set("loop_start", shape.starts)
            before = None
        if before is None or not np.array_equal(before.points, shape.points):
            mesh.vertices.foreach_set("co", shape.points.ravel())
        for name, kind, domain in _ATTRIBUTES:
            values, former = _get_values(shape, previous, name), _get_values(before, self._previous, name)
            if values is None and former is not None:
                mesh.attributes.remove(mesh.attributes[name])
            elif values is not None and (former is None or not np.array_equal(values, former)):
                _write(mesh, name, kind, domain, values)
        for name, uv in shape.uvs.items():
            if before is None or name not in before.uvs or not np.array_equal(before.uvs[name], uv):
                layer = mesh.uv_layers.get(name or UV_LAYER) or mesh.uv_layers.new(name=name or UV_LAYER, do_init=False)
                layer.data.foreach_set("uv", uv.ravel())
                if not name:
                    layer.active_render = layer.active = True
        mesh.update()
        self._shape, self._previous = shape, previous


_ATTRIBUTES = (
    (REST_POSITION_ATTRIBUTE, "FLOAT_VECTOR", "POINT"),
    (HAS_REST_POSITION_ATTRIBUTE, "FLOAT", "POINT"),
    (NORMAL_ATTRIBUTE, "FLOAT_VECTOR", "CORNER"),
    (PART_ATTRIBUTE, "FLOAT", "FACE"),
    (CUT_ATTRIBUTE, "FLOAT", "FACE"),
    (PREVIOUS_ATTRIBUTE, "FLOAT_VECTOR", "POINT"),
)


def _get_values(shape: Shape | None, previous: np.ndarray | None, name: str) -> np.ndarray | None:
    if shape is None:
        return None
    if name == HAS_REST_POSITION_ATTRIBUTE:
        return None if shape.rest is None else np.ones(len(shape.points), np.float32)
    found = {
        REST_POSITION_ATTRIBUTE: shape.rest,
        NORMAL_ATTRIBUTE: shape.normals,
        PART_ATTRIBUTE: shape.parts,
        CUT_ATTRIBUTE: shape.cuts,
        PREVIOUS_ATTRIBUTE: previous,
    }
    return found[name]


def _has_same_faces(one: Shape, other: Shape) -> bool:
    return (
        len(one.points) == len(other.points)
        and np.array_equal(one.starts, other.starts)
        and np.array_equal(one.corners, other.corners)
        and one.uvs.keys() == other.uvs.keys()
    )


def _write(mesh: bpy.types.Mesh, name: str, kind: Any, domain: Any, values: np.ndarray) -> None:
    attribute: Any = mesh.attributes.get(name) or mesh.attributes.new(name, kind, domain)
    attribute.data.foreach_set("vector" if kind == "FLOAT_VECTOR" else "value", values.ravel())


class PlacedSurfaces:
    """The surfaces of a frame as objects of a scene; what a frame does not have is taken out of the scene."""

    def __init__(self, data: OwnData, scene: bpy.types.Scene, prepare: Callable[[bpy.types.Object, Surface], None]) -> None:
        """``prepare`` sets up a new object for its surface."""
        self._data, self._scene, self._prepare = data, scene, prepare
        #: a parent at the origin, for others as well
        self.origin = _add_origin(data, scene)
        self._meshes: dict[Key, _Mesh] = {}
        self._objects: dict[Key, bpy.types.Object] = {}
        self._shown: set[bpy.types.Object] = set()

    def show(self, surfaces: Iterable[Surface], previous: dict[Key, np.ndarray]) -> None:
        """Show these surfaces and no others; ``previous`` holds the points (V, 3) of some on the frame before."""
        shown = set()
        shared: dict[int, _Mesh] = {}
        for surface in surfaces:
            mesh = shared.get(id(surface.shape))
            if mesh is None:
                mesh = self._meshes.get(surface.key)
                if mesh is None:
                    mesh = self._meshes[surface.key] = _Mesh(self._data)
                mesh.update(surface.shape, previous.get(surface.key))
                shared[id(surface.shape)] = mesh
            found = self._objects.get(surface.key)
            if found is None:
                found = self._objects[surface.key] = self._data.keep(bpy.data.objects, bpy.data.objects.new(PREFIX, mesh.mesh))
                found.parent = self.origin
                self._prepare(found, surface)
            if found.data != mesh.mesh:
                found.data = mesh.mesh
            # an object's own place cannot be sheared, as stretched parents make it, but its place under a parent can
            if not np.array_equal(np.array(found.matrix_parent_inverse), surface.matrix.astype(np.float32)):
                found.matrix_parent_inverse = Matrix(surface.matrix.tolist())
            shown.add(found)
        self._shown = show_only(self._scene, self._shown, shown)


def _add_origin(data: OwnData, scene: bpy.types.Scene) -> bpy.types.Object:
    """A parent at the origin."""
    origin: bpy.types.Object = data.keep(bpy.data.objects, bpy.data.objects.new(f"{PREFIX} Origin", None))
    scene.collection.objects.link(origin)
    return origin


def add_camera(data: OwnData, scene: bpy.types.Scene) -> bpy.types.Object:
    """A camera for a scene, to be placed by ``place_camera``."""
    camera: bpy.types.Object = data.keep(
        bpy.data.objects, bpy.data.objects.new(PREFIX, data.keep(bpy.data.cameras, bpy.data.cameras.new(PREFIX)))
    )
    scene.collection.objects.link(camera)
    scene.camera, camera.parent = camera, _add_origin(data, scene)
    return camera


def place_camera(camera: bpy.types.Object, view: View) -> None:
    """Make a camera of ``add_camera`` see what a view shows, from its matrices alone."""
    data, p = get_camera(camera), view.projection
    camera.matrix_parent_inverse = Matrix(np.linalg.inv(view.world_to_camera).tolist())
    lens = compute_lens(p, view.width, view.height)
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR
    data.shift_x, data.shift_y = lens.shift_x, lens.shift_y
    if lens.lens:
        data.type, data.lens = "PERSP", lens.lens * SENSOR
        near, far = p[2, 3] / (p[2, 2] - 1), p[2, 3] / (p[2, 2] + 1)
    else:
        data.type, data.ortho_scale = "ORTHO", lens.ortho_scale
        near, far = (p[2, 3] + 1) / p[2, 2], (p[2, 3] - 1) / p[2, 2]
    data.clip_start, data.clip_end = float(near), float(far)
