"""FK -> IK and back: control bones for feet and hands with pole targets, keyed so that the motion does not change.

The bones of SMPL's skeleton do not point along the limbs, so Blender's solver works on a chain of helper bones beside each
limb. A follower with the rest matrix of each of the rig's own bones is a child of the helper, and the own bone copies the
follower's rotation; this works for every rig.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..compat import ensure_curve_holder
from ..motion.channels import motion_to_channels
from ..motion.key_options import KeyOptions
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics
from ..typed_access import get_pose
from .action_reading import read_place
from .curves import CurveWriter, KeyedPose
from .editable import check_bones_editable, edit_bones
from .ik_controls import (
    CONSTRAINT,
    FRONT,
    LIMBS,
    POLE_DISTANCE,
    REST_BEND,
    LimbBones,
    body_to_armature,
    has_ik,
    pose_controls,
)
from .keyframes import Edit, create_action, edit_to_channels
from .nla import get_motion_place, split_bone_path
from .poses import find_carrier
from .retiming import keep
from .rigs import read_rig
from .stand_in import StandIn

__all__ = ["add_ik", "has_ik", "remove_ik"]


def add_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Add IK controls for feet and hands and key them like the motion; the Action that has it is kept.

    Returns the new Action. Raises ``MotionError`` when there is no motion, the rig has IK controls already, or its bones cannot
    be edited.
    """
    check_bones_editable(armature)
    if has_ik(armature):
        raise MotionError(f"{armature.name} has IK controls already; remove them with IK to FK first.")
    place = get_motion_place(armature)
    found = read_place(armature, place)
    _add_bones(context, armature, found.rig)
    try:
        _add_constraints(armature, found.rig)
        changed = read_rig(armature)
        _set_pole_angles(armature, changed, found.motion, found.start)
        channels = edit_to_channels(changed, found.motion, found.motion, place)
        edit = Edit(place, found.start, keep, found.assumed)
        name, options = f"{place.action.name} IK", KeyOptions(keep_modes=True)
        return create_action(armature, channels, found.start, name, options, changed, edit=edit)
    except MotionError:
        _remove_controls(context, armature)
        raise


def _add_bones(context: bpy.types.Context, armature: bpy.types.Object, rig: Rig) -> None:
    joints = body_to_armature(rig, rig.joints)
    with edit_bones(context, armature) as bones:
        for limb, (upper, middle, end) in LIMBS.items():
            names = LimbBones.from_limb(limb)
            a, b, c = (joints[JOINT_INDEX[j]] for j in (upper, middle, end))
            # the solver bends a chain the way it is bent in the rest pose
            front = FRONT[limb.split("_")[1]] @ rig.to_body
            knee = b + REST_BEND / rig.scale * front
            base = bones[rig.bones[rig.joint_bones[upper]]].parent
            first, second = bones.new(names.upper), bones.new(names.lower)
            first.head, first.tail, first.parent = a, knee, base
            second.head, second.tail, second.parent, second.use_connect = knee, c, first, True
            for bone in (first, second):
                bone.align_roll(front)
                bone.use_deform = False
            for helper, follower, joint in ((first, names.upper_follower, upper), (second, names.lower_follower, middle)):
                own, copy = bones[rig.bones[rig.joint_bones[joint]]], bones.new(follower)
                copy.head, copy.tail, copy.roll, copy.parent, copy.use_deform = own.head, own.tail, own.roll, helper, False
            original = bones[rig.bones[rig.joint_bones[end]]]
            control, pole = bones.new(names.control), bones.new(names.pole)
            control.head = c
            control.tail = c + (np.array(original.tail) - np.array(original.head))
            control.roll = original.roll
            pole.head = b + front * POLE_DISTANCE / rig.scale
            pole.tail = pole.head + type(pole.head)(front * 0.06 / rig.scale)
            for bone in (control, pole):
                bone.use_deform = False


def _add_constraints(armature: bpy.types.Object, rig: Rig) -> None:
    bones = get_pose(armature).bones
    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.from_limb(limb)
        solver = bones[names.lower].constraints.new("IK")
        assert isinstance(solver, bpy.types.KinematicConstraint)
        solver.name, solver.target, solver.subtarget, solver.chain_count = CONSTRAINT, armature, names.control, 2
        solver.pole_target, solver.pole_subtarget = armature, names.pole
        for joint, leader in ((upper, names.upper_follower), (middle, names.lower_follower), (end, names.control)):
            copy = bones[rig.bones[rig.joint_bones[joint]]].constraints.new("COPY_ROTATION")
            assert isinstance(copy, bpy.types.CopyRotationConstraint)
            copy.name, copy.target, copy.subtarget = CONSTRAINT, armature, leader
        for name in (names.control, names.pole):
            bones[name].rotation_mode = "QUATERNION"


def _set_pole_angles(armature: bpy.types.Object, rig: Rig, motion: RigMotion, start: int) -> None:
    """Set each pole angle so that the middle joint comes to where the motion has it, at the frame where it bends most.

    The angle depends on how the solver builds a chain's axes, so it is measured: the joint rotates about the limb's axis by
    exactly the pole angle, in one direction or the other.
    """
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    action = bpy.data.actions.new("LatentMan")
    try:
        with StandIn(armature) as stand:
            _key_plainly(stand, rig, motion, action, start)
            for limb, (upper, middle, end) in LIMBS.items():
                names = LimbBones.from_limb(limb)
                a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
                axes = normalise(c - a)
                bend = (b - a) - axes * ((b - a) * axes).sum(-1, keepdims=True)
                frame = int(np.linalg.norm(bend, axis=1).argmax())
                axis, wanted = axes[frame], bend[frame]

                def measure(angle: float, names: LimbBones = names, at: int = start + frame, axis: np.ndarray = axis) -> np.ndarray:
                    """(3,) how far from the limb's axis the solver puts its middle joint with a pole angle."""
                    _get_solver(stand.armature, names).pole_angle = angle
                    bones = get_pose(stand.evaluate(at)).bones
                    offset = rig.to_body @ (np.array(bones[names.lower].head) - np.array(bones[names.upper].head)) * rig.scale
                    return np.asarray(offset - axis * (offset @ axis))

                at_zero = measure(0.0)
                angle = float(np.arctan2(np.cross(at_zero, wanted) @ axis, at_zero @ wanted))
                errors = [np.linalg.norm(measure(sign * angle) - wanted) for sign in (1, -1)]
                _get_solver(armature, names).pole_angle = angle if errors[0] <= errors[1] else -angle
    finally:
        bpy.data.actions.remove(action)


def _key_plainly(stand: StandIn, rig: Rig, motion: RigMotion, action: bpy.types.Action, start: int) -> None:
    """Key a motion and its controls on a stand-in, on every frame."""
    holder, slot = ensure_curve_holder(action, stand.original.name)
    channels = motion_to_channels(rig, motion)
    rotations, locations = pose_controls(stand.armature, rig, motion)
    root = rig.joint_bones["pelvis"]
    carrier = find_carrier(stand.armature, rig, root)
    pose = KeyedPose(
        channels.rotations | rotations,
        {carrier.bone: channels.root_location @ rig.rest[root].T @ carrier.axes} | locations,
    )
    for name in pose.rotations:
        stand.bones[name].rotation_mode = "QUATERNION"
    frames = start + np.arange(channels.frame_count, dtype=float)
    CurveWriter(holder, frames, dict.fromkeys(pose.rotations, "QUATERNION")).write(pose)
    stand.use(action, slot)


def _get_solver(armature: bpy.types.Object, names: LimbBones) -> bpy.types.KinematicConstraint:
    solver = next(c for c in get_pose(armature).bones[names.lower].constraints if c.name == CONSTRAINT)
    assert isinstance(solver, bpy.types.KinematicConstraint)
    return solver


def _list_added() -> set[str]:
    return {name for limb in LIMBS for name in vars(LimbBones.from_limb(limb)).values()}


def _remove_controls(context: bpy.types.Context, armature: bpy.types.Object) -> None:
    for pose_bone in get_pose(armature).bones:
        for constraint in [c for c in pose_bone.constraints if c.name.startswith(CONSTRAINT)]:
            pose_bone.constraints.remove(constraint)
    with edit_bones(context, armature) as bones:
        for name in _list_added() & set(bones.keys()):
            bones.remove(bones[name])


def _drop_control_curves(holder: Any, replaced: set[str]) -> None:
    """Remove the curves of controls that are no more; the others stay."""
    added = _list_added()
    for curve in list(holder.fcurves):
        split = split_bone_path(curve.data_path)
        if split and split[0] in added:
            holder.fcurves.remove(curve)


def remove_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Bake the controls' motion into a new FK Action, remove the controls, and return the Action.

    Raises ``MotionError`` when there are no controls, there is no motion, or the bones cannot be edited.
    """
    check_bones_editable(armature)
    if not has_ik(armature):
        raise MotionError(f"{armature.name} has no IK controls; add them with FK to IK first.")
    place = get_motion_place(armature)
    found = read_place(armature, place)
    _remove_controls(context, armature)
    rig = read_rig(armature)
    channels = edit_to_channels(rig, found.motion, found.motion, place)
    edit = Edit(place, found.start, _drop_control_curves, found.assumed)
    name, options = f"{place.action.name} FK", KeyOptions(keep_modes=True)
    return create_action(armature, channels, found.start, name, options, rig, edit=edit)
