"""A rig described as an SMPL skeleton: its rest joints, its axes, and the bones that move it. No bpy.

Body space is metres, Y up, facing +Z, left = +X, the ground under the rest pose at y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...shared.skeleton import SMPL_JOINTS
from ...shared.vectors import normalise
from .joints import SIDES, SPINE

#: how far up from the pelvis to the neck a joint without a bone is put
_TRUNK = (("pelvis", 0.0), *SPINE, ("neck", 1.0))


@dataclass(frozen=True)
class Rig:
    """What retargeting needs to know about an armature of B bones; float64.

    ``bones``: names, parents before children; ``parents`` (B,) indices, -1 at roots; ``inherits`` (B,): whether a bone
    follows its parent's rotation; ``rest`` (B, 3, 3) rest rotations and ``heads`` (B, 3) in armature space;
    ``joint_bones``: SMPL joint -> index of its bone; ``joints`` (24, 3) rest joints in body space; ``to_body`` (3, 3) and
    ``scale`` turn armature space into body space; ``ground``: height of the ground in armature space along the body's up
    axis, in metres; ``is_smpl``: whether the rig is SMPL's own, so that its rest pose is, too. ``followers``: index of a bone
    without a joint of its own -> the joint whose rotation it takes; ``pelvis_carrier``: the bone on which the joint of the
    pelvis has a constant place, -1 for the pelvis's own bone: where hips are split it is another one.
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
    is_smpl: bool
    followers: dict[int, str] = field(default_factory=dict)
    pelvis_carrier: int = -1

    @property
    def carrier(self) -> int:
        """The index of the bone that carries the joint of the pelvis."""
        return self.pelvis_carrier if self.pelvis_carrier >= 0 else self.joint_bones["pelvis"]


#: how far above the middle of the hips SMPL's pelvis lies, as a fraction of its leg's length
PELVIS_ABOVE_HIPS = 0.099
#: how far from there, in the same unit, a rig's bone may lie and still be taken for the joint
PELVIS_TOLERANCE = 0.03


def place_pelvis(heads: dict[str, np.ndarray], bones: Sequence[np.ndarray]) -> np.ndarray:
    """(3,) where the joint of the pelvis is, from the other joints' heads.

    That is the first of the heads (3,) in ``bones`` which lies where a person has it, above the middle of the hips. Rigs put the
    bone that carries the body at the coccyx, at the waist or on the ground, too, but the joint's own place is what the rest of the
    skeleton is compared with.
    """
    hips = (heads["left_hip"] + heads["right_hip"]) / 2
    up = (heads["left_shoulder"] + heads["right_shoulder"]) / 2 - hips
    leg = 0.0
    for side in SIDES:
        hip, knee, ankle = (heads[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        leg += float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle)) / 2
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    height = PELVIS_ABOVE_HIPS * leg
    if "spine1" in heads:
        # below the spine's first joint, wherever that is
        height = min(height, max(0.45 * float((heads["spine1"] - hips) @ up), 0.0))
    place = hips + up * height
    near = [head for head in bones if np.linalg.norm(head - place) < PELVIS_TOLERANCE * leg]
    return near[0] if near else place


def complete_joints(heads: dict[str, np.ndarray], tails: dict[str, np.ndarray]) -> np.ndarray:
    """(24, 3) rest joints; those without a bone are put where a person has them.

    ``heads`` and ``tails``: joint -> (3,) end points of its bone, for at least ``mapping.REQUIRED``.
    """
    joints = dict(heads)
    shoulders, hips = ((joints[f"left_{name}"] + joints[f"right_{name}"]) / 2 for name in ("shoulder", "hip"))
    if "neck" not in joints:
        joints["neck"] = shoulders + 0.12 * (shoulders - hips)
        if "head" in joints:
            # as far below the head, and as far behind it, as in SMPL: a neck that pointed elsewhere would tilt the head
            across = normalise(joints["left_hip"] - joints["right_hip"] + joints["left_shoulder"] - joints["right_shoulder"])
            front = np.cross(across, normalise(shoulders - hips))
            joints["neck"] = joints["head"] - 0.17 * (shoulders - hips) - 0.05 * float(np.linalg.norm(shoulders - hips)) * front
    for n, (joint, fraction) in enumerate(_TRUNK):
        if joint in joints:
            continue
        below, low = next(_TRUNK[k] for k in range(n - 1, -1, -1) if _TRUNK[k][0] in joints)
        above, high = next(_TRUNK[k] for k in range(n + 1, len(_TRUNK)) if _TRUNK[k][0] in joints)
        t = (fraction - low) / (high - low)
        joints[joint] = joints[below] * (1 - t) + joints[above] * t
    if "head" not in joints:
        joints["head"] = tails["neck"] if "neck" in tails else joints["neck"] + 0.2 * (joints["neck"] - joints["pelvis"])
    for side in SIDES:
        shoulder, elbow, wrist = (joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        if f"{side}_collar" not in joints:
            joints[f"{side}_collar"] = (joints["neck"] + joints["spine3"]) / 4 + shoulder / 2
        for end, before in (("foot", "ankle"), ("hand", "wrist")):
            if f"{side}_{end}" not in joints:
                joints[f"{side}_{end}"] = tails[f"{side}_{before}"]
        if np.linalg.norm(joints[f"{side}_hand"] - wrist) < 1e-6:
            joints[f"{side}_hand"] = wrist + 0.3 * (wrist - elbow)
    return np.array([joints[joint] for joint in SMPL_JOINTS])
