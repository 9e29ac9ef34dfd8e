"""Keys on rigs as people have them: rotation modes, layers, parents, constraints and links, measured in world space."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion

from latentman.blender_addon import operators, properties
from latentman.blender_addon.compat import assign_action, find_object_slot, get_fcurves
from latentman.blender_addon.motion import foot_contacts
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import (
    axis_angle_to_quaternion,
    euler_to_quaternion,
    quaternion_to_axis_angle,
    quaternion_to_euler,
)
from latentman.blender_addon.rigging.keyframes import KeyOptions, apply_motion, pose_motion, read_notes
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import JOINT_INDEX
from latentman.shared.vectors import normalise
from tools import rigs

ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
#: joint, the joint at the end of its limb
LIMBS = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
) + (("pelvis", "neck"), ("neck", "head"))
FRAMES = 16


@pytest.fixture(scope="module", autouse=True)
def _operators():
    operators.register()
    yield
    operators.unregister()


@pytest.fixture(scope="module")
def walk():
    """A walk of 16 frames."""
    return read(BUNDLED).get_motion(0).crop(10, 10 + FRAMES)


@pytest.fixture
def rig(empty_scene):
    """An armature with the names of Mixamo, lowered arms and bones that are rolled at random; picked as the character."""
    armature = rigs.build_rig(rigs.make_joints(1.0, 1.0, 40), rigs.get_bone_names("Mixamo"))
    properties.get_settings(bpy.context).character = armature
    return armature


def _see(armature, frames, bones=None):
    """(F, B, 3) heads of bones in world space, as Blender shows them."""
    names = bones or list(read_rig(armature).joint_bones.values())
    rig = read_rig(armature)
    out = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame))
        found = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        out.append(
            [np.array(found.matrix_world @ found.pose.bones[rig.bones[n] if isinstance(n, int) else n].head) for n in names]
        )
    return np.array(out)


def _measure_limbs(armature, motion, start=1, rotation=np.eye(3), step=1):
    """Degrees between the limbs of joints (F, J, 3), from the file, and those that Blender shows in world space."""
    rig = read_rig(armature)
    seen = _see(armature, range(start, start + motion.frame_count, step))
    at = {joint: n for n, joint in enumerate(rig.joint_bones)}
    out = []
    for a, b in LIMBS:
        if a in at and b in at:
            wanted = motion.joints[::step, JOINT_INDEX[b]] - motion.joints[::step, JOINT_INDEX[a]]
            # Y up and facing +Z is Z up and facing -Y in Blender
            wanted = normalise(wanted[:, [0, 2, 1]] * [1, -1, 1]) @ rotation.T
            found = normalise(seen[:, at[b]] - seen[:, at[a]])
            out.append(np.degrees(np.arccos(np.clip((wanted * found).sum(-1), -1, 1))))
    return np.array(out)


def _run(name, **values):
    """Press a button; its report is raised when it is an error."""
    assert getattr(bpy.ops.latentman, name)(**values) == {"FINISHED"}


def _key_in_modes(armature, modes, frames=FRAMES, seed=0):
    """An Action of smooth random rotations, each bone in the mode that ``modes`` gives it, by mathutils' own conversions."""
    rng = np.random.default_rng(seed)
    pose = armature.pose.bones
    names = [pose[read_rig(armature).bones[bone]].name for bone in read_rig(armature).joint_bones.values()]
    armature.animation_data_create()
    action = bpy.data.actions.new("Theirs")
    armature.animation_data.action = action
    for n, name in enumerate(names):
        bone, mode = pose[name], modes[n % len(modes)]
        bone.rotation_mode = mode
        axis, speed = normalise(rng.normal(size=3)), rng.uniform(0.02, 0.05)
        before = None
        for frame in range(1, frames + 1):
            turn = Quaternion(axis, 0.1 + speed * frame) @ Quaternion((1, 0, 0), 0.2 * np.sin(frame / 4))
            if mode == "QUATERNION":
                bone.rotation_quaternion = turn
            elif mode == "AXIS_ANGLE":
                vector, angle = turn.to_axis_angle()
                bone.rotation_axis_angle = (angle, *vector)
            else:
                before = turn.to_euler(mode, before) if before else turn.to_euler(mode)
                bone.rotation_euler = before
            path = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")
            bone.keyframe_insert(path, frame=frame)
    return action


@pytest.mark.parametrize("order", ORDERS)
def test_angles_are_those_of_blender_in_every_order(order, rng):
    from mathutils import Euler

    angles = rng.uniform(-3, 3, (40, 3))
    # on both gimbal locks, too
    middle = "XYZ".index(order[1])
    angles[5:8, middle], angles[20:23, middle] = np.pi / 2, -np.pi / 2
    found = euler_to_quaternion(angles, order)
    theirs = np.array([Euler(angle, order).to_quaternion() for angle in angles])
    assert np.abs((found * theirs).sum(1)).min() > 1 - 1e-6
    again = euler_to_quaternion(quaternion_to_euler(found, order), order)
    assert np.abs((found * again).sum(1)).min() > 1 - 1e-12
    # straight through a gimbal lock, nothing jumps
    through = np.full((41, 3), 0.6)
    through[:, middle] = np.linspace(0, np.pi, 41)
    assert np.abs(np.diff(quaternion_to_euler(euler_to_quaternion(through, order), order), axis=0)).max() < 0.1


def test_axis_and_angle_do_not_jump():
    turns = np.linspace(-3, 9, 90)
    axis = normalise(np.array([1.0, 2, -1]))
    quaternions = np.column_stack([np.cos(turns / 2), np.sin(turns / 2)[:, None] * axis])
    found = quaternion_to_axis_angle(quaternions)
    assert np.abs(np.diff(found, axis=0)).max() < 0.2
    assert np.abs((axis_angle_to_quaternion(found) * quaternions).sum(1)).min() > 1 - 1e-12


MODES = [[order] for order in ORDERS] + [["AXIS_ANGLE"], ["QUATERNION"], ["XYZ", "ZXY", "AXIS_ANGLE", "QUATERNION", "YZX"]]


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_edits_read_and_keep_every_rotation_mode(rig, modes):
    action = _key_in_modes(rig, modes)
    own = {bone.name: bone.rotation_mode for bone in rig.pose.bones}
    before = _see(rig, range(1, FRAMES + 1))
    _run("reduce_keys", tolerance=1.0)
    assert rig.animation_data.action != action and {bone.name: bone.rotation_mode for bone in rig.pose.bones} == own
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 0.002
    assert len(get_fcurves(rig.animation_data.action)[0].keyframe_points) < FRAMES
    rig.animation_data.action = action
    _run("trim_motion", first=3, last=9)
    assert np.linalg.norm(_see(rig, range(3, 10)) - before[2:9], axis=-1).max() < 1e-4
    rig.animation_data.action = action
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 1e-4
    assert {bone.name: bone.rotation_mode for bone in rig.pose.bones} == own


def test_an_action_of_another_mode_than_the_bones_have_now_is_read(rig):
    action = _key_in_modes(rig, ["XYZ", "AXIS_ANGLE"])
    before = _see(rig, range(1, FRAMES + 1))
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    _run("smooth_motion", frames=0.1)
    # the bones keep the mode that the user has chosen since
    assert {bone.rotation_mode for bone in rig.pose.bones} == {"QUATERNION"}
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 1e-4
    assert action.name in bpy.data.actions


def test_the_bones_mode_decides_between_several_sets_of_curves(rig):
    _key_in_modes(rig, ["QUATERNION"])
    before = _see(rig, range(1, FRAMES + 1))
    for bone in rig.pose.bones:
        bone.rotation_euler = (1.0, 0.5, 0.2)
        for frame in (1, FRAMES):
            bone.keyframe_insert("rotation_euler", frame=frame)
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 1e-4


@pytest.mark.parametrize("mode", ["ZYX", "AXIS_ANGLE", "QUATERNION"])
def test_an_object_that_turns_and_moves_keeps_its_path(rig, mode):
    _key_in_modes(rig, ["XYZ"])
    rig.rotation_mode, rig.delta_location, rig.delta_rotation_euler = mode, (1.0, 0.5, 0.0), (0, 0, 0.4)
    path = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")
    for frame in (1, FRAMES):
        turn = Quaternion((0, 0, 1), 0.08 * frame)
        rig.location = (0.1 * frame, 0.02 * frame, 0.0)
        if mode == "ZYX":
            rig.rotation_euler = turn.to_euler(mode)
        elif mode == "QUATERNION":
            rig.rotation_quaternion = turn
        else:
            rig.rotation_axis_angle = (0.08 * frame, 0, 0, 1)
        rig.keyframe_insert("location", frame=frame)
        rig.keyframe_insert(path, frame=frame)
    action = rig.animation_data.action
    frames = range(1, FRAMES + 1)
    before = _see(rig, frames)
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, frames) - before, axis=-1).max() < 2e-3
    rig.animation_data.action = action
    _run("trim_motion", first=5, last=12)
    assert np.linalg.norm(_see(rig, range(5, 13)) - before[4:12], axis=-1).max() < 2e-3
    rig.animation_data.action = action
    _run("make_in_place")
    still = _see(rig, frames)[:, list(read_rig(rig).joint_bones).index("pelvis")]
    assert np.ptp(still[:, :2], axis=0).max() < 2e-3


def _add_kept_curves(armature, hand="mixamorig:LeftHand"):
    """A scale, a custom property, a constraint's influence, and a finger, all keyed."""
    bone = armature.pose.bones["mixamorig:LeftHand" if hand in armature.pose.bones else armature.pose.bones[-1].name]
    armature["mood"] = 0.0
    constraint = bone.constraints.new("COPY_SCALE")
    constraint.target, constraint.subtarget = armature, armature.pose.bones[0].name
    for frame, value in ((1, 0.25), (FRAMES, 0.75)):
        bone.scale = (1 + value, 1, 1)
        bone.keyframe_insert("scale", frame=frame)
        armature["mood"] = value
        armature.keyframe_insert('["mood"]', frame=frame)
        constraint.influence = value
        constraint.keyframe_insert("influence", frame=frame)
    return bone.name, constraint.name


def _evaluate(armature, path, frame, index=0):
    curve = next(c for c in get_fcurves(armature.animation_data.action) if c.data_path == path and c.array_index == index)
    return curve.evaluate(frame)


@pytest.mark.parametrize(
    ("edit", "values"),
    [
        ("smooth_motion", {"frames": 1.0}),
        ("reduce_keys", {"tolerance": 2.0}),
        ("lock_feet", {"mode": "hard"}),
        ("make_in_place", {}),
        ("trim_motion", {"first": 4, "last": 11}),
        ("loop_motion", {"blend": 5}),
        ("add_ik", {}),
    ],
)
def test_what_is_not_the_bodys_is_kept_by_every_edit(rig, walk, edit, values):
    apply_motion(rig, walk, 1, 20.0)
    bone, constraint = _add_kept_curves(rig)
    paths = (f'pose.bones["{bone}"].scale', '["mood"]', f'pose.bones["{bone}"].constraints["{constraint}"].influence')
    before = {(path, frame): _evaluate(rig, path, frame) for path in paths for frame in range(1, FRAMES + 1)}
    _run(edit, **values)
    for path in paths:
        for frame in (4, 8, 11):
            assert _evaluate(rig, path, frame) == pytest.approx(before[path, frame], abs=1e-3)
        curve = next(c for c in get_fcurves(rig.animation_data.action) if c.data_path == path)
        if edit == "trim_motion":
            assert tuple(curve.range()) == (4, 11)
        if edit == "loop_motion":
            assert curve.evaluate(FRAMES) == pytest.approx(curve.evaluate(1), abs=1e-5)


def test_joined_actions_continue_their_other_curves(rig, walk):
    second = apply_motion(rig, walk, 31, 20.0)
    _add_kept_curves(rig)
    for curve in get_fcurves(second):
        if curve.data_path == '["mood"]':
            for point in curve.keyframe_points:
                point.co.x += 30
            curve.update()
    apply_motion(rig, walk, 1, 20.0)
    rig["mood"] = 5.0
    rig.keyframe_insert('["mood"]', frame=1)
    _run("join_motions", other=second.name, overlap=4)
    length = 2 * FRAMES - 4
    assert _evaluate(rig, '["mood"]', 2) == pytest.approx(5.0) and _evaluate(rig, '["mood"]', length) == pytest.approx(0.75)
    assert rig.animation_data.action.frame_range[1] == length
