"""A rig seen as an SMPL skeleton: its rest joints, its axes, and the bones that move.

Body space is metres, Y up, facing +Z, left = +X, the ground under the rest pose at y = 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_JOINTS
from ...shared.vectors import normalise
from .build import REST_JOINTS, character_meshes, shaped_points
from .mapping import MappingError, Skeleton, check, guess

#: custom property on an armature: the bone map as JSON
BONE_MAP = "latentman_bone_map"
_BLENDER_TO_BODY = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])


@dataclass(frozen=True)
class Rig:
    """What retargeting needs to know about an armature.

    ``bones``: names, parents before children; ``parents`` (B,) indices, -1 at roots; ``rest`` (B, 3, 3) rest rotations
    and ``heads`` (B, 3) in armature space; ``joint_bones`` SMPL joint -> index of its bone; ``joints`` (24, 3) rest
    joints in body space; ``to_body`` (3, 3) and ``scale`` turn armature space into body space; ``ground`` is the
    armature-space height of the ground along the body's up axis, in metres; ``exact`` says that the rig is SMPL's own.
    """

    bones: tuple[str, ...]
    parents: tuple[int, ...]
    inherits: tuple[bool, ...]
    rest: np.ndarray
    heads: np.ndarray
    joint_bones: dict[str, int]
    joints: np.ndarray
    to_body: np.ndarray
    scale: float
    ground: float
    exact: bool


def _ordered(armature: bpy.types.Object) -> list[bpy.types.Bone]:
    """Bones, parents first."""
    roots = [bone for bone in armature.data.bones if bone.parent is None]
    out: list[bpy.types.Bone] = []
    stack = roots[::-1]
    while stack:
        bone = stack.pop()
        out.append(bone)
        stack += list(bone.children)[::-1]
    return out


def skeleton_of(armature: bpy.types.Object, yaw: int = 0) -> Skeleton:
    """The rest pose in world space, turned about the vertical by quarter turns ``yaw``."""
    bones = _ordered(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    world = np.array(armature.matrix_world)
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][yaw % 4]
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])

    def place(points: list) -> np.ndarray:
        return (np.array(points, float).reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]) @ turn.T

    return Skeleton(
        tuple(index),
        tuple(index[b.parent.name] if b.parent else -1 for b in bones),
        place([b.head_local for b in bones]),
        place([b.tail_local for b in bones]),
    )


def guess_mapping(armature: bpy.types.Object) -> tuple[str, dict[str, str]]:
    """(how it was found, joint -> bone); ``MotionError`` when nothing humanoid is seen."""
    reason: MappingError | None = None
    for yaw in (0, 2, 1, 3):
        skeleton = skeleton_of(armature, yaw)
        try:
            how, found = guess(skeleton)
        except MappingError as error:
            reason = reason or error
            continue
        if how != "shape of the rig" or _toes_forward(skeleton, found):
            return how, found
    raise MotionError(f"{armature.name}: {reason or 'the rig faces no direction that could be told; map its bones by hand.'}")


def _toes_forward(skeleton: Skeleton, mapping: dict[str, str]) -> bool:
    at = {name: n for n, name in enumerate(skeleton.names)}
    out = np.zeros(3)
    for side in ("left", "right"):
        toe = at[mapping.get(f"{side}_foot", mapping[f"{side}_ankle"])]
        out += skeleton.tails[toe] - skeleton.heads[at[mapping[f"{side}_ankle"]]]
    return bool(-out[1] > abs(out[0]))


def mapping_of(armature: bpy.types.Object) -> dict[str, str]:
    """The armature's saved bone map, or a guess; ``MotionError`` in one sentence when there is neither."""
    if BONE_MAP not in armature:
        return guess_mapping(armature)[1]
    mapping = {joint: bone for joint, bone in json.loads(armature[BONE_MAP]).items() if bone}
    try:
        check(mapping, tuple(bone.name for bone in armature.data.bones))
    except MappingError as error:
        raise MotionError(f"{armature.name}: {error}") from error
    return mapping


def _snapped(vector: np.ndarray) -> np.ndarray:
    """A vector's nearest signed axis, when it is near one; rest poses are seldom turned by odd angles."""
    vector = normalise(vector)
    axis = int(np.abs(vector).argmax())
    return np.sign(vector[axis]) * np.eye(3)[axis] if abs(vector[axis]) > 0.9 else vector


def rig_of(armature: bpy.types.Object) -> Rig:
    """The rig of an armature; ``MotionError`` when its bones cannot be mapped."""
    # objects that were just moved or parented have stale matrices until the next update
    bpy.context.view_layer.update()
    mapping = mapping_of(armature)
    bones = _ordered(armature)
    index = {bone.name: n for n, bone in enumerate(bones)}
    heads = np.array([bone.head_local for bone in bones], float)
    tails = np.array([bone.tail_local for bone in bones], float)
    joint_bones = {joint: index[bone] for joint, bone in mapping.items()}
    place = {joint: heads[bone] for joint, bone in joint_bones.items()}
    left = _snapped(sum((place[f"left_{j}"] - place[f"right_{j}"] for j in ("hip", "shoulder")), np.zeros(3)))
    up = (place["left_shoulder"] + place["right_shoulder"] - place["left_ankle"] - place["right_ankle"]) / 2
    up = _snapped(up - left * (up @ left))
    to_body = np.stack([left, up, np.cross(left, up)])
    # one scale for all axes: a rig scaled unevenly has no body space
    scale = float(np.cbrt(abs(np.linalg.det(np.array(armature.matrix_world)[:3, :3])))) or 1.0
    exact = REST_JOINTS in armature
    joints = _rest_joints(armature, place, tails, joint_bones) @ to_body.T * scale
    ground = _ground(armature, up, heads, tails) * scale
    return Rig(
        tuple(index),
        tuple(index[b.parent.name] if b.parent else -1 for b in bones),
        tuple(b.use_inherit_rotation for b in bones),
        np.array([np.array(b.matrix_local)[:3, :3] for b in bones]),
        heads,
        joint_bones,
        joints - np.array([0, ground, 0]),
        to_body,
        scale,
        ground,
        exact,
    )


def _ground(armature: bpy.types.Object, up: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> float:
    """Armature-space height of the soles: of the meshes where there are some, else of the lowest bone."""
    lows = []
    for body in character_meshes(armature):
        points = shaped_points(body)
        to_armature = np.array(armature.matrix_world.inverted() @ body.matrix_world)
        if len(points):
            lows.append((points @ to_armature[:3, :3].T + to_armature[:3, 3]) @ up)
    if lows:
        return float(min(part.min() for part in lows))
    return float(min((heads @ up).min(), (tails @ up).min()))


def _rest_joints(
    armature: bpy.types.Object, place: dict[str, np.ndarray], tails: np.ndarray, joint_bones: dict[str, int]
) -> np.ndarray:
    """(24, 3) armature-space joints; those without a bone are put where a person has them."""
    if len(armature.get(REST_JOINTS, ())) == len(SMPL_JOINTS) * 3:
        return np.array(armature[REST_JOINTS]).reshape(-1, 3)
    p = dict(place)
    shoulders, hips = ((p[f"left_{j}"] + p[f"right_{j}"]) / 2 for j in ("shoulder", "hip"))
    if "neck" not in p:
        p["neck"] = shoulders + 0.12 * (shoulders - hips)
    spine = [("pelvis", 0.0), ("spine1", 0.23), ("spine2", 0.49), ("spine3", 0.6), ("neck", 1.0)]
    for n, (joint, share) in enumerate(spine):
        if joint in p:
            continue
        below = next(spine[k] for k in range(n - 1, -1, -1) if spine[k][0] in p)
        above = next(spine[k] for k in range(n + 1, len(spine)) if spine[k][0] in p)
        part = (share - below[1]) / (above[1] - below[1])
        p[joint] = p[below[0]] * (1 - part) + p[above[0]] * part
    if "head" not in p:
        p["head"] = tails[joint_bones["neck"]] if "neck" in joint_bones else p["neck"] + 0.2 * (p["neck"] - p["pelvis"])
    for side in ("left", "right"):
        shoulder, elbow = p[f"{side}_shoulder"], p[f"{side}_elbow"]
        if f"{side}_collar" not in p:
            p[f"{side}_collar"] = (p["neck"] + p["spine3"]) / 4 + shoulder / 2
        for end, before in (("foot", "ankle"), ("hand", "wrist")):
            if f"{side}_{end}" not in p:
                p[f"{side}_{end}"] = tails[joint_bones[f"{side}_{before}"]]
        if np.linalg.norm(p[f"{side}_hand"] - p[f"{side}_wrist"]) < 1e-6:
            p[f"{side}_hand"] = p[f"{side}_wrist"] + 0.3 * (p[f"{side}_wrist"] - elbow)
    return np.array([p[joint] for joint in SMPL_JOINTS])
