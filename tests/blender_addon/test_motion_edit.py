"""Feet, fewer keys, smoothing, cycles, joining, IK, NLA and layers."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest

from latentman.blender_addon.compat import get_fcurves
from latentman.blender_addon.motion import editing, foot_contacts
from latentman.blender_addon.motion.channels import motion_to_channels
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.reduction import compute_end_effectors, interpolate_channels, reduce_keys
from latentman.blender_addon.motion.rotations import forward_kinematics
from latentman.blender_addon.rigging import ik
from latentman.blender_addon.rigging.action_notes import read_foot_contacts
from latentman.blender_addon.rigging.action_reading import read_body_motion
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from tools.bench_motion import add_sliding


def _joints(rig, motion):
    return forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)


@pytest.mark.parametrize("clip", range(6))
def test_sliding_feet_are_locked(character, clip):
    rig, motion = read_rig(character), add_sliding(read(BUNDLED).get_motion(clip))
    before, contacts = pose_motion(rig, motion, KeyOptions())
    after, _ = pose_motion(rig, motion, KeyOptions(foot_lock="hard"))
    here, there = _joints(rig, before), _joints(rig, after)
    assert foot_contacts.compute_skating_ratio(there, 20) <= foot_contacts.compute_skating_ratio(here, 20) / 5
    depth_before, depth_after = (foot_contacts.compute_penetration(m, rig.joints).max() for m in (before, after))
    assert depth_after < 0.002 < depth_before
    for contact in contacts:
        toe = there[contact.start : contact.end + 1, JOINT_INDEX[f"{contact.side}_foot"]]
        assert np.ptp(toe[:, [0, 2]], axis=0).max() < 0.01
    knees = [np.abs(np.diff(j[:, [4, 5]], n=2, axis=0)).max() * 400 for j in (here, there)]
    assert knees[1] < max(4 * knees[0], 30)
    lengths = np.linalg.norm(there[:, 1:] - there[:, list(SMPL_PARENTS[1:])], axis=-1)
    assert np.ptp(lengths, axis=0).max() < 1e-9
    softer, _ = pose_motion(rig, motion, KeyOptions(foot_lock="soft"))
    first = contacts[0]
    rows, toe = slice(first.start, first.end + 1), JOINT_INDEX[f"{first.side}_foot"]
    slide = [np.linalg.norm(np.diff(_joints(rig, m)[rows, toe][:, [0, 2]], axis=0), axis=1).sum() for m in (after, softer, before)]
    assert slide[0] < slide[1] < slide[2]


def test_foot_contacts_are_where_the_clip_put_them(character):
    contacts = pose_motion(read_rig(character), read(BUNDLED).get_motion(0), KeyOptions())[1]
    walk = [c for c in contacts if c.side == "left" and c.start > 2 and c.end < 76]
    assert len(walk) >= 2
    for contact in walk:
        # 62 % of a stride of 1.1 s at 20 fps
        assert 9 <= contact.end - contact.start + 1 <= 18


@pytest.mark.parametrize("clip", [0, 4])
def test_few_keys_stay_within_the_bound(character, empty_scene, clip):
    rig, motion = read_rig(character), read(BUNDLED).get_motion(clip)
    posed, _ = pose_motion(rig, motion, KeyOptions())
    whole = motion_to_channels(rig, posed)
    rows = reduce_keys(rig, whole, 0.005)
    error = np.linalg.norm(
        compute_end_effectors(rig, interpolate_channels(whole, rows)) - compute_end_effectors(rig, whole), axis=-1
    )
    assert error.max() <= 0.005
    assert np.mean([len(r) for r in rows.values()]) < motion.frame_count / 3
    action = apply_motion(character, motion, 1, 20.0, KeyOptions(tolerance=0.005))
    again = read_body_motion(character, action)[1]
    # Blender's own interpolation of those keys
    apart = np.linalg.norm(_joints(rig, again) - _joints(rig, posed), axis=-1)[:, [20, 21, 7, 8, 15]]
    assert apart.max() < 0.0065


def test_blender_evaluates_what_was_written(character):
    motion = read(BUNDLED).get_motion(3)
    rig = read_rig(character)
    posed, _ = pose_motion(rig, motion, KeyOptions())
    for options in (KeyOptions(), KeyOptions(euler=True), KeyOptions(root="OBJECT"), KeyOptions(keep_rate=True)):
        action = apply_motion(character, motion, 5, 20.0, options)
        _, again, start = read_body_motion(character, action)
        assert start == 5 and np.abs(again.global_rotations - posed.global_rotations).max() < 1e-5
        assert np.abs(again.pelvis - posed.pelvis).max() < 1e-4
    still = apply_motion(character, motion, 5, 20.0, KeyOptions(root="IN_PLACE"))
    assert np.ptp(read_body_motion(character, still)[1].pelvis[:, [0, 2]], axis=0).max() < 1e-5
    assert any(curve.group and curve.group.name == "left_knee" for curve in get_fcurves(still))
    double = apply_motion(character, motion, 1, 40.0, KeyOptions(keep_rate=True))
    assert double.frame_range[1] == pytest.approx(1 + 2 * (motion.frame_count - 1))


def test_tweaks_stay_above_another_motion(character, empty_scene):
    first, second = read(BUNDLED).get_motion(0), read(BUNDLED).get_motion(4)
    apply_motion(character, first, 1, 20.0, KeyOptions(target="LAYER"))
    tweaks = character.animation_data.action
    bone = character.pose.bones["left_shoulder"]
    bone.rotation_quaternion = (0.966, 0.0, 0.259, 0.0)
    bone.keyframe_insert("rotation_quaternion", frame=10)

    def arm(frame):
        empty_scene.frame_set(frame)
        posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get())
        return np.array(posed.pose.bones["left_shoulder"].matrix_basis)[:3, :3]

    def rotate_by_the_tweak():
        data = character.animation_data
        whole, data.action = arm(10), None
        plain, data.action = arm(10), tweaks
        return plain, plain.T @ whole

    first_plain, first_tweak = rotate_by_the_tweak()
    # Blender keys what is needed on top of the base for the pose that was set
    assert np.abs(first_plain @ first_tweak - np.array([[0.866, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.866]])).max() < 1e-2
    apply_motion(character, second, 1, 20.0, KeyOptions(target="LAYER"))
    assert character.animation_data.action == tweaks and tweaks["latentman_layer"]
    second_plain, second_tweak = rotate_by_the_tweak()
    assert np.abs(first_plain - second_plain).max() > 0.05 and np.abs(first_tweak - second_tweak).max() < 1e-3


def test_an_nla_strip_leaves_the_action_in_use(character):
    used = apply_motion(character, read(BUNDLED).get_motion(0), 1, 20.0)
    other = apply_motion(character, read(BUNDLED).get_motion(1), 30, 20.0, KeyOptions(target="NLA"))
    track = character.animation_data.nla_tracks[-1]
    assert character.animation_data.action == used and track.strips[0].action == other and track.strips[0].frame_start == 30


def test_loops_close_and_joins_go_on(character):
    rig = read_rig(character)
    walk, wave = (pose_motion(rig, read(BUNDLED).get_motion(n), KeyOptions())[0] for n in (0, 3))
    loop = editing.loop_motion(walk, 12)
    assert np.abs(loop.global_rotations[0] - loop.global_rotations[-1]).max() < 1e-9
    assert loop.pelvis[0, 1] == pytest.approx(loop.pelvis[-1, 1])
    assert loop.pelvis[-1, 2] - loop.pelvis[0, 2] == pytest.approx(walk.pelvis[-1, 2] - walk.pelvis[0, 2])
    both = editing.join_motions(walk, wave, 10)
    assert len(both.pelvis) == len(walk.pelvis) + len(wave.pelvis) - 10
    step = np.linalg.norm(np.diff(_joints(rig, both), axis=0), axis=-1).max(1)
    usual = max(np.linalg.norm(np.diff(_joints(rig, m), axis=0), axis=-1).max() for m in (walk, wave))
    assert step.max() < 1.6 * usual
    turn = editing.place_motion(wave, 1.0, np.array([1.0, 0, 2.0]), wave.pelvis[0])
    assert editing.compute_heading(turn, 0) - editing.compute_heading(wave, 0) == pytest.approx(1.0)
    assert np.allclose(turn.pelvis[0, [0, 2]], [1, 2])
    part = editing.trim_motion(walk, 5, 9)
    assert len(part.pelvis) == 5 and np.array_equal(part.global_rotations[0], walk.global_rotations[5])
    for start, end in ((-1, 4), (3, 200), (9, 3)):
        with pytest.raises(MotionError, match="frames from 0 to 79"):
            editing.trim_motion(walk, start, end)


def test_smoothing_takes_jitter_out_and_keeps_the_ends(character, rng):
    rig, motion = read_rig(character), read(BUNDLED).get_motion(0)
    noisy = replace(motion, joints=motion.joints + rng.normal(0, 0.006, motion.joints.shape))
    posed, _ = pose_motion(rig, noisy, KeyOptions())
    smooth = editing.smooth_motion(posed, 1.5)

    def jitter(m):
        return np.abs(np.diff(_joints(rig, m), n=3, axis=0)).mean()

    assert jitter(smooth) < 0.35 * jitter(posed)
    assert np.linalg.norm(_joints(rig, smooth) - _joints(rig, posed), axis=-1).mean() < 0.03
    assert np.abs(smooth.pelvis[0] - posed.pelvis[0]).max() < 0.01


@pytest.mark.parametrize("clip", [0, 4])
def test_ik_keeps_the_motion_and_comes_back(character, empty_scene, clip):
    rig, motion = read_rig(character), read(BUNDLED).get_motion(clip)
    apply_motion(character, motion, 1, 20.0)

    def seen():
        out = []
        for frame in range(1, motion.frame_count + 1, 9):
            empty_scene.frame_set(frame)
            posed = character.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
            out.append([np.array(posed[rig.bones[bone]].head) for bone in rig.joint_bones.values()])
        return np.array(out)

    before, bones = seen(), set(character.data.bones.keys())
    action = ik.add_ik(bpy.context, character)
    assert "IK_left_leg" in character.pose.bones and np.linalg.norm(seen() - before, axis=-1).max() < 0.003
    # the control moves the foot
    curve = next(c for c in get_fcurves(action) if c.data_path == 'pose.bones["IK_left_leg"].location' and c.array_index == 1)
    for point in curve.keyframe_points:
        point.co.y += 0.05
    curve.update()
    moved = np.linalg.norm(seen() - before, axis=-1)
    assert 0.02 < moved[:, list(rig.joint_bones).index("left_ankle")].max() < 0.06
    assert moved[:, list(rig.joint_bones).index("right_ankle")].max() < 0.003
    with pytest.raises(MotionError, match="already"):
        ik.add_ik(bpy.context, character)
    before_removal = seen()
    ik.remove_ik(bpy.context, character)
    assert np.abs(seen() - before_removal).max() < 1e-3 and set(character.data.bones.keys()) == bones
    with pytest.raises(MotionError, match="no IK"):
        ik.remove_ik(bpy.context, character)


def test_foot_contacts_are_stored_on_the_action(character):
    action = apply_motion(character, read(BUNDLED).get_motion(0), 11, 20.0)
    assert read_foot_contacts(action) and min(contact.start for contact in read_foot_contacts(action)) >= 11
