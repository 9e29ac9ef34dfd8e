"""The control bones that *FK to IK* adds: their names, and where they have to be for a motion."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics, make_continuous, matrix_to_quaternion
from ..typed_access import get_armature, get_pose

#: the name of every constraint that is added here
CONSTRAINT = "latentman IK"
LIMBS = {
    "left_leg": ("left_hip", "left_knee", "left_ankle"),
    "right_leg": ("right_hip", "right_knee", "right_ankle"),
    "left_arm": ("left_shoulder", "left_elbow", "left_wrist"),
    "right_arm": ("right_shoulder", "right_elbow", "right_wrist"),
}
#: which way a straight limb's joint bends in the rest pose, body space
FRONT = {"leg": np.array([0.0, 0, 1.0]), "arm": np.array([0.0, 0, -1.0])}
#: metres from a limb to its pole target, and of bend that a straight limb gets so that the solver knows its direction
POLE_DISTANCE, REST_BEND = 0.45, 0.001


@dataclass(frozen=True)
class LimbBones:
    """Names of the bones that IK adds to a limb."""

    upper: str
    lower: str
    control: str
    pole: str
    upper_follower: str
    lower_follower: str

    @classmethod
    def from_limb(cls, limb: str) -> LimbBones:
        """The names for a limb of ``LIMBS``."""
        return cls(
            f"IKH_{limb}_upper",
            f"IKH_{limb}_lower",
            f"IK_{limb}",
            f"Pole_{limb}",
            f"IKH_{limb}_upper_follower",
            f"IKH_{limb}_lower_follower",
        )


def has_ik(armature: bpy.types.Object) -> bool:
    """Whether the armature has the controls of ``add_ik``."""
    return any(LimbBones.from_limb(limb).control in get_pose(armature).bones for limb in LIMBS)


def body_to_armature(rig: Rig, points: np.ndarray) -> np.ndarray:
    """(..., 3) points of body space in armature space."""
    return (points + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale


def pose_controls(armature: bpy.types.Object, rig: Rig, motion: RigMotion) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(bone -> (F, 4) rotations, bone -> (F, 3) locations) of the controls and poles that the armature has, for a motion."""
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    bones = get_armature(armature).bones
    rotations, locations = {}, {}
    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.from_limb(limb)
        if names.control not in bones or names.pole not in bones:
            continue
        a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
        front = motion.global_rotations[:, JOINT_INDEX[upper]] @ FRONT[limb.split("_")[1]]
        axis = normalise(c - a)
        bend = (b - a) - axis * ((b - a) * axis).sum(-1, keepdims=True)
        direction = bend + 0.02 * (front - axis * (front * axis).sum(-1, keepdims=True))
        poles = b + POLE_DISTANCE * normalise(direction)
        for name, points in ((names.control, c), (names.pole, poles)):
            rest = np.array(bones[name].matrix_local)[:3, :3]
            locations[name] = (body_to_armature(rig, points) - np.array(bones[name].head_local)) @ rest
        rest = np.array(bones[names.control].matrix_local)[:3, :3]
        turned = rig.to_body.T @ motion.global_rotations[:, JOINT_INDEX[end]] @ rig.to_body
        rotations[names.control] = make_continuous(matrix_to_quaternion(rest.T @ turned @ rest))
    return rotations, locations
