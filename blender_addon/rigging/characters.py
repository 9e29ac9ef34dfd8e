"""Body model -> armature, skinned mesh, shape keys, UV map; the skeleton is fitted to the shape keys on request.

Bones have an identity rest matrix (head at the joint, tail along +Y), so that SMPL's rotations are the bones' own. The
armature keeps the model's Y-up axes; the object is rotated upright.
"""

from __future__ import annotations

import math

import bpy
import numpy as np

from ..character.body_model import BodyModel
from ..character.joints import get_joint_names
from ..render_gate import override_context
from ..typed_access import get_collection, get_mesh, get_pose, get_scene, get_shape_keys, get_view_layer
from ..units import get_metres_per_unit
from .correctives import add_correctives
from .editable import edit_bones

BONE_LENGTH, SHAPE_RANGE = 0.08, 3.0
#: custom property on the armature: the rest joints (24, 3), for retargeting
REST_JOINTS = "latentman_rest_joints"
#: custom property on an armature: how far its soles lay below its origin when its bones were fitted last, in its own units
SOLES = "latentman_soles"
#: custom properties of an SMPL-type armature: unshaped joints, and how each shape key moves them
TEMPLATE_JOINTS, JOINT_DIRECTIONS = "latentman_template_joints", "latentman_joint_directions"


def add_character(
    context: bpy.types.Context, model: BodyModel, name: str, shapes: int = 10, correctives: bool = False
) -> bpy.types.Object:
    """Build a character at the world origin, feet on the ground, and return its armature, active and selected. The model's metres
    are the scene's: an armature in a scene of another unit scale is scaled.

    ``shapes`` is how many of the model's shape directions become shape keys; ``correctives`` adds its pose correctives,
    driven by the bones (up to 486 keys, which makes playback slower).
    """
    joints = model.regress_joints(model.v_template)
    armature = _add_armature(context, model, joints, name)
    body = _add_mesh(context, model, name, shapes)
    body.parent = armature
    modifier = body.modifiers.new("Armature", "ARMATURE")
    assert isinstance(modifier, bpy.types.ArmatureModifier)
    modifier.object = armature
    armature.rotation_euler = (math.pi / 2, 0.0, 0.0)
    size = 1 / get_metres_per_unit(get_scene(context))
    armature.scale = (size, size, size)
    armature.location.z = -float(model.v_template[:, 1].min()) * size
    armature[SOLES] = float(model.v_template[:, 1].min())
    armature[REST_JOINTS] = armature[TEMPLATE_JOINTS] = [float(x) for x in joints.ravel()]
    directions = np.einsum("jv,vab->bja", model.joint_regressor, model.shapedirs[..., :shapes])
    armature[JOINT_DIRECTIONS] = [float(x) for x in directions.ravel()]
    if correctives:
        add_correctives(armature, body, model)
    if model.uv is None:
        _unwrap(context, body, armature)
    for other in context.selected_objects:
        other.select_set(False)
    armature.select_set(True)
    get_view_layer(context).objects.active = armature
    return armature


def _add_armature(context: bpy.types.Context, model: BodyModel, joints: np.ndarray, name: str) -> bpy.types.Object:
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    get_collection(context).objects.link(armature)
    get_view_layer(context).objects.active = armature
    names = get_joint_names(len(joints))
    with override_context(
        context, active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        if context.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        bpy.ops.object.mode_set(mode="EDIT")
        bones = [data.edit_bones.new(n) for n in names]
        for bone, head, parent in zip(bones, joints, model.parents, strict=True):
            bone.head = head
            bone.tail = head + np.array([0.0, BONE_LENGTH, 0.0])
            bone.roll = 0.0
            if parent >= 0:
                bone.parent = bones[parent]
        bpy.ops.object.mode_set(mode="OBJECT")
    data.display_type = "STICK"
    armature.show_in_front = True
    for pose_bone in get_pose(armature).bones:
        pose_bone.rotation_mode = "QUATERNION"
    return armature


def _add_mesh(context: bpy.types.Context, model: BodyModel, name: str, shapes: int) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(f"{name} Body")
    mesh.from_pydata(model.v_template.tolist(), [], model.faces.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(model.faces), bool))
    if model.uv is not None and model.uv_faces is not None:
        layer = mesh.uv_layers.new(name="UVMap")
        layer.data.foreach_set("uv", model.uv[model.uv_faces].astype(np.float32).ravel())
    mesh.update()
    body = bpy.data.objects.new(f"{name} Body", mesh)
    get_collection(context).objects.link(body)
    for bone, weights in zip(get_joint_names(len(model.parents)), model.weights.T, strict=True):
        group = body.vertex_groups.new(name=bone)
        # few distinct weights would be quicker as ranges; skinning weights are nearly all distinct
        for vertex in np.flatnonzero(weights > 1e-5):
            group.add([int(vertex)], float(weights[vertex]), "REPLACE")
    body.shape_key_add(name="Basis", from_mix=False)
    for n in range(min(model.shapedirs.shape[2], shapes)):
        key = body.shape_key_add(name=f"Shape{n:03d}", from_mix=False)
        key.slider_min, key.slider_max, key.value = -SHAPE_RANGE, SHAPE_RANGE, 0.0
        key.data.foreach_set("co", (model.v_template + model.shapedirs[..., n]).astype(np.float32).ravel())
    return body


def _unwrap(context: bpy.types.Context, body: bpy.types.Object, armature: bpy.types.Object) -> None:
    """Give texture coordinates to a body that has none."""
    get_view_layer(context).objects.active = body
    with override_context(context, active_object=body, object=body, selected_objects=[body], selected_editable_objects=[body]):
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.uv.smart_project(angle_limit=math.radians(66), island_margin=0.004)
        bpy.ops.object.mode_set(mode="OBJECT")
    get_view_layer(context).objects.active = armature


def fit_skeleton(context: bpy.types.Context, armature: bpy.types.Object) -> None:
    """Move the bones to the joints of the body as its shape keys have it, and its soles to where they were: to Z = 0 for an
    armature that does not know how they were.

    Does nothing for an armature that was not built from a body model; raises ``MotionError`` where its bones cannot be edited.
    """
    if armature.get(JOINT_DIRECTIONS) is None:
        return
    body = next((mesh for mesh in find_character_meshes(armature) if get_shape_keys(mesh)), None)
    template = np.array(armature[TEMPLATE_JOINTS]).reshape(-1, 3)
    directions = np.array(armature[JOINT_DIRECTIONS]).reshape(-1, *template.shape)
    keys = get_shape_keys(body) if body else None
    values = {key.name: key.value for key in keys.key_blocks} if keys else {}
    betas = np.array([values.get(f"Shape{n:03d}", 0.0) for n in range(len(directions))])
    joints = template + np.tensordot(betas, directions, 1)
    with edit_bones(context, armature) as bones:
        for name, head in zip(get_joint_names(len(joints)), joints, strict=True):
            bone = bones[name]
            bone.head, bone.tail, bone.roll = head, head + np.array([0.0, BONE_LENGTH, 0.0]), 0.0
    armature[REST_JOINTS] = [float(x) for x in joints.ravel()]
    if body:
        low = float(read_shaped_points(body)[:, 1].min())
        before = armature.get(SOLES)
        ground = 0.0 if before is None else armature.location.z + float(before) * armature.scale.y
        armature.location.z = ground - low * armature.scale.y
        armature[SOLES] = low


def read_shaped_points(body: bpy.types.Object) -> np.ndarray:
    """(V, 3) float32 vertices of a mesh with its shape keys but without pose correctives, in its own space."""
    vertices = get_mesh(body).vertices
    points = np.empty((len(vertices), 3), np.float32)
    vertices.foreach_get("co", points.ravel())
    keys = get_shape_keys(body)
    if not keys:
        return points
    basis = points.copy()
    for key in keys.key_blocks:
        if key.name.startswith("Shape") and key.value:
            other = np.empty_like(points)
            key.data.foreach_get("co", other.ravel())
            points += key.value * (other - basis)
    return points


def find_character_meshes(armature: bpy.types.Object) -> list[bpy.types.Object]:
    """The meshes that an armature deforms."""
    return [mesh for mesh in bpy.data.objects if mesh.type == "MESH" and any(_deforms(armature, m) for m in mesh.modifiers)]


def _deforms(armature: bpy.types.Object, modifier: bpy.types.Modifier) -> bool:
    return isinstance(modifier, bpy.types.ArmatureModifier) and modifier.object == armature
