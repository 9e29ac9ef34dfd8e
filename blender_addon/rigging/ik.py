"""FK -> IK and back: control bones for feet and hands with pole targets, keyed so that the motion does not change.

The bones of SMPL's skeleton do not point along the limbs, so Blender's solver works on a chain of helper bones beside each
limb. A follower with the rest matrix of each of the rig's own bones is a child of the helper, and the own bone copies the
follower's rotation; this works for every rig.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.rig import Rig
from ..compat import ensure_fcurves, set_fcurve_group
from ..motion.channels import compute_pelvis, motion_to_channels
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics, make_continuous, matrix_to_quaternion
from ..typed_access import get_armature, get_pose, get_scene, get_view_layer
from .keyframes import KeyOptions, create_action, get_action_range, read_body_motion
from .rigs import read_rig

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


def add_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Add IK controls for feet and hands and key them like the Action in use; the Action itself is kept.

    Returns the new Action. Raises ``MotionError`` when there is no Action or the rig has IK controls already.
    """
    if has_ik(armature):
        raise MotionError(f"{armature.name} has IK controls already; remove them with IK to FK first.")
    if armature.animation_data is None or armature.animation_data.action is None:
        raise MotionError(f"{armature.name} has no Action; make or import a motion first.")
    source = armature.animation_data.action
    rig, motion, start = read_body_motion(armature, source)
    _add_bones(context, armature, rig)
    _add_constraints(armature, rig)
    action = create_action(armature, motion_to_channels(rig, motion), start, f"{source.name} IK", KeyOptions(), rig)
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    _key_controls(armature, rig, motion, joints, action, start)
    _set_pole_angles(context, armature, rig, joints, start)
    return action


def _body_to_armature(rig: Rig, points: np.ndarray) -> np.ndarray:
    return (points + [0.0, rig.ground, 0.0]) @ rig.to_body / rig.scale


def _add_bones(context: bpy.types.Context, armature: bpy.types.Object, rig: Rig) -> None:
    joints = _body_to_armature(rig, rig.joints)
    get_view_layer(context).objects.active = armature
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        bpy.ops.object.mode_set(mode="EDIT")
        bones = get_armature(armature).edit_bones
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
        bpy.ops.object.mode_set(mode="OBJECT")


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


def _set_pole_angles(context: bpy.types.Context, armature: bpy.types.Object, rig: Rig, joints: np.ndarray, start: int) -> None:
    """Set each pole angle so that the middle joint comes to where the motion has it, at the frame where it bends most.

    The angle depends on how the solver builds a chain's axes, so it is measured: the joint rotates about the limb's axis by
    exactly the pole angle, in one direction or the other.
    """
    scene = get_scene(context)
    before = scene.frame_current
    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.from_limb(limb)
        solver = next(c for c in get_pose(armature).bones[names.lower].constraints if c.name == CONSTRAINT)
        assert isinstance(solver, bpy.types.KinematicConstraint)
        a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
        axes = normalise(c - a)
        bend = (b - a) - axes * ((b - a) * axes).sum(-1, keepdims=True)
        frame = int(np.linalg.norm(bend, axis=1).argmax())
        scene.frame_set(start + frame)

        axis, wanted = axes[frame], bend[frame]
        at_zero = _measure_middle_offset(context, armature, rig, names, solver, a[frame], axis, 0.0)
        angle = float(np.arctan2(np.cross(at_zero, wanted) @ axis, at_zero @ wanted))
        errors = [
            np.linalg.norm(_measure_middle_offset(context, armature, rig, names, solver, a[frame], axis, sign * angle) - wanted)
            for sign in (1, -1)
        ]
        solver.pole_angle = angle if errors[0] <= errors[1] else -angle
    scene.frame_set(before)


def _measure_middle_offset(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    rig: Rig,
    names: LimbBones,
    solver: bpy.types.KinematicConstraint,
    root: np.ndarray,
    axis: np.ndarray,
    angle: float,
) -> np.ndarray:
    """(3,) how far from the limb's axis the solver puts its middle joint with a pole angle, in body space."""
    solver.pole_angle = angle
    head = get_pose(armature.evaluated_get(context.evaluated_depsgraph_get())).bones[names.lower].head
    offset = rig.to_body @ np.array(head) * rig.scale - [0.0, rig.ground, 0.0] - root
    return np.asarray(offset - axis * (offset @ axis))


def _key_controls(
    armature: bpy.types.Object, rig: Rig, motion: RigMotion, joints: np.ndarray, action: bpy.types.Action, start: int
) -> None:
    curves = ensure_fcurves(armature, action)
    frames = np.arange(start, start + len(joints), dtype=np.float32)
    inverse = rig.to_body.T

    def key(bone: str, attribute: str, values: np.ndarray) -> None:
        for axis in range(values.shape[1]):
            curve = curves.new(f'pose.bones["{bone}"].{attribute}', index=axis)
            set_fcurve_group(action, curve, bone)
            curve.keyframe_points.add(len(frames))
            curve.keyframe_points.foreach_set("co", np.column_stack([frames, values[:, axis]]).astype(np.float32).ravel())
            curve.update()

    for limb, (upper, middle, end) in LIMBS.items():
        names = LimbBones.from_limb(limb)
        a, b, c = (joints[:, JOINT_INDEX[j]] for j in (upper, middle, end))
        front = motion.global_rotations[:, JOINT_INDEX[upper]] @ FRONT[limb.split("_")[1]]
        axis = normalise(c - a)
        bend = (b - a) - axis * ((b - a) * axis).sum(-1, keepdims=True)
        direction = bend + 0.02 * (front - axis * (front * axis).sum(-1, keepdims=True))
        poles = b + POLE_DISTANCE * normalise(direction)
        for name, points in ((names.control, c), (names.pole, poles)):
            bone = get_armature(armature).bones[name]
            rest = np.array(bone.matrix_local)[:3, :3]
            key(name, "location", (_body_to_armature(rig, points) - np.array(bone.head_local)) @ rest)
        rest = np.array(get_armature(armature).bones[names.control].matrix_local)[:3, :3]
        rotations = inverse @ motion.global_rotations[:, JOINT_INDEX[end]] @ rig.to_body
        key(names.control, "rotation_quaternion", make_continuous(matrix_to_quaternion(rest.T @ rotations @ rest)))


def remove_ik(context: bpy.types.Context, armature: bpy.types.Object) -> bpy.types.Action:
    """Bake the controls' motion into a new FK Action, remove the controls, and return the Action.

    Raises ``MotionError`` when there are no controls or there is no Action.
    """
    if not has_ik(armature):
        raise MotionError(f"{armature.name} has no IK controls; add them with FK to IK first.")
    if armature.animation_data is None or armature.animation_data.action is None:
        raise MotionError(f"{armature.name} has no Action to bake; choose one in the Action editor.")
    source, scene = armature.animation_data.action, get_scene(context)
    start, end = get_action_range(source)
    rig, before = read_rig(armature), scene.frame_current
    rotations, pelvis = [], []
    for frame in range(start, end + 1):
        scene.frame_set(frame)
        posed = get_pose(armature.evaluated_get(context.evaluated_depsgraph_get())).bones
        now = np.empty((len(JOINT_INDEX), 3, 3))
        for joint, name in enumerate(JOINT_INDEX):
            bone = rig.joint_bones.get(name)
            now[joint] = (
                now[max(SMPL_PARENTS[joint], 0)]
                if bone is None
                else (rig.to_body @ np.array(posed[rig.bones[bone]].matrix)[:3, :3] @ rig.rest[bone].T @ rig.to_body.T)
            )
        rotations.append(now)
        carrier = posed[rig.bones[rig.carrier]]
        pelvis.append(compute_pelvis(rig, np.array(carrier.head)[None], np.array(carrier.matrix)[None, :3, :3])[0])
    scene.frame_set(before)
    for pose_bone in get_pose(armature).bones:
        for constraint in [c for c in pose_bone.constraints if c.name.startswith(CONSTRAINT)]:
            pose_bone.constraints.remove(constraint)
    added = {name for limb in LIMBS for name in vars(LimbBones.from_limb(limb)).values()}
    with context.temp_override(
        active_object=armature, object=armature, selected_objects=[armature], selected_editable_objects=[armature]
    ):
        get_view_layer(context).objects.active = armature
        bpy.ops.object.mode_set(mode="EDIT")
        bones = get_armature(armature).edit_bones
        for name in added & set(bones.keys()):
            bones.remove(bones[name])
        bpy.ops.object.mode_set(mode="OBJECT")
    motion = RigMotion(np.array(rotations), np.array(pelvis))
    return create_action(armature, motion_to_channels(read_rig(armature), motion), start, f"{source.name} FK", KeyOptions(), rig)
