"""Body-space motion -> what each pose bone's channels say, and back. Pure numpy, vectorised over frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from .retarget import RigMotion
from .rotations import continuous, forward, to_matrices, to_quaternions

if TYPE_CHECKING:
    from ..character.rig import Rig

ROOTS = ("BONE", "OBJECT", "IN_PLACE")


@dataclass(frozen=True)
class Channels:
    """Curves of a rig: ``rotations`` bone -> (F, 4) quaternions; ``location`` (F, 3) of ``root_bone`` in its own rest axes;
    ``path`` (F, 3) moves the armature object in its own space, None when the bone carries everything; ``carried`` bone ->
    (F, 3) locations of mapped bones that do not hang on the root bone, such as the upper body of MMD's rigs."""

    rotations: dict[str, np.ndarray]
    root_bone: str
    location: np.ndarray
    path: np.ndarray | None = None
    carried: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.location)


def channels(rig: Rig, motion: RigMotion, root: str = "BONE") -> Channels:
    """Curves that pose a rig like a motion.

    ``root``: the pelvis bone carries the path (``BONE``), the object does (``OBJECT``), or it stays where it begins
    (``IN_PLACE``). Bones without a joint keep their rest pose.
    """
    frames = len(motion.pelvis)
    pelvis = motion.pelvis
    path = None
    if root != "BONE":
        ground = (pelvis - pelvis[:1]) * [1.0, 0.0, 1.0]
        pelvis = pelvis - ground
        path = ground @ rig.to_body / rig.scale if root == "OBJECT" else None
    joint_of = {bone: joint for joint, bone in rig.joint_bones.items()}
    inverse = rig.to_body.T
    posed = np.empty((len(rig.bones), frames, 3, 3))
    rotations: dict[str, np.ndarray] = {}
    for bone, parent in enumerate(rig.parents):
        follows = parent >= 0 and rig.inherits[bone]
        carried = (
            posed[parent] @ rig.rest[parent].T @ rig.rest[bone] if follows else np.broadcast_to(rig.rest[bone], (frames, 3, 3))
        )
        joint = joint_of.get(bone)
        if joint is None:
            posed[bone] = carried
            continue
        posed[bone] = inverse @ motion.turned[:, JOINT_INDEX[joint]] @ rig.to_body @ rig.rest[bone]
        rotations[rig.bones[bone]] = continuous(to_quaternions(np.swapaxes(carried, -1, -2) @ posed[bone]))
    root_bone = rig.joint_bones["pelvis"]
    place = (pelvis + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
    rest_place = (rig.joints[0] + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
    return Channels(
        rotations, rig.bones[root_bone], (place - rest_place) @ rig.rest[root_bone], path, _carried(rig, motion, pelvis, joint_of)
    )


def _carried(rig: Rig, motion: RigMotion, pelvis: np.ndarray, joint_of: dict[int, str]) -> dict[str, np.ndarray]:
    """Locations that bring mapped bones without a mapped ancestor to their joints."""
    out: dict[str, np.ndarray] = {}
    for bone, joint in joint_of.items():
        above = rig.parents[bone]
        while above >= 0 and above not in joint_of:
            above = rig.parents[above]
        if above < 0 and joint != "pelvis":
            joints = forward(motion.local, rig.joints, pelvis, SMPL_PARENTS)[:, JOINT_INDEX[joint]]
            place = (joints + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale
            out[rig.bones[bone]] = (place - rig.heads[bone]) @ rig.rest[bone]
    return out


def unposed(rig: Rig, curves: Channels) -> RigMotion:
    """The motion that curves give a rig: the inverse of ``channels``."""
    frames = curves.frame_count
    posed = np.empty((len(rig.bones), frames, 3, 3))
    for bone, parent in enumerate(rig.parents):
        follows = parent >= 0 and rig.inherits[bone]
        carried = (
            posed[parent] @ rig.rest[parent].T @ rig.rest[bone] if follows else np.broadcast_to(rig.rest[bone], (frames, 3, 3))
        )
        local = curves.rotations.get(rig.bones[bone])
        posed[bone] = carried if local is None else carried @ to_matrices(local)
    turned = np.broadcast_to(np.eye(3), (len(JOINT_INDEX), frames, 3, 3)).copy()
    for joint, name in enumerate(JOINT_INDEX):
        bone_index = rig.joint_bones.get(name)
        if bone_index is None:
            turned[joint] = turned[max(SMPL_PARENTS[joint], 0)]
        else:
            turned[joint] = rig.to_body @ posed[bone_index] @ rig.rest[bone_index].T @ rig.to_body.T
    root_bone = rig.joint_bones["pelvis"]
    pelvis = (curves.location @ rig.rest[root_bone].T * rig.scale) @ rig.to_body.T + rig.joints[0]
    if curves.path is not None:
        pelvis = pelvis + curves.path @ rig.to_body.T * rig.scale
    return RigMotion(np.moveaxis(turned, 0, 1), pelvis)
