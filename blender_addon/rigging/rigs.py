"""Reads an armature: its bone map, its rest pose, and both together as a ``Rig``."""

from __future__ import annotations

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_JOINTS
from ...shared.vectors import normalise
from ..character.mapping import MappingError, Skeleton, check, guess, parse_saved
from ..character.rig import Rig, complete_joints
from ..typed_access import get_armature, get_view_layer
from .characters import REST_JOINTS, find_character_meshes, read_shaped_points

#: custom property on an armature: the bone map as JSON
BONE_MAP = "latentman_bone_map"


def list_bones(armature: bpy.types.Object) -> list[bpy.types.Bone]:
    """Bones, parents before their children."""
    roots = [bone for bone in get_armature(armature).bones if bone.parent is None]
    out: list[bpy.types.Bone] = []
    stack = roots[::-1]
    while stack:
        bone = stack.pop()
        out.append(bone)
        stack += list(bone.children)[::-1]
    return out


def read_skeleton(armature: bpy.types.Object, yaw: int = 0) -> Skeleton:
    """The rest pose in world space, rotated about the vertical by ``yaw`` quarter turns."""
    bones = list_bones(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    world = np.array(armature.matrix_world)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][yaw % 4]
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])

    def transform(points: list) -> np.ndarray:
        return (np.array(points, float).reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]) @ rotation.T

    return Skeleton(
        tuple(index),
        tuple(index[bone.parent.name] if bone.parent else -1 for bone in bones),
        transform([bone.head_local for bone in bones]),
        transform([bone.tail_local for bone in bones]),
    )


def guess_mapping(armature: bpy.types.Object) -> tuple[str, dict[str, str]]:
    """(how it was found, joint -> bone); ``MotionError`` when the rig does not look like a person."""
    reason: MappingError | None = None
    for yaw in (0, 2, 1, 3):
        skeleton = read_skeleton(armature, yaw)
        try:
            how, found = guess(skeleton)
        except MappingError as error:
            reason = reason or error
            continue
        if how != "shape of the rig" or _has_toes_forward(skeleton, found):
            return how, found
    raise MotionError(f"{armature.name}: {reason or 'the direction that the rig faces was not recognised; map its bones by hand.'}")


def _has_toes_forward(skeleton: Skeleton, mapping: dict[str, str]) -> bool:
    index = {name: n for n, name in enumerate(skeleton.names)}
    direction = np.zeros(3)
    for side in ("left", "right"):
        toe = index[mapping.get(f"{side}_foot", mapping[f"{side}_ankle"])]
        direction += skeleton.tails[toe] - skeleton.heads[index[mapping[f"{side}_ankle"]]]
    return bool(-direction[1] > abs(direction[0]))


def read_mapping(armature: bpy.types.Object) -> dict[str, str]:
    """The armature's saved bone map, or a guess; ``MotionError`` when the saved one is invalid or the guess fails."""
    mapping = read_saved_mapping(armature)
    return guess_mapping(armature)[1] if mapping is None else mapping


def read_saved_mapping(armature: bpy.types.Object) -> dict[str, str] | None:
    """The armature's saved bone map, None where it has none; ``MotionError`` when it is invalid."""
    saved = armature.get(BONE_MAP)
    if saved is None:
        return None
    try:
        mapping = parse_saved(saved)
        check(mapping, tuple(bone.name for bone in get_armature(armature).bones))
    except MappingError as error:
        raise MotionError(f"{armature.name}: {error}") from error
    return mapping


def _snap_to_axis(vector: np.ndarray) -> np.ndarray:
    """A vector's nearest signed axis when it is close to one; rest poses are seldom rotated by odd angles."""
    vector = normalise(vector)
    axis = int(np.abs(vector).argmax())
    return np.asarray(np.sign(vector[axis]) * np.eye(3)[axis]) if abs(vector[axis]) > 0.9 else vector


def read_rig(armature: bpy.types.Object) -> Rig:
    """The rig of an armature; ``MotionError`` when its bones cannot be mapped."""
    # objects that were just moved or parented have stale matrices until the next update
    get_view_layer(bpy.context).update()
    mapping = read_mapping(armature)
    bones = list_bones(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    heads = np.array([bone.head_local for bone in bones], float)
    tails = np.array([bone.tail_local for bone in bones], float)
    joint_bones = {joint: index[bone] for joint, bone in mapping.items()}
    joint_heads = {joint: heads[bone] for joint, bone in joint_bones.items()}
    across = sum((joint_heads[f"left_{name}"] - joint_heads[f"right_{name}"] for name in ("hip", "shoulder")), np.zeros(3))
    left = _snap_to_axis(across)
    up = (joint_heads["left_shoulder"] + joint_heads["right_shoulder"] - joint_heads["left_ankle"] - joint_heads["right_ankle"]) / 2
    up = _snap_to_axis(up - left * (up @ left))
    to_body = np.stack([left, up, np.cross(left, up)])
    # one scale for all axes: a rig scaled unevenly has no body space
    scale = float(np.cbrt(abs(np.linalg.det(np.array(armature.matrix_world)[:3, :3])))) or 1.0
    saved_joints = armature.get(REST_JOINTS)
    if saved_joints is not None and len(saved_joints) == len(SMPL_JOINTS) * 3:
        rest_joints = np.array(saved_joints).reshape(-1, 3)
    else:
        rest_joints = complete_joints(joint_heads, {joint: tails[bone] for joint, bone in joint_bones.items()})
    joints = rest_joints @ to_body.T * scale
    ground = _find_ground(armature, up, heads, tails) * scale
    return Rig(
        tuple(index),
        tuple(index[bone.parent.name] if bone.parent else -1 for bone in bones),
        tuple(bone.use_inherit_rotation for bone in bones),
        np.array([np.array(bone.matrix_local)[:3, :3] for bone in bones]),
        heads,
        joint_bones,
        joints - np.array([0, ground, 0]),
        to_body,
        scale,
        ground,
        saved_joints is not None,
    )


def _find_ground(armature: bpy.types.Object, up: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> float:
    """Height of the soles in armature space: of the meshes if there are any, else of the lowest bone."""
    heights = []
    for body in find_character_meshes(armature):
        points = read_shaped_points(body)
        to_armature = np.array(armature.matrix_world.inverted() @ body.matrix_world)
        if len(points):
            heights.append((points @ to_armature[:3, :3].T + to_armature[:3, 3]) @ up)
    if heights:
        return float(min(height.min() for height in heights))
    return float(min((heads @ up).min(), (tails @ up).min()))
