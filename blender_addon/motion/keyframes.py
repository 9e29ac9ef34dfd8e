"""Bone rotations -> keyframes in a new Action."""

from __future__ import annotations

import bpy
import numpy as np

from ..character.build import REST_JOINTS
from ..compat import action_fcurves
from ..shared_link import SMPL_JOINTS, Motion, MotionError
from .retarget import RigMotion, retarget


def rest_joints(armature: bpy.types.Object) -> np.ndarray:
    """(24, 3) rest positions of an SMPL-type armature; ``MotionError`` for any other rig."""
    missing = [name for name in SMPL_JOINTS if name not in armature.data.bones]
    if missing:
        raise MotionError(f"{armature.name} has no bone '{missing[0]}'; motions need a rig with SMPL's bone names, such as "
                          "the mannequin.")
    if REST_JOINTS in armature:
        return np.array(armature[REST_JOINTS]).reshape(-1, 3)[: len(SMPL_JOINTS)]
    return np.array([armature.data.bones[name].head_local for name in SMPL_JOINTS])


def apply_motion(armature: bpy.types.Object, motion: Motion, start: int, scene_fps: float) -> bpy.types.Action:
    """Key a motion on an armature from frame ``start`` on, resampled to the scene's rate; returns the new Action.

    The Action remembers the motion's text, source and rate. Earlier Actions are kept.
    """
    joints = rest_joints(armature)
    rig = retarget(motion.resampled(scene_fps), joints)
    action = bpy.data.actions.new(motion.text or motion.source)
    action.use_fake_user = True
    action["latentman_text"], action["latentman_source"], action["latentman_fps"] = motion.text, motion.source, motion.fps
    _write(armature, action, rig, joints, start)
    return action


def _write(armature: bpy.types.Object, action: bpy.types.Action, rig: RigMotion, joints: np.ndarray, start: int) -> None:
    curves = action_fcurves(armature, action)
    frames = np.arange(start, start + len(rig.pelvis), dtype=np.float32)

    def key(path: str, index: int, values: np.ndarray) -> None:
        curve = curves.new(path, index=index)
        curve.keyframe_points.add(len(frames))
        curve.keyframe_points.foreach_set("co", np.column_stack([frames, values]).astype(np.float32).ravel())
        curve.update()

    # the floor of the motion is y = 0; the armature's origin is the body model's, lifted to stand on the floor
    offset = rig.pelvis - joints[0] - np.array([0.0, armature.location.z, 0.0])
    for axis in range(3):
        key('pose.bones["pelvis"].location', axis, offset[:, axis])
    for joint, name in enumerate(SMPL_JOINTS):
        armature.pose.bones[name].rotation_mode = "QUATERNION"
        for axis in range(4):
            key(f'pose.bones["{name}"].rotation_quaternion', axis, rig.quaternions[:, joint, axis])
