"""Body-space motion <-> the channels of a rig's pose bones, vectorised over frames. No bpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ..character.joints import SPINE_JOINTS
from ..character.rig import Rig
from .retarget import RigMotion
from .rotations import forward_kinematics, make_continuous, matrix_to_quaternion, quaternion_to_matrix
from .trunk import find_trunk, point_trunk

#: what moves a character over the ground
ROOT_MODES = ("BONE", "OBJECT", "IN_PLACE")
#: radians between directions that are the same but for rounding
SAME_DIRECTION = 1e-6


@dataclass(frozen=True)
class Channels:
    """Curves of a rig, one value for each frame.

    ``rotations``: bone -> (F, 4) quaternions; ``root_location`` (F, 3) of ``root_bone`` in its own rest axes;
    ``object_location`` (F, 3) moves the armature object in its own space, None when the bone carries everything;
    ``other_locations``: bone -> (F, 3) for mapped bones that are not descendants of the root bone, such as the upper body
    of MMD's rigs. Locations are in armature units.
    """

    rotations: dict[str, np.ndarray]
    root_bone: str
    root_location: np.ndarray
    object_location: np.ndarray | None = None
    other_locations: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.root_location)


def motion_to_channels(rig: Rig, motion: RigMotion, root: str = "BONE") -> Channels:
    """Curves that pose a rig like a motion.

    ``root``: the pelvis bone moves over the ground (``BONE``), the object does (``OBJECT``), or neither does
    (``IN_PLACE``). Bones without a joint keep their rest pose.
    """
    frames = len(motion.pelvis)
    pelvis = motion.pelvis
    object_location = None
    if root != "BONE":
        travel = (pelvis - pelvis[:1]) * [1.0, 0.0, 1.0]
        pelvis = pelvis - travel
        object_location = travel @ rig.to_body / rig.scale if root == "OBJECT" else None
    wanted = compute_bone_rotations(rig, motion)
    posed = np.empty((len(rig.bones), frames, 3, 3))
    rotations: dict[str, np.ndarray] = {}
    for bone, parent in enumerate(rig.parents):
        inherited = _inherit_rotation(rig, posed, bone, parent)
        posed[bone] = wanted.get(bone, inherited)
        if bone in wanted:
            rotations[rig.bones[bone]] = make_continuous(matrix_to_quaternion(np.swapaxes(inherited, -1, -2) @ posed[bone]))
    root_bone = rig.joint_bones["pelvis"]
    location = (pelvis + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale - _compute_pelvis_offset(rig, posed)
    return Channels(
        rotations,
        rig.bones[root_bone],
        (location - rig.heads[root_bone]) @ rig.rest[root_bone],
        object_location,
        _compute_other_locations(rig, motion, pelvis, {bone: joint for joint, bone in rig.joint_bones.items()}),
    )


def _compute_pelvis_offset(rig: Rig, posed: np.ndarray) -> np.ndarray:
    """(F, 3) from the head of the pelvis's own bone to the joint of the pelvis, in armature space, from posed rotations
    (B, F, 3, 3)."""
    root = rig.joint_bones["pelvis"]
    chain = [rig.carrier]
    while chain[-1] != root and rig.parents[chain[-1]] >= 0:
        chain.append(rig.parents[chain[-1]])
    if chain[-1] != root:
        chain = [root]
    place = (rig.joints[0] + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
    points = [rig.heads[bone] for bone in chain[::-1]] + [place]
    offset = np.zeros(posed.shape[1:3])
    for bone, (start, end) in zip(chain[::-1], pairwise(points), strict=True):
        offset = offset + posed[bone] @ rig.rest[bone].T @ (end - start)
    return offset


def _point_spine(rig: Rig, motion: RigMotion) -> np.ndarray:
    """(F, 24, 3, 3) global rotations whose trunk points as the motion's does, although the rig has fewer joints in its spine."""
    spine = [joint for joint in SPINE_JOINTS if joint in rig.joint_bones]
    if len(spine) == len(SPINE_JOINTS):
        return motion.global_rotations
    out = motion.global_rotations.copy()
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    wanted = find_trunk(joints, from_pelvis=False)
    point_trunk(out, rig.joints, wanted, spine, SAME_DIRECTION, turn_pelvis=False, from_pelvis=False)
    return out


def compute_bone_rotations(rig: Rig, motion: RigMotion) -> dict[int, np.ndarray]:
    """Index of each bone that is keyed -> (F, 3, 3) its rotations in armature space."""
    turned = _point_spine(rig, motion)
    joints = rig.followers | {bone: joint for joint, bone in rig.joint_bones.items()}
    return {bone: rig.to_body.T @ turned[:, JOINT_INDEX[joint]] @ rig.to_body @ rig.rest[bone] for bone, joint in joints.items()}


def compute_pelvis(rig: Rig, heads: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """(F, 3) the joint of the pelvis in body space, from the posed heads (F, 3) and rotations (F, 3, 3), in armature space, of the
    bone ``rig.carrier``."""
    place = (rig.joints[0] + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
    offset = rig.rest[rig.carrier].T @ (place - rig.heads[rig.carrier])
    return np.asarray((heads + rotations @ offset) @ rig.to_body.T * rig.scale - [0.0, rig.ground, 0.0])


def _inherit_rotation(rig: Rig, posed: np.ndarray, bone: int, parent: int) -> np.ndarray:
    """(F, 3, 3) a bone's rotation in armature space when it has none of its own, from posed rotations (B, F, 3, 3)."""
    if parent >= 0 and rig.inherits[bone]:
        return np.asarray(posed[parent] @ rig.rest[parent].T @ rig.rest[bone])
    return np.broadcast_to(rig.rest[bone], posed.shape[1:])


def _compute_other_locations(rig: Rig, motion: RigMotion, pelvis: np.ndarray, joint_of: dict[int, str]) -> dict[str, np.ndarray]:
    """Bone -> (F, 3) locations that bring mapped bones without a mapped ancestor to their joints."""
    out: dict[str, np.ndarray] = {}
    for bone, joint in joint_of.items():
        above = rig.parents[bone]
        while above >= 0 and above not in joint_of:
            above = rig.parents[above]
        if above < 0 and joint != "pelvis":
            joints = forward_kinematics(motion.local_rotations, rig.joints, pelvis, SMPL_PARENTS)[:, JOINT_INDEX[joint]]
            location = (joints + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
            out[rig.bones[bone]] = (location - rig.heads[bone]) @ rig.rest[bone]
    return out


def channels_to_motion(rig: Rig, channels: Channels) -> RigMotion:
    """The motion that channels give a rig: the inverse of ``motion_to_channels``."""
    frames = channels.frame_count
    posed = np.empty((len(rig.bones), frames, 3, 3))
    for bone, parent in enumerate(rig.parents):
        inherited = _inherit_rotation(rig, posed, bone, parent)
        local = channels.rotations.get(rig.bones[bone])
        posed[bone] = inherited if local is None else inherited @ quaternion_to_matrix(local)
    rotations = np.broadcast_to(np.eye(3), (len(JOINT_INDEX), frames, 3, 3)).copy()
    for joint, name in enumerate(JOINT_INDEX):
        bone_index = rig.joint_bones.get(name)
        if bone_index is None:
            rotations[joint] = rotations[max(SMPL_PARENTS[joint], 0)]
        else:
            rotations[joint] = rig.to_body @ posed[bone_index] @ rig.rest[bone_index].T @ rig.to_body.T
    root_bone = rig.joint_bones["pelvis"]
    place = channels.root_location @ rig.rest[root_bone].T + rig.heads[root_bone] + _compute_pelvis_offset(rig, posed)
    pelvis = place @ rig.to_body.T * rig.scale - [0.0, rig.ground, 0.0]
    if channels.object_location is not None:
        pelvis = pelvis + channels.object_location @ rig.to_body.T * rig.scale
    return RigMotion(np.moveaxis(rotations, 0, 1), pelvis)
