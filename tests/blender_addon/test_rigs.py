"""Any humanoid rig: its bones are found, and it moves like the motion."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.character import mapping
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import axis_angle_to_matrix, matrix_to_quaternion
from latentman.blender_addon.rigging.action_notes import read_notes
from latentman.blender_addon.rigging.action_reading import read_body_motion
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import BONE_DOUBTS, BONE_MAP, guess_mapping, read_doubts, read_mapping, read_rig
from latentman.shared.motion import Motion, MotionError
from latentman.shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from latentman.shared.vectors import normalise
from tools import rigs

LIMBS = (
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("pelvis", "neck"),
)


def _seen(armature, rig, frame):
    """Body-space joints as Blender poses them."""
    bpy.context.scene.frame_set(frame)
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return {
        joint: np.array(posed.matrix_world @ posed.pose.bones[rig.bones[bone]].head)[[0, 2, 1]] * [1, 1, -1]
        for joint, bone in rig.joint_bones.items()
    }


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("family", list(mapping.get_presets()))
def test_every_family_is_recognised_and_follows(empty_scene, family, named):
    names = rigs.get_bone_names(family)
    if not named:
        names = {joint: f"bone{n:02d}" for n, joint in enumerate(names)}
    imported = family in ("Mixamo", "Unreal")
    armature = rigs.build_rig(
        rigs.make_joints(1.1, 0.9, 45 if named else 20), names, imported, family == "Mixamo", "root" if imported else None
    )
    how, found = guess_mapping(armature)
    assert how == (family.replace("MMD (Blender names)", "MMD") if named else "shape of the rig")
    assert all(names[joint] == bone for joint, bone in found.items())
    rig, motion = read_rig(armature), read(BUNDLED).get_motion(1)
    apply_motion(armature, motion, 1, 20.0)
    for frame in (0, 10, 30):
        seen = _seen(armature, rig, 1 + frame)
        for a, b in LIMBS[:4]:
            wanted = normalise(motion.joints[frame, JOINT_INDEX[b]] - motion.joints[frame, JOINT_INDEX[a]])
            assert normalise(seen[b] - seen[a]) @ wanted > 0.9999
        assert -0.02 < min(point[1] for point in seen.values()) < 0.25


def test_joints_of_another_body_land_where_scaling_puts_them(empty_scene, rng):
    """Ground truth: the same rotations on a body of other proportions."""
    source, target = rigs.make_joints(), rigs.make_joints(1.15, 0.9)
    scale = (target[1, 1] - target[7, 1]) / (source[1, 1] - source[7, 1])
    rotations = axis_angle_to_matrix(np.cumsum(rng.normal(0, 0.05, (40, 24, 3)), 0))
    pelvis = np.array([0, source[0, 1], 0]) + np.cumsum(rng.normal(0, 0.01, (40, 3)), 0)
    from tests.blender_addon.test_motion import _forward

    joints = _forward(source, rotations, pelvis)[:, :22]
    armature = rigs.build_rig(target, rigs.get_bone_names("SMPL"))
    posed, _ = pose_motion(read_rig(armature), Motion.from_joints(joints, 20.0, "truth"), KeyOptions())
    found = _forward(target, posed.local_rotations, posed.pelvis)
    wanted = _forward(target, rotations, pelvis * scale)
    ends = [JOINT_INDEX[name] for name in ("left_wrist", "right_wrist", "left_foot", "right_foot", "head")]
    assert np.linalg.norm(found - wanted, axis=-1)[:, ends].mean() < 0.015


def test_rotations_survive_another_rest_pose(empty_scene, rng):
    """A motion that knows its rotations keeps the twist of every limb on a rig with lowered arms and rolled bones."""
    rotations = axis_angle_to_matrix(np.cumsum(rng.normal(0, 0.05, (20, 24, 3)), 0))
    rotations[:, 22:] = np.eye(3)
    from tests.blender_addon.test_motion import _forward

    rest = rigs.make_joints()
    joints = _forward(rest, rotations, np.tile(rest[0], (20, 1)))[:, :22]
    motion = Motion.from_joints(joints, 20.0, "truth", rotations=matrix_to_quaternion(rotations))
    armature = rigs.build_rig(rigs.make_joints(1.0, 1.0, 50), rigs.get_bone_names("Mixamo"), True, True)
    action = apply_motion(armature, motion, 1, 20.0)
    rig, found, _ = read_body_motion(armature, action)
    whole = np.empty_like(rotations)
    for joint, parent in enumerate(SMPL_PARENTS):
        whole[:, joint] = rotations[:, joint] if parent < 0 else whole[:, parent] @ rotations[:, joint]
    elbow, wrist = JOINT_INDEX["left_elbow"], JOINT_INDEX["left_wrist"]
    rest_wrist, t_wrist = (normalise(points[wrist] - points[elbow]) for points in (rig.joints, rest))
    elbows = found.global_rotations[:, elbow]
    assert np.allclose(elbows @ rest_wrist, whole[:, elbow] @ t_wrist, atol=1e-3)
    # twist: the axis at right angles to the lowered arm and the front is what was up in the T-pose
    up = np.cross([0.0, 0, 1.0], rest_wrist)
    assert (np.einsum("fi,fi->f", elbows @ normalise(up), whole[:, elbow] @ np.array([0, 1.0, 0])) > 0.99).all()
    assert np.abs(found.global_rotations[:, JOINT_INDEX["pelvis"]] - whole[:, 0]).max() < 1e-5


def test_bone_maps_are_saved_and_checked(empty_scene):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Unreal"))
    found = read_mapping(armature)
    assert mapping.parse(mapping.dump(found)) == (found, ())
    more = json.dumps({"bones": found | {"thumb": "thumb_01_l", "Left Knee": "calf_l", "left_hand": None}})
    assert mapping.parse(more) == (found | {"left_hand": ""}, ("thumb", "Left Knee"))
    with pytest.raises(mapping.MappingError, match="'Hips' is not a joint; joints are pelvis"):
        mapping.parse('{"bones": {"Hips": "pelvis", "Spine": "spine_01"}}')
    with pytest.raises(mapping.MappingError, match="no bone 'wing'"):
        mapping.check(found | {"left_wrist": "wing"}, tuple(armature.data.bones.keys()))
    with pytest.raises(mapping.MappingError, match="two joints"):
        mapping.check(found | {"left_wrist": found["right_wrist"]}, tuple(armature.data.bones.keys()))
    for text in ("", "[]", '{"bones": 3}', '{"bones": {"pelvis": 4}}'):
        with pytest.raises(mapping.MappingError, match="not a bone map"):
            mapping.parse(text)
    armature[BONE_MAP] = '{"pelvis": "pelvis"}'
    with pytest.raises(MotionError, match="left hip"):
        read_rig(armature)


def test_an_upper_body_beside_the_lower_one_is_carried_along(empty_scene):
    """MMD's rigs hang both on a root of their own; a map that takes the lower body for the pelvis moves the upper one with it."""
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("MMD"), extra_root="センター")
    bpy.ops.object.mode_set(mode="EDIT")
    armature.data.edit_bones["上半身"].parent = armature.data.edit_bones["センター"]
    bpy.ops.object.mode_set(mode="OBJECT")
    assert guess_mapping(armature)[1]["pelvis"] == "センター"
    for pelvis in ("センター", "下半身"):
        armature[BONE_MAP] = json.dumps(rigs.get_bone_names("MMD") | {"pelvis": pelvis})
        rig, motion = read_rig(armature), read(BUNDLED).get_motion(2)
        names = {"pelvis": "下半身", "spine1": "上半身", "neck": "首", "left_hip": "左足", "right_hip": "右足"}
        apply_motion(armature, motion, 1, 20.0)
        seen = rigs.read_heads(armature, names, (1, 21, 31))
        hips = (seen["left_hip"] + seen["right_hip"]) / 2
        rest = rig.joints[JOINT_INDEX["spine1"]] - (rig.joints[1] + rig.joints[2]) / 2
        assert np.allclose(np.linalg.norm(seen["spine1"] - hips, axis=-1), np.linalg.norm(rest), atol=1e-3)
        assert (seen["neck"][:, 2] - hips[:, 2] > 0.2).all()


@pytest.fixture
def doubtful(empty_scene):
    """A rig with one thigh far longer than the other, as when a bone of it was taken for the knee."""
    joints = rigs.make_joints()
    joints[JOINT_INDEX["left_knee"], 1] -= 0.25
    armature = rigs.build_rig(joints, rigs.get_bone_names("Mixamo"))
    properties.get_settings(bpy.context).character = armature
    return armature


def test_a_doubtful_guess_is_asked_about(doubtful, registered_parts):
    motion = read(BUNDLED).get_motion(1)
    assert "left_knee" in read_doubts(doubtful)
    with pytest.raises(MotionError, match=r"'LeftLeg' for left knee .*; check them in the list") as refused:
        apply_motion(doubtful, motion, 1, 20.0)
    assert str(refused.value).count(". ") == 0 and doubtful.animation_data is None
    # a damaged note of what is doubtful does not make it certain
    doubtful[BONE_MAP], doubtful[BONE_DOUBTS] = json.dumps(guess_mapping(doubtful)[1]), "not JSON"
    assert "left_knee" in read_doubts(doubtful)
    del doubtful[BONE_MAP], doubtful[BONE_DOUBTS]
    # where nothing is keyed by it the guess is good enough
    assert read_rig(doubtful, allow_doubtful=True).joint_bones
    bpy.ops.latentman.guess_bones()
    slots = properties.get_bone_slots(doubtful)
    marked = {slot.name for slot in slots if slot.doubt}
    assert "left_knee" in marked and marked == set(read_doubts(doubtful))
    with pytest.raises(MotionError, match="doubtful"):
        apply_motion(doubtful, motion, 1, 20.0)
    # a bone that the user chooses is not doubtful any more
    for slot in slots:
        if slot.doubt:
            slot.bone = slot.bone
    assert not read_doubts(doubtful) and apply_motion(doubtful, motion, 1, 20.0)


def test_a_doubtful_map_is_confirmed(doubtful, registered_parts):
    bpy.ops.latentman.guess_bones()
    bpy.ops.latentman.confirm_bones()
    assert not any(slot.doubt for slot in properties.get_bone_slots(doubtful))
    assert apply_motion(doubtful, read(BUNDLED).get_motion(1), 1, 20.0)


def test_a_map_can_be_confirmed_before_it_is_seen(doubtful, registered_parts):
    bpy.ops.latentman.confirm_bones()
    assert apply_motion(doubtful, read(BUNDLED).get_motion(1), 1, 20.0)


def test_a_loaded_map_counts_as_confirmed(doubtful, registered_parts, tmp_path):
    found = guess_mapping(doubtful)[1]
    (tmp_path / "map.json").write_text(mapping.dump(found))
    bpy.ops.latentman.load_bones(filepath=str(tmp_path / "map.json"))
    assert apply_motion(doubtful, read(BUNDLED).get_motion(1), 1, 20.0)


def test_a_good_guess_needs_no_click(empty_scene):
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("Mixamo"))
    assert read_doubts(armature) == {} and apply_motion(armature, read(BUNDLED).get_motion(1), 1, 20.0)


def test_controls_below_constrained_bones_are_solved(empty_scene):
    """As in Rigify's control rig: the arm hangs on a helper that copies another bone's rotation."""
    armature = rigs.build_rig(rigs.make_joints(1.0, 1.0, 40), rigs.get_bone_names("Mixamo"))
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    helper = bones.new("MCH-arm")
    helper.head, helper.tail, helper.parent = bones["LeftArm"].head, bones["LeftArm"].tail, bones["LeftShoulder"]
    bones["LeftArm"].parent = helper
    bpy.ops.object.mode_set(mode="OBJECT")
    copy = armature.pose.bones["MCH-arm"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = armature, "Head"
    armature.pose.bones["LeftArm"]["IK_FK"] = 0.0
    rig, motion = read_rig(armature), read(BUNDLED).get_motion(1)
    action = apply_motion(armature, motion, 1, 20.0)
    assert any("Switched to FK" in note and "LeftArm" in note for note in read_notes(action)[0])
    for frame in (0, 17, 41):
        seen = _seen(armature, rig, 1 + frame)
        wanted = normalise(motion.joints[frame, JOINT_INDEX["left_elbow"]] - motion.joints[frame, JOINT_INDEX["left_shoulder"]])
        assert normalise(seen["left_elbow"] - seen["left_shoulder"]) @ wanted > 0.9999
    assert armature.pose.bones["LeftArm"]["IK_FK"] == 1.0


@pytest.mark.parametrize("yaw", [0.0, np.pi, np.pi / 2])
def test_a_rig_that_faces_elsewhere(empty_scene, yaw):
    names = {joint: f"b{n}" for n, joint in enumerate(rigs.get_bone_names("Mixamo"))}
    armature = rigs.build_rig(rigs.make_joints(1, 1, 30), names)
    armature.rotation_euler.z = yaw
    bpy.context.view_layer.update()
    assert all(names[joint] == bone for joint, bone in guess_mapping(armature)[1].items())


def test_a_four_legged_heap_is_refused(empty_scene):
    data = bpy.data.armatures.new("Heap")
    heap = bpy.data.objects.new("Heap", data)
    empty_scene.collection.objects.link(heap)
    bpy.context.view_layer.objects.active = heap
    bpy.ops.object.mode_set(mode="EDIT")
    for n in range(20):
        bone = data.edit_bones.new(f"b{n}")
        bone.head, bone.tail = (n, 0, 0), (n, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(MotionError, match="by hand"):
        guess_mapping(heap)
