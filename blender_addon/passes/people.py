"""OpenPose's 18 key points of every character, from its rig."""

from __future__ import annotations

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX
from ..character.rig import Rig
from ..rigging.rigs import read_rig
from ..typed_access import get_pose

#: the key points that are joints, in OpenPose's order (COCO, 18 points); nose, eyes and ears sit on the head
LIMBS = {
    2: "right_shoulder",
    3: "right_elbow",
    4: "right_wrist",
    5: "left_shoulder",
    6: "left_elbow",
    7: "left_wrist",
    8: "right_hip",
    9: "right_knee",
    10: "right_ankle",
    11: "left_hip",
    12: "left_knee",
    13: "left_ankle",
}
NECK, COUNT = 1, 18
#: face points by number, in units of the distance from neck to head joint: left, up, forward of the head joint
FACE = {0: (0.0, 0.45, 0.95), 14: (-0.28, 0.75, 0.8), 15: (0.28, 0.75, 0.8), 16: (-0.6, 0.6, 0.05), 17: (0.6, 0.6, 0.05)}


class KeyPoints:
    """Computes an armature's key points at the current frame."""

    def __init__(self, armature: bpy.types.Object) -> None:
        """Raises ``MotionError`` when the armature is not a humanoid."""
        #: to be set anew when undo has replaced the object
        self.armature, self._rig = armature, read_rig(armature, allow_doubtful=True)
        rest_joints = _get_rest_joints(self._rig)
        # each point moves with the bone of its joint, or of the nearest ancestor that has one
        self._points: list[tuple[int, int, np.ndarray]] = []
        for number, joint in LIMBS.items():
            self._points.append((number, self._find_bone(joint), rest_joints[JOINT_INDEX[joint]]))
        head = rest_joints[JOINT_INDEX["head"]]
        unit = float(np.linalg.norm(head - rest_joints[JOINT_INDEX["neck"]])) or 0.1
        for number, offset in FACE.items():
            place = head + unit * (np.array(offset) @ self._rig.to_body)
            self._points.append((number, self._find_bone("head"), place))

    def _find_bone(self, joint: str) -> int:
        for candidate in (joint, "neck", "spine3", "spine2", "spine1", "pelvis"):
            if candidate in self._rig.joint_bones:
                return self._rig.joint_bones[candidate]
        return 0

    def compute(self, graph: bpy.types.Depsgraph) -> np.ndarray:
        """(18, 3) world positions; the neck is the middle of the shoulders."""
        armature = self.armature.evaluated_get(graph)
        world = np.array(armature.matrix_world)
        out = np.empty((COUNT, 3))
        for number, bone, rest in self._points:
            pose = np.array(get_pose(armature).bones[self._rig.bones[bone]].matrix)
            local = self._rig.rest[bone].T @ (rest - self._rig.heads[bone])
            out[number] = world[:3, :3] @ (pose[:3, :3] @ local + pose[:3, 3]) + world[:3, 3]
        out[NECK] = (out[2] + out[5]) / 2
        return out


def _get_rest_joints(rig: Rig) -> np.ndarray:
    """(24, 3) the joints of the rig's rest pose in armature space."""
    return (rig.joints + np.array([0, rig.ground, 0])) / rig.scale @ rig.to_body


def find_key_points(armature: bpy.types.Object | None) -> KeyPoints | None:
    """An armature's key points, or None when there is none or it is not a humanoid."""
    try:
        return KeyPoints(armature) if armature else None
    except MotionError:
        return None
