"""Keys on rigs as people have them: rotation modes, layers, parents, constraints and links, measured in world space."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix, Quaternion

from latentman.blender_addon import properties
from latentman.blender_addon.compat import assign_action, find_object_slot, get_fcurves
from latentman.blender_addon.motion import foot_contacts
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import (
    axis_angle_to_quaternion,
    euler_to_quaternion,
    quaternion_to_axis_angle,
    quaternion_to_euler,
)
from latentman.blender_addon.rigging.action_notes import read_notes
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import JOINT_INDEX
from latentman.shared.vectors import normalise
from tools import rigs

pytestmark = pytest.mark.usefixtures("registered_operators")
ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
#: joint, the joint at the end of its limb
LIMBS = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
) + (("pelvis", "neck"), ("neck", "head"))
FRAMES = 16


@pytest.fixture(scope="module")
def walk():
    """A walk of 16 frames."""
    return read(BUNDLED).get_motion(0).crop(10, 10 + FRAMES)


@pytest.fixture
def rig(empty_scene):
    """An armature with the names of Mixamo, lowered arms and bones that are rolled at random; picked as the character."""
    names = {joint: f"mixamorig:{name}" for joint, name in rigs.get_bone_names("Mixamo").items()}
    armature = rigs.build_rig(rigs.make_joints(1.0, 1.0, 40), names)
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
        out.append([np.array(found.matrix_world @ found.pose.bones[rig.bones[n] if isinstance(n, int) else n].head) for n in names])
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


@pytest.mark.parametrize("button", ["smooth_motion", "find_plants", "add_ik", "join_motions"])
def test_every_button_says_that_an_euler_order_was_assumed(rig, walk, button, capfd):
    other = apply_motion(rig, walk, 1, 20.0, KeyOptions(euler=True))
    if button == "join_motions":
        # what is assumed of the Action that follows is said, too
        apply_motion(rig, walk, 1, 20.0)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    capfd.readouterr()
    _run(button, **({"other": other.name, "overlap": 3} if button == "join_motions" else {}))
    said = capfd.readouterr().out
    assert "Warning" in said and "were read in the order XYZ" in said and "mixamorig:" in said


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


def _add_kept_curves(armature):
    """A scale, a custom property and a constraint's influence, all keyed."""
    bone = armature.pose.bones["mixamorig:LeftHand"]
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


def _put_in_strip(armature, action, start, scale=1.0, repeat=1.0, name="Strip"):
    data = armature.animation_data
    slot = data.action_slot if hasattr(data, "action_slot") else None
    data.action = None
    track = data.nla_tracks.new()
    track.name = name
    strip = track.strips.new(name, start, action)
    if slot is not None:
        strip.action_slot = find_object_slot(action)
    strip.scale, strip.repeat = scale, repeat
    return track, strip


@pytest.mark.parametrize(("start", "scale"), [(1, 1.0), (21, 1.0), (21, 2.0)])
@pytest.mark.parametrize("edit", ["smooth_motion", "reduce_keys", "lock_feet", "add_ik"])
def test_a_strip_is_replaced_by_a_strip(rig, walk, edit, start, scale):
    action = apply_motion(rig, walk, 5, 20.0)
    _, strip = _put_in_strip(rig, action, start, scale)
    muted, other = _put_in_strip(rig, apply_motion(rig, walk, 1, 20.0), 1, name="Muted")
    rig.animation_data.action, muted.mute = None, True
    bpy.context.scene.frame_set(start + 4)
    frames = np.linspace(start, start + (FRAMES - 1) * scale, 6).astype(int)
    before = _see(rig, frames)
    values = {"smooth_motion": {"frames": 0.1}, "reduce_keys": {"tolerance": 1.0}}.get(edit, {})
    _run(edit, **values)
    assert rig.animation_data.action is None and len(rig.animation_data.nla_tracks) == 2 and muted.mute
    assert strip.action != action and action.name in bpy.data.actions and other.action != strip.action
    assert (strip.frame_start, strip.scale) == (start, pytest.approx(scale))
    moved = np.linalg.norm(_see(rig, frames, [rig.pose.bones[0].name]) - before[:, :1], axis=-1)
    assert moved.max() < (0.15 if edit == "lock_feet" else 0.004)
    apart = np.linalg.norm(_see(rig, frames) - before, axis=-1)
    assert apart.max() < (0.3 if edit == "lock_feet" else 0.006)


def test_trimming_a_strip_leaves_what_is_seen_where_it_is(rig, walk):
    action = apply_motion(rig, walk, 1, 20.0)
    _, strip = _put_in_strip(rig, action, 11, 2.0)
    before = _see(rig, range(15, 30))
    bpy.context.scene.frame_set(20)
    _run("trim_motion", first=15, last=29)
    assert strip.frame_start == 15 and strip.frame_end == pytest.approx(29)
    assert np.linalg.norm(_see(rig, range(15, 30)) - before, axis=-1).max() < 1e-3


def test_the_soloed_strip_is_the_motion(rig, walk):
    first, strip = _put_in_strip(rig, apply_motion(rig, walk, 1, 20.0), 1, name="First")
    _, second = _put_in_strip(rig, apply_motion(rig, walk, 1, 20.0), 1, name="Second")
    actions = strip.action, second.action
    first.is_solo = True
    _run("smooth_motion", frames=2.0)
    assert strip.action != actions[0] and second.action == actions[1] and first.is_solo


def test_a_strip_in_tweak_mode_is_edited(rig, walk):
    track, strip = _put_in_strip(rig, apply_motion(rig, walk, 1, 20.0), 1)
    action = strip.action
    strip.select = True
    rig.animation_data.nla_tracks.active = track
    rig.animation_data.use_tweak_mode = True
    assert rig.animation_data.action == action
    _run("smooth_motion", frames=0.5)
    assert strip.action != action and strip.action.name.startswith(f"{action.name} smooth")


@pytest.mark.parametrize("edit", ["smooth_motion", "reduce_keys", "lock_feet", "add_ik", "trim_motion"])
def test_edits_go_below_the_tweaks(rig, walk, edit):
    apply_motion(rig, walk, 1, 20.0, KeyOptions(target="LAYER"))
    tweaks, bone = rig.animation_data.action, rig.pose.bones["mixamorig:Head"]
    bone.rotation_mode = "QUATERNION"
    bpy.context.scene.frame_set(8)
    bone.rotation_quaternion = (0.966, 0.0, 0.259, 0.0)
    bone.keyframe_insert("rotation_quaternion", frame=8)
    frames = range(2, FRAMES)
    before = _see(rig, frames)
    assert np.ptp(before[:, 0, 1]) > 0.5
    values = {"smooth_motion": {"frames": 0.1}, "reduce_keys": {"tolerance": 1.0}, "trim_motion": {"first": 2, "last": FRAMES - 1}}
    _run(edit, **values.get(edit, {}))
    tracks = rig.animation_data.nla_tracks
    assert rig.animation_data.action == tweaks and len(tracks) == 2 and [track.mute for track in tracks] == [True, False]
    assert np.linalg.norm(_see(rig, frames) - before, axis=-1).max() < (0.3 if edit == "lock_feet" else 0.006)
    assert np.ptp(_see(rig, frames)[:, 0, 1]) > 0.9 * np.ptp(before[:, 0, 1])


def test_a_cycle_repeats_after_an_edit(rig, walk):
    action = apply_motion(rig, walk, 1, 20.0)
    for curve in get_fcurves(action):
        modifier = curve.modifiers.new("CYCLES")
        if curve.data_path.endswith("location"):
            modifier.mode_after = "REPEAT_OFFSET"
    before = _see(rig, [FRAMES + 5, 2 * FRAMES + 3])
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, [FRAMES + 5, 2 * FRAMES + 3]) - before, axis=-1).max() < 0.01


def test_other_slots_of_an_action_stay(rig, walk):
    action = apply_motion(rig, walk, 1, 20.0)
    if not hasattr(action, "slots"):
        pytest.skip("Actions have no slots before Blender 4.4")
    lamp = bpy.data.objects.new("Lamp", None)
    bpy.context.scene.collection.objects.link(lamp)
    other = action.slots.new("OBJECT", "Lamp")
    lamp.animation_data_create()
    lamp.animation_data.action, lamp.animation_data.action_slot = action, other
    for frame in (1, 10):
        lamp.location.x = frame
        lamp.keyframe_insert("location", frame=frame)
    before = _see(rig, range(1, FRAMES + 1))
    _run("trim_motion", first=2, last=9)
    new = rig.animation_data.action
    assert [slot.identifier for slot in new.slots] == [slot.identifier for slot in action.slots]
    assert lamp.animation_data.action == action
    assert np.linalg.norm(_see(rig, range(2, 10)) - before[1:9], axis=-1).max() < 1e-3


# --- controls that overrule what is keyed


def _build_mmd():
    """An MMD model as mmd_tools imports it: IK on the shins with targets of their own, and on the ankles for the toes."""
    armature = rigs.build_rig(rigs.make_joints(1.0, 1.0, 35), rigs.get_bone_names("MMD (Blender names)"), extra_root="センター")
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    mother = bones.new("全ての親")
    mother.head, mother.tail = (0, 0, 0), (0, 0, 0.2)
    bones["センター"].parent = mother
    bones["上半身"].parent = bones["センター"]
    for side in ("L", "R"):
        knee, ankle, toe = (bones[f"{name}.{side}"] for name in ("ひざ", "足首", "つま先"))
        knee.tail, ankle.tail = ankle.head.copy(), toe.head.copy()
        leg, toes = bones.new(f"足ＩＫ.{side}"), bones.new(f"つま先ＩＫ.{side}")
        leg.head, leg.tail, leg.parent = ankle.head, ankle.head + type(ankle.head)((0, 0.1, 0)), mother
        toes.head, toes.tail, toes.parent = toe.head, toe.head + type(toe.head)((0, 0, -0.05)), leg
    bpy.ops.object.mode_set(mode="OBJECT")
    for side in ("L", "R"):
        for bone, target, count in ((f"ひざ.{side}", f"足ＩＫ.{side}", 2), (f"足首.{side}", f"つま先ＩＫ.{side}", 1)):
            solver = armature.pose.bones[bone].constraints.new("IK")
            solver.name, solver.target, solver.subtarget, solver.chain_count = "IK", armature, target, count
            solver.iterations = 200
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    properties.get_settings(bpy.context).character = armature
    return armature


def test_the_legs_of_mmd_follow_with_their_ik_on(empty_scene, walk):
    armature = _build_mmd()
    action = apply_motion(armature, walk, 1, 20.0)
    angles = _measure_limbs(armature, walk)
    assert angles.mean() < 1.5 and angles.max() < 5
    keyed = {curve.data_path for curve in get_fcurves(action)}
    assert 'pose.bones["足ＩＫ.L"].location' in keyed and "足ＩＫ.L" in read_notes(action)[0][0]
    # a later edit, and another motion
    before = _see(armature, range(1, FRAMES + 1))
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(armature, range(1, FRAMES + 1)) - before, axis=-1).max() < 0.01
    other = read(BUNDLED).get_motion(4).crop(0, FRAMES)
    apply_motion(armature, other, 1, 20.0)
    angles = _measure_limbs(armature, other)
    assert angles.mean() < 1.5 and angles.max() < 5


def test_a_pole_and_a_copied_rotation_are_keyed_too(rig, walk):
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    shin, foot = bones["mixamorig:LeftLeg"], bones["mixamorig:LeftFoot"]
    shin.tail = foot.head.copy()
    control, pole = bones.new("ctrl_foot.L"), bones.new("pole_knee.L")
    control.head, control.tail, control.roll = foot.head, foot.tail, 0.7
    pole.head = shin.head + type(shin.head)((0, -0.5, 0))
    pole.tail = pole.head + type(shin.head)((0, 0, 0.1))
    bpy.ops.object.mode_set(mode="OBJECT")
    solver = rig.pose.bones["mixamorig:LeftLeg"].constraints.new("IK")
    solver.target, solver.subtarget, solver.pole_target, solver.pole_subtarget = rig, "ctrl_foot.L", rig, "pole_knee.L"
    solver.chain_count, solver.pole_angle = 2, 0.4
    copy = rig.pose.bones["mixamorig:LeftFoot"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = rig, "ctrl_foot.L"
    action = apply_motion(rig, walk, 1, 20.0)
    angles = _measure_limbs(rig, walk)
    assert angles.mean() < 1.5 and angles.max() < 5, read_notes(action)
    assert not read_notes(action)[1] and not solver.mute and not copy.mute


def test_a_new_motion_moves_our_own_ik_controls(rig, walk):
    apply_motion(rig, walk, 1, 20.0)
    _run("add_ik")
    other = read(BUNDLED).get_motion(4).crop(0, FRAMES)
    apply_motion(rig, other, 1, 20.0)
    angles = _measure_limbs(rig, other)
    assert angles.mean() < 1.5 and angles.max() < 5
    _run("remove_ik")
    angles = _measure_limbs(rig, other)
    assert angles.mean() < 1.5 and angles.max() < 5


@pytest.mark.parametrize("kind", ["DAMPED_TRACK", "COPY_ROTATION", "COPY_LOCATION", "IK"])
def test_what_cannot_be_keyed_is_named_and_muted_only_if_allowed(rig, walk, kind):
    empty = bpy.data.objects.new("Elsewhere", None)
    bpy.context.scene.collection.objects.link(empty)
    empty.location, empty.rotation_euler = (3, 2, 1), (0.5, 0.2, 2.0)
    bone = rig.pose.bones["mixamorig:LeftForeArm"]
    constraint = bone.constraints.new(kind)
    constraint.name, constraint.target = "Theirs", empty
    harmless = rig.pose.bones["mixamorig:Head"].constraints.new("LIMIT_SCALE")
    states = len(bpy.data.actions), len(bpy.data.objects), len(bpy.data.scenes), len(bpy.data.armatures)
    with pytest.raises(MotionError, match=r"'Theirs' on mixamorig:LeftForeArm overrules .*Mute Overruling Constraints"):
        apply_motion(rig, walk, 1, 20.0)
    assert states == (len(bpy.data.actions), len(bpy.data.objects), len(bpy.data.scenes), len(bpy.data.armatures))
    assert rig.animation_data is None or rig.animation_data.action is None
    action = apply_motion(rig, walk, 1, 20.0, KeyOptions(mute_overruling=True))
    assert constraint.mute and not harmless.mute and "Theirs" in read_notes(action)[0][0] and not read_notes(action)[1]
    angles = _measure_limbs(rig, walk)
    assert angles.mean() < 1.5 and angles.max() < 5


def test_a_child_of_is_keyed_around(rig, walk):
    empty = bpy.data.objects.new("Elsewhere", None)
    bpy.context.scene.collection.objects.link(empty)
    empty.rotation_euler = (0.5, 0.2, 2.0)
    rig.pose.bones["mixamorig:LeftForeArm"].constraints.new("CHILD_OF").target = empty
    apply_motion(rig, walk, 1, 20.0)
    assert _measure_limbs(rig, walk).max() < 1


def test_an_object_that_is_held_in_place_is_a_warning(rig, walk):
    empty = bpy.data.objects.new("Post", None)
    bpy.context.scene.collection.objects.link(empty)
    constraint = rig.constraints.new("COPY_LOCATION")
    constraint.name, constraint.target = "Post", empty
    action = apply_motion(rig, walk, 1, 20.0, KeyOptions(root="OBJECT"))
    assert "'Post'" in read_notes(action)[1][0]


def test_a_driver_that_overrules_is_a_warning_with_bones(rig, walk):
    rig.pose.bones["mixamorig:LeftArm"].rotation_mode = "QUATERNION"
    for axis, value in enumerate(("0.7", "0.7", "0", "0")):
        rig.pose.bones["mixamorig:LeftArm"].driver_add("rotation_quaternion", axis).driver.expression = value
    action = apply_motion(rig, walk, 1, 20.0)
    assert "mixamorig:LeftArm" in read_notes(action)[1][0] and "°" in read_notes(action)[1][0]


# --- what the object hangs on, and how the pelvis moves


def _parent_to(armature, kind):
    empty = bpy.data.objects.new("Parent", None)
    bpy.context.scene.collection.objects.link(empty)
    if kind == "small":
        empty.scale, armature.scale = (0.01,) * 3, (100.0,) * 3
    elif kind == "tiny armature":
        empty.scale = (0.01,) * 3
    elif kind == "turned":
        empty.rotation_euler, empty.location = (0.0, 0.0, 1.1), (2, 3, 0)
    elif kind == "inverse":
        empty.rotation_euler, empty.scale = (0.4, 0.2, 1.1), (2.0,) * 3
        bpy.context.view_layer.update()
        armature.matrix_parent_inverse = (Matrix.Rotation(0.7, 4, "Z") @ Matrix.Scale(1.5, 4)) @ empty.matrix_world.inverted()
    elif kind == "delta":
        armature.delta_rotation_euler, armature.delta_location, armature.delta_scale = (0, 0, 0.8), (1, 1, 0), (2.0,) * 3
    elif kind == "bone":
        other = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Unreal"))
        armature.parent, armature.parent_type, armature.parent_bone = other, "BONE", "head"
        bpy.context.view_layer.update()
        armature.matrix_world = Matrix.Rotation(0.3, 4, "Z")
        bpy.context.view_layer.update()
        return
    if kind != "delta":
        armature.parent = empty
    bpy.context.view_layer.update()


PARENTS = ["small", "tiny armature", "turned", "inverse", "delta", "bone"]


@pytest.mark.parametrize("root", ["OBJECT", "BONE"])
@pytest.mark.parametrize("kind", PARENTS)
def test_the_body_travels_as_far_as_its_legs_say_below_any_parent(rig, walk, root, kind):
    _parent_to(rig, kind)
    world = np.array(rig.matrix_world)[:3, :3]
    size = np.cbrt(np.linalg.det(world))
    apply_motion(rig, walk, 1, 20.0, KeyOptions(root=root))
    seen = _see(rig, range(1, FRAMES + 1))
    leg = sum(
        np.linalg.norm(seen[0, n] - seen[0, m])
        for a, b in (("left_hip", "left_knee"), ("left_knee", "left_ankle"))
        for n, m in [[list(read_rig(rig).joint_bones).index(joint) for joint in (a, b)]]
    )
    theirs = sum(
        np.linalg.norm(walk.joints[0, JOINT_INDEX[a]] - walk.joints[0, JOINT_INDEX[b]])
        for a, b in (("left_hip", "left_knee"), ("left_knee", "left_ankle"))
    )
    wanted = (walk.joints[-1, 0] - walk.joints[0, 0])[[0, 2, 1]] * [1, -1, 1] * leg / theirs
    moved = seen[-1, list(read_rig(rig).joint_bones).index("pelvis")] - seen[0, list(read_rig(rig).joint_bones).index("pelvis")]
    assert np.linalg.norm(moved - world @ wanted / size) < 0.03 * np.linalg.norm(wanted)
    assert _measure_limbs(rig, walk, rotation=world / size).max() < 0.5
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - seen, axis=-1).max() < 2e-3 * size


@pytest.mark.parametrize("kind", ["no local location", "connected", "no rotation", "no scale", "average", "aligned", "locked"])
@pytest.mark.parametrize("root", ["BONE", "OBJECT"])
def test_the_pelvis_stays_over_its_feet(rig, walk, kind, root):
    """The pelvis hangs on a root bone that is tilted and scaled."""
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    hips = bones["mixamorig:Hips"]
    lower = bones.new("root")
    lower.head, lower.tail = (0, 0.3, 0.1), hips.head
    hips.parent = lower
    hips.use_connect = kind == "connected"
    hips.use_local_location = kind != "no local location"
    hips.use_inherit_rotation = kind != "no rotation"
    hips.inherit_scale = {"no scale": "NONE", "average": "AVERAGE", "aligned": "ALIGNED"}.get(kind, "FULL")
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.pose.bones["mixamorig:Hips"].lock_location = (kind == "locked",) * 3
    rig.pose.bones["mixamorig:Hips"].lock_rotation = (kind == "locked",) * 3
    if kind not in ("connected",):
        rig.pose.bones["root"].rotation_mode = "XYZ"
        rig.pose.bones["root"].rotation_euler = (0.3, 0.1, 0.2)
    apply_motion(rig, walk, 1, 20.0, KeyOptions(root=root))
    assert _measure_limbs(rig, walk).max() < 0.5
    posed, _ = pose_motion(read_rig(rig), walk, KeyOptions())
    pelvis = _see(rig, range(1, FRAMES + 1), ["mixamorig:Hips"])[:, 0]
    wanted = posed.pelvis[:, [0, 2, 1]] * [1, -1, 1] + [0, 0, read_rig(rig).ground]
    assert np.abs(pelvis[:, 2] - wanted[:, 2]).max() < 0.01
    assert np.abs((pelvis - pelvis[0]) - (wanted - wanted[0])).max() < 0.01
    before = _see(rig, range(1, FRAMES + 1))
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 2e-3


def test_a_travelling_root_bone_is_part_of_the_motion(rig, walk):
    """As Unreal's root motion has it: the pelvis stays over a root that walks."""
    bpy.ops.object.mode_set(mode="EDIT")
    lower = rig.data.edit_bones.new("root")
    lower.head, lower.tail = (0, 0, 0), (0, 0.3, 0)
    rig.data.edit_bones["mixamorig:Hips"].parent = lower
    bpy.ops.object.mode_set(mode="OBJECT")
    apply_motion(rig, walk, 1, 20.0, KeyOptions(root="IN_PLACE"))
    for frame in (1, FRAMES):
        rig.pose.bones["root"].location = (0, -0.07 * frame, 0)
        rig.pose.bones["root"].keyframe_insert("location", frame=frame)
    before = _see(rig, range(1, FRAMES + 1))
    action = rig.animation_data.action
    _run("smooth_motion", frames=0.1)
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 2e-3
    rig.animation_data.action = action
    _run("make_in_place")
    assert np.ptp(_see(rig, range(1, FRAMES + 1), ["mixamorig:Hips"])[:, 0, :2], axis=0).max() < 2e-3


@pytest.mark.parametrize(("scale", "word"), [((1, 1, 2), "unevenly"), ((-1, 1, 1), "mirrored"), ((-1, -1, -1), "mirrored")])
def test_a_rig_without_a_body_space_is_refused(rig, walk, scale, word):
    rig.scale = scale
    with pytest.raises(MotionError, match=f"{word}.*apply its scale"):
        apply_motion(rig, walk, 1, 20.0)
    assert not bpy.data.actions


# --- feet


@pytest.mark.parametrize("fps", [12, 24, 60, 120])
@pytest.mark.parametrize(("slow", "size"), [(1, 1.0), (3, 1.0), (5, 1.0), (4, 0.5), (1, 8.0)])
def test_locked_feet_leave_the_body_its_way(empty_scene, fps, slow, size):
    armature = rigs.build_rig(rigs.make_joints() * size, rigs.get_bone_names("SMPL"))
    rig, clip = read_rig(armature), read(BUNDLED).get_motion(0)
    motion = replace(clip, fps=clip.fps / slow).resample(fps)
    before, contacts = pose_motion(rig, motion, KeyOptions())
    after, _ = pose_motion(rig, motion, KeyOptions(foot_lock="hard"))
    paths = [foot_contacts.compute_path_length(one.pelvis) for one in (before, after)]
    assert paths[1] == pytest.approx(paths[0], rel=0.06)
    # as many steps at every pace, rate and size
    assert 7 <= len(contacts) <= 10
    assert foot_contacts.compute_penetration(after, rig.joints).max() < 0.002 * size


# --- links and modes


@pytest.fixture
def library(rig, walk, tmp_path):
    """A file with the rig and an Action, to be linked."""
    apply_motion(rig, walk, 1, 20.0)
    path = tmp_path / "library.blend"
    bpy.data.libraries.write(str(path), {rig, rig.animation_data.action})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 20
    return path


def _link(path):
    with bpy.data.libraries.load(str(path), link=True) as (theirs, ours):
        ours.objects = list(theirs.objects)
    armature = ours.objects[0]
    bpy.context.scene.collection.objects.link(armature)
    return armature


BUTTONS = (
    ("use_clip", {}),
    ("smooth_motion", {}),
    ("reduce_keys", {}),
    ("lock_feet", {}),
    ("loop_motion", {}),
    ("trim_motion", {"first": 2, "last": 8}),
    ("make_in_place", {}),
    ("find_plants", {}),
    ("add_ik", {}),
    ("guess_bones", {}),
    ("set_height", {"height": 1.5}),
    ("step_take", {}),
)


@pytest.mark.parametrize(("button", "values"), BUTTONS)
def test_a_linked_armature_is_a_sentence(library, button, values):
    armature = _link(library)
    properties.get_settings(bpy.context).character = armature
    actions = len(bpy.data.actions)
    if button == "find_plants":
        _run(button)
        return
    with pytest.raises(RuntimeError, match="library override") as caught:
        _run(button, **values)
    assert "Traceback" not in str(caught.value) and len(bpy.data.actions) == actions and len(bpy.data.scenes) == 1


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize(("button", "values"), BUTTONS)
def test_an_override_works_or_says_why_not(library, button, values, with_data):
    linked = _link(library)
    armature = linked.override_create(remap_local_usages=True)
    if with_data:
        armature.data.override_create(remap_local_usages=True)
    armature.override_library.is_system_override = False
    properties.get_settings(bpy.context).character = armature
    before = armature.animation_data.action
    assert before.library is not None
    if button == "add_ik":
        with pytest.raises(RuntimeError, match="make its armature data local") as caught:
            _run(button)
        assert "Traceback" not in str(caught.value)
        return
    _run(button, **values)
    if button not in ("find_plants", "guess_bones", "set_height", "step_take"):
        assert armature.animation_data.action.library is None and before.name in bpy.data.actions


@pytest.mark.parametrize("where", ["hidden", "excluded", "other scene", "pose mode", "edit mode", "shared data"])
def test_armatures_wherever_they_are(rig, walk, where):
    apply_motion(rig, walk, 1, 20.0)
    if where == "hidden":
        rig.hide_set(True)
    elif where == "excluded":
        collection = bpy.data.collections.new("Away")
        bpy.context.scene.collection.children.link(collection)
        collection.objects.link(rig)
        bpy.context.scene.collection.objects.unlink(rig)
        bpy.context.view_layer.layer_collection.children["Away"].exclude = True
    elif where == "other scene":
        bpy.data.scenes.new("Other").collection.objects.link(rig)
        bpy.context.scene.collection.objects.unlink(rig)
    elif where == "shared data":
        bpy.context.scene.collection.objects.link(bpy.data.objects.new("Twin", rig.data))
    elif where == "pose mode":
        bpy.ops.object.mode_set(mode="POSE")
    else:
        bpy.ops.object.mode_set(mode="EDIT")
    mode, scenes = rig.mode, len(bpy.data.scenes)
    if where == "edit mode":
        with pytest.raises(RuntimeError, match="leave Edit Mode") as caught:
            _run("smooth_motion")
        assert "Traceback" not in str(caught.value)
    else:
        for button in ("smooth_motion", "use_clip", "find_plants", "lock_feet"):
            _run(button)
    if where in ("pose mode",):
        _run("add_ik")
    else:
        with pytest.raises(RuntimeError) as caught:
            _run("add_ik")
        assert "Traceback" not in str(caught.value) and str(caught.value).strip().endswith((".", "first."))
    assert rig.mode == mode and len(bpy.data.scenes) == scenes


def test_a_failed_edit_leaves_no_trace(rig, walk):
    action = apply_motion(rig, walk, 1, 20.0)
    before = {name: len(getattr(bpy.data, name)) for name in ("actions", "objects", "scenes", "armatures")}
    with pytest.raises(RuntimeError, match="choose frames"):
        _run("trim_motion", first=90, last=99)
    assert rig.animation_data.action == action
    assert before == {name: len(getattr(bpy.data, name)) for name in before}


def test_an_earlier_take_plays_in_its_own_rotation_mode(rig, walk, capfd):
    first = apply_motion(rig, walk, 1, 20.0, KeyOptions(euler=True))
    before = _see(rig, range(1, FRAMES + 1))
    apply_motion(rig, walk, 1, 20.0)
    assert {rig.pose.bones[name].rotation_mode for name in ("mixamorig:Hips", "mixamorig:LeftArm")} == {"QUATERNION"}
    while rig.animation_data.action != first:
        _run("step_take")
    assert "were read in the order XYZ" in capfd.readouterr().out
    assert np.linalg.norm(_see(rig, range(1, FRAMES + 1)) - before, axis=-1).max() < 1e-4
    assign_action(rig, None)
