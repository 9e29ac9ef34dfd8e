"""Poses a bone map before it is used, and says which of its bones cannot be right. No bpy.

The rig is posed as a person strides with raised arms: each mapped bone is turned as its joint turns, everything else keeps its
place on its parent. A joint whose bone then is not where a person's would be does not hang on the right bone.
What posing cannot show (lengths, heights, sides, names) is looked at beside it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from ..motion.rotations import axis_angle_to_matrix, local_to_global
from .bone_names import read_bone_name
from .joints import SIDES
from .rig import complete_joints
from .skeleton import Skeleton, find_common_ancestor, find_place_bone, get_ancestors

#: joint -> axis-angle in degrees, in body space, of a stride with raised arms
TEST_POSE: dict[str, tuple[float, float, float]] = {
    "pelvis": (10, 25, 5),
    "left_hip": (-40, 0, 10),
    "right_hip": (30, 0, -10),
    "left_knee": (50, 0, 0),
    "right_knee": (30, 0, 0),
    "left_ankle": (-20, 0, 0),
    "right_ankle": (25, 0, 0),
    "left_foot": (15, 0, 0),
    "right_foot": (15, 0, 0),
    "neck": (15, 10, 0),
    "head": (10, 20, 0),
    "left_collar": (0, 0, 10),
    "right_collar": (0, 0, -10),
    "left_shoulder": (0, -20, 50),
    "right_shoulder": (0, 20, -50),
    "left_elbow": (0, -60, 0),
    "right_elbow": (0, 60, 0),
    "left_wrist": (20, 0, 15),
    "right_wrist": (20, 0, -15),
}
#: how far a posed joint may be from where a person's is, as a fraction of the leg's length
TOLERANCE = 0.06
LIMBS = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))


def check_by_posing(skeleton: Skeleton, mapping: dict[str, str]) -> dict[str, str]:
    """Doubtful joint -> why, for a mapping that ``mapping.check`` accepts; empty when a person's movement comes out.

    Reasons are half sentences that go on after the bone's name. The body may face anywhere.
    """
    index = {name: n for n, name in enumerate(skeleton.names)}
    bones = {joint: index[bone] for joint, bone in mapping.items() if bone}
    heads = {joint: skeleton.heads[find_place_bone(skeleton, bone)] for joint, bone in bones.items()}
    out: dict[str, str] = {}

    def doubt(joint: str, reason: str) -> None:
        if joint in bones:
            out.setdefault(joint, reason)

    _check_names(mapping, doubt_of=out)
    leg = float(
        np.mean(
            [
                np.linalg.norm(heads[f"{s}_hip"] - heads[f"{s}_knee"]) + np.linalg.norm(heads[f"{s}_knee"] - heads[f"{s}_ankle"])
                for s in SIDES
            ]
        )
    )
    if leg <= 0:
        return out | {f"{side}_{joint}": "lies where the other joints of the leg lie" for side in SIDES for joint in LIMBS[0]}
    _check_lengths(heads, leg, out)
    _check_places(heads, leg, out)
    to_body = _find_body_axes(heads)
    if to_body is None:
        doubt("left_shoulder", "is not above the hips")
        return out
    _check_pelvis(skeleton, bones, out)
    trunk = float(np.linalg.norm(heads["left_shoulder"] + heads["right_shoulder"] - heads["left_hip"] - heads["right_hip"])) / 2
    for joint, apart in _pose(skeleton, bones, heads, to_body).items():
        # collars that hang on the neck move with the head a little
        if apart > TOLERANCE * max(leg, trunk) * (2.5 if "collar" in joint else 1):
            parent = _get_mapped_parent(joint, bones)
            doubt(joint, f"does not move with the {parent.replace('_', ' ')}")
    return {joint: out[joint] for joint in SMPL_JOINTS if joint in out}


def _check_names(mapping: dict[str, str], doubt_of: dict[str, str]) -> None:
    for joint, bone in mapping.items():
        said, side = read_bone_name(bone), joint.split("_")[0]
        if said.helper and not said.part and joint != "pelvis":
            doubt_of.setdefault(joint, f"is a helper by its name ({said.helper})")
        elif side in SIDES and said.side and said.side != side:
            doubt_of.setdefault(joint, f"is on the {said.side} by its name")


def _check_lengths(heads: dict[str, np.ndarray], leg: float, out: dict[str, str]) -> None:
    lengths: dict[str, float] = {}
    for side in SIDES:
        for limb in LIMBS:
            for a, b in pairwise(limb):
                lengths[f"{side}_{b}"] = float(np.linalg.norm(heads[f"{side}_{b}"] - heads[f"{side}_{a}"]))
    for joint, length in lengths.items():
        side, name = joint.split("_")
        other = lengths[f"{'right' if side == 'left' else 'left'}_{name}"]
        usual = 0.5 * leg if name in LIMBS[0] else 0.32 * leg
        if length < 0.3 * usual:
            out.setdefault(joint, "is too near to the joint above it")
        elif length > 2.5 * usual:
            out.setdefault(joint, "is too far from the joint above it")
        elif not 0.85 * other < length < other / 0.85:
            out.setdefault(joint, "makes this limb differ in length from that of the other side")
    for side in SIDES:
        for limb in LIMBS:
            upper, lower = (lengths[f"{side}_{name}"] for name in limb[1:])
            if max(upper, lower) > 2.2 * min(upper, lower):
                out.setdefault(f"{side}_{limb[1]}", "is not in the middle of its limb")


def _check_places(heads: dict[str, np.ndarray], leg: float, out: dict[str, str]) -> None:
    """Heights above the feet, along the body wherever it points to, and sides."""
    up = heads["left_shoulder"] + heads["right_shoulder"] - heads["left_ankle"] - heads["right_ankle"]
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    z = {joint: float(head @ up) for joint, head in heads.items()}
    rules = [("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("left_hip", "left_knee"), ("right_hip", "right_knee")]
    rules += [
        ("left_knee", "left_ankle"),
        ("right_knee", "right_ankle"),
        ("head", "neck"),
        ("neck", "pelvis"),
        ("spine3", "pelvis"),
    ]
    for above, below in rules:
        if above in z and below in z and z[above] < z[below] + 0.01 * leg:
            out.setdefault(above, f"is not above the {below.replace('_', ' ')}")
    if "neck" in z and z["neck"] < min(z["left_shoulder"], z["right_shoulder"]) - 0.25 * leg:
        out.setdefault("neck", "is below the shoulders")
    if "head" in z and z["head"] > max(z["left_shoulder"], z["right_shoulder"]) + 0.8 * leg:
        out.setdefault("head", "is far above the shoulders")
    across = heads["left_hip"] - heads["right_hip"]
    if float(np.linalg.norm(across)) < 0.02 * leg:
        out.setdefault("left_hip", "lies where the right hip lies")
        return
    for name in ("knee", "ankle", "shoulder", "elbow", "wrist"):
        if float((heads[f"left_{name}"] - heads[f"right_{name}"]) @ across) <= 0:
            for side in SIDES:
                out.setdefault(f"{side}_{name}", "is on the other side of the body than the hip")


def _check_pelvis(skeleton: Skeleton, bones: dict[str, int], out: dict[str, str]) -> None:
    """Whether legs and trunk both hang on the pelvis's bone, in rigs where one bone carries both."""
    for part, names in (("legs", ("left_hip", "right_hip")), ("trunk", ("left_shoulder", "right_shoulder"))):
        chains = [get_ancestors(skeleton, bones[name]) for name in names]
        if find_common_ancestor(skeleton, [bones["pelvis"], *(bones[name] for name in names)]) is None:
            continue
        if any(bones["pelvis"] not in chain for chain in chains):
            out.setdefault("pelvis", f"does not carry the {part}")


def _find_body_axes(heads: dict[str, np.ndarray]) -> np.ndarray | None:
    """(3, 3) from world to body space: left, up, front; None for a body without a height."""
    left = heads["left_hip"] - heads["right_hip"] + heads["left_shoulder"] - heads["right_shoulder"]
    up = heads["left_shoulder"] + heads["right_shoulder"] - heads["left_ankle"] - heads["right_ankle"]
    if np.linalg.norm(left) < 1e-9:
        return None
    left = left / np.linalg.norm(left)
    up = up - left * (up @ left)
    if np.linalg.norm(up) < 1e-9:
        return None
    up = up / np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)])


def _get_mapped_parent(joint: str, bones: dict[str, int]) -> str:
    parent = SMPL_PARENTS[JOINT_INDEX[joint]]
    while parent > 0 and SMPL_JOINTS[parent] not in bones:
        parent = SMPL_PARENTS[parent]
    return SMPL_JOINTS[max(parent, 0)]


def _pose(skeleton: Skeleton, bones: dict[str, int], heads: dict[str, np.ndarray], to_body: np.ndarray) -> dict[str, float]:
    """Joint -> how far in metres its posed bone is from where a person's joint is, beyond what its parent is off already."""
    tails = {joint: skeleton.tails[bone] for joint, bone in bones.items()}
    rest = complete_joints(heads, tails)
    local = np.array([np.radians(TEST_POSE.get(joint, (0, 0, 0))) for joint in SMPL_JOINTS])
    for n, name in enumerate(SMPL_JOINTS):
        if name not in bones:
            local[n] = 0
    turned = local_to_global(axis_angle_to_matrix(local[None]), SMPL_PARENTS)[0]
    world = to_body.T @ turned @ to_body
    wanted = np.empty_like(rest)
    for n, parent in enumerate(SMPL_PARENTS):
        wanted[n] = rest[n] if parent < 0 else wanted[parent] + world[parent] @ (rest[n] - rest[parent])
    places, rotations = _pose_bones(skeleton, bones, world)
    # the whole body may turn about another point than the pelvis
    offset = places[bones["pelvis"]] + rotations[bones["pelvis"]] @ (rest[0] - skeleton.heads[bones["pelvis"]]) - wanted[0]
    apart = {joint: places[find_place_bone(skeleton, bone)] - wanted[JOINT_INDEX[joint]] - offset for joint, bone in bones.items()}
    out = {}
    for joint, off in apart.items():
        if joint == "pelvis":
            continue
        above = apart.get(_get_mapped_parent(joint, bones), np.zeros(3))
        out[joint] = float(np.linalg.norm(off - (above if _get_mapped_parent(joint, bones) != "pelvis" else 0)))
    return out


def _pose_bones(skeleton: Skeleton, bones: dict[str, int], world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places of the heads (N, 3), rotations from rest (N, 3, 3)) of all bones, when the mapped ones turn as joints (24, 3, 3)."""
    joint_of = {bone: joint for joint, bone in bones.items()}
    joint_of |= {bone: joint for bone, joint in find_followers(skeleton, bones).items() if bone not in joint_of}
    count = len(skeleton.names)
    places, rotations = skeleton.heads.copy(), np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    done = [False] * count

    def place(bone: int, depth: int = 0) -> None:
        if done[bone] or depth > count:
            return
        done[bone] = True
        leader = skeleton.leaders[bone] if skeleton.leaders else -1
        carrier = leader if leader >= 0 else skeleton.parents[bone]
        if carrier >= 0:
            place(carrier, depth + 1)
            places[bone] = places[carrier] + rotations[carrier] @ (skeleton.heads[bone] - skeleton.heads[carrier])
            rotations[bone] = rotations[carrier]
        if bone in joint_of:
            rotations[bone] = world[JOINT_INDEX[joint_of[bone]]]

    for bone in range(count):
        place(bone)
    return places, rotations


def find_followers(skeleton: Skeleton, bones: dict[str, int]) -> dict[int, str]:
    """Bone -> joint, for bones that are not mapped but must turn with a joint for a mapped one to be right.

    In Rigify's control rigs the legs hang below the controls of the lower spine, which turn from the waist down: the last of them
    takes the pelvis's rotation.
    """
    mapped = {bone: joint for joint, bone in bones.items()}
    paths = []
    for side in SIDES:
        path: list[int] = []
        for bone in get_ancestors(skeleton, bones[f"{side}_hip"])[1:]:
            if bone in mapped:
                break
            path.append(bone)
        else:
            return {}
        if not mapped[bone].startswith("spine"):
            return {}
        paths.append(path)
    shared = [bone for bone in paths[0] if bone in paths[1] and "_fk" in skeleton.names[bone]]
    return {shared[-1]: "pelvis"} if shared else {}
