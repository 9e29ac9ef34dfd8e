"""Body model -> armature, skinned mesh, shape keys, pose correctives left out, UV map.

Bones have an identity rest matrix (head at the joint, tail along +Y), so that SMPL's rotations are the bones' own. The
armature keeps the model's Y-up axes; the object is turned upright.
"""

from __future__ import annotations

import math

import bpy
import numpy as np

from ..shared_link import SMPL_JOINTS
from .body_model import BodyModel

BONE_LENGTH, SHAPE_RANGE = 0.08, 3.0
#: custom property on the armature: the joint rest positions, for retargeting
REST_JOINTS = "latentman_rest_joints"


def add_character(context: bpy.types.Context, model: BodyModel, name: str) -> bpy.types.Object:
    """Build a character at the world origin, feet on the ground, and return its armature, active and selected."""
    joints = model.joints(model.v_template)
    armature = _armature(context, model, joints, name)
    body = _mesh(context, model, name)
    body.parent = armature
    modifier = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    armature.rotation_euler = (math.pi / 2, 0.0, 0.0)
    armature.location.z = -float(model.v_template[:, 1].min())
    armature[REST_JOINTS] = [float(x) for x in joints.ravel()]
    for other in context.selected_objects:
        other.select_set(False)
    armature.select_set(True)
    context.view_layer.objects.active = armature
    return armature


def joint_names(count: int) -> list[str]:
    """Bone names: SMPL's for the first 24, numbers for the hands and faces of larger models."""
    return [SMPL_JOINTS[n] if n < len(SMPL_JOINTS) else f"joint_{n:02d}" for n in range(count)]


def _armature(context: bpy.types.Context, model: BodyModel, joints: np.ndarray, name: str) -> bpy.types.Object:
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    context.collection.objects.link(armature)
    context.view_layer.objects.active = armature
    names = joint_names(len(joints))
    with context.temp_override(active_object=armature, object=armature, selected_objects=[armature],
                               selected_editable_objects=[armature]):
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
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return armature


def _mesh(context: bpy.types.Context, model: BodyModel, name: str) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(f"{name} Body")
    mesh.from_pydata(model.v_template.tolist(), [], model.faces.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(model.faces), bool))
    if model.uv is not None and model.uv_faces is not None:
        layer = mesh.uv_layers.new(name="UVMap")
        layer.data.foreach_set("uv", model.uv[model.uv_faces].astype(np.float32).ravel())
    mesh.update()
    body = bpy.data.objects.new(f"{name} Body", mesh)
    context.collection.objects.link(body)
    for bone, weights in zip(joint_names(len(model.parents)), model.weights.T, strict=True):
        group = body.vertex_groups.new(name=bone)
        # few distinct weights would be quicker as ranges; skinning weights are nearly all distinct
        for vertex in np.flatnonzero(weights > 1e-5):
            group.add([int(vertex)], float(weights[vertex]), "REPLACE")
    body.shape_key_add(name="Basis", from_mix=False)
    for n in range(min(model.shapedirs.shape[2], 10)):
        key = body.shape_key_add(name=f"Shape{n:03d}", from_mix=False)
        key.slider_min, key.slider_max, key.value = -SHAPE_RANGE, SHAPE_RANGE, 0.0
        key.data.foreach_set("co", (model.v_template + model.shapedirs[..., n]).astype(np.float32).ravel())
    return body


def character_meshes(armature: bpy.types.Object) -> list[bpy.types.Object]:
    """The meshes that an armature deforms."""
    return [o for o in bpy.data.objects if o.type == "MESH" and any(
        m.type == "ARMATURE" and m.object == armature for m in o.modifiers)]
