"""Control rigs: bones whose parents obey constraints are keyed by looking at where Blender puts them.

Between the controls of such a rig (Rigify's, for instance) lie bones that follow others by constraints, which no formula
here knows. So the keyed pose is evaluated, and each control is turned by what it is off, until all are right.
"""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np

from ...shared.skeleton import JOINT_INDEX
from ..character.rig import Rig
from .channels import Channels, unposed
from .rotations import continuous, to_matrices, to_quaternions

PASSES, CLOSE = 5, 1e-3


def constrained_controls(armature: bpy.types.Object, rig: Rig) -> dict[str, str]:
    """Bone -> joint, for mapped bones with a constrained bone between them and the next mapped one above."""
    mapped = {rig.bones[bone]: joint for joint, bone in rig.joint_bones.items()}
    out = {}
    for name, joint in mapped.items():
        above = armature.pose.bones[name].parent
        while above is not None and above.name not in mapped:
            if above.constraints:
                out[name] = joint
                break
            above = above.parent
    return out


def settled(
    context: bpy.types.Context, armature: bpy.types.Object, rig: Rig, curves: Channels, start: float, spacing: float, rewrite
) -> Channels:
    """The curves with every constrained control where it was meant to be.

    ``rewrite(curves)`` puts curves into the Action in use, between the looks that are taken at every frame.
    """
    controls = constrained_controls(armature, rig)
    if not controls:
        return curves
    wanted = unposed(rig, curves).turned
    scene = context.scene
    before = scene.frame_current
    for _ in range(PASSES):
        off = {name: np.empty((curves.frame_count, 3, 3)) for name in controls}
        for frame in range(curves.frame_count):
            at = start + spacing * frame
            scene.frame_set(int(np.floor(at)), subframe=float(at - np.floor(at)))
            posed = armature.evaluated_get(context.evaluated_depsgraph_get()).pose.bones
            for name, joint in controls.items():
                seen = np.array(posed[name].matrix)[:3, :3]
                seen = seen / np.linalg.norm(seen, axis=0)
                bone = rig.joint_bones[joint]
                meant = rig.to_body.T @ wanted[frame, JOINT_INDEX[joint]] @ rig.to_body @ rig.rest[bone]
                off[name][frame] = seen.T @ meant
        worst = max(float(np.abs(turn - np.eye(3)).max()) for turn in off.values())
        if worst < CLOSE:
            break
        rotations = dict(curves.rotations)
        for name, turn in off.items():
            rotations[name] = continuous(to_quaternions(to_matrices(rotations[name]) @ turn))
        curves = replace(curves, rotations=rotations)
        rewrite(curves)
    scene.frame_set(before)
    return curves
