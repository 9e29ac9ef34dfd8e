"""Which objects are in the picture, and what their surfaces are divided into."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared import shot
from ...shared.manifest import PartEntry
from ...shared.motion import MotionError
from ...shared.vectors import normalise
from ..rigging.characters import find_character_meshes
from ..rigging.rigs import read_rig

RENDERABLE = ("MESH", "CURVE", "SURFACE", "META", "FONT", "VOLUME", "CURVES", "POINTCLOUD", "GREASEPENCIL", "GPENCIL")
#: numbers of parts and of characters go into a byte
MAX_PARTS = MAX_CHARACTERS = 255
KINDS = ("CHARACTER", "CHARACTERS", "SCENE")
#: where the hair curves on a mesh have their roots, in its texture coordinates; Blender writes it
ROOT_COORDINATE = "surface_uv_coordinate"


@dataclass(frozen=True)
class Subject:
    """An object in the picture: ``index`` is its pass index, ``character`` its character's number, 0 for a prop.

    ``size`` is the scale in metres a unit of the space in which it has rest positions; ``face_parts`` (F,) float32 holds the part
    of each face of a mesh.
    """

    object: bpy.types.Object
    index: int
    character: int
    size: float
    face_parts: np.ndarray | None


@dataclass(frozen=True)
class Cast:
    """All that is in the picture. ``armatures`` are the characters' own, by number from 1, None for a mesh without one."""

    subjects: tuple[Subject, ...]
    armatures: tuple[bpy.types.Object | None, ...]
    parts: tuple[PartEntry, ...]
    whole_scene: bool

    @property
    def bodies(self) -> list[bpy.types.Object]:
        """The characters' meshes."""
        return [s.object for s in self.subjects if s.character and s.object.type == "MESH"]


def skin_of(item: bpy.types.Object) -> bpy.types.Object | None:
    """The mesh on which an object's strands grow, if it has any."""
    if item.type == "CURVES":
        skin = item.data.surface
        return skin if skin and skin.type == "MESH" and ROOT_COORDINATE in item.data.attributes else None
    grown = item.type == "MESH" and any(system.settings.type == "HAIR" for system in item.particle_systems)
    return item if grown else None


def _rendered(view_layer: bpy.types.ViewLayer) -> set[bpy.types.Object]:
    """The objects that a render of the view layer would show."""
    out: set[bpy.types.Object] = set()
    stack = [view_layer.layer_collection]
    while stack:
        layer = stack.pop()
        if layer.exclude or layer.collection.hide_render:
            continue
        out.update(o for o in layer.collection.objects if not o.hide_render)
        stack += layer.children
    return out


def bodies_of(character: bpy.types.Object | None) -> list[bpy.types.Object]:
    """A character's meshes; ``ShotError`` says what is missing."""
    if character is None:
        raise shot.ShotError("character", "There is no character; add the mannequin or pick an armature or a mesh.")
    bodies = [character] if character.type == "MESH" else find_character_meshes(character)
    if not bodies:
        raise shot.ShotError("character", f"{character.name} deforms no mesh; pick the armature of a rigged mesh.")
    return bodies


def _armature_of(body: bpy.types.Object) -> bpy.types.Object | None:
    return next((m.object for m in body.modifiers if m.type == "ARMATURE" and m.object), None)


def _characters(
    view_layer: bpy.types.ViewLayer, character: bpy.types.Object | None, kind: str
) -> list[tuple[bpy.types.Object | None, list[bpy.types.Object]]]:
    """(armature, rendered meshes) of every character that is asked for, the picked one first."""
    shown = _rendered(view_layer)
    picked = bodies_of(character)
    visible = [body for body in picked if body in shown]
    if not visible:
        raise shot.ShotError("character", f"{picked[0].name} is hidden for rendering; switch on its camera icon in the outliner.")
    armature = character if character.type == "ARMATURE" else None
    found = [(armature, visible)]
    if kind != "CHARACTER":
        for other in view_layer.objects:
            if other.type == "ARMATURE" and other != armature:
                bodies = [b for b in find_character_meshes(other) if b in shown and b not in visible]
                if bodies:
                    found.append((other, bodies))
    return found[:MAX_CHARACTERS]


def _dominant_bones(body: bpy.types.Object, armature: bpy.types.Object | None) -> np.ndarray:
    """(F,) the vertex group that weighs most at each face's first corner, of those that are bones; -1 where there is none."""
    mesh = body.data
    bones = armature.data.bones if armature else {}
    usable = {g.index for g in body.vertex_groups if g.name in bones}
    best = np.full(len(mesh.vertices), -1)
    for vertex in mesh.vertices:
        groups = [g for g in vertex.groups if g.group in usable and g.weight > 0]
        if groups:
            best[vertex.index] = max(groups, key=lambda g: g.weight).group
    first = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", first)
    corner = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corner)
    return best[corner[first]] if len(first) else np.empty(0, int)


def _bone_order(found: dict[tuple[int, str], int], armatures: list[bpy.types.Object | None]) -> dict[tuple[int, str], int]:
    """(character, bone) -> part number; where there are too many, the rarest are joined to their parents' parts."""
    into = {key: key for key in found}
    counts = dict(found)
    while len(counts) > MAX_PARTS:
        rare = min(counts, key=lambda key: counts[key])
        number, bone = rare
        parent = armatures[number - 1].data.bones[bone].parent if armatures[number - 1] and bone else None
        target = (number, parent.name) if parent else next(key for key in counts if key != rare)
        counts[target] = counts.get(target, 0) + counts.pop(rare)
        into = {key: target if value == rare else value for key, value in into.items()}
        into.setdefault(target, target)

    def rank(key: tuple[int, str]) -> tuple[int, int]:
        armature = armatures[key[0] - 1] if key[0] else None
        return key[0], armature.data.bones.find(key[1]) if armature else -1

    numbers = {key: n for n, key in enumerate(sorted(counts, key=rank), 1)}
    return {key: numbers[value] for key, value in into.items()}


def _part_entries(
    numbers: dict[tuple[int, str], int], armatures: list[bpy.types.Object | None], bodies: list[list[bpy.types.Object]]
) -> tuple[PartEntry, ...]:
    entries: dict[int, PartEntry] = {}
    rigs = []
    for armature in armatures:
        try:
            rigs.append(read_rig(armature) if armature else None)
        except MotionError:  # no humanoid: its parts have no joints
            rigs.append(None)
    for (number, bone), part in sorted(numbers.items(), key=lambda item: item[1]):
        rig, armature = (rigs[number - 1], armatures[number - 1]) if number else (None, None)
        if part in entries or (number and not bone) or not armature:
            entries.setdefault(part, PartEntry(part, bone))
            continue
        body = bodies[number - 1][0]
        to_body = np.array(body.matrix_world.inverted() @ armature.matrix_world)
        size = _size(body)
        origin = (to_body[:3, :3] @ np.array(armature.data.bones[bone].head_local) + to_body[:3, 3]) * size
        front, joint = np.zeros(3), ""
        if rig:
            front = normalise(to_body[:3, :3] @ rig.to_body[2])
            joint = next((j for j, b in rig.joint_bones.items() if rig.bones[b] == bone), "")
        entries[part] = PartEntry(part, bone, joint, tuple(map(float, origin)), tuple(map(float, front)))
    return tuple(entries[part] for part in sorted(entries))


def _size(item: bpy.types.Object) -> float:
    """Metres in one unit of an object's space."""
    return float(np.cbrt(abs(np.linalg.det(np.array(item.matrix_world)[:3, :3])))) or 1.0


def _props(
    context_graph: bpy.types.Depsgraph, view_layer: bpy.types.ViewLayer, taken: set[bpy.types.Object]
) -> list[bpy.types.Object]:
    """Everything else that a render would show, and the objects of which it shows instances."""
    found = [o for o in _rendered(view_layer) if o.type in RENDERABLE and o not in taken]
    for instance in context_graph.object_instances:
        original = instance.object.original if instance.is_instance else None
        if original and original.type in RENDERABLE and original not in taken and original not in found:
            found.append(original)
    return sorted(found, key=lambda o: o.name_full)


def choose(view_layer: bpy.types.ViewLayer, character: bpy.types.Object | None, kind: str) -> Cast:
    """The cast of a shot; ``kind`` is ``CHARACTER`` (the picked one), ``CHARACTERS`` (all rigged meshes) or ``SCENE``.

    Raises ``ShotError`` when nothing can be shown.
    """
    if kind not in KINDS:
        raise shot.ShotError("subjects", f"'{kind}' is unknown; choose one of {', '.join(KINDS).lower()}.")
    view_layer.update()
    characters = _characters(view_layer, character, kind)
    armatures = [armature or _armature_of(bodies[0]) for armature, bodies in characters]
    for _, bodies in characters:
        for body in bodies:
            if body.mode == "EDIT":
                raise shot.ShotError("character", f"{body.name} is in Edit Mode; leave it first (Tab).")
            if not len(body.data.polygons) and not body.modifiers:
                raise shot.ShotError("character", f"{body.name} has no faces; pick a mesh with a surface.")
    found: dict[tuple[int, str], int] = {}
    keys: list[tuple[bpy.types.Object, int, list[tuple[int, str]]]] = []
    for number, ((_, bodies), armature) in enumerate(zip(characters, armatures, strict=True), 1):
        for body in bodies:
            names = {-1: "", **{g.index: g.name for g in body.vertex_groups}}
            faces = [(number, names[int(group)]) for group in _dominant_bones(body, armature)]
            for key in faces or [(number, "")]:
                found[key] = found.get(key, 0) + 1
            keys.append((body, number, faces))
    numbers = _bone_order(found, armatures)
    subjects = [
        Subject(body, n, number, _size(body), np.array([numbers[key] for key in faces], np.float32))
        for n, (body, number, faces) in enumerate(keys, 1)
    ]
    wearers = {body: number for body, number, _ in keys}
    hair = [o for o in _rendered(view_layer) if o.type == "CURVES" and skin_of(o) in wearers]
    subjects += [
        Subject(item, n, wearers[skin_of(item)], _size(skin_of(item)), None)
        for n, item in enumerate(sorted(hair, key=lambda o: o.name_full), len(subjects) + 1)
    ]
    if kind == "SCENE":
        graph = bpy.context.evaluated_depsgraph_get()
        for prop in _props(graph, view_layer, {s.object for s in subjects}):
            subjects.append(Subject(prop, len(subjects) + 1, 0, _size(prop), None))
    entries = _part_entries(numbers, armatures, [bodies for _, bodies in characters])
    return Cast(tuple(subjects), tuple(armatures), entries, kind == "SCENE")
