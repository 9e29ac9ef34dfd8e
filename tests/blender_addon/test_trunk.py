"""The line from the hips to the neck on rigs whose spine is divided otherwise than the source's, against the source's joints."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from latentman.blender_addon.motion.channels import channels_to_motion, motion_to_channels
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.retarget import retarget, solve_rotations
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import BONE_MAP, guess_mapping, read_rig
from latentman.shared.motion import Motion
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from tools import rigs
from tools.rig_families.families import FAMILIES
from tools.rig_families.skeletons import get_joint_bones, list_bones, make_skeleton

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
SPINE = [JOINT_INDEX[name] for name in ("spine1", "spine2", "spine3")]
#: the way that each bend goes, as an axis
BENDS = {"forward": (1, 0, 0), "sideways": (0, 0, 1), "twist": (0, 1, 0), "all": (0.7, 0.5, 0.6)}
#: what a source gives
KINDS = ("joints", "rotations", "another skeleton's")
TRUNK = rigs.LIMBS[-1]


def _make_body(build: str) -> np.ndarray:
    """(24, 3) rest joints: SMPL's, or a body whose spine begins low and has a long, leaning chest."""
    rest = np.array(SMPL_REST_JOINTS)
    if build == "long chest":
        rest[SPINE, 1] = 0.07, 0.16, 0.27
        rest[[JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]], 1] = -0.04
        rest[JOINT_INDEX["spine3"], 2] = -0.03
    return rest


def _make_motion(bend: str, kind: str, build: str, frames: int = 10) -> Motion:
    """Somebody who bends there and back by up to 75 degrees and moves arms and legs."""
    rest, t = _make_body(build), np.linspace(-1, 1, frames)
    vectors = np.zeros((frames, 24, 3))
    vectors[:, SPINE] = np.array([0.5, 0.5, 0.35])[:, None] * t[:, None, None] * np.array(BENDS[bend])
    vectors[:, 0] = 0.3 * np.sin(2 * t)[:, None] * np.array([0.3, 1, 0.2])
    rng = np.random.default_rng(1)
    limbs = [JOINT_INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "knee", "collar", "shoulder", "elbow")]
    vectors[:, limbs] = 0.25 * np.sin(rng.uniform(0, 6, (1, len(limbs), 3)) + 3 * t[:, None, None])
    local = Rotation.from_rotvec(vectors.reshape(-1, 3))
    matrices = local.as_matrix().reshape(frames, 24, 3, 3)
    turned, places = np.empty_like(matrices), np.empty((frames, 24, 3))
    turned[:, 0], places[:, 0] = matrices[:, 0], [0, 0.95, 0]
    for joint, parent in enumerate(SMPL_PARENTS[1:], 1):
        turned[:, joint] = turned[:, parent] @ matrices[:, joint]
        places[:, joint] = places[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent])
    rotations = None if kind == "joints" else local.as_quat().reshape(frames, 24, 4)[..., [3, 0, 1, 2]]
    motion = Motion.from_joints(places[:, :22], 20.0, bend, rotations=rotations)
    return replace(motion, follows_joints=kind == KINDS[2])


def _build_rig(without: tuple[str, ...], joints: np.ndarray):
    names = {name: name for name in SMPL_JOINTS if name not in without and "hand" not in name}
    armature = rigs.build_rig(joints, names, seed=2)
    armature[BONE_MAP] = json.dumps(names)
    return armature, names


def _make_odd_joints() -> np.ndarray:
    """Rest joints with a spine divided otherwise, and bent."""
    joints = rigs.make_joints(1.05, 0.95, 40)
    joints[SPINE, 1] = joints[0, 1] + np.array([0.05, 0.15, 0.38])
    joints[SPINE[:2], 2] += 0.03
    return joints


def _build_family(name: str):
    family = next(family for family in FAMILIES if family.name == name)
    return rigs.build_armature(make_skeleton(list_bones(family, rigs.make_joints(1.05, 0.95, 40))), seed=3), get_joint_bones(family)


RIGS = {
    "Mixamo": lambda: _build_family("Mixamo"),
    "MakeHuman": lambda: _build_family("MakeHuman"),
    "Biped": lambda: _build_family("Biped"),
    "Kinect": lambda: _build_family("Kinect"),
    "three bones": lambda: _build_rig((), _make_odd_joints()),
    "two bones": lambda: _build_rig(("spine2",), _make_odd_joints()),
    "two low bones": lambda: _build_rig(("spine3",), _make_odd_joints()),
    "two high bones": lambda: _build_rig(("spine1",), _make_odd_joints()),
    "one bone": lambda: _build_rig(("spine2", "spine3"), _make_odd_joints()),
    "one high bone": lambda: _build_rig(("spine1", "spine2"), _make_odd_joints()),
}


def _check_trunk(armature, bones: dict[str, str], motion: Motion) -> None:
    apply_motion(armature, motion, 1, 20.0)
    seen = rigs.read_heads(armature, bones, range(1, 1 + motion.frame_count))
    angles = rigs.measure_limbs(seen, motion.joints)
    assert len(angles) >= 12
    assert angles.pop(TRUNK).max() < 0.55
    assert max(found.max() for found in angles.values()) < 0.05


@pytest.mark.parametrize("name", RIGS)
def test_the_trunk_points_as_the_sources(empty_scene, name):
    armature, bones = RIGS[name]()
    for n, bend in enumerate(BENDS):
        _check_trunk(armature, bones, _make_motion(bend, KINDS[n % 3], "long chest"))
        _check_trunk(armature, bones, _make_motion(bend, KINDS[(n + 1) % 3], "SMPL"))


def test_the_trunk_of_rigifys_metarig_points_as_the_sources(tmp_path):
    armature = rigs.open_rigify("metarig", tmp_path)
    bones = guess_mapping(armature)[1]
    _check_trunk(armature, bones, read(BUNDLED).get_motion(4).crop(20, 32))
    for n, bend in enumerate(BENDS):
        for build in ("SMPL", "long chest"):
            _check_trunk(armature, bones, _make_motion(bend, KINDS[n % 3], build))


def _get_steps(rotations: np.ndarray) -> np.ndarray:
    """(J,) the largest angle in degrees from frame to frame of pelvis and spine."""
    rotations = rotations[:, [0, *SPINE]]
    steps = np.swapaxes(rotations[:-1], -1, -2) @ rotations[1:]
    return np.degrees(Rotation.from_matrix(steps.reshape(-1, 3, 3)).magnitude()).reshape(steps.shape[:2]).max(0)


@pytest.mark.parametrize("spine", [("spine1", "spine2", "spine3"), ("spine1", "spine3"), ("spine1",), ("spine3",)])
@pytest.mark.parametrize("bend", BENDS)
def test_a_smooth_motion_stays_smooth(spine, bend):
    """Also where a spine that begins high cannot bend as far as the source's: the pelvis joins in, little by little."""
    for heights in ((0.05, 0.15, 0.38), (0.3, 0.38, 0.44), (0.02, 0.3, 0.5)):
        rest = rigs.make_joints()
        rest[SPINE, 1] = rest[0, 1] + np.array(heights)
        for kind in KINDS:
            motion = _make_motion(bend, kind, "long chest", frames=80)
            found = retarget(motion, rest, False, spine=spine).global_rotations
            # the source's chest turns by up to 3 degrees from frame to frame
            assert _get_steps(found).max() < 9


def test_the_pelvis_turns_only_where_the_spine_cannot_bend_far_enough(empty_scene):
    motion = _make_motion("forward", "joints", "SMPL")
    rest = rigs.make_joints()
    rest[SPINE, 1] += 0.04, 0.03, 0.05
    for spine in (("spine1", "spine2", "spine3"), ("spine1", "spine3"), ("spine1",)):
        found = retarget(motion, rest, False, spine=spine).global_rotations
        assert np.abs(found[:, 0] - solve_rotations(motion.joints, rest)[:, 0]).max() < 1e-9
    rest[SPINE[2], 1] = rest[JOINT_INDEX["neck"], 1] - 0.06
    found = retarget(motion, rest, False, spine=("spine3",)).global_rotations
    assert np.abs(found[:, 0] - solve_rotations(motion.joints, rest)[:, 0]).max() > 0.1


def test_a_trunk_that_is_right_stays_bit_by_bit(body_model):
    """On the body that a motion was made with, and on the mannequin what the bundled clips show."""
    joints = body_model.regress_joints(body_model.v_template)
    for n in range(6):
        motion = read(BUNDLED).get_motion(n).crop(0, 10)
        assert np.array_equal(retarget(motion, joints).global_rotations, solve_rotations(motion.joints, joints))
    motion = _make_motion("all", "joints", "SMPL")
    smpl = np.array(SMPL_REST_JOINTS)
    assert np.array_equal(retarget(motion, smpl).global_rotations, solve_rotations(motion.joints, smpl))
    chest = _make_body("long chest")
    assert not np.array_equal(retarget(motion, chest).global_rotations, solve_rotations(motion.joints, chest))


def test_edits_leave_the_trunk_of_a_short_spine_alone(empty_scene):
    """What is read back from a rig with one bone in its spine is keyed again as it was."""
    armature, _ = RIGS["one bone"]()
    rig = read_rig(armature)
    posed, _ = pose_motion(rig, _make_motion("all", "joints", "long chest"), KeyOptions())
    channels = motion_to_channels(rig, posed)
    again = motion_to_channels(rig, channels_to_motion(rig, channels))
    for bone, values in channels.rotations.items():
        assert np.abs(again.rotations[bone] - values).max() < 1e-5, bone
