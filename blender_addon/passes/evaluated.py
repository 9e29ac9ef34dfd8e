"""Reads the surfaces of a frame from Blender's evaluated data into arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from ...shared.vectors import normalise
from ..typed_access import get_attribute_data, get_mesh
from .camera import View
from .cutouts import HOLE, CutOuts
from .geometry import FrameGeometry, Hair, Key, Shape, Strands, Surface, transform
from .people import KeyPoints
from .render_set import RenderObject, compute_scale
from .strands import Roots, find_hair_systems, read_curves, read_particle_hair
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, PART_ATTRIBUTE, REST_POSITION_ATTRIBUTE, deforms, get_rest_points

#: the kind of objects that only Cycles can draw; what is not a mesh either, such as text, shows one as an instance of its own
LIVE = "POINTCLOUD"
#: the ground is looked for from so far above the feet to so far below, in heights of the character
GROUND_ABOVE, GROUND_BELOW = 0.15, 0.35
#: rays per side of the grid that measures the depth of the surroundings
RAYS = 24
#: matrices whose volume is a smaller fraction of their largest entry's cube press what they move flat
FLAT = 1e-9
#: what the keys of surfaces behind which nothing is seen end with, where an object has others
HOLDING_OUT = -1


@dataclass(frozen=True)
class Cast:
    """Who is who among the objects that a render evaluates.

    ``ours`` gives the render object that an object stands for; ``doubles`` are objects whose copies stand for them, by the
    copy: the copy takes their place and form, not its own. ``unseen`` are objects that are evaluated but not seen by the camera,
    ``holes`` those behind which nothing is seen. ``stand_for`` gives the user's object by its copy.
    """

    ours: dict[bpy.types.Object, RenderObject]
    doubles: dict[bpy.types.Object, bpy.types.Object]
    unseen: frozenset[bpy.types.Object]
    holes: frozenset[bpy.types.Object]
    whole_scene: bool
    stand_for: dict[bpy.types.Object, bpy.types.Object]

    def get_user_object(self, found: bpy.types.Object) -> bpy.types.Object:
        """The user's object for which an object stands, or itself."""
        return self.stand_for.get(found, found)


class GeometryReader:
    """Reads frames of a scene for its passes."""

    def __init__(
        self,
        cast: Cast,
        cut_outs: CutOuts,
        people: dict[int, KeyPoints],
        generated_uvs: dict[int, np.ndarray],
        *,
        triangulate: bool,
    ) -> None:
        """``generated_uvs`` are ``unwrap``'s texture coordinates by the number of a render object; ``triangulate`` reads the
        triangles of shapes, too."""
        self._cast, self._cut_outs, self._people, self._triangulate = cast, cut_outs, people, triangulate
        self._uvs = generated_uvs
        self._roots: dict[bpy.types.Object, Roots] = {}

    def read(
        self,
        graph: bpy.types.Depsgraph,
        views: dict[tuple[int, int], View],
        frame: int,
        *,
        measure_surroundings: bool = False,
        find_ground: bool = False,
    ) -> FrameGeometry:
        """The surfaces at the current frame, whose number ``frame`` is for error messages.

        ``measure_surroundings`` finds how far away is what the camera sees in the first of ``views``, ``find_ground`` whether
        something lies under the characters. Raises ``ShotError`` for a mesh with broken vertices.
        """
        shapes: dict[tuple[int, int], list[tuple[Shape, bool]]] = {}
        surfaces: list[tuple[bpy.types.Object | None, Surface]] = []
        originals: dict[Key, Surface] = {}
        live: list[bpy.types.Object] = []
        hair: list[Hair] = []
        cast = self._cast
        for instance in graph.object_instances:
            found = instance.object
            original = found.original if found is not None else None
            if found is None or original is None:
                continue
            one = cast.ours.get(original)
            # what a character's own geometry nodes or particles show belongs to it
            shower = self._find_shower(instance)
            owner = one or (cast.ours.get(shower) if shower is not None else None)
            is_double = original in cast.doubles.values()
            if not is_double and not self._is_seen(instance, found, original, owner):
                continue
            has_surface = is_double or instance.show_self
            if found.type == LIVE:
                if not instance.is_instance or instance.parent == found:
                    live.append(original)
                continue
            if found.type not in ("MESH", "CURVES"):
                continue
            matrix = np.array(instance.matrix_world)
            key = self._make_key(instance, original)
            scale = one.metres_per_unit if one else compute_scale(matrix) * next(iter(views.values())).metres_per_unit
            is_hole = self._is_hole(instance, found, original)
            strands = self._read_strands(found, original) if instance.show_particles or found.type == "CURVES" else None
            if strands is not None and not is_double:
                name, number = cast.get_user_object(original).name, owner.character if owner else 0
                hair.append(Hair(key, name, number, scale, matrix, strands, is_hole))
            if found.type != "MESH" or not has_surface:
                continue
            for shape, holds_out in self._get_shapes(found, one, owner, shapes, frame):
                surface = Surface(
                    (key[0], key[1], (*key[2], HOLDING_OUT)) if holds_out else key,
                    cast.get_user_object(original).name,
                    owner.character if owner else 0,
                    scale,
                    matrix,
                    shape,
                    is_hole or holds_out,
                )
                surface = _flatten(surface)
                if is_double and not instance.is_instance:
                    originals[surface.key] = surface
                else:
                    surfaces.append((None if instance.is_instance else original, surface))
        found_surfaces = [replace(one, is_live=True) if original in live else one for original, one in surfaces]
        found_geometry = FrameGeometry(
            views,
            tuple(_take_places(found_surfaces, originals)),
            {number: person.compute(graph) for number, person in self._people.items()},
            tuple(hair),
            tuple(dict.fromkeys(self.get_key(one) for one in live)),
            _cast_rays(graph, next(iter(views.values()))) if measure_surroundings else None,
        )
        return replace(found_geometry, has_ground=self._has_ground(graph, found_geometry)) if find_ground else found_geometry

    def _read_strands(self, found: bpy.types.Object, original: bpy.types.Object) -> Strands | None:
        """The strands of an evaluated object."""
        is_curves = found.type == "CURVES"
        if not is_curves and not find_hair_systems(found):
            return None
        mine = self._cast.get_user_object(original)
        if mine not in self._roots:
            one = self._cast.ours.get(original)
            self._roots[mine] = Roots(mine, self._uvs.get(one.index) if one is not None else None)
        return read_curves(found.data, self._roots[mine]) if is_curves else read_particle_hair(found, self._roots[mine])

    def _has_ground(self, graph: bpy.types.Depsgraph, geometry: FrameGeometry) -> bool:
        """Whether a ray down from the lowest point of the characters meets something else soon."""
        points, scene = geometry.find_character_points(), graph.scene
        if not len(points) or scene is None:
            return False
        height = float(np.ptp(points[:, 2])) or 1.0
        start = points[points[:, 2].argmin()] + [0.0, 0.0, GROUND_ABOVE * height]
        end = float(start[2]) - (GROUND_ABOVE + GROUND_BELOW) * height
        while start[2] > end:
            hit, place, _, _, found, _ = scene.ray_cast(graph, start.tolist(), (0.0, 0.0, -1.0), distance=float(start[2]) - end)
            if not hit:
                return False
            if found is not None and found.original not in self._cast.ours and found.original not in self._cast.unseen:
                return True
            start = np.array(place) - [0.0, 0.0, 1e-4]
        return False

    def get_key(self, found: bpy.types.Object) -> Key:
        """What tells an object that is no instance from all others."""
        return "", self._cast.get_user_object(found).name_full, ()

    def describe(self, found: bpy.types.Object) -> tuple[str, int]:
        """The name of an object for people, and its character's number, 0 for a prop."""
        one = self._cast.ours.get(found)
        return self._cast.get_user_object(found).name, one.character if one else 0

    def _find_shower(self, instance: Any) -> bpy.types.Object | None:
        """The object of the scene that shows an instance; None for what is none."""
        parent = instance.parent if instance.is_instance else None
        return parent.original if parent is not None else None

    def _make_key(self, instance: Any, original: bpy.types.Object) -> Key:
        name = self._cast.get_user_object(original).name_full
        if not instance.is_instance:
            return "", name, ()
        shower = self._find_shower(instance)
        if shower == original and original.type != "MESH":
            return "", name, ()
        parent = self._cast.get_user_object(shower).name_full if shower is not None else ""
        return parent, name, tuple(n for n in instance.persistent_id if n != 0x7FFFFFFF)

    def _is_seen(self, instance: Any, found: Any, original: bpy.types.Object, owner: RenderObject | None) -> bool:
        """Whether the camera sees a surface: of an instance, what shows it decides, too, and alone where collections do."""
        shows_hair = found.type == "MESH" and instance.show_particles and bool(find_hair_systems(found))
        if (owner is None and not self._cast.whole_scene) or not (instance.show_self or shows_hair):
            return False
        both = (found, instance.parent) if instance.is_instance and instance.parent is not None else (found,)
        if any(one.is_shadow_catcher or not one.visible_camera for one in both):
            return False
        return (self._find_shower(instance) or original) not in self._cast.unseen

    def _is_hole(self, instance: Any, found: Any, original: bpy.types.Object) -> bool:
        shower = self._find_shower(instance)
        if shower is None:
            return found.is_holdout or original in self._cast.holes
        return instance.parent.is_holdout or shower in self._cast.holes

    def _get_shapes(
        self,
        found: bpy.types.Object,
        one: RenderObject | None,
        owner: RenderObject | None,
        shapes: dict[tuple[int, int], list[tuple[Shape, bool]]],
        frame: int,
    ) -> list[tuple[Shape, bool]]:
        """The shape of an object, and whether nothing is seen behind it; two where that differs from face to face."""
        mesh = get_mesh(found)
        key = mesh.as_pointer(), owner.index if owner else 0
        if key not in shapes:
            shapes[key] = self._read_shapes(found, mesh, one, owner, frame)
        return shapes[key]

    def _read_shapes(
        self,
        found: bpy.types.Object,
        mesh: bpy.types.Mesh,
        one: RenderObject | None,
        owner: RenderObject | None,
        frame: int,
    ) -> list[tuple[Shape, bool]]:
        face_count, corner_count, point_count = len(mesh.polygons), len(mesh.loops), len(mesh.vertices)
        if not face_count:
            return []
        points, normals = np.empty((point_count, 3), np.float32), np.empty((corner_count, 3), np.float32)
        corners, starts = np.empty(corner_count, np.int32), np.empty(face_count, np.int32)
        mesh.vertices.foreach_get("co", points.ravel())
        if not np.isfinite(points).all():
            raise shot.ShotError(
                "character" if one is not None and one.character else "scene",
                f"{one.object.name if one else found.name} has vertices that are not numbers at frame {frame}; look for "
                "a broken modifier, driver or shape key.",
            )
        mesh.loops.foreach_get("vertex_index", corners)
        mesh.polygons.foreach_get("loop_start", starts)
        mesh.corner_normals.foreach_get("vector", normals.ravel())
        slots = np.empty(face_count, np.int32)
        mesh.polygons.foreach_get("material_index", slots)
        cuts = self._cut_outs.number_faces(_get_materials(found, mesh), slots)
        uvs = _read_uvs(mesh, {cut.uv for cut in self._cut_outs.found} if cuts is not None else set())
        shape = Shape(
            points,
            corners,
            starts,
            normals,
            uvs,
            _read_rest_points(found, mesh, one),
            _read_parts(mesh, one, owner),
            cuts,
            _read_triangles(mesh) if self._triangulate else None,
        )
        if cuts is None or (cuts >= 0).all():
            return [(shape, False)]
        found_shapes = (_leave_out(shape, cuts >= 0), False), (_leave_out(shape, cuts == HOLE), True)
        return [(one_shape, holds_out) for one_shape, holds_out in found_shapes if one_shape is not None]


def _flatten(surface: Surface) -> Surface:
    """The same surface, with its place in its points where its matrix presses it flat: Cycles draws no others of those."""
    axes = surface.matrix[:3, :3]
    if abs(np.linalg.det(axes)) > FLAT * np.abs(axes).max() ** 3:
        return surface
    shape = surface.shape
    points = np.asarray(transform(surface.matrix, shape.points.astype(np.float64)), np.float32)
    across = np.cross(axes[:, [1, 2, 0]].T, axes[:, [2, 0, 1]].T)
    normals = np.asarray(normalise(shape.normals @ across), np.float32)
    rest = shape.points if shape.rest is None else shape.rest
    return replace(surface, matrix=np.eye(4), shape=replace(shape, points=points, normals=normals, rest=rest))


def _take_places(surfaces: list[Surface], originals: dict[Key, Surface]) -> list[Surface]:
    """Give copies the form and the place of the objects that they stand for, where those have one of their own."""
    return [_merge(one, originals[one.key]) if one.key in originals else one for one in surfaces]


def _merge(surface: Surface, theirs: Surface) -> Surface:
    shape, other = surface.shape, theirs.shape
    same = len(shape.points) == len(other.points) and np.array_equal(shape.corners, other.corners)
    shape = replace(shape, points=other.points, normals=other.normals) if same else other
    return replace(surface, matrix=theirs.matrix, shape=shape)


def _get_materials(found: bpy.types.Object, mesh: bpy.types.Mesh) -> list[bpy.types.Material | None]:
    """The materials of an evaluated mesh: those of its object's slots, where they overrule the mesh's."""
    materials: list[Any] = list(mesh.materials)
    for n, slot in enumerate(found.material_slots):
        if slot.link == "OBJECT" and n < len(materials):
            materials[n] = slot.material
    return materials


def _read_uvs(mesh: bpy.types.Mesh, names: set[str]) -> dict[str, np.ndarray]:
    out = {}
    for layer in mesh.uv_layers:
        if layer.active_render or layer.name in names:
            coordinates = np.empty((len(mesh.loops), 2), np.float32)
            layer.data.foreach_get("uv", coordinates.ravel())
            out["" if layer.active_render else layer.name] = coordinates
            if layer.active_render and layer.name in names:
                out[layer.name] = coordinates
    return out


def _read_rest_points(found: bpy.types.Object, mesh: bpy.types.Mesh, one: RenderObject | None) -> np.ndarray | None:
    """(V, 3) rest positions: stored ones, or those of a deformed mesh's own vertices; None for what is rigid."""
    count = len(mesh.vertices)
    if HAS_REST_POSITION_ATTRIBUTE in mesh.attributes and REST_POSITION_ATTRIBUTE in mesh.attributes:
        rest = np.empty((count, 3), np.float32)
        attribute: Any = mesh.attributes[REST_POSITION_ATTRIBUTE]
        if attribute.domain == "POINT" and attribute.data_type == "FLOAT_VECTOR":
            attribute.data.foreach_get("vector", rest.ravel())
            return rest
    source = one.object if one else found.original
    data: Any = source.data if source is not None else None
    if source is None or not isinstance(data, bpy.types.Mesh) or len(data.vertices) != count:
        return None
    is_deformed = data.shape_keys is not None or any(map(deforms, source.modifiers))
    return get_rest_points(data).reshape(-1, 3) if is_deformed else None


def _read_parts(mesh: bpy.types.Mesh, one: RenderObject | None, owner: RenderObject | None) -> np.ndarray | None:
    """(F,) the faces' parts; what a character's object ``owner`` shows, without being one itself, has one of its parts."""
    if PART_ATTRIBUTE in mesh.attributes:
        attribute: Any = mesh.attributes[PART_ATTRIBUTE]
        if attribute.domain == "FACE" and attribute.data_type == "FLOAT":
            parts = np.empty(len(mesh.polygons), np.float32)
            get_attribute_data(mesh, PART_ATTRIBUTE).foreach_get("value", parts)
            return parts
    if owner is None or owner.face_parts is None:
        return None
    if one is not None and len(owner.face_parts) == len(mesh.polygons):
        return owner.face_parts
    return np.full(len(mesh.polygons), owner.face_parts[0] if len(owner.face_parts) else 1.0, np.float32)


def _read_triangles(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    corners, faces = np.empty((count, 3), np.int32), np.empty(count, np.int32)
    mesh.loop_triangles.foreach_get("loops", corners.ravel())
    mesh.loop_triangles.foreach_get("polygon_index", faces)
    return corners, faces


def _leave_out(shape: Shape, kept: np.ndarray) -> Shape | None:
    """A shape with only the faces that are ``kept`` (F,)."""
    if not kept.any():
        return None
    sizes = np.diff(shape.starts, append=len(shape.corners))
    corners = np.repeat(kept, sizes)
    starts = np.concatenate([[0], np.cumsum(sizes[kept])[:-1]]).astype(np.int32)
    triangles = None
    if shape.triangles is not None:
        some = kept[shape.triangles[1]]
        renumber = [(np.cumsum(mask) - 1).astype(np.int32) for mask in (corners, kept)]
        triangles = renumber[0][shape.triangles[0][some]], renumber[1][shape.triangles[1][some]]
    return Shape(
        shape.points,
        shape.corners[corners],
        starts,
        shape.normals[corners],
        {name: uv[corners] for name, uv in shape.uvs.items()},
        shape.rest,
        None if shape.parts is None else shape.parts[kept],
        None if shape.cuts is None else shape.cuts[kept],
        triangles,
    )


def _cast_rays(graph: bpy.types.Depsgraph, view: View) -> np.ndarray:
    """(N,) planar distances of the points that a coarse grid of rays hits."""
    grid = (np.arange(RAYS) + 0.5) / RAYS * 2 - 1
    x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
    from_clip = np.linalg.inv(view.projection @ view.world_to_camera)
    ends = [np.stack([x, y, np.full_like(x, z), np.ones_like(x)], 1) @ from_clip.T for z in (-1.0, 1.0)]
    start, stop = (end[:, :3] / end[:, 3:] for end in ends)
    found = []
    scene: Any = graph.scene
    for origin, target in zip(start, stop, strict=True):
        ray = target - origin
        hit, point, *_ = scene.ray_cast(graph, origin, ray, distance=float(np.linalg.norm(ray)))
        if hit:
            found.append(np.array(point))
    return view.compute_depth(np.array(found).reshape(-1, 3))
