"""Skeletons of other programs, with all that characters wear and carry: which bones are joints, by names and by shape alone, which
maps are doubtful, and that the rigs move as the motion does."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon.character import mapping
from latentman.blender_addon.character.bone_names import read_bone_name
from latentman.blender_addon.character.map_check import check_by_posing
from latentman.blender_addon.character.skeleton import Skeleton, get_ancestors
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import axis_angle_to_matrix, forward_kinematics, matrix_to_quaternion
from latentman.blender_addon.rigging.keyframes import apply_motion, pose_motion
from latentman.blender_addon.rigging.rigs import guess_mapping, read_rig
from latentman.shared.motion import Motion
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from tools import rigs
from tools.rig_families.families import FAMILIES
from tools.rig_families.skeletons import Family, add_extras, get_joint_bones, list_bones, make_skeleton

BY_NAME = {family.name: family for family in FAMILIES}
#: legs, arms and how far arms hang down: an adult, a child, someone tall, a stout person, long arms at the sides
BODIES = ((1.0, 1.0, 0), (0.8, 1.0, 20), (1.25, 1.1, 70), (0.6, 0.8, 40), (1.0, 1.2, 80))


def _build(family: Family, body: tuple[float, float, float] = (1.05, 0.95, 40), worn: bool = True, named: bool = True):
    """(skeleton, the names that its bones have, joint -> bone as an artist would map them)."""
    joints, wanted = rigs.make_joints(*body), get_joint_bones(family)
    bones = list_bones(family, joints)
    bones = add_extras(bones, wanted, joints) if worn else bones
    return make_skeleton(bones, named), tuple(bone.name for bone in bones), wanted


def _is_same(skeleton: Skeleton, found: int, wanted: int, joint: str) -> bool:
    """Whether two bones move a joint alike: one lies on the other and carries it. Of the pelvis any bone will do that carries both
    hips and the trunk."""
    chain = get_ancestors(skeleton, found), get_ancestors(skeleton, wanted)
    if joint == "pelvis":
        return found in chain[1] or wanted in chain[0]
    near = np.linalg.norm(skeleton.heads[found] - skeleton.heads[wanted]) < 1e-3
    return found == wanted or bool(near and (found in chain[1] or wanted in chain[0]))


@pytest.mark.parametrize("worn", [False, True])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_understood(family, worn):
    skeleton, _, wanted = _build(family, worn=worn)
    how, found = mapping.guess(skeleton)
    extra = {joint: bone for joint, bone in found.items() if joint not in wanted and not joint.endswith("_hand")}
    assert {joint: found.get(joint) for joint in wanted} == wanted and not extra
    assert how != mapping.BY_SHAPE and check_by_posing(skeleton, found) == {}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("worn", [False, True])
def test_shape_alone_is_enough(body, worn):
    """With numbers for names, on bodies of all builds; skirts, twin tails, wings, capes, tails and swords are no limbs."""
    for family in FAMILIES:
        skeleton, names, wanted = _build(family, body, worn, named=False)
        how, found = mapping.guess(skeleton)
        assert how == mapping.BY_SHAPE
        for joint, bone in found.items():
            if joint in wanted:
                at, right = skeleton.names.index(bone), names.index(wanted[joint])
                copies = {names[at], wanted[joint]}
                # of MMD's legs and the copies that lie on them either is right; only constraints tell which follows which
                same = "MMD" in family.name and joint.split("_")[1:] in (["knee"], ["ankle"], ["foot"])
                assert _is_same(skeleton, at, right, joint) or same, (family.name, joint, copies)
        assert set(mapping.REQUIRED) <= set(found)
        assert check_by_posing(skeleton, found) == {}, family.name


def test_families_are_called_by_their_names():
    said = {family.name: mapping.guess(_build(family)[0])[0] for family in FAMILIES}
    for name, family in said.items():
        known = {"ReadyPlayerMe": "Mixamo", "VRM 1": "Unity humanoid", "SMPL-X": "SMPL", "Unreal 5": "Unreal"}
        assert family == known.get(name, name.split(",")[0].split(" Genesis")[0]), name


@pytest.mark.parametrize(
    ("name", "side", "part"),
    [
        ("leftUpLeg", "left", "thigh"),
        ("LEFT_UPPER_LEG", "left", "thigh"),
        ("rthigh", "right", "thigh"),
        ("Thigh.R.001", "right", "thigh"),
        ("b_l_forearm_JNT", "left", "forearm"),
        ("Avatar:LeftLowerArm", "left", "forearm"),
        ("rig|hand_R", "right", "hand"),
        ("右ひじ", "right", "elbow"),
        ("HIP_RIGHT", "right", "pelvis"),
        ("Spine 2", "", "spine"),
    ],
)
def test_words_of_names(name, side, part):
    said = read_bone_name(name)
    assert (said.side, said.part, said.helper) == (side, part, "")


_HELPERS = (
    "lThighTwist IK_foot.L pole_target_knee_L Skirt_Leg_L hair_neck wing_arm_L HandIndex1_L cape_spine foot_roll.R ShoulderPad_L "
    "足ＩＫ.L 左足D CC_Base_L_KneeShareBone thumb_01_l weapon_hand_r upperarm_correctiveRoot_l MCH-thigh_parent.L"
)


@pytest.mark.parametrize("name", _HELPERS.split())
def test_helpers_are_no_joints(name):
    assert read_bone_name(name).helper


@pytest.mark.parametrize(
    ("family", "changes", "doubtful", "reason"),
    [
        # split hips: the bone that carries only the legs
        ("Character Creator", {"pelvis": "CC_Base_Pelvis"}, "pelvis", "does not carry the trunk"),
        ("Daz Genesis 8", {"pelvis": "pelvis"}, "pelvis", "does not carry the trunk"),
        # IK targets and helpers
        ("Unreal 5", {"left_ankle": "ik_foot_l"}, "left_ankle", "helper"),
        ("Unreal 5", {"right_elbow": "lowerarm_twist_01_r"}, "right_elbow", "helper"),
        ("Character Creator", {"left_knee": "CC_Base_L_ThighTwist02"}, "left_knee", "helper"),
        # the wrong one of a chain, a wrong side, a skirt
        ("Mixamo", {"left_knee": "mixamorig:LeftFoot", "left_ankle": "mixamorig:LeftToeBase"}, "left_knee", ""),
        ("Mixamo", {"left_hip": "mixamorig:RightUpLeg", "right_hip": "mixamorig:LeftUpLeg"}, "left_hip", "on the right"),
        ("Mixamo", {"left_elbow": "skirt_L_a2"}, "left_elbow", ""),
        ("MB-Lab", {"head": "spine01"}, "head", "above"),
        ("MB-Lab", {"left_shoulder": "clavicle_L", "left_collar": ""}, "left_elbow", "other side"),
        ("Rigify metarig", {"left_knee": "upper_arm.L", "left_shoulder": "shin.L"}, "left_knee", ""),
    ],
)
def test_wrong_maps_are_doubtful(family, changes, doubtful, reason):
    skeleton, _, wanted = _build(BY_NAME[family])
    assert check_by_posing(skeleton, wanted) == {}
    wrong = {joint: bone for joint, bone in (wanted | changes).items() if bone}
    doubts = check_by_posing(skeleton, wrong)
    assert doubtful in doubts and reason in doubts[doubtful], doubts


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_good_maps_are_good_wherever_the_rig_faces(turn):
    for name in ("Mixamo", "Character Creator", "MMD", "MakeHuman"):
        skeleton, _, wanted = _build(BY_NAME[name])
        c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][turn]
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        turned = Skeleton(skeleton.names, skeleton.parents, skeleton.heads @ rotation.T, skeleton.tails @ rotation.T)
        assert check_by_posing(turned, wanted) == {}


def make_random_motion(seed: int = 0, frames: int = 10) -> Motion:
    """Smooth random rotations of every joint, as AMASS has them, and the joints of the body that they move."""
    rng = np.random.default_rng(seed)
    size = np.full((1, 24, 1), 0.35)
    size[:, [JOINT_INDEX[name] for name in ("spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar")]] = 0.12
    time = np.linspace(0, 1, frames)[:, None, None]
    waves = sum(rng.normal(size=(1, 24, 3)) * np.sin(2 * np.pi * (k * time + rng.random((1, 24, 3)))) for k in (0.5, 1, 1.5))
    rotations = axis_angle_to_matrix(size * waves)
    pelvis = np.array([0, 0.95, 0]) + np.cumsum(rng.normal(0, 0.02, (frames, 3)), 0)
    joints = forward_kinematics(rotations, np.array(SMPL_REST_JOINTS), pelvis, SMPL_PARENTS)[:, :22]
    return Motion.from_joints(joints, 20.0, "random", rotations=matrix_to_quaternion(rotations))


def _get_motions() -> dict[str, Motion]:
    file = read(BUNDLED)
    return {"walk": file.get_motion(0).crop(0, 12), "dance": file.get_motion(4).crop(20, 32), "random": make_random_motion()}


def _check_follows(armature, bones: dict[str, str], motion: Motion) -> None:
    """Limbs point as in the source; every bone is where the independent forward kinematics of the rig's own joints has it."""
    rig = read_rig(armature)
    spine = [joint for joint in ("spine1", "spine2", "spine3", "neck", "left_collar") if joint in rig.joint_bones]
    complete = len(spine) == 5 and "neck" not in rig.bones[rig.parents[rig.joint_bones["left_collar"]]].lower()
    apply_motion(armature, motion, 1, 20.0)
    seen = rigs.read_heads(armature, bones, range(1, 1 + motion.frame_count))
    posed, _ = pose_motion(rig, motion, KeyOptions())
    truth = forward_kinematics(posed.local_rotations, rig.joints, posed.pelvis, SMPL_PARENTS)[..., [0, 2, 1]] * [1, -1, 1]
    truth = truth + [0, 0, rig.ground]
    for joint, heads in seen.items():
        # a body without collars or all of the spine's joints cannot be quite where one with them is
        if joint != "pelvis" and complete:
            assert np.linalg.norm(heads - truth[:, JOINT_INDEX[joint]], axis=-1).max() < 0.003, joint
    angles = rigs.measure_limbs(seen, motion.joints)
    limbs = {
        limb: found
        for limb, found in angles.items()
        if any(word in limb[0] for word in ("knee", "elbow")) or limb[1].endswith(("knee", "elbow"))
    }
    assert len(limbs) == 8 and max(found.max() for found in limbs.values()) < 1.5
    if motion.rotations is None:
        assert all(found.max() < 5 for limb, found in angles.items() if limb == rigs.LIMBS[-1])
    # as high above the ground as the source
    thigh, shin, ankle = (JOINT_INDEX[f"left_{name}"] for name in ("hip", "knee", "ankle"))
    legs = [
        sum(np.linalg.norm(body[b] - body[a]) for a, b in ((thigh, shin), (shin, ankle))) for body in (rig.joints, motion.joints[0])
    ]
    low = np.minimum(seen["left_ankle"][:, 2], seen["right_ankle"][:, 2]) - rig.ground
    source = motion.joints[:, [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]], 1].min(1) * legs[0] / legs[1]
    # thighs and shins of other lengths bend to other heights
    assert np.abs(low - source).max() < (0.02 if motion.rotations is None else 0.04)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_rigs_move_as_the_motion_does(empty_scene, family):
    """Whatever the rig's build: split hips, twist bones in the limbs, upper and lower body on branches of their own."""
    skeleton, _, wanted = _build(family, (1.05, 0.95, 30))
    number = FAMILIES.index(family)
    armature = rigs.build_armature(skeleton, centimetres=number % 2 == 0, y_up=number % 3 == 0, seed=number)
    assert {joint: guess_mapping(armature)[1][joint] for joint in wanted} == wanted
    motions = _get_motions()
    for name in ("walk", "random"):
        _check_follows(armature, wanted, motions[name])
        posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones[wanted["head"]]
        turned = posed.matrix.to_3x3() @ armature.data.bones[wanted["head"]].matrix_local.to_3x3().inverted()
        assert np.degrees(turned.to_quaternion().angle) < 60, "the head is on the wrong way"


@pytest.fixture(scope="module")
def rigify(tmp_path_factory):
    """The control rig that Rigify itself makes of its basic human, with a skin on its deform bones."""
    rig = rigs.open_rigify("basic", tmp_path_factory.mktemp("rigify"))
    return rig, rigs.get_rigify_deform_bones(), rigs.skin_by_nearest_bone(rig)


@pytest.mark.parametrize("motion", ["walk", "dance", "random"])
def test_rigifys_deform_bones_follow(rigify, motion):
    rig, deform, skin = rigify
    how, found = guess_mapping(rig)
    assert how == "Rigify control rig" and found["pelvis"] == "torso" and found["left_knee"] == "shin_fk.L"
    _check_follows(rig, deform, _get_motions()[motion])
    # what is rendered: the skin's vertices at the deform bones' heads
    skinned = skin.evaluated_get(bpy.context.evaluated_depsgraph_get())
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    for joint, bone in deform.items():
        group = skin.vertex_groups[bone].index
        vertex = next(v for v in skinned.data.vertices if v.groups and v.groups[0].group == group)
        assert np.allclose(vertex.co, posed[bone].head, atol=1e-4), joint


@pytest.mark.slow
def test_rigifys_human_with_face_and_fingers_follows(tmp_path):
    rig = rigs.open_rigify("human", tmp_path)
    for motion in _get_motions().values():
        _check_follows(rig, rigs.get_rigify_deform_bones(), motion)


def test_rigifys_metarig_follows(tmp_path):
    rig = rigs.open_rigify("metarig", tmp_path)
    how, found = guess_mapping(rig)
    assert how == "Rigify metarig" and (found["pelvis"], found["neck"], found["head"]) == ("spine", "spine.004", "spine.006")
    _check_follows(rig, found, _get_motions()["dance"])


def test_joints_are_those_of_a_person():
    """The families' own joints lie where the body has them, so that the truth above is one."""
    for family in FAMILIES:
        for joint in get_joint_bones(family):
            assert joint in SMPL_JOINTS
