"""FK -> IK and back: control bones for feet and hands with pole targets, keyed so that the motion stays what it was.

The limbs of SMPL's skeleton have bones that do not point along the limb, so Blender's solver works on a chain of helper
bones beside each limb; a follower with the rest matrix of each of the rig's own bones hangs on it, and the own bone
copies the follower's rotation. That holds for every rig.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig, rig_of
from ..compat import action_fcurves, put_in_group
from .channels import channels
from .feet import forward
from .keyframes import KeyOptions, action_range, body_motion, new_action
from .retarget import RigMotion
from .rotations import continuous, to_quaternions

MARK = "latentman IK"
LIMBS = {
    "left_leg": ("left_hip", "left_knee", "left_ankle"),
    "right_leg": ("right_hip", "right_knee", "right_ankle"),
    "left_arm": ("left_shoulder", "left_elbow", "left_wrist"),
    "right_arm": ("right_shoulder", "right_elbow", "right_wrist"),
}
#: which way a straight limb's joint bends in the rest pose, body space
FRONT = {"leg": np.array([0.0, 0, 1.0]), "arm": np.array([0.0, 0, -1.0])}
POLE_AWAY, HAIR = 0.45, 0.001


@dataclass(frozen=True)
class LimbBones:
    """Names of the bones that a limb's IK adds."""

    upper: str
    lower: str
    control: str
    pole: str
    upper_follower: str
    lower_follower: str

    @classmethod
    def of(cls, limb: str) -> LimbBones:
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
    """Whether ``add_ik`` was used on the armature."""
    return any(LimbBones.of(limb).control in armature.pose.bones for limb in LIMBS)


def add_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Give feet and hands IK controls and key them like the Action in use; the Action itself is kept.

    Raises ``MotionError`` when there is no Action or the rig has IK already.
    """
    if has_ik(armature):
        raise MotionError(f"{armature.name} has IK controls already.")
    if armature.animation_data is None or armature.animation_data.action is None:
        raise MotionError(f"{armature.name} has no Action; make or import a motion first.")
    source = armature.animation_data.action
    rig, motion, start = body_motion(armature, source)
    _helpers(context, armature, rig)
    _constrain(armature, rig)
    action = new_action(armature, channels(rig, motion), start, f"{source.name} IK", KeyOptions(), rig)
    joints = forward(motion.local, rig.joints, motion.pelvis, SMPL_PARENTS)
    _key_controls(armature, rig, motion, joints, action, start)
    _settle_poles(context, armature, rig, joints, start)
    return action


def _body_to_armature(rig: Rig, points: np.ndarray) -> np.ndarray:
    return (points + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale


def _helpers(context: bpy.types.Context, armature: bpy.types.Object, rig: Rig) -> None:
    joints = _body_to_armature(rig, rig.joints)
    context.view_layer.objects.active = armature
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        bpy.ops.object.mode_set(mode="EDIT")
        bones = armature.data.edit_bones
        for limb, (upper, middle, end) in LIMBS.items():
            names = LimbBones.of(limb)
            a, b, c = (joints[JOINT_INDEX[j]] for j in (upper, middle, end))
            # a chain that is bent a hair in the rest pose tells the solver which way to go
            front = FRONT[limb.split("_")[1]] @ rig.to_body
            knee = b + HAIR / rig.scale * front
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
            pole.head = b + front * POLE_AWAY / rig.scale
            pole.tail = pole.head + type(pole.head)(front * 0.06 / rig.scale)
            for bone in (control, pole):
                bone.use_deform = False
        bpy.ops.object.mode_set(mode="OBJECT")


def _constrain(armature: bpy.types.Object, rig: Rig) -> None:
    pose = armature.pose.bones
    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.of(limb)
        solver = pose[names.lower].constraints.new("IK")
        solver.name, solver.target, solver.subtarget, solver.chain_count = MARK, armature, names.control, 2
        solver.pole_target, solver.pole_subtarget = armature, names.pole
        for joint, leader in ((upper, names.upper_follower), (middle, names.lower_follower), (end, names.control)):
            turn = pose[rig.bones[rig.joint_bones[joint]]].constraints.new("COPY_ROTATION")
            turn.name, turn.target, turn.subtarget = MARK, armature, leader
        for name in (names.control, names.pole):
            pose[name].rotation_mode = "QUATERNION"


def _settle_poles(context: bpy.types.Context, armature: bpy.types.Object, rig: Rig, joints: np.ndarray, start: int) -> None:
    """Set each pole angle to what brings the middle joint where the motion has it, at the frame where it bends most.

    The angle depends on how the solver builds a chain's axes, so it is measured: the joint turns about the limb's axis by
    just the angle, one way or the other.
    """
    scene = context.scene
    before = scene.frame_current
    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.of(limb)
        solver = next(c for c in armature.pose.bones[names.lower].constraints if c.name == MARK)
        a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
        along = normalise(c - a)
        bend = (b - a) - along * ((b - a) * along).sum(-1, keepdims=True)
        frame = int(np.linalg.norm(bend, axis=1).argmax())
        scene.frame_set(start + frame)

        axis, wanted = along[frame], bend[frame]
        at_zero = _middle_offset(context, armature, rig, names, solver, a[frame], axis, 0.0)
        turn = float(np.arctan2(np.cross(at_zero, wanted) @ axis, at_zero @ wanted))
        errors = [
            np.linalg.norm(_middle_offset(context, armature, rig, names, solver, a[frame], axis, angle) - wanted)
            for angle in (turn, -turn)
        ]
        solver.pole_angle = turn if errors[0] <= errors[1] else -turn
    scene.frame_set(before)


def _middle_offset(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    rig: Rig,
    names: LimbBones,
    solver: bpy.types.KinematicConstraint,
    root: np.ndarray,
    axis: np.ndarray,
    angle: float,
) -> np.ndarray:
    """(3,) how far the solver puts a limb's middle joint beside the limb's axis, with a pole angle; body space."""
    solver.pole_angle = angle
    posed = armature.evaluated_get(context.evaluated_depsgraph_get()).pose.bones[names.lower].head
    off = rig.to_body @ np.array(posed) * rig.scale - [0.0, rig.ground, 0.0] - root
    return off - axis * (off @ axis)


def _key_controls(
    armature: bpy.types.Object, rig: Rig, motion: RigMotion, joints: np.ndarray, action: bpy.types.Action, start: int
) -> None:
    curves = action_fcurves(armature, action)
    frames = np.arange(start, start + len(joints), dtype=np.float32)
    inverse = rig.to_body.T

    def key(bone: str, attribute: str, values: np.ndarray) -> None:
        for axis in range(values.shape[1]):
            curve = curves.new(f'pose.bones["{bone}"].{attribute}', index=axis)
            put_in_group(action, curve, bone)
            curve.keyframe_points.add(len(frames))
            curve.keyframe_points.foreach_set("co", np.column_stack([frames, values[:, axis]]).astype(np.float32).ravel())
            curve.update()

    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.of(limb)
        a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
        front = motion.turned[:, JOINT_INDEX[upper]] @ FRONT[limb.split("_")[1]]
        along = normalise(c - a)
        bend = (b - a) - along * ((b - a) * along).sum(-1, keepdims=True)
        side = bend + 0.02 * (front - along * (front * along).sum(-1, keepdims=True))
        poles = b + POLE_AWAY * normalise(side)
        for name, points in ((names.control, c), (names.pole, poles)):
            bone = armature.data.bones[name]
            rest = np.array(bone.matrix_local)[:3, :3]
            key(name, "location", (_body_to_armature(rig, points) - np.array(bone.head_local)) @ rest)
        rest = np.array(armature.data.bones[names.control].matrix_local)[:3, :3]
        turned = inverse @ motion.turned[:, JOINT_INDEX[end]] @ rig.to_body
        key(names.control, "rotation_quaternion", continuous(to_quaternions(rest.T @ turned @ rest)))


def remove_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Bake what the controls do into a new FK Action and take the controls away."""
    if not has_ik(armature):
        raise MotionError(f"{armature.name} has no IK controls.")
    if armature.animation_data is None or armature.animation_data.action is None:
        raise MotionError(f"{armature.name} has no Action to bake.")
    source, scene = armature.animation_data.action, context.scene
    start, end = action_range(source)
    rig, before = rig_of(armature), scene.frame_current
    turned, pelvis = [], []
    for frame in range(start, end + 1):
        scene.frame_set(frame)
        posed = armature.evaluated_get(context.evaluated_depsgraph_get()).pose.bones
        now = np.empty((len(JOINT_INDEX), 3, 3))
        for joint, name in enumerate(JOINT_INDEX):
            bone = rig.joint_bones.get(name)
            now[joint] = (
                now[max(SMPL_PARENTS[joint], 0)]
                if bone is None
                else (rig.to_body @ np.array(posed[rig.bones[bone]].matrix)[:3, :3] @ rig.rest[bone].T @ rig.to_body.T)
            )
        turned.append(now)
        head = np.array(posed[rig.bones[rig.joint_bones["pelvis"]]].head)
        pelvis.append(rig.to_body @ head * rig.scale - [0.0, rig.ground, 0.0])
    scene.frame_set(before)
    for bone in armature.pose.bones:
        for constraint in [c for c in bone.constraints if c.name.startswith(MARK)]:
            bone.constraints.remove(constraint)
    added = {name for limb in LIMBS for name in vars(LimbBones.of(limb)).values()}
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        context.view_layer.objects.active = armature
        bpy.ops.object.mode_set(mode="EDIT")
        for name in added & set(armature.data.edit_bones.keys()):
            armature.data.edit_bones.remove(armature.data.edit_bones[name])
        bpy.ops.object.mode_set(mode="OBJECT")
    motion = RigMotion(np.array(turned), np.array(pelvis))
    return new_action(armature, channels(rig_of(armature), motion), start, f"{source.name} FK", KeyOptions(), rig)
