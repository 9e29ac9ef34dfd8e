"""Which objects are rendered, and which body parts their surfaces are divided into."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from ...shared.manifest import PartEntry
from ...shared.motion import MotionError
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..references import Reference, refer_to
from ..rigging.characters import find_character_meshes
from ..rigging.rigs import read_rig
from ..typed_access import get_armature, get_curves, get_mesh
from ..units import get_object_metres_per_unit
from .visibility import Visible, find_visible, may_be_shown

#: kinds of objects that a character may be made of, besides hair
BODIES = ("MESH", "CURVE", "SURFACE", "META", "FONT")
#: modifiers by which a mesh follows another object's surface or volume
FOLLOWERS = ("ARMATURE", "MESH_DEFORM", "SURFACE_DEFORM", "LATTICE", "HOOK")
#: constraints by which an object hangs on a bone
CARRIERS = ("CHILD_OF", "COPY_TRANSFORMS", "COPY_LOCATION", "ARMATURE")
#: the numbers of parts and of characters are stored in a byte
MAX_PARTS = MAX_CHARACTERS = 255
#: what of a scene is rendered: the picked character, all rigged meshes, or everything
SCOPES = ("CHARACTER", "CHARACTERS", "SCENE")
#: the attribute of hair curves that holds their roots' texture coordinates on the mesh; Blender writes it
ROOT_COORDINATE = "surface_uv_coordinate"

#: (character's number, bone) of a body part
PartKey = tuple[int, str]


@dataclass(frozen=True)
class RenderObject:
    """An object of a character: ``index`` is its number, ``character`` its character's.

    ``metres_per_unit`` converts lengths in the space of its rest positions; ``face_parts`` (F,) float32 holds the part of each
    face of a mesh.
    """

    object: bpy.types.Object
    index: int
    character: int
    metres_per_unit: float
    face_parts: np.ndarray | None


@dataclass(frozen=True)
class RenderSet:
    """The objects of the characters, their hair included. ``armatures`` are the characters' own, by number from 1, None for a mesh
    without one."""

    objects: tuple[RenderObject, ...]
    armatures: tuple[bpy.types.Object | None, ...]
    parts: tuple[PartEntry, ...]
    whole_scene: bool

    @property
    def bodies(self) -> list[bpy.types.Object]:
        """The characters' meshes."""
        return [one.object for one in self.objects if one.character and one.object.type == "MESH"]


@dataclass(frozen=True)
class RenderSetReferences:
    """What finds the objects of a render set again after an event."""

    objects: tuple[Reference, ...]
    armatures: tuple[Reference | None, ...]

    @staticmethod
    def make(render_set: RenderSet) -> RenderSetReferences:
        """References to the objects as they are now."""
        return RenderSetReferences(
            tuple(refer_to(one.object) for one in render_set.objects),
            tuple(refer_to(armature) if armature else None for armature in render_set.armatures),
        )

    def find(self, render_set: RenderSet) -> RenderSet:
        """The same render set with the objects as they are now.

        Raises ``ShotError`` when one is gone, is being edited, or has another mesh than when the shot began.
        """
        objects = tuple(
            replace(one, object=_find_again(reference, in_scene=one.character > 0))
            for one, reference in zip(render_set.objects, self.objects, strict=True)
        )
        for one in objects:
            if one.character and one.object.type == "MESH":
                check_bodies([one.object])
                if one.face_parts is not None and len(one.face_parts) != len(get_mesh(one.object).polygons):
                    raise shot.ShotError("scene", f"The mesh of {one.object.name} was changed meanwhile; generate the shot again.")
        armatures = tuple(_find_again(reference, in_scene=True) if reference else None for reference in self.armatures)
        return replace(render_set, objects=objects, armatures=armatures)


def _find_again(reference: Reference, *, in_scene: bool) -> bpy.types.Object:
    found: bpy.types.Object | None = reference.find()
    # what the scene shows only as instances is in no scene itself, but still in a collection
    if found is None or (in_scene and not found.users_collection):
        raise shot.ShotError(
            "scene",
            f"{reference.name} was deleted while its passes were rendered; what is finished is kept. Bring it back (Ctrl+Z) "
            "and generate again.",
        )
    return found


def find_skin(found: bpy.types.Object) -> bpy.types.Object | None:
    """The mesh on which an object's strands grow, if it has any."""
    if found.type == "CURVES":
        curves = get_curves(found)
        skin = curves.surface
        return skin if skin and skin.type == "MESH" and ROOT_COORDINATE in curves.attributes else None
    has_hair = found.type == "MESH" and any(system.settings.type == "HAIR" for system in found.particle_systems)
    return found if has_hair else None


def get_bodies(character: bpy.types.Object | None) -> list[bpy.types.Object]:
    """A character's meshes. Raises ``ShotError`` when there is no character or it has no mesh."""
    if character is None:
        raise shot.ShotError("character", "There is no character; add the mannequin or pick an armature or a mesh.")
    bodies = [character] if character.type == "MESH" else find_character_meshes(character)
    if not bodies and character.type == "ARMATURE":
        bodies = [one for one in find_followers(character) if one.type == "MESH"]
    if not bodies:
        raise shot.ShotError("character", f"{character.name} does not move a mesh; pick the armature of a rigged mesh.")
    return bodies


def _find_armature(body: bpy.types.Object) -> bpy.types.Object | None:
    modifiers = (m for m in body.modifiers if isinstance(m, bpy.types.ArmatureModifier))
    return next((m.object for m in modifiers if m.object), None)


def find_followers(armature: bpy.types.Object) -> list[bpy.types.Object]:
    """All that moves with an armature's bones: what it deforms, and what hangs on its bones, on itself or on something that does.

    What belongs to another armature, such as a horse to its rider, does not, nor what the user calls a prop.
    """
    found: dict[bpy.types.Object, None] = {armature: None}
    candidates = [one for one in bpy.data.objects if one.type != "ARMATURE" and one.users_collection and not is_prop(one)]
    while True:
        new = [one for one in candidates if one not in found and _follows(one, found)]
        if not new:
            return [one for one in found if one.type in BODIES]
        found.update(dict.fromkeys(new))


def is_prop(found: bpy.types.Object) -> bool:
    """Whether the user says that an object is no part of the character whose bones it moves with."""
    return bool(getattr(found, "latentman_is_prop", False))


def _follows(one: bpy.types.Object, leaders: Container[bpy.types.Object]) -> bool:
    if one.parent is not None and one.parent in leaders:
        return True
    for modifier in one.modifiers:
        target = getattr(modifier, "object", None) or getattr(modifier, "target", None)
        if modifier.type in FOLLOWERS and target in leaders:
            return True
    for constraint in one.constraints:
        found: Any = constraint
        if constraint.type == "ARMATURE" and any(entry.target in leaders for entry in found.targets):
            return True
        is_bound = constraint.type == "CHILD_OF" or bool(getattr(constraint, "subtarget", ""))
        if is_bound and constraint.type in CARRIERS and getattr(constraint, "target", None) in leaders:
            return True
    return False


def _find_characters(
    view_layer: bpy.types.ViewLayer, visible: Visible, character: bpy.types.Object | None, scope: str
) -> list[tuple[bpy.types.Object | None, list[bpy.types.Object]]]:
    """(armature, rendered objects) of every character in the scope, the picked one first."""
    picked = get_bodies(character)
    if character is not None and character.type == "ARMATURE":
        picked += [one for one in find_followers(character) if one not in picked]
    seen = [body for body in picked if body in visible.shown or body in visible.instanced]
    if not seen:
        raise shot.ShotError("character", _explain_hidden(view_layer, picked[0]))
    armature = character if character is not None and character.type == "ARMATURE" else None
    found = [(armature, seen)]
    taken = set(seen)
    if scope != "CHARACTER":
        for other in view_layer.objects:
            if other.type == "ARMATURE" and other != armature and find_character_meshes(other):
                bodies = [b for b in find_followers(other) if b in visible.shown and b not in taken]
                if bodies:
                    taken.update(bodies)
                    found.append((other, bodies))
    return found[:MAX_CHARACTERS]


def _explain_hidden(view_layer: bpy.types.ViewLayer, body: bpy.types.Object) -> str:
    """Why a render of a view layer does not show a mesh."""
    if not may_be_shown(body):
        return f"{body.name} is hidden for rendering; switch on its camera icon in the outliner."
    stack = [(view_layer.layer_collection, view_layer.layer_collection.collection.hide_render)]
    hidden = ""
    while stack:
        layer, above = stack.pop()
        hides = above or layer.collection.hide_render
        stack += [(inner, hides) for inner in layer.children]
        if body in layer.collection.objects.values():
            if not hides:
                return (
                    f"{body.name} is in the collection '{layer.name}', which the view layer leaves out; tick its box, or that of "
                    "the one around it, in the outliner."
                )
            hidden = hidden or layer.name
    if hidden:
        return (
            f"{body.name} is in the collection '{hidden}', which is hidden for rendering; switch on its camera icon, or that of "
            "the one around it, in the outliner."
        )
    return f"{body.name} is not in this scene; add it to one of its collections (M), or choose the scene that it is in."


def _find_carrying_bone(body: bpy.types.Object, armature: bpy.types.Object | None) -> str:
    """The bone on which all of an object hangs, "" where its vertices hang on different ones or on none."""
    one: bpy.types.Object | None = body
    while one is not None and armature is not None:
        if any(m.type == "ARMATURE" and getattr(m, "object", None) == armature for m in one.modifiers):
            return ""
        if one.parent == armature:
            return one.parent_bone if one.parent_type == "BONE" else ""
        for constraint in one.constraints:
            if getattr(constraint, "target", None) == armature and constraint.type in CARRIERS:
                return str(getattr(constraint, "subtarget", ""))
        one = one.parent
    return ""


def _find_dominant_bones(body: bpy.types.Object, armature: bpy.types.Object | None) -> np.ndarray:
    """(F,) the index of the bone's vertex group with the largest weight at each face's first corner, -1 where there is none."""
    mesh = get_mesh(body)
    bones = {bone.name for bone in get_armature(armature).bones} if armature else set()
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


def _number_parts(face_counts: dict[PartKey, int], armatures: list[bpy.types.Object | None]) -> dict[PartKey, int]:
    """The part number of every (character, bone); when there are too many, the rarest are merged into their parents' parts."""
    merged_into = {key: key for key in face_counts}
    counts = dict(face_counts)
    while len(counts) > MAX_PARTS:
        rarest = min(counts, key=lambda key: counts[key])
        number, bone = rarest
        armature = armatures[number - 1]
        parent = get_armature(armature).bones[bone].parent if armature and bone else None
        target = (number, parent.name) if parent else next(key for key in counts if key != rarest)
        counts[target] = counts.get(target, 0) + counts.pop(rarest)
        merged_into = {key: target if value == rarest else value for key, value in merged_into.items()}
        merged_into.setdefault(target, target)

    def rank(key: PartKey) -> tuple[int, int]:
        armature = armatures[key[0] - 1] if key[0] else None
        return key[0], get_armature(armature).bones.find(key[1]) if armature else -1

    numbers = {key: n for n, key in enumerate(sorted(counts, key=rank), 1)}
    return {key: numbers[value] for key, value in merged_into.items()}


def _find_rig(armature: bpy.types.Object | None) -> Rig | None:
    try:
        return read_rig(armature, allow_doubtful=True) if armature else None
    except MotionError:  # not a humanoid: its parts have no joints
        return None


def _make_part_entries(
    numbers: dict[PartKey, int], armatures: list[bpy.types.Object | None], bodies: list[list[bpy.types.Object]]
) -> tuple[PartEntry, ...]:
    entries: dict[int, PartEntry] = {}
    rigs = [_find_rig(armature) for armature in armatures]
    for (number, bone), part in sorted(numbers.items(), key=lambda item: item[1]):
        rig, armature = (rigs[number - 1], armatures[number - 1]) if number else (None, None)
        if part in entries or (number and not bone) or not armature:
            entries.setdefault(part, PartEntry(part, bone))
            continue
        body = bodies[number - 1][0]
        # who pops in has no size at first
        to_body = np.array(body.matrix_world.inverted_safe() @ armature.matrix_world)
        head = np.array(get_armature(armature).bones[bone].head_local)
        origin = (to_body[:3, :3] @ head + to_body[:3, 3]) * get_metres_per_unit(body)
        front, joint = np.zeros(3), ""
        if rig:
            front = normalise(to_body[:3, :3] @ rig.to_body[2])
            joint = next((j for j, b in rig.joint_bones.items() if rig.bones[b] == bone), "")
        x, y, z = map(float, origin)
        front_x, front_y, front_z = map(float, front)
        entries[part] = PartEntry(part, bone, joint, (x, y, z), (front_x, front_y, front_z))
    return tuple(entries[part] for part in sorted(entries))


def get_metres_per_unit(found: bpy.types.Object) -> float:
    """Metres in one unit of an object's space."""
    return compute_scale(np.array(found.matrix_world)) * get_object_metres_per_unit(found)


def compute_scale(matrix: np.ndarray) -> float:
    """How much a matrix (4, 4) makes things larger, on average over the axes; 1 for one without volume."""
    return float(np.cbrt(abs(np.linalg.det(matrix[:3, :3])))) or 1.0


def check_bodies(bodies: list[bpy.types.Object]) -> None:
    """Raise ``ShotError`` for meshes without a surface."""
    for body in bodies:
        if body.type == "MESH" and not len(get_mesh(body).polygons) and not body.modifiers:
            raise shot.ShotError("character", f"{body.name} has no faces; pick a mesh with a surface.")


def make_render_set(view_layer: bpy.types.ViewLayer, character: bpy.types.Object | None, scope: str) -> RenderSet:
    """The characters that a shot renders. ``scope`` is ``CHARACTER`` (the picked one), ``CHARACTERS`` (all rigged ones) or
    ``SCENE`` (those, and everything else).

    Raises ``ShotError`` when there is nothing that can be rendered.
    """
    if scope not in SCOPES:
        raise shot.ShotError("subjects", f"'{scope}' is unknown; choose one of {', '.join(SCOPES).lower()}.")
    view_layer.update()
    visible = find_visible(view_layer)
    characters = _find_characters(view_layer, visible, character, scope)
    armatures = [armature or _find_armature(bodies[0]) for armature, bodies in characters]
    for _, bodies in characters:
        check_bodies(bodies)
    face_counts: dict[PartKey, int] = {}
    face_keys: list[tuple[bpy.types.Object, int, list[PartKey]]] = []
    for number, ((_, bodies), armature) in enumerate(zip(characters, armatures, strict=True), 1):
        for body in bodies:
            faces = _find_face_keys(body, number, armature)
            for key in faces or [(number, "")]:
                face_counts[key] = face_counts.get(key, 0) + 1
            face_keys.append((body, number, faces))
    numbers = _number_parts(face_counts, armatures)
    objects = [
        RenderObject(body, n, number, get_metres_per_unit(body), np.array([numbers[key] for key in faces], np.float32))
        for n, (body, number, faces) in enumerate(face_keys, 1)
    ]
    objects += _make_hair_objects(visible, {body: number for body, number, _ in face_keys}, len(objects) + 1)
    parts = _make_part_entries(numbers, armatures, [bodies for _, bodies in characters])
    return RenderSet(tuple(objects), tuple(armatures), parts, scope == "SCENE")


def _find_face_keys(body: bpy.types.Object, number: int, armature: bpy.types.Object | None) -> list[PartKey]:
    """The part of every face of a mesh; of what is not a mesh, of all that it shows."""
    bone = _find_carrying_bone(body, armature)
    if body.type != "MESH":
        return [(number, bone)]
    if bone:
        return [(number, bone)] * len(get_mesh(body).polygons)
    names = {-1: "", **{g.index: g.name for g in body.vertex_groups}}
    return [(number, names[int(group)]) for group in _find_dominant_bones(body, armature)]


def _make_hair_objects(visible: Visible, characters: dict[bpy.types.Object, int], first_index: int) -> list[RenderObject]:
    """The rendered hair curves that grow on ``characters``' bodies, which are given with their characters' numbers."""
    skins = {o: find_skin(o) for o in visible.ordered if o.type == "CURVES"}
    grown = sorted(((o, skin) for o, skin in skins.items() if skin in characters and skin), key=lambda pair: pair[0].name_full)
    return [
        RenderObject(curves, n, characters[skin], get_metres_per_unit(skin), None)
        for n, (curves, skin) in enumerate(grown, first_index)
    ]
