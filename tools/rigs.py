"""Rigs as other tools make them, built from a body's joints: with their names, proportions, lowered arms, units and axes."""

from __future__ import annotations

import math

import bpy
import numpy as np

from latentman.blender_addon.character.mapping import get_presets
from latentman.blender_addon.typed_access import get_scene, get_view_layer
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS

TIPS = {
    "head": (0, 0.18, 0),
    "left_hand": (0.09, 0, 0),
    "right_hand": (-0.09, 0, 0),
    "left_foot": (0, 0, 0.08),
    "right_foot": (0, 0, 0.08),
}


def make_joints(leg: float = 1.0, arm: float = 1.0, arms_down: float = 0.0) -> np.ndarray:
    """(24, 3) rest joints in body space, soles at y = 0, with scaled limbs and arms lowered by an angle in degrees."""
    rest = np.array(SMPL_REST_JOINTS)
    out = rest.copy()
    for joint, name in enumerate(SMPL_JOINTS):
        parent = SMPL_PARENTS[joint]
        if parent < 0:
            continue
        bone = rest[joint] - rest[parent]
        if any(part in name for part in ("knee", "ankle")):
            bone = bone * leg
        if any(part in name for part in ("elbow", "wrist", "hand")):
            angle = math.radians(arms_down) * (-1 if "left" in name else 1)
            c, s = math.cos(angle), math.sin(angle)
            bone = arm * np.array([c * bone[0] - s * bone[1], s * bone[0] + c * bone[1], bone[2]])
        out[joint] = out[parent] + bone
    out[:, 1] -= out[:, 1].min() - 0.02
    return out


def build_rig(
    joints: np.ndarray,
    names: dict[str, str],
    centimetres: bool = False,
    y_up: bool = False,
    extra_root: str | None = None,
    seed: int = 0,
) -> bpy.types.Object:
    """An armature with a bone for each named joint, from joint to joint, rolled at random.

    ``centimetres`` and ``y_up`` give the object the scale and rotation that imported files have.
    """
    rng = np.random.default_rng(seed)
    data = bpy.data.armatures.new("Rig")
    armature = bpy.data.objects.new("Rig", data)
    get_scene(bpy.context).collection.objects.link(armature)
    get_view_layer(bpy.context).objects.active = armature
    scale = 100.0 if centimetres else 1.0
    place = (joints if y_up else joints[:, [0, 2, 1]] * [1, -1, 1]) * scale
    tip = {name: np.array(v) if y_up else np.array(v)[[0, 2, 1]] * [1, -1, 1] for name, v in TIPS.items()}
    bpy.ops.object.mode_set(mode="EDIT")
    root = data.edit_bones.new(extra_root) if extra_root else None
    if root:
        root.head, root.tail = (0, 0, 0), (0, 0.3 * scale, 0)
    bones: dict[str, bpy.types.EditBone] = {}
    for joint, name in enumerate(SMPL_JOINTS):
        if name not in names:
            continue
        bone = data.edit_bones.new(names[name])
        children = [n for n, p in enumerate(SMPL_PARENTS) if p == joint]
        follow = [n for n in children if SMPL_JOINTS[n] in names]
        straight = {"pelvis": "spine1", "spine3": "neck"}.get(name)
        end = (
            place[JOINT_INDEX[straight]]
            if straight in names
            else place[follow[0]]
            if follow
            else place[joint] + tip.get(name, place[joint] * 0) * scale
        )
        if np.linalg.norm(end - place[joint]) < 1e-4 * scale:
            end = place[children[0]] if children else place[joint] + np.array([0, 0, 0.05]) * scale
        bone.head, bone.tail, bone.roll = place[joint], end, float(rng.uniform(-np.pi, np.pi))
        parent = SMPL_PARENTS[joint]
        while parent >= 0 and SMPL_JOINTS[parent] not in bones:
            parent = SMPL_PARENTS[parent]
        bone.parent = bones[SMPL_JOINTS[parent]] if parent >= 0 else root
        bones[name] = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.scale = (1 / scale,) * 3
    if y_up:
        armature.rotation_euler.x = math.pi / 2
    get_view_layer(bpy.context).update()
    return armature


def get_bone_names(name: str) -> dict[str, str]:
    """The bone names of a preset."""
    return get_presets()[name]
