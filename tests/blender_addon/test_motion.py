"""Motion files and retargeting."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.retarget import AIMS_AT, retarget
from latentman.blender_addon.motion.rotations import matrix_to_quaternion, rotation_about_axis, rotation_between
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.shared.motion import Motion, MotionError
from latentman.shared.skeleton import HUMANML_BONE_LENGTHS, JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from latentman.shared.vectors import normalise

HUMANML = Path(__file__).resolve().parents[3] / "shared" / "data" / "humanml3d"


def _forward(rest, matrices, pelvis):
    """Independent forward kinematics: joint positions (F, 24, 3)."""
    frames = len(matrices)
    turn, place = np.empty((frames, 24, 3, 3)), np.empty((frames, 24, 3))
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent < 0:
            turn[:, 0], place[:, 0] = matrices[:, 0], pelvis
        else:
            turn[:, joint] = turn[:, parent] @ matrices[:, joint]
            place[:, joint] = place[:, parent] + turn[:, parent] @ (rest[joint] - rest[parent])
    return place


def _matrices(quaternions):
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    axis = normalise(np.stack([x, y, z], -1))
    return rotation_about_axis(axis, 2 * np.arctan2(np.sqrt(x * x + y * y + z * z), w))


def _trunk(joints):
    """(F, 3) from the middle of the hips to the neck."""
    return joints[:, JOINT_INDEX["neck"]] - joints[:, [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]].mean(1)


def test_bundled_clips_walk_without_foot_sliding():
    file = read(BUNDLED)
    assert len(file.texts) == 6
    for clip, text in enumerate(file.texts):
        joints = file.get_motion(clip).joints
        feet = joints[:, [10, 11]]
        speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * 20
        low = (feet[1:, :, 1] < 0.05) & (feet[:-1, :, 1] < 0.05)
        assert (speed[low] > 0.5).mean() < 0.136, text
        assert joints[..., 1].min() > -0.01
        lengths = np.linalg.norm(joints[:, 1:] - joints[:, list(SMPL_PARENTS[1:22])], axis=-1)
        assert np.abs(lengths - HUMANML_BONE_LENGTHS[1:]).max() < 2e-3, text


def test_retargeting_returns_random_poses(body_model, rng):
    rest = body_model.regress_joints(body_model.v_template)
    wanted = rotation_about_axis(normalise(rng.normal(size=(40, 24, 3))), rng.uniform(0, 0.6, (40, 24)))
    pelvis = rng.normal(0, 1, (40, 3))
    joints = _forward(rest, wanted, pelvis)
    # the chest's children carry the twist that positions alone would hide
    found = retarget(Motion.from_joints(joints[:, :22], 20.0, "random"), rest)
    again = _forward(rest, _matrices(found.quaternions), found.pelvis)[:, :22]
    assert np.linalg.norm(again - joints[:, :22], axis=-1).mean() < 0.005


def test_knees_and_elbows_bend_in_the_seen_plane(body_model):
    rest = body_model.regress_joints(body_model.v_template)
    for clip in range(6):
        motion = read(BUNDLED).get_motion(clip)
        found = retarget(motion, rest)
        turn = _matrices(found.quaternions)
        globals_ = np.empty_like(turn)
        for joint, parent in enumerate(SMPL_PARENTS):
            globals_[:, joint] = turn[:, joint] if parent < 0 else globals_[:, parent] @ turn[:, joint]
        for upper, lower, end, axis in (
            ("left_hip", "left_knee", "left_ankle", (1, 0, 0)),
            ("right_shoulder", "right_elbow", "right_wrist", (0, 1, 0)),
        ):
            a, b, c = (motion.joints[:, JOINT_INDEX[n]] for n in (upper, lower, end))
            bend = np.cross(normalise(b - a), normalise(c - b))
            bent = np.linalg.norm(bend, axis=1) > np.sin(np.radians(25))
            hinge = globals_[:, JOINT_INDEX[upper]] @ np.array(axis, float)
            cosine = (normalise(bend) * hinge).sum(1)[bent]
            assert (cosine > np.cos(np.radians(8))).mean() > 0.95 if bent.any() else True


@pytest.mark.parametrize("follows", [False, True])
def test_rotations_point_the_limbs_of_every_body(rng, follows):
    """Raised collars, a bent spine and neck, lowered arms, feet turned out and higher ankles in the rest pose."""
    average = np.array(SMPL_REST_JOINTS)
    wanted = rotation_about_axis(normalise(rng.normal(size=(30, 24, 3))), rng.uniform(0, 0.4, (30, 24)))
    joints = _forward(average, wanted, np.tile([0, 0.9, 0], (30, 1)))[:, :22]
    motion = Motion.from_joints(joints, 20.0, "truth", rotations=matrix_to_quaternion(wanted))
    motion = replace(motion, follows_joints=follows)
    rest = average.copy()
    for joint, vector in (
        ("left_collar", (0.05, 0.1, 0)),
        ("neck", (0, 0, 0.06)),
        ("spine2", (0, 0, -0.03)),
        ("head", (0, 0, 0.05)),
    ):
        below = [n for n in range(24) if n == JOINT_INDEX[joint] or SMPL_PARENTS[n] == JOINT_INDEX[joint]]
        rest[below] += vector
    rest[JOINT_INDEX["left_elbow"]] += (-0.1, -0.2, 0)
    rest[JOINT_INDEX["left_foot"]] += (0.06, -0.03, -0.02)
    found = retarget(motion, rest, is_smpl=follows)
    posed = _forward(rest, _matrices(found.quaternions), found.pelvis)
    for joint, child in AIMS_AT.items():
        a, b = JOINT_INDEX[joint], JOINT_INDEX[child]
        cosine = (normalise(posed[:, b] - posed[:, a]) * normalise(joints[:, b] - joints[:, a])).sum(-1)
        if joint not in ("spine1", "spine2"):
            assert cosine.min() > np.cos(np.radians(0.1)), joint
    trunk = (normalise(_trunk(posed)) * normalise(_trunk(joints))).sum(-1)
    assert trunk.min() > np.cos(np.radians(0.1))
    # where soles count, a foot without a rotation stays as flat as in this rest pose, and points where the average one does
    still = replace(motion, joints=np.tile(average[:22], (30, 1, 1)), rotations=np.tile([1.0, 0, 0, 0], (30, 24, 1)))
    flat = retarget(still, rest, is_smpl=follows, flat_soles=True).global_rotations[0, JOINT_INDEX["left_ankle"]]
    own, usual = (points[JOINT_INDEX["left_foot"]] - points[JOINT_INDEX["left_ankle"]] for points in (rest, average))
    pointed = flat @ own
    assert pointed[1] == pytest.approx(own[1]) and pointed[0] / pointed[2] == pytest.approx(usual[0] / usual[2])


def test_quaternions_do_not_flip(body_model):
    rest = body_model.regress_joints(body_model.v_template)
    for clip in range(6):
        found = retarget(read(BUNDLED).get_motion(clip), rest)
        assert ((found.quaternions[1:] * found.quaternions[:-1]).sum(-1) > 0.7).all()


def test_rotations_agree_with_each_other(rng):
    a, b = normalise(rng.normal(size=(50, 3))), normalise(rng.normal(size=(50, 3)))
    b[0] = -a[0]
    assert np.allclose(np.einsum("nij,nj->ni", rotation_between(a, b), a), b, atol=1e-6)
    axis, angle = normalise(rng.normal(size=(50, 3))), rng.uniform(0, np.pi, 50)
    quaternions = matrix_to_quaternion(rotation_about_axis(axis, angle))
    expected = np.concatenate([np.cos(angle / 2)[:, None], axis * np.sin(angle / 2)[:, None]], 1)
    assert np.allclose(np.abs((quaternions * expected).sum(1)), 1, atol=1e-9)


def test_keyframes_move_the_bones(character, empty_scene):
    motion = read(BUNDLED).get_motion(0)
    action = apply_motion(character, motion, 1, 20.0)
    assert action["latentman_text"] == motion.text
    for frame in (1, 24, 60):
        empty_scene.frame_set(frame)
        graph = bpy.context.evaluated_depsgraph_get()
        posed = character.evaluated_get(graph)
        head = posed.matrix_world @ posed.pose.bones["left_ankle"].head
        x, y, z = motion.joints[frame - 1, JOINT_INDEX["left_ankle"]]
        # Y up becomes Z up; the mannequin's legs are a little longer or shorter
        assert np.abs(np.array(head) - [x, -z, y]).max() < 0.12
    first = character.animation_data.action
    apply_motion(character, read(BUNDLED).get_motion(3), 1, 20.0)
    assert first.name in bpy.data.actions and character.animation_data.action != first


def test_another_rig_is_refused_with_a_sentence(empty_scene):
    data = bpy.data.armatures.new("Other")
    other = bpy.data.objects.new("Other", data)
    empty_scene.collection.objects.link(other)
    with pytest.raises(MotionError, match="too few bones"):
        apply_motion(other, read(BUNDLED).get_motion(0), 1, 20.0)


def test_a_motion_file_with_foreign_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    path = tmp_path / "results.npy"
    np.save(path, np.array({"motion": Evil(), "lengths": [1]}, dtype=object), allow_pickle=True)
    with pytest.raises(MotionError, match="was refused"):
        read(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("motion", "lengths", "word"),
    [
        (np.full((1, 22, 3, 5), np.nan, np.float32), [5], "not numbers"),
        (np.zeros((1, 22, 3, 5)), [0], "no frames"),
        (np.zeros((1, 17, 3, 5)), [5], "17 joints"),
    ],
)
def test_unusable_results_are_refused(tmp_path, motion, lengths, word):
    path = tmp_path / "results.npy"
    np.save(path, np.array({"motion": motion, "lengths": np.array(lengths), "text": ["x"]}, dtype=object))
    with pytest.raises(MotionError, match=word):
        read(path).get_motion(0)


def test_damaged_and_absent_files(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"nonsense")
    (tmp_path / "b.npy").write_bytes(BUNDLED.read_bytes()[:2000])
    for name in ("a.npy", "b.npy", "absent.npy"):
        with pytest.raises(MotionError):
            read(tmp_path / name)
    with pytest.raises(MotionError, match="no clip 9"):
        read(BUNDLED).get_motion(9)


def test_crops_to_the_true_length(tmp_path):
    path = tmp_path / "results.npy"
    motion = np.random.default_rng(0).random((2, 22, 3, 50)).astype(np.float32)
    np.save(path, np.array({"motion": motion, "lengths": np.array([30, 50])}, dtype=object))
    assert read(path).get_motion(0).frame_count == 30
    assert pickle.loads(pickle.dumps(read(path).lengths)) == (30, 50)


@pytest.mark.skipif(not HUMANML.exists(), reason="the public HumanML3D sample is not beside the project")
def test_a_real_motion_is_retargeted(body_model):
    motion = read(HUMANML / "012314_joints.npy").get_motion(0)
    rest = body_model.regress_joints(body_model.v_template)
    found = retarget(motion, rest)
    again = _forward(rest, _matrices(found.quaternions), found.pelvis)
    directions = [
        normalise(
            x[:, [JOINT_INDEX["left_knee"], JOINT_INDEX["left_elbow"], JOINT_INDEX["right_wrist"]]]
            - x[:, [JOINT_INDEX["left_hip"], JOINT_INDEX["left_shoulder"], JOINT_INDEX["right_elbow"]]]
        )
        for x in (again, motion.joints)
    ]
    assert (directions[0] * directions[1]).sum(-1).min() > 0.999
    assert len(SMPL_JOINTS) == found.quaternions.shape[1]
