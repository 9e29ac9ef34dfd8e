"""Any humanoid rig: its bones are found, and it moves like the motion."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon.character import mapping
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import axis_angle_to_matrix, matrix_to_quaternion
from latentman.blender_addon.rigging.keyframes import KeyOptions, apply_motion, pose_motion, read_body_motion
from latentman.blender_addon.rigging.rigs import BONE_MAP, guess_mapping, read_mapping, read_rig
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
    assert how == (family if named else "shape of the rig")
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
    again = mapping.parse(mapping.dump(found))
    assert again == found
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
    """MMD's rigs hang both on a root of their own."""
    armature = rigs.build_rig(rigs.make_joints(), rigs.get_bone_names("MMD"), extra_root="センター")
    bpy.ops.object.mode_set(mode="EDIT")
    armature.data.edit_bones["上半身"].parent = armature.data.edit_bones["センター"]
    bpy.ops.object.mode_set(mode="OBJECT")
    rig, motion = read_rig(armature), read(BUNDLED).get_motion(2)
    rest = np.linalg.norm(rig.joints[JOINT_INDEX["spine1"]] - rig.joints[0])
    apply_motion(armature, motion, 1, 20.0)
    for frame in (0, 20, 30):
        seen = _seen(armature, rig, 1 + frame)
        assert np.linalg.norm(seen["spine1"] - seen["pelvis"]) == pytest.approx(rest, abs=1e-4)
        assert seen["neck"][1] - seen["pelvis"][1] > 0.2


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
    apply_motion(armature, motion, 1, 20.0)
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
