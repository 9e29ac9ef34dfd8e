"""Body model -> armature, skinned mesh, shape keys, UV map; the skeleton follows the shape keys on request.

Bones have an identity rest matrix (head at the joint, tail along +Y), so that SMPL's rotations are the bones' own. The
armature keeps the model's Y-up axes; the object is turned upright.
"""

from __future__ import annotations

import math

import bpy
import numpy as np

from .body_model import BodyModel
from .correctives import add_correctives
from .joints import joint_names

BONE_LENGTH, SHAPE_RANGE = 0.08, 3.0
#: custom property on the armature: the joint rest positions, for retargeting
REST_JOINTS = "latentman_rest_joints"
#: custom properties of an SMPL-type armature: unshaped joints, and how each shape key moves them
TEMPLATE_JOINTS, JOINT_DIRECTIONS = "latentman_template_joints", "latentman_joint_directions"


def add_character(
    context: bpy.types.Context, model: BodyModel, name: str, shapes: int = 10, correctives: bool = False
) -> bpy.types.Object:
    """Build a character at the world origin, feet on the ground, and return its armature, active and selected.

    ``shapes`` is how many of the model's shape directions become keys; ``correctives`` adds its pose correctives, driven
    by the bones (up to 486 keys, which makes playback slower).
    """
    joints = model.joints(model.v_template)
    armature = _armature(context, model, joints, name)
    body = _mesh(context, model, name, shapes)
    body.parent = armature
    modifier = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    armature.rotation_euler = (math.pi / 2, 0.0, 0.0)
    armature.location.z = -float(model.v_template[:, 1].min())
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
    context.view_layer.objects.active = armature
    return armature


def _armature(context: bpy.types.Context, model: BodyModel, joints: np.ndarray, name: str) -> bpy.types.Object:
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    context.collection.objects.link(armature)
    context.view_layer.objects.active = armature
    names = joint_names(len(joints))
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
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
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return armature


def _mesh(context: bpy.types.Context, model: BodyModel, name: str, shapes: int) -> bpy.types.Object:
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
    for n in range(min(model.shapedirs.shape[2], shapes)):
        key = body.shape_key_add(name=f"Shape{n:03d}", from_mix=False)
        key.slider_min, key.slider_max, key.value = -SHAPE_RANGE, SHAPE_RANGE, 0.0
        key.data.foreach_set("co", (model.v_template + model.shapedirs[..., n]).astype(np.float32).ravel())
    return body


def _unwrap(context: bpy.types.Context, body: bpy.types.Object, armature: bpy.types.Object) -> None:
    """Give a body without texture coordinates some."""
    context.view_layer.objects.active = body
    with context.temp_override(active_object=body, object=body, selected_objects=[body], selected_editable_objects=[body]):
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.uv.smart_project(angle_limit=math.radians(66), island_margin=0.004)
        bpy.ops.object.mode_set(mode="OBJECT")
    context.view_layer.objects.active = armature


def fit_skeleton(context: bpy.types.Context, armature: bpy.types.Object) -> None:
    """Move the bones to where the joints of the shaped body are, and the body's soles to the ground.

    Does nothing for an armature that was not built from a body model.
    """
    if JOINT_DIRECTIONS not in armature:
        return
    body = next((o for o in character_meshes(armature) if o.data.shape_keys), None)
    template = np.array(armature[TEMPLATE_JOINTS]).reshape(-1, 3)
    directions = np.array(armature[JOINT_DIRECTIONS]).reshape(-1, *template.shape)
    keys = body.data.shape_keys.key_blocks if body else {}
    betas = np.array([keys[f"Shape{n:03d}"].value if f"Shape{n:03d}" in keys else 0.0 for n in range(len(directions))])
    joints = template + np.tensordot(betas, directions, 1)
    context.view_layer.objects.active = armature
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        bpy.ops.object.mode_set(mode="EDIT")
        for name, head in zip(joint_names(len(joints)), joints, strict=True):
            bone = armature.data.edit_bones[name]
            bone.head, bone.tail, bone.roll = head, head + np.array([0.0, BONE_LENGTH, 0.0]), 0.0
        bpy.ops.object.mode_set(mode="OBJECT")
    armature[REST_JOINTS] = [float(x) for x in joints.ravel()]
    if body:
        low = shaped_points(body)[:, 1].min()
        armature.location.z = -float(low) * armature.scale.y


def shaped_points(body: bpy.types.Object) -> np.ndarray:
    """(V, 3) a mesh's vertices with its shape keys, pose correctives aside, in its own space."""
    points = np.empty((len(body.data.vertices), 3), np.float32)
    body.data.vertices.foreach_get("co", points.ravel())
    keys = body.data.shape_keys
    if not keys:
        return points
    basis = points.copy()
    for key in keys.key_blocks:
        if key.name.startswith("Shape") and key.value:
            other = np.empty_like(points)
            key.data.foreach_get("co", other.ravel())
            points += key.value * (other - basis)
    return points


def character_meshes(armature: bpy.types.Object) -> list[bpy.types.Object]:
    """The meshes that an armature deforms."""
    return [
        o for o in bpy.data.objects if o.type == "MESH" and any(m.type == "ARMATURE" and m.object == armature for m in o.modifiers)
    ]
