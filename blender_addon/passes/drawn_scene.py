"""The scene that Cycles renders: one frame's surfaces as plain meshes, with the settings that exact passes need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ...shared import shot
from ..compat import set_multilayer_exr
from ..typed_access import get_camera
from . import capture
from .camera import View
from .cutouts import CUT_ATTRIBUTE, CutOuts
from .geometry import FrameGeometry, Key, Shape, Surface
from .own_data import PREFIX, OwnData, make_scene
from .pass_material import (
    NORMAL_AOV,
    NORMAL_ATTRIBUTE,
    PART_AOV,
    PREVIOUS_AOV,
    PREVIOUS_ATTRIBUTE,
    REST_POSITION_AOV,
    fill_pass_material,
)
from .strands import Strands
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE, REST_POSITION_ATTRIBUTE, UV_LAYER

#: the largest pass index of Blender
MAX_NUMBER = 32767
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


class DrawnScene:
    """The scene that Cycles renders. It exists until the ``OwnData`` that it was made in are removed."""

    def __init__(
        self,
        data: OwnData,
        stage: bpy.types.Scene,
        width: int,
        height: int,
        path: Path,
        cut_outs: CutOuts,
        bake: Callable[[bpy.types.Object, int], Strands | None],
        *,
        position: bool,
        motion_vectors: bool,
    ) -> None:
        """``path`` is where Cycles writes a frame; ``bake`` finds the strands of an object that only Cycles
        can draw, from its pass index.

        Raises ``ShotError`` where Cycles is switched off.
        """
        self._data, self._stage, self._path, self._size = data, stage, path, (width, height)
        self._cut_outs, self._bake, self._motion_vectors = cut_outs, bake, motion_vectors
        self.scene = make_scene(data, "Drawn")
        #: the parent of everything, which stands at the origin
        self._origin = data.keep(bpy.data.objects, bpy.data.objects.new(f"{PREFIX} Origin", None))
        self.scene.collection.objects.link(self._origin)
        self._camera = data.keep(
            bpy.data.objects, bpy.data.objects.new(PREFIX, data.keep(bpy.data.cameras, bpy.data.cameras.new(PREFIX)))
        )
        self.scene.collection.objects.link(self._camera)
        self.scene.camera, self._camera.parent = self._camera, self._origin
        self._material = data.keep(bpy.data.materials, bpy.data.materials.new(f"{PREFIX} Passes"))
        self._made_of: tuple[int, int] | None = None
        self._meshes: dict[Key, _Mesh] = {}
        self._objects: dict[Key, bpy.types.Object] = {}
        self._live: dict[bpy.types.Object, Strands | None] = {}
        self._shown: set[bpy.types.Object] = set()
        self._set_up(position)

    def _set_up(self, position: bool) -> None:
        """One sample at the centre of every pixel, without bounces, seen through up to 64 transparent surfaces, to a file."""
        render: Any = self.scene.render
        try:
            render.engine = "CYCLES"
        except TypeError:
            raise shot.ShotError(
                "passes",
                "Passes are rendered by Cycles, which is switched off; switch on 'Cycles Render Engine' in the preferences.",
            ) from None
        width, height = self._size
        settings = dict(
            resolution_x=width,
            resolution_y=height,
            resolution_percentage=100,
            film_transparent=True,
            filepath=str(self._path),
            use_file_extension=True,
            use_persistent_data=True,
            use_compositing=False,
            use_sequencer=False,
            use_overwrite=True,
        )
        for name, value in settings.items():
            setattr(render, name, value)
        set_multilayer_exr(render.image_settings)
        owner: Any = self.scene
        cycles = dict(
            samples=1,
            use_adaptive_sampling=False,
            use_denoising=False,
            max_bounces=0,
            transparent_max_bounces=64,
            device="CPU",
            filter_width=0.01,
            seed=0,
            use_auto_tile=False,
            film_transparent_glass=False,
        )
        for name, value in cycles.items():
            setattr(owner.cycles, name, value)
        layer: Any = self.scene.view_layers[0]
        passes = dict(
            use_pass_z=True, use_pass_uv=True, use_pass_object_index=True, use_pass_combined=True, use_pass_position=position
        )
        for name, value in passes.items():
            setattr(layer, name, value)
        layer.pass_alpha_threshold, layer.material_override = 0.5, self._material
        aovs = [(REST_POSITION_AOV, "COLOR"), (PART_AOV, "VALUE"), (NORMAL_AOV, "COLOR")]
        for name, kind in aovs + ([(PREVIOUS_AOV, "COLOR")] if self._motion_vectors else []):
            aov = layer.aovs.add()
            aov.name, aov.type = name, kind

    def draw(
        self,
        frame: int,
        geometry: FrameGeometry,
        view: View,
        numbers: dict[Key, int],
        live: Iterable[tuple[bpy.types.Object, int]],
        box: tuple[int, int, int, int],
        previous: dict[Key, np.ndarray],
    ) -> None:
        """Render a rectangle (left, top, right, bottom) of a frame into the file.

        Surfaces get the pass indices ``numbers``; ``live`` are objects with pass indices that Cycles draws itself; ``previous``
        holds the points (V, 3) of surfaces on the frame before. Raises ``ShotError`` when the render was stopped.
        """
        self._place_surfaces(geometry.surfaces, numbers, previous)
        self._place_live(live)
        made_of = (len(self._cut_outs.found), len(self._live))
        if made_of != self._made_of:
            strands = [found for found in self._live.values() if found is not None]
            fill_pass_material(self._material, self._cut_outs.found, strands, previous=self._motion_vectors)
            self._made_of = made_of
        place_camera(self._camera, view)
        set_render_region(self.scene, box, *self._size)
        # what a render that was stopped leaves is not to be taken for its result
        self._path.unlink(missing_ok=True)
        capture.run_render(self._stage, self.scene, frame, write_still=True)
        if not self._path.exists():
            raise shot.ShotError(
                "passes", "The render of the passes was stopped (Esc does that, too), or the disk is full; generate the shot again."
            )

    def _place_surfaces(self, surfaces: Iterable[Surface], numbers: dict[Key, int], previous: dict[Key, np.ndarray]) -> None:
        shown = set()
        shared: dict[int, _Mesh] = {}
        for surface in surfaces:
            if surface.is_live:
                continue
            found = self._objects.get(surface.key)
            mesh = shared.get(id(surface.shape))
            if mesh is None:
                mesh = self._meshes.get(surface.key)
                if mesh is None:
                    mesh = self._meshes[surface.key] = _Mesh(self._data)
                mesh.update(surface.shape, previous.get(surface.key))
                shared[id(surface.shape)] = mesh
            if found is None:
                found = self._objects[surface.key] = self._data.keep(bpy.data.objects, bpy.data.objects.new(PREFIX, mesh.mesh))
                found.pass_index, found.parent = numbers[surface.key], self._origin
            if found.data != mesh.mesh:
                found.data = mesh.mesh
            # an object's own place cannot be sheared, as stretched parents make it, but its place under a parent can
            if not np.array_equal(np.array(found.matrix_parent_inverse), surface.matrix.astype(np.float32)):
                found.matrix_parent_inverse = _to_rows(surface.matrix)
            shown.add(found)
        objects = self.scene.collection.objects
        for found in self._shown - shown:
            objects.unlink(found)
        for found in shown - self._shown:
            objects.link(found)
        self._shown = shown

    def _place_live(self, live: Iterable[tuple[bpy.types.Object, int]]) -> None:
        for found, number in live:
            if found in self._live:
                continue
            found.pass_index = number
            self.scene.collection.objects.link(found)
            self._live[found] = self._bake(found, number)
            # Cycles does not notice that hair has moved with its skin
            self.scene.render.use_persistent_data = False


def _to_rows(matrix: np.ndarray) -> Matrix:
    return Matrix(matrix.tolist())


def place_camera(camera: bpy.types.Object, view: View) -> None:
    """Make a camera, whose parent stands at the origin, see what a view shows, from its matrices alone."""
    data, p = get_camera(camera), view.projection
    camera.matrix_parent_inverse = _to_rows(np.linalg.inv(view.world_to_camera))
    data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR
    aspect = view.height / view.width
    if p[3, 2]:
        data.type, data.lens = "PERSP", float(p[0, 0] * SENSOR / 2)
        data.shift_x, data.shift_y = float(p[0, 2] / 2), float(p[1, 2] / 2 * aspect)
        near, far = p[2, 3] / (p[2, 2] - 1), p[2, 3] / (p[2, 2] + 1)
    else:
        data.type, data.ortho_scale = "ORTHO", float(2 / p[0, 0])
        data.shift_x, data.shift_y = float(-p[0, 3] / 2), float(-p[1, 3] / 2 * aspect)
        near, far = (p[2, 3] + 1) / p[2, 2], (p[2, 3] - 1) / p[2, 2]
    data.clip_start, data.clip_end = float(near), float(far)


def set_render_region(scene: bpy.types.Scene, box: tuple[int, int, int, int], width: int, height: int) -> None:
    """Render only a rectangle (left, top, right, bottom) of pixels."""
    render = scene.render
    whole = box == (0, 0, width, height)
    render.use_border = render.use_crop_to_border = not whole
    if not whole:
        left, top, right, bottom = box
        # Blender truncates; a quarter of a pixel keeps a rounding error from costing a whole one
        render.border_min_x, render.border_max_x = (left + 0.25) / width, (right + 0.25) / width
        render.border_min_y, render.border_max_y = (height - bottom + 0.25) / height, (height - top + 0.25) / height
