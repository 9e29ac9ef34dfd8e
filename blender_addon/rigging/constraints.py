"""Control rigs: bones below constrained bones are keyed by measuring where Blender puts them.

Between the controls of such a rig (Rigify's, for instance) are bones that follow others through constraints, which only
Blender can evaluate. So the keyed pose is evaluated, each control is rotated by its error, and so on until all are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import bpy
import numpy as np

from ...shared.skeleton import JOINT_INDEX
from ..character.rig import Rig
from ..motion.channels import Channels, channels_to_motion
from ..motion.rotations import make_continuous, matrix_to_quaternion, quaternion_to_matrix
from ..typed_access import get_pose, get_scene

MAX_ITERATIONS = 5
#: largest error of an entry of a rotation matrix that is good enough
TOLERANCE = 1e-3


def find_constrained_controls(armature: bpy.types.Object, rig: Rig) -> dict[str, str]:
    """Bone -> joint, for mapped bones with a constrained bone between them and their nearest mapped ancestor."""
    mapped = {rig.bones[bone]: joint for joint, bone in rig.joint_bones.items()}
    out = {}
    for name, joint in mapped.items():
        above = get_pose(armature).bones[name].parent
        while above is not None and above.name not in mapped:
            if above.constraints:
                out[name] = joint
                break
            above = above.parent
    return out


def solve_constraints(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    rig: Rig,
    channels: Channels,
    start: float,
    spacing: float,
    rewrite: Callable[[Channels], None],
) -> Channels:
    """The channels with every control below constrained bones rotated to where the motion wants it.

    They are keyed from frame ``start`` on, ``spacing`` scene frames apart; ``rewrite`` is called with the channels of each
    iteration and keys them in the Action in use.
    """
    controls = find_constrained_controls(armature, rig)
    if not controls:
        return channels
    wanted = channels_to_motion(rig, channels).global_rotations
    scene = get_scene(context)
    before = scene.frame_current
    for _ in range(MAX_ITERATIONS):
        errors = {name: np.empty((channels.frame_count, 3, 3)) for name in controls}
        for frame in range(channels.frame_count):
            at = start + spacing * frame
            scene.frame_set(int(np.floor(at)), subframe=float(at - np.floor(at)))
            posed = get_pose(armature.evaluated_get(context.evaluated_depsgraph_get())).bones
            for name, joint in controls.items():
                found = np.array(posed[name].matrix)[:3, :3]
                found = found / np.linalg.norm(found, axis=0)
                bone = rig.joint_bones[joint]
                target = rig.to_body.T @ wanted[frame, JOINT_INDEX[joint]] @ rig.to_body @ rig.rest[bone]
                errors[name][frame] = found.T @ target
        worst = max(float(np.abs(error - np.eye(3)).max()) for error in errors.values())
        if worst < TOLERANCE:
            break
        rotations = dict(channels.rotations)
        for name, error in errors.items():
            rotations[name] = make_continuous(matrix_to_quaternion(quaternion_to_matrix(rotations[name]) @ error))
        channels = replace(channels, rotations=rotations)
        rewrite(channels)
    scene.frame_set(before)
    return channels
