"""The scene in which frames are evaluated: copies of what is rendered, so that nothing of the user's is changed.

It holds the characters and what belongs to them as Blender's own objects, copied where they need attributes or are simulated, and
is evaluated as for a render. ``drawn_scene`` and ``shadow_scene`` hold what was found here as plain meshes, for Cycles. All of
them exist only within a block; what the window shows stays as it is.
"""

from __future__ import annotations

from copy import copy as copy_shallow
from dataclasses import replace
from typing import Any

import bpy
import numpy as np

from ..units import get_metres_per_unit
from . import capture
from .camera import View, find_camera, read_view
from .cutouts import CutOuts
from .evaluated import Cast, GeometryReader
from .geometry import FrameGeometry, Key
from .own_data import PREFIX, OwnData, make_scene
from .padding import Padding
from .people import KeyPoints
from .placed_surfaces import add_camera
from .render_set import RenderObject, RenderSet
from .simulations import (
    find_dependencies,
    find_first_frame,
    is_baked,
    is_gas,
    is_obstacle,
    is_simulated,
    iter_pointers,
)
from .strands import find_hair_systems
from .surfaces import deforms, find_store_index, make_store_nodes, prepare_mesh
from .visibility import Visible, iter_collection, iter_instanced

#: settings of a scene that decide how its objects move
_TIME = ("frame_start", "frame_end", "gravity", "use_gravity")
#: settings of a render that decide what its objects are made of
_FORM = (
    "fps",
    "fps_base",
    "frame_map_old",
    "frame_map_new",
    "use_simplify",
    "simplify_subdivision_render",
    "simplify_child_particles_render",
)


class CapturedScene:
    """The scene in which frames are evaluated. It exists until the ``OwnData`` that it was made in are removed."""

    def __init__(
        self,
        data: OwnData,
        stage: bpy.types.Scene,
        scene: bpy.types.Scene,
        visible: Visible,
        render_set: RenderSet,
        generated_uvs: dict[int, np.ndarray],
        cut_outs: CutOuts,
        people: dict[int, KeyPoints],
        *,
        padding: Padding | None,
        whole_scene: bool,
        triangulate: bool,
        camera: bpy.types.Object | None = None,
        at_rest: bool = False,
    ) -> None:
        """``padding`` is what the picture shows around the camera's frame; ``whole_scene`` holds props, too;
        ``triangulate`` is as for ``GeometryReader``; ``camera`` takes the place of the scene's. ``at_rest`` shows armatures in
        their rest poses."""
        self._camera, self._at_rest = camera, at_rest
        self._data, self._stage, self._user_scene, self._uvs = data, stage, scene, generated_uvs
        self._padding, self._metres = padding, get_metres_per_unit(scene)
        self.scene = make_scene(data, "Captured")
        for name in _TIME:
            setattr(self.scene, name, getattr(scene, name))
        for name in _FORM:
            setattr(self.scene.render, name, getattr(scene.render, name))
        self.scene.unit_settings.scale_length = scene.unit_settings.scale_length
        render: Any = self.scene.render
        render.engine, render.use_persistent_data = capture.NAME, True
        render.resolution_x = render.resolution_y = 8
        render.resolution_percentage = 100
        self._cameras: set[bpy.types.Object] = set()
        self._store: bpy.types.NodeTree | None = None
        self._copies: dict[bpy.types.Object, bpy.types.Object] = {}
        self._ours = {one.object: one for one in render_set.objects}
        self._fill(visible, render_set, whole_scene)
        people = {number: self._put_on_copy(person) for number, person in people.items()}
        ours = {**{self._copies[o]: one for o, one in self._ours.items() if o in self._copies}, **self._ours}
        doubles = {copy: o for o, copy in self._copies.items() if o in self._ours and is_baked(o)}
        for original in doubles.values():
            self._link(original)
        self.reader = GeometryReader(
            Cast(
                {found: one for found, one in ours.items() if found not in doubles.values()},
                doubles,
                self._follow(visible.unseen) | frozenset(self._obstacles),
                self._follow(visible.holes),
                whole_scene,
                {copy: o for o, copy in self._copies.items()},
            ),
            cut_outs,
            people,
            generated_uvs,
            triangulate=triangulate,
        )
        if any(find_hair_systems(one) for one in (*self._copies.values(), *visible.ordered, *visible.instanced)):
            # Blender keeps the strands of the frame before otherwise
            render.use_persistent_data = False
        #: the first frame of simulations that must be evaluated from their beginning, None where there are none
        self.first_simulated = find_first_frame(copy for o, copy in self._copies.items() if is_simulated(o))

    def _follow(self, found: frozenset[bpy.types.Object]) -> frozenset[bpy.types.Object]:
        return found | frozenset(self._copies[one] for one in found if one in self._copies)

    def _link(self, found: bpy.types.Object) -> None:
        if found.name not in self.scene.collection.objects:
            self.scene.collection.objects.link(found)

    def _fill(self, visible: Visible, render_set: RenderSet, whole_scene: bool) -> None:
        """Link what is rendered, or its copies, and what these need to move as they do in the user's scene."""
        wanted = [one.object for one in render_set.objects if one.object in visible.shown]
        if whole_scene:
            wanted += [
                one
                for one in visible.ordered
                if one not in self._ours and one.type not in ("CAMERA", "LIGHT", "VOLUME") and not is_gas(one)
            ]
        needed = find_dependencies([*wanted, *(one.object for one in render_set.objects)])
        if self._at_rest:
            needed |= {armature for armature in render_set.armatures if armature is not None}
        simulated = {one for one in needed if is_simulated(one)}
        for one in needed:
            if self._at_rest or one in self._ours or one in simulated or _needs_attributes(one, wanted):
                self._copy(one)
        instancers = [one for one in visible.ordered if one.instance_type == "COLLECTION" and one.instance_collection is not None]
        for one in instancers:
            if whole_scene or self._holds_ours(one):
                wanted.append(one)
                self._copy_instancer(one)
        for one in wanted:
            self._link(self._copies.get(one, one))
        for armature in render_set.armatures:
            if armature is not None:
                self._link(self._copies.get(armature, armature))
        self._obstacles = set()
        if simulated:
            self._obstacles = {one for one in self._user_scene.objects if is_obstacle(one) and one not in self._copies} - set(
                wanted
            )
            for one in self._obstacles:
                self._link(one)
        self._point_to_copies()

    def _holds_ours(self, instancer: bpy.types.Object) -> bool:
        return any(one in self._ours for one in iter_instanced(instancer))

    def _copy(self, found: bpy.types.Object) -> bpy.types.Object:
        """A copy with a mesh of its own that has what passes need."""
        if found in self._copies:
            return self._copies[found]
        copy: Any = self._data.keep(bpy.data.objects, found.copy())
        self._copies[found] = copy
        if isinstance(found.data, bpy.types.Mesh):
            copy.data = self._data.keep(bpy.data.meshes, found.data.copy())
            one: RenderObject | None = self._ours.get(found)
            if self._store is None:
                self._store = self._data.keep(bpy.data.node_groups, make_store_nodes())
            prepare_mesh(copy, one.face_parts if one else None, self._uvs.get(one.index) if one else None, self._store)
        if self._at_rest and isinstance(found.data, bpy.types.Armature):
            copy.data = self._data.keep(bpy.data.armatures, found.data.copy())
            copy.data.pose_position = "REST"
        return copy

    def _put_on_copy(self, person: KeyPoints) -> KeyPoints:
        """Key points of the copy of their armature, where there is one."""
        if person.armature not in self._copies:
            return person
        moved = copy_shallow(person)
        moved.armature = self._copies[person.armature]
        return moved

    def _copy_instancer(self, found: bpy.types.Object) -> None:
        """Copy an object that shows a collection, and the collection, where it shows what has been copied."""
        collection = found.instance_collection
        if collection is None:
            return
        shown = list(iter_collection(collection))
        for one in shown:
            if one in self._ours or is_simulated(one) or _needs_attributes(one, [one]):
                self._copy(one)
            if one.instance_type == "COLLECTION" and one not in self._copies:
                self._copy_instancer(one)
        if not any(one in self._copies or is_gas(one) for one in shown):
            return
        if found not in self._copies:
            self._copies[found] = self._data.keep(bpy.data.objects, found.copy())
        mine: Any = self._data.keep(bpy.data.collections, bpy.data.collections.new(f"{PREFIX} {collection.name}"))
        mine.instance_offset = collection.instance_offset
        for one in shown:
            if not is_gas(one) and self._copies.get(one, one).name not in mine.objects:
                mine.objects.link(self._copies.get(one, one))
        self._copies[found].instance_collection = mine

    def _point_to_copies(self) -> None:
        """Make copies depend on copies, so that simulated objects are not evaluated themselves."""
        for copy in self._copies.values():
            for owner, name, target in list(iter_pointers(copy)):
                if target in self._copies and self._copies[target] is not copy:
                    if name == "parent":
                        inverse, basis = copy.matrix_parent_inverse.copy(), copy.matrix_basis.copy()
                        copy.parent = self._copies[target]
                        copy.matrix_parent_inverse, copy.matrix_basis = inverse, basis
                    else:
                        setattr(owner, name, self._copies[target])

    def _find_camera(self, frame: int) -> bpy.types.Object:
        camera = find_camera(self._user_scene, frame, self._camera)
        if camera not in self._cameras:
            self._cameras.add(camera)
            self._link(camera)
        self.scene.camera = camera
        return camera

    def evaluate(
        self,
        frame: int,
        sizes: tuple[tuple[int, int], ...],
        *,
        measure_surroundings: bool = False,
        find_ground: bool = False,
    ) -> FrameGeometry:
        """A frame's surfaces as they are rendered, and what the camera sees in pictures of those sizes (width, height).

        ``measure_surroundings`` and ``find_ground`` are as for ``GeometryReader.read``.
        """
        camera = self._find_camera(frame)

        def read(graph: bpy.types.Depsgraph) -> FrameGeometry:
            views = {size: read_view(camera, graph, *size, self._padding, self._metres) for size in sizes}
            return self.reader.read(graph, views, frame, measure_surroundings=measure_surroundings, find_ground=find_ground)

        return capture.capture(self._stage, self.scene, frame, read)

    def evaluate_pose(self, frame: int) -> FrameGeometry:
        """A frame's surfaces as they are rendered, seen by nobody: without views."""
        if self.scene.camera is None:
            # Blender renders nothing without one
            add_camera(self._data, self.scene)
        nobody = {(8, 8): View(np.eye(4), np.eye(4), 8, 8, self._metres)}
        found = capture.capture(self._stage, self.scene, frame, lambda graph: self.reader.read(graph, nobody, frame))
        return replace(found, views={})

    def find(self, key: Key) -> bpy.types.Object | None:
        """The object of our own scene that is no instance and has that key."""
        return next((one for one in self.scene.collection.objects if self.reader.get_key(one) == key), None)


def _needs_attributes(found: bpy.types.Object, rendered: list[bpy.types.Object]) -> bool:
    """Whether a prop's rest positions are lost in its modifiers unless a copy brings them along."""
    if found.type != "MESH" or found not in rendered:
        return False
    moves = any(map(deforms, found.modifiers)) or bool(getattr(found.data, "shape_keys", None))
    return moves and (find_store_index(found) is not None or any(m.type in ("SUBSURF", "MULTIRES") for m in found.modifiers))
