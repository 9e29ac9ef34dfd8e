"""A motion -> rotations of a body's joints away from its rest pose, in closed form for all frames at once. No bpy.

Rotations that the motion knows are transferred, corrected for the difference between the rest poses. Otherwise they are
solved from joint positions: pelvis and chest by a least-squares fit to several children (Kabsch), other joints by the
smallest rotation of their bone on top of their parent's solved rotation, so errors do not accumulate; knees and elbows
give the twist of the limb above them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ...shared.motion import Motion
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from ...shared.vectors import normalise
from ..character.joints import SIDES, SPINE_JOINTS
from .rotations import (
    fit_rotations,
    forward_kinematics,
    local_to_global,
    make_continuous,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation_about_axis,
    rotation_between,
)
from .trunk import find_trunk, point_trunk

#: joints whose rotation is fitted to several children
MULTI_CHILD = {"pelvis": ("left_hip", "right_hip", "spine1"), "spine3": ("neck", "left_collar", "right_collar")}
#: joint -> (the joint whose direction shows the bend, hinge axis in the rest pose)
HINGES = {
    "left_hip": ("left_ankle", (1.0, 0, 0)),
    "right_hip": ("right_ankle", (1.0, 0, 0)),
    "left_shoulder": ("left_wrist", (0, -1.0, 0)),
    "right_shoulder": ("right_wrist", (0, 1.0, 0)),
}
#: joint -> the child that its bone points at
AIMS_AT = {
    "spine1": "spine2",
    "spine2": "spine3",
    "neck": "head",
    "left_collar": "left_shoulder",
    "right_collar": "right_shoulder",
    "left_hip": "left_knee",
    "right_hip": "right_knee",
    "left_knee": "left_ankle",
    "right_knee": "right_ankle",
    "left_ankle": "left_foot",
    "right_ankle": "right_foot",
    "left_shoulder": "left_elbow",
    "right_shoulder": "right_elbow",
    "left_elbow": "left_wrist",
    "right_elbow": "right_wrist",
}
#: limbs of less than this many metres have no direction
SHORT = 1e-4
#: radians that the trunk of a body of nearly the motion's own build may be off without joints of the spine leaving their directions
TRUNK_TOLERANCE = np.radians(0.5)
#: a straight limb says nothing about its twist; this much weight keeps the rest twist there
TWIST_PRIOR = 0.02
#: weights of the four frames on either side in the mean of neighbouring frames
SMOOTHING = np.exp(-0.5 * (np.arange(-4, 5) / 1.8) ** 2)


@dataclass(frozen=True)
class RigMotion:
    """A body's movement as rotations.

    ``global_rotations`` (F, 24, 3, 3): of each SMPL joint relative to the rest pose, in body space; ``pelvis`` (F, 3): its
    positions in metres, Y up. Both float64.
    """

    global_rotations: np.ndarray
    pelvis: np.ndarray

    @classmethod
    def from_local(cls, quaternions: np.ndarray, pelvis: np.ndarray) -> RigMotion:
        """The motion of local rotations (F, 24, 4), as unit quaternions, and pelvis positions (F, 3)."""
        return cls(local_to_global(quaternion_to_matrix(quaternions), SMPL_PARENTS), pelvis)

    @property
    def local_rotations(self) -> np.ndarray:
        """(F, 24, 3, 3) rotations relative to the parent joint."""
        out = np.swapaxes(self.global_rotations[:, np.maximum(SMPL_PARENTS, 0)], -1, -2) @ self.global_rotations
        out[:, 0] = self.global_rotations[:, 0]
        return out

    @property
    def quaternions(self) -> np.ndarray:
        """(F, 24, 4) local rotations as (w, x, y, z), without sign flips over time."""
        return make_continuous(matrix_to_quaternion(self.local_rotations))


def _compute_twist(direction: np.ndarray, posed_hinge: np.ndarray, observed_hinge: np.ndarray) -> np.ndarray:
    """(F,) angles about unit bone directions (F, 3) that turn the posed hinge axis (F, 3) into the observed one (F, 3).

    The observed hinge's length is how far it can be trusted; where it vanishes, the angle of the neighbouring frames is
    taken, and if they have none either, 0.
    """
    flat = observed_hinge - direction * (observed_hinge * direction).sum(-1, keepdims=True)
    cosine = (posed_hinge * flat).sum(-1)
    sine = (np.cross(posed_hinge, flat) * direction).sum(-1)
    padded = [np.pad(values, 4, mode="edge") for values in (cosine, sine)]
    nearby = [np.convolve(values, SMOOTHING / SMOOTHING.sum(), "valid") for values in padded]
    trust = np.clip(np.hypot(cosine, sine) / 0.25, 0, 1)
    return np.arctan2(trust * sine + (1 - trust) * nearby[1], trust * cosine + (1 - trust) * nearby[0] + TWIST_PRIOR)


def retarget(
    motion: Motion,
    rest_joints: np.ndarray,
    is_smpl: bool = True,
    flat_soles: bool = False,
    spine: Collection[str] = SPINE_JOINTS,
) -> RigMotion:
    """Rotations that pose a skeleton with rest joints (24, 3), in metres, like a motion.

    The pelvis positions are scaled by the ratio of leg lengths, so that feet neither slide nor sink on another body.
    ``is_smpl`` says that the skeleton's rest pose is SMPL's own, so that the motion's rotations need no correction.
    Toes lie below the ankle more steeply on one skeleton than on another, although both stand on flat soles: feet point as the
    motion's do, or, with ``flat_soles``, soles that are flat in the motion are flat on this skeleton. ``spine``:
    the joints of the spine that the skeleton has bones for; the others turn with what is below.
    """
    scale = compute_leg_length(rest_joints) / compute_leg_length(motion.joints[0])
    pelvis = motion.joints[:, 0] * scale
    if motion.rotations is None:
        rotations = solve_rotations(motion.joints, _copy_foot_slopes(rest_joints) if flat_soles else rest_joints)
        point_trunk(
            rotations,
            rest_joints,
            find_trunk(motion.joints, from_pelvis=is_smpl),
            spine,
            TRUNK_TOLERANCE,
            from_pelvis=is_smpl,
        )
        return RigMotion(rotations, anchor_hips(motion.joints * scale, rotations, rest_joints))
    rotations = local_to_global(quaternion_to_matrix(motion.rotations), SMPL_PARENTS)
    if is_smpl and not motion.follows_joints:
        return RigMotion(rotations, pelvis)
    rotations = rotations @ _compute_rest_correction(rest_joints)
    _point_limbs(rotations, motion.joints, rest_joints, flat_soles)
    point_trunk(rotations, rest_joints, find_trunk(motion.joints, from_pelvis=is_smpl), spine, from_pelvis=is_smpl)
    posed = RigMotion(rotations, anchor_hips(motion.joints * scale, rotations, rest_joints))
    return replace(posed, pelvis=posed.pelvis + [0.0, _compute_rise(motion.joints * scale, posed, rest_joints), 0.0])


def anchor_hips(joints: np.ndarray, rotations: np.ndarray, rest_joints: np.ndarray) -> np.ndarray:
    """(F, 3) pelvis positions that bring the middle of the hips to where joints (F, J, 3) have it, for global rotations
    (F, 24, 3, 3).

    Rigs differ in how far above the hips the joint of the pelvis lies; a body that hung on it would float or sink.
    """
    hips = [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]
    offset = rest_joints[hips].mean(0) - rest_joints[0]
    return np.asarray(joints[:, hips].mean(1) - rotations[:, 0] @ offset)


def _copy_foot_slopes(rest_joints: np.ndarray) -> np.ndarray:
    """Rest joints (24, 3) whose toes lie as steeply below the ankles as those of SMPL, to which joints without rotations belong."""
    out, smpl = rest_joints.copy(), np.array(SMPL_REST_JOINTS)
    for side in SIDES:
        ankle, toe = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        slope = (smpl[toe, 1] - smpl[ankle, 1]) / np.linalg.norm((smpl[toe] - smpl[ankle])[[0, 2]])
        out[toe, 1] = out[ankle, 1] + slope * np.linalg.norm((out[toe] - out[ankle])[[0, 2]])
    return out


def _point_limbs(rotations: np.ndarray, joints: np.ndarray, rest_joints: np.ndarray, flat_soles: bool) -> None:
    """Swing global rotations (F, 24, 3, 3), in place, until limbs of rest joints (24, 3) point as those of joints (F, 22, 3) do.

    With ``flat_soles`` feet keep their rotation.
    """
    for joint, name in enumerate(SMPL_JOINTS):
        if name in AIMS_AT and not ("ankle" in name and flat_soles):
            child = JOINT_INDEX[AIMS_AT[name]]
            own, wanted = rest_joints[child] - rest_joints[joint], joints[:, child] - joints[:, joint]
            if np.linalg.norm(own) > SHORT and (np.linalg.norm(wanted, axis=-1) > SHORT).all():
                rotations[:, joint] = (
                    rotation_between(rotations[:, joint] @ normalise(own), normalise(wanted)) @ rotations[:, joint]
                )


def _compute_rise(joints: np.ndarray, posed: RigMotion, rest_joints: np.ndarray) -> float:
    """How many metres a posed body must be lifted for its lowest joints to be as high as those of joints (F, 22, 3).

    Bodies of the same leg length differ in how far the pelvis lies above the hips.
    """
    own = forward_kinematics(posed.local_rotations, rest_joints, posed.pelvis, SMPL_PARENTS)[:, : joints.shape[1], 1]
    heights = joints[..., 1]
    lowest = heights.argmin(1)
    frames = np.arange(len(joints))
    low = heights[frames, lowest]
    standing = low <= np.percentile(low, 10) + 1e-9
    return float(np.median((low - own[frames, lowest])[standing]))


def _compute_rest_correction(rest_joints: np.ndarray) -> np.ndarray:
    """(24, 3, 3) for each joint the rotation from this rest pose to SMPL's, by the direction of its bone."""
    smpl, out = np.array(SMPL_REST_JOINTS), np.broadcast_to(np.eye(3), (len(SMPL_JOINTS), 3, 3)).copy()
    for joint, name in enumerate(SMPL_JOINTS):
        if name in AIMS_AT:
            child = JOINT_INDEX[AIMS_AT[name]]
            # soles are flat in both rest poses, so that only the heading of a foot counts
            kept = np.array([1.0, 0, 1] if "ankle" in name else [1.0, 1, 1])
            own, wanted = ((rest[child] - rest[joint]) * kept for rest in (rest_joints, smpl))
            if min(np.linalg.norm(own), np.linalg.norm(wanted)) > SHORT:
                out[joint] = rotation_between(normalise(own)[None], normalise(wanted)[None])[0]
        elif "wrist" in name or "hand" in name or "foot" in name:
            out[joint] = out[SMPL_PARENTS[joint]]
    return out


def solve_rotations(joints: np.ndarray, rest_joints: np.ndarray) -> np.ndarray:
    """(F, 24, 3, 3) rotations from the rest pose that bring rest joints (24, 3) to joints (F, 22, 3)."""
    frames = len(joints)
    rotations = np.broadcast_to(np.eye(3), (len(SMPL_JOINTS), frames, 3, 3)).copy()
    rest = np.zeros((len(SMPL_JOINTS), 3))
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            rest[joint] = normalise(rest_joints[joint] - rest_joints[parent])

    def observe(child: str) -> np.ndarray:
        """(F, 3) the direction of the bone that ends at a joint."""
        return normalise(joints[:, JOINT_INDEX[child]] - joints[:, SMPL_PARENTS[JOINT_INDEX[child]]])

    for joint, name in enumerate(SMPL_JOINTS):
        parent = SMPL_PARENTS[joint]
        above = rotations[parent] if parent >= 0 else rotations[joint]
        if name in MULTI_CHILD:
            children = MULTI_CHILD[name]
            rotations[joint] = fit_rotations(
                rest[[JOINT_INDEX[child] for child in children]], np.stack([observe(child) for child in children], 1)
            )
        elif name in AIMS_AT:
            child = AIMS_AT[name]
            direction = observe(child)
            rotations[joint] = rotation_between(above @ rest[JOINT_INDEX[child]], direction) @ above
            if name in HINGES:
                below, axis = HINGES[name]
                hinge = np.cross(direction, observe(below))
                if "hip" in name:
                    # toes point where knees bend, which helps where the leg is straight
                    toes = observe(name.replace("hip", "foot"))
                    hinge = hinge + 0.1 * np.cross(toes, direction)
                # the hinge of the T-pose, rotated to where this rest pose holds the limb
                t_pose = np.array([np.sign(rest[JOINT_INDEX[child], 0]), 0, 0] if "shoulder" in name else [0, -1.0, 0])
                rest_axis = rotation_between(t_pose[None], rest[JOINT_INDEX[child]][None])[0] @ np.array(axis)
                angle = _compute_twist(direction, rotations[joint] @ rest_axis, hinge)
                rotations[joint] = rotation_about_axis(direction, angle) @ rotations[joint]
        else:
            rotations[joint] = above
    return np.moveaxis(rotations, 0, 1)


def compute_leg_length(joints: np.ndarray) -> float:
    """Length of thigh and shin of joints (J, 3), the mean of both legs, in the joints' unit."""
    total = 0.0
    for side in SIDES:
        leg = [JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle")]
        total += sum(float(np.linalg.norm(joints[a] - joints[b])) for a, b in pairwise(leg))
    return total / 2
