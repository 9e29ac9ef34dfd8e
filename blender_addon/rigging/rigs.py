"""Reads an armature: its bone map, its rest pose, and both together as a ``Rig``."""

from __future__ import annotations

import json

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_JOINTS
from ...shared.vectors import normalise
from ..character.map_check import check_by_posing, find_followers
from ..character.mapping import BY_SHAPE, MappingError, check, guess, parse_saved
from ..character.rig import Rig, complete_joints, place_pelvis
from ..character.skeleton import Skeleton, find_common_ancestor, find_place_bone
from ..typed_access import get_armature, get_pose, get_view_layer
from ..units import get_object_metres_per_unit
from .characters import REST_JOINTS, find_character_meshes, read_shaped_points

#: custom property on an armature: the bone map as JSON
BONE_MAP = "latentman_bone_map"
#: custom property on an armature: why joints of a guessed bone map are doubtful, as JSON, until the user has confirmed them
BONE_DOUBTS = "latentman_bone_doubts"


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
    """The rest pose in world space, in metres, rotated about the vertical by ``yaw`` quarter turns."""
    bones = list_bones(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    world = np.array(armature.matrix_world) * get_object_metres_per_unit(armature)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][yaw % 4]
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])

    def transform(points: list) -> np.ndarray:
        return (np.array(points, float).reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]) @ rotation.T

    return Skeleton(
        tuple(index),
        tuple(index[bone.parent.name] if bone.parent else -1 for bone in bones),
        transform([bone.head_local for bone in bones]),
        transform([bone.tail_local for bone in bones]),
        tuple(index.get(_find_leader(armature, bone.name), -1) for bone in bones),
    )


def _find_leader(armature: bpy.types.Object, name: str) -> str:
    """The bone whose place and rotation a constraint gives to a bone; empty when there is none."""
    for constraint in reversed(get_pose(armature).bones[name].constraints):
        if (
            isinstance(constraint, bpy.types.CopyTransformsConstraint)
            and constraint.target == armature
            and constraint.influence > 0.99
            and not constraint.mute
            and constraint.owner_space in ("WORLD", "POSE")
        ):
            return constraint.subtarget
    return ""


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
        if how != BY_SHAPE or _faces_forward(skeleton, found):
            return how, found
    raise MotionError(f"{armature.name}: {reason or 'the direction that the rig faces was not recognised; map its bones by hand.'}")


def _faces_forward(skeleton: Skeleton, mapping: dict[str, str]) -> bool:
    """Whether toes point forward; where feet have none, whether knees or elbows bend as a person's do."""
    index = {name: n for n, name in enumerate(skeleton.names)}
    heads = {joint: skeleton.heads[index[bone]] for joint, bone in mapping.items()}
    toes, bends = np.zeros(3), np.zeros(3)
    for side in ("left", "right"):
        ankle = index[mapping[f"{side}_ankle"]]
        toe = heads[f"{side}_foot"] if f"{side}_foot" in heads else skeleton.tails[ankle]
        toes += toe - skeleton.heads[ankle]
        for a, b, c, sign in (("hip", "knee", "ankle", 1.0), ("shoulder", "elbow", "wrist", -1.0)):
            bends += sign * (heads[f"{side}_{b}"] - (heads[f"{side}_{a}"] + heads[f"{side}_{c}"]) / 2)
    if abs(toes[1]) > abs(toes[0]) and abs(toes[1]) > 0.2 * abs(toes[2]):
        return bool(toes[1] < 0)
    return bool(bends[1] < 0)


def find_doubts(armature: bpy.types.Object, mapping: dict[str, str]) -> dict[str, str]:
    """Doubtful joint -> why, for a bone map that was guessed and is complete."""
    return check_by_posing(read_skeleton(armature), mapping)


def read_doubts(armature: bpy.types.Object) -> dict[str, str]:
    """Doubtful joint -> why, for the bone map in use; empty for one that the user has made, loaded or confirmed.

    Raises ``MotionError`` when there is no bone map and none can be guessed.
    """
    if armature.get(BONE_MAP) is None:
        return find_doubts(armature, guess_mapping(armature)[1])
    try:
        return parse_saved(armature.get(BONE_DOUBTS, "{}"))
    except MappingError:
        # what another program has made of them does not make the bones certain
        return find_doubts(armature, read_mapping(armature))


def describe_doubts(mapping: dict[str, str], doubts: dict[str, str]) -> str:
    """The doubtful bones of a map with a reason for each, as half a sentence."""
    return "; ".join(f"'{mapping.get(joint, '')}' for {joint.replace('_', ' ')} {why}" for joint, why in doubts.items())


def confirm_mapping(armature: bpy.types.Object) -> None:
    """Take a guessed bone map as the user's own: nothing of it is doubtful from now on."""
    if armature.get(BONE_MAP) is None:
        armature[BONE_MAP] = json.dumps(guess_mapping(armature)[1])
    if armature.get(BONE_DOUBTS) is not None:
        del armature[BONE_DOUBTS]


def check_confirmed(armature: bpy.types.Object) -> None:
    """Raise ``MotionError`` for a guessed bone map with doubtful bones that the user has not confirmed."""
    doubts = read_doubts(armature)
    if doubts:
        few = dict(list(doubts.items())[:4])
        more = f" and {len(doubts) - len(few)} more" if len(doubts) > len(few) else ""
        raise MotionError(
            f"{armature.name}: the bone map was guessed and some of its bones are doubtful "
            f"({describe_doubts(read_mapping(armature), few)}{more}); check them in the list under Body and Bones, and press "
            "Confirm Bones there."
        )


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


def read_rig(armature: bpy.types.Object, allow_doubtful: bool = False) -> Rig:
    """The rig of an armature.

    ``MotionError`` when its bones cannot be mapped, or when they were guessed, are doubtful and not confirmed by the user;
    ``allow_doubtful`` takes such a guess where nothing is keyed by it.
    """
    # objects that were just moved or parented have stale matrices until the next update
    get_view_layer(bpy.context).update()
    if not allow_doubtful:
        check_confirmed(armature)
    mapping = read_mapping(armature)
    bones = list_bones(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    heads = np.array([bone.head_local for bone in bones], float)
    tails = np.array([bone.tail_local for bone in bones], float)
    joint_bones = {joint: index[bone] for joint, bone in mapping.items()}
    skeleton = read_skeleton(armature)
    joint_heads = {joint: heads[find_place_bone(skeleton, bone)] for joint, bone in joint_bones.items()}
    carrier = find_common_ancestor(skeleton, [joint_bones["left_hip"], joint_bones["right_hip"]])
    carrier = joint_bones["pelvis"] if carrier is None else carrier
    joint_heads["pelvis"] = place_pelvis(joint_heads, (heads[joint_bones["pelvis"]], heads[carrier]))
    across = sum((joint_heads[f"left_{name}"] - joint_heads[f"right_{name}"] for name in ("hip", "shoulder")), np.zeros(3))
    left = _snap_to_axis(across)
    up = (joint_heads["left_shoulder"] + joint_heads["right_shoulder"] - joint_heads["left_ankle"] - joint_heads["right_ankle"]) / 2
    up = _snap_to_axis(up - left * (up @ left))
    to_body = np.stack([left, up, np.cross(left, up)])
    # one scale for all axes: a rig scaled unevenly has no body space
    scale = float(np.cbrt(abs(np.linalg.det(np.array(armature.matrix_world)[:3, :3])))) or 1.0
    scale *= get_object_metres_per_unit(armature)
    saved_joints = armature.get(REST_JOINTS)
    if saved_joints is not None and len(saved_joints) == len(SMPL_JOINTS) * 3:
        rest_joints = np.array(saved_joints).reshape(-1, 3)
    else:
        rest_joints = complete_joints(joint_heads, {joint: tails[bone] for joint, bone in joint_bones.items()})
    joints = rest_joints @ to_body.T * scale
    feet = [joint_bones[joint] for side in ("left", "right") for joint in (f"{side}_ankle", f"{side}_foot") if joint in joint_bones]
    ground = _find_ground(armature, up, np.concatenate([heads, tails[feet]])) * scale
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
        find_followers(skeleton, joint_bones),
        carrier,
    )


def _find_ground(armature: bpy.types.Object, up: np.ndarray, points: np.ndarray) -> float:
    """Height of the soles in armature space: of the meshes if there are any, else of the lowest of the bones' points (N, 3)."""
    heights = []
    for body in find_character_meshes(armature):
        points = read_shaped_points(body)
        to_armature = np.array(armature.matrix_world.inverted_safe() @ body.matrix_world)
        if len(points):
            heights.append((points @ to_armature[:3, :3].T + to_armature[:3, 3]) @ up)
    if heights:
        return float(min(height.min() for height in heights))
    return float((points @ up).min())
