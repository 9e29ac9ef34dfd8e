"""Rigs as other tools make them, built from a body's joints: with their names, proportions, lowered arms, units and axes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from latentman.blender_addon.character.mapping import get_presets
from latentman.blender_addon.character.skeleton import Skeleton
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.blender_addon.typed_access import get_armature, get_pose, get_scene, get_view_layer
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from latentman.shared.vectors import normalise

from .limbs import SIDED_LIMBS

#: limbs whose directions are compared, each from joint to joint; two names are the middle between two joints
LIMBS: tuple[tuple[str, str], ...] = (*SIDED_LIMBS, ("neck", "head"), ("left_hip right_hip", "neck"))

ROOT = Path(__file__).resolve().parents[1]
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


def _begin_armature() -> bpy.types.Object:
    """A new armature without bones, in edit mode."""
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    get_scene(bpy.context).collection.objects.link(armature)
    get_view_layer(bpy.context).objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    return armature


def _finish_armature(armature: bpy.types.Object, scale: float, y_up: bool) -> None:
    """Leave edit mode, and give the object the scale and rotation of bones in ``scale`` units a metre, with Y up or Z up."""
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.scale = (1 / scale,) * 3
    if y_up:
        armature.rotation_euler.x = math.pi / 2
    get_view_layer(bpy.context).update()


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
    armature = _begin_armature()
    edit_bones = get_armature(armature).edit_bones
    scale = 100.0 if centimetres else 1.0
    place = (joints if y_up else joints[:, [0, 2, 1]] * [1, -1, 1]) * scale
    tip = {name: np.array(v) if y_up else np.array(v)[[0, 2, 1]] * [1, -1, 1] for name, v in TIPS.items()}
    root = edit_bones.new(extra_root) if extra_root else None
    if root:
        root.head, root.tail = (0, 0, 0), (0, 0.3 * scale, 0)
    bones: dict[str, bpy.types.EditBone] = {}
    for joint, name in enumerate(SMPL_JOINTS):
        if name not in names:
            continue
        bone = edit_bones.new(names[name])
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
    _finish_armature(armature, scale, y_up)
    return armature


def get_bone_names(name: str) -> dict[str, str]:
    """The bone names of a preset."""
    return get_presets()[name]


def build_armature(skeleton: Skeleton, centimetres: bool = False, y_up: bool = False, seed: int = 0) -> bpy.types.Object:
    """An armature of a skeleton's bones, rolled at random, in the axes and the unit that imported files have."""
    rng = np.random.default_rng(seed)
    armature = _begin_armature()
    edit_bones = get_armature(armature).edit_bones
    scale = 100.0 if centimetres else 1.0

    def turn(point: np.ndarray) -> np.ndarray:
        return (point[[0, 2, 1]] * [1, 1, -1] if y_up else point) * scale

    bones: list[bpy.types.EditBone] = []
    for name, parent, head, tail in zip(skeleton.names, skeleton.parents, skeleton.heads, skeleton.tails, strict=True):
        bone = edit_bones.new(name)
        bone.head, bone.tail, bone.roll = tuple(turn(head)), tuple(turn(tail)), float(rng.uniform(-np.pi, np.pi))
        if parent >= 0:
            bone.parent = bones[parent]
        bones.append(bone)
    _finish_armature(armature, scale, y_up)
    return armature


def read_heads(armature: bpy.types.Object, bones: dict[str, str], frames: Iterable[int]) -> dict[str, np.ndarray]:
    """Joint -> (F, 3) world positions, as Blender poses them, of the heads of bones (joint -> bone)."""
    out: dict[str, list[np.ndarray]] = {joint: [] for joint in bones}
    for frame in frames:
        get_scene(bpy.context).frame_set(frame)
        posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        for joint, bone in bones.items():
            out[joint].append(np.array(posed.matrix_world @ get_pose(posed).bones[bone].head))
    return {joint: np.array(heads) for joint, heads in out.items()}


def read_mapped_heads(armature: bpy.types.Object, frames: Iterable[int]) -> dict[str, np.ndarray]:
    """Joint -> (F, 3) world positions, as Blender poses them, of the heads of the bones in an armature's own bone map."""
    rig = read_rig(armature)
    return read_heads(armature, {joint: rig.bones[bone] for joint, bone in rig.joint_bones.items()}, frames)


def measure_limbs(seen: dict[str, np.ndarray], joints: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Limb -> (F,) degrees between its direction in world positions (F, 3) and in a motion's joints (F, J, 3) in body space."""
    truth = {joint: joints[:, n][:, [0, 2, 1]] * [1, -1, 1] for n, joint in enumerate(SMPL_JOINTS[: joints.shape[1]])}

    def find(places: dict[str, np.ndarray], name: str) -> np.ndarray:
        return np.asarray(sum(places[joint] for joint in name.split()) / len(name.split()))

    out = {}
    for limb in LIMBS:
        if set(" ".join(limb).split()) <= set(seen):
            own, wanted = (normalise(find(places, limb[1]) - find(places, limb[0])) for places in (seen, truth))
            out[limb] = np.degrees(np.arccos(np.clip((own * wanted).sum(-1), -1, 1)))
    return out


_RIGIFY_PARTS = {
    "hip": "thigh",
    "knee": "shin",
    "ankle": "foot",
    "foot": "toe",
    "collar": "shoulder",
    "shoulder": "upper_arm",
    "elbow": "forearm",
    "wrist": "hand",
}


def get_rigify_deform_bones() -> dict[str, str]:
    """Joint -> deform bone of the control rigs that Rigify makes of its human metarigs."""
    deform = {"neck": "DEF-spine.004", "head": "DEF-spine.006", "pelvis": "DEF-spine"}
    for side, letter in (("left", "L"), ("right", "R")):
        deform |= {f"{side}_{joint}": f"DEF-{bone}.{letter}" for joint, bone in _RIGIFY_PARTS.items()}
    return deform


def open_rigify(kind: str, folder: Path) -> bpy.types.Object:
    """Open a file with one of Rigify's own rigs: ``basic`` or ``human`` for what it generates, or ``metarig``.

    They are made in a process of their own: Blender as a module does not survive the classes that Rigify leaves behind.
    """
    path = folder / f"{kind}.blend"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "build" / "package"), str(ROOT)))}
    subprocess.run(
        [sys.executable, "-m", "tools.rigs", kind, str(path)], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    bpy.ops.wm.open_mainfile(filepath=str(path), use_scripts=False)
    return next(found for found in get_scene(bpy.context).objects if found.type == "ARMATURE" and not found.hide_get())


def _save_rigify(kind: str, path: str) -> None:
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    get_scene(bpy.context).render.fps = 20
    addon_utils.enable("rigify", default_set=True)
    # operators that only exist once Rigify is there
    operators: Any = bpy.ops.object
    generate: Any = bpy.ops.pose
    (operators.armature_human_metarig_add if kind == "human" else operators.armature_basic_human_metarig_add)()
    metarig = bpy.context.object
    assert metarig is not None, "the metarig that was just added is active"
    if kind != "metarig":
        generate.rigify_generate()
        bpy.data.objects.remove(metarig)
    bpy.ops.wm.save_as_mainfile(filepath=path)


def skin_by_nearest_bone(armature: bpy.types.Object) -> bpy.types.Object:
    """A mesh with a small cross at both ends of every deform bone, each vertex moved by its own bone alone."""
    points: list[np.ndarray] = []
    owners: list[str] = []
    for bone in get_armature(armature).bones:
        if bone.use_deform:
            points += [np.array(bone.head_local), np.array(bone.tail_local)]
            owners += [bone.name] * 2
    return skin_with("Skin", armature, points, [(n, n + 1) for n in range(0, len(points), 2)], [], owners)


def skin_with(
    name: str,
    armature: bpy.types.Object,
    points: Sequence[np.ndarray],
    edges: Sequence[tuple[int, int]],
    faces: Sequence[Sequence[int]],
    owners: Sequence[str],
) -> bpy.types.Object:
    """A mesh of points (3,) in the armature's space, each of which one bone of the armature moves: its owner."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(point) for point in points], edges, faces)
    body = bpy.data.objects.new(name, mesh)
    get_scene(bpy.context).collection.objects.link(body)
    body.parent = armature
    modifier = body.modifiers.new("Armature", "ARMATURE")
    assert isinstance(modifier, bpy.types.ArmatureModifier)
    modifier.object = armature
    for n, owner in enumerate(owners):
        (body.vertex_groups.get(owner) or body.vertex_groups.new(name=owner)).add([n], 1.0, "REPLACE")
    return body


if __name__ == "__main__":
    _save_rigify(sys.argv[1], sys.argv[2])
    sys.stdout.flush()
    os._exit(0)
