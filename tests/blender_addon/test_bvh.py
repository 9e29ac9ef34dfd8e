"""BVH files as other programs write them, carried over to rigs and compared with kinematics straight from their text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import bpy
import numpy as np
import pytest

from latentman.blender_addon.motion import bvh
from latentman.blender_addon.motion.body_from_skeleton import body_from_skeleton
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.rotations import quaternion_to_matrix
from latentman.blender_addon.motion.source_bones import split_name
from latentman.blender_addon.operators.motion import describe_motion_file
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.rigging.rigs import read_rig
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from latentman.shared.vectors import normalise
from tests.oracles import bvh as oracle
from tools import rigs
from tools.limbs import LIMBS

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
FRAMES = 14
Y_UP_TO_BLENDER = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
Z_UP_FROM_Y = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def _sided(pattern: dict[str, str], left: str, right: str) -> dict[str, str]:
    out = {}
    for joint, name in pattern.items():
        for side, word in (("left", left), ("right", right)):
            out[joint.replace("{S}", side)] = name.replace("{S}", word)
    return out


NAMES = {
    "mixamo": _sided(
        {
            "pelvis": "mixamorig:Hips",
            "spine1": "mixamorig:Spine",
            "spine2": "mixamorig:Spine1",
            "spine3": "mixamorig:Spine2",
            "neck": "mixamorig:Neck",
            "head": "mixamorig:Head",
            "{S}_collar": "mixamorig:{S}Shoulder",
            "{S}_shoulder": "mixamorig:{S}Arm",
            "{S}_elbow": "mixamorig:{S}ForeArm",
            "{S}_wrist": "mixamorig:{S}Hand",
            "{S}_hip": "mixamorig:{S}UpLeg",
            "{S}_knee": "mixamorig:{S}Leg",
            "{S}_ankle": "mixamorig:{S}Foot",
            "{S}_foot": "mixamorig:{S}ToeBase",
        },
        "Left",
        "Right",
    ),
    "biovision": _sided(
        {
            "pelvis": "Hips",
            "spine1": "Chest",
            "spine3": "Chest2",
            "neck": "Neck",
            "head": "Head",
            "{S}_collar": "{S}Collar",
            "{S}_shoulder": "{S}Shoulder",
            "{S}_elbow": "{S}Elbow",
            "{S}_wrist": "{S}Wrist",
            "{S}_hip": "{S}Hip",
            "{S}_knee": "{S}Knee",
            "{S}_ankle": "{S}Ankle",
            "{S}_foot": "{S}Toe",
        },
        "Left",
        "Right",
    ),
    "biped": _sided(
        {
            "pelvis": "Bip01 Pelvis",
            "spine1": "Bip01 Spine",
            "spine2": "Bip01 Spine1",
            "spine3": "Bip01 Spine2",
            "neck": "Bip01 Neck",
            "head": "Bip01 Head",
            "{S}_collar": "Bip01 {S} Clavicle",
            "{S}_shoulder": "Bip01 {S} UpperArm",
            "{S}_elbow": "Bip01 {S} Forearm",
            "{S}_wrist": "Bip01 {S} Hand",
            "{S}_hip": "Bip01 {S} Thigh",
            "{S}_knee": "Bip01 {S} Calf",
            "{S}_ankle": "Bip01 {S} Foot",
            "{S}_foot": "Bip01 {S} Toe0",
        },
        "L",
        "R",
    ),
    "suffixes": _sided(
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine3": "Chest",
            "neck": "Neck",
            "head": "Head",
            "{S}_collar": "Shoulder_{S}",
            "{S}_shoulder": "UpperArm_{S}",
            "{S}_elbow": "LowerArm_{S}",
            "{S}_wrist": "Hand_{S}",
            "{S}_hip": "UpperLeg_{S}",
            "{S}_knee": "LowerLeg_{S}",
            "{S}_ankle": "Foot_{S}",
            "{S}_foot": "Toes_{S}",
        },
        "L",
        "R",
    ),
    "shins": _sided(
        {
            "pelvis": "Hips",
            "spine1": "Spine1",
            "spine2": "Spine2",
            "spine3": "Chest",
            "neck": "Neck1",
            "head": "Head",
            "{S}_collar": "{S}Shoulder",
            "{S}_shoulder": "{S}Arm",
            "{S}_elbow": "{S}ForeArm",
            "{S}_wrist": "{S}Hand",
            "{S}_hip": "{S}Leg",
            "{S}_knee": "{S}Shin",
            "{S}_ankle": "{S}Foot",
            "{S}_foot": "{S}ToeBase",
        },
        "Left",
        "Right",
    ),
    "poser": _sided(
        {
            "pelvis": "hip",
            "spine1": "abdomen",
            "spine3": "chest",
            "neck": "neck",
            "head": "head",
            "{S}_collar": "{S}Collar",
            "{S}_shoulder": "{S}Shldr",
            "{S}_elbow": "{S}ForeArm",
            "{S}_wrist": "{S}Hand",
            "{S}_hip": "{S}Thigh",
            "{S}_knee": "{S}Shin",
            "{S}_ankle": "{S}Foot",
        },
        "l",
        "r",
    ),
    "anatomy": _sided(
        {
            "pelvis": "root",
            "spine1": "lowerback",
            "spine2": "upperback",
            "spine3": "thorax",
            "neck": "lowerneck",
            "head": "head",
            "{S}_collar": "{S}clavicle",
            "{S}_shoulder": "{S}humerus",
            "{S}_elbow": "{S}radius",
            "{S}_wrist": "{S}wrist",
            "{S}_hip": "{S}femur",
            "{S}_knee": "{S}tibia",
            "{S}_ankle": "{S}foot",
            "{S}_foot": "{S}toes",
        },
        "l",
        "r",
    ),
    "toes": {},
    "numbers": {name: f"bone {n:02d}" for n, name in enumerate(SMPL_JOINTS[:22])},
}
NAMES["toes"] = {joint: name.replace("mixamorig:", "").replace("ToeBase", "Toe") for joint, name in NAMES["mixamo"].items()}


@dataclass(frozen=True)
class Case:
    """How a BVH file is written. ``zero`` is the zero pose: a T, an A, or every bone along its own +X; ``turn``: its heading."""

    order: str = "ZXY"
    names: str = "mixamo"
    zero: str = "T"
    six: bool = False
    up: str = "Y"
    unit: float = 100.0
    hip_joints: bool = False
    extra_root: bool = False
    mixed: bool = False
    leg: float = 1.0
    arm: float = 1.0
    turn: float = 0.0
    frames: int = FRAMES


def _move(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(global rotations (F, 22, 3, 3) away from a T-pose, pelvis (F, 3)), Y up: somebody who turns, steps and waves."""
    t = np.linspace(0, 1, case.frames)
    local = np.zeros((case.frames, 22, 3))
    phase, size = rng.uniform(0, 6, (22, 3)), rng.uniform(0.05, 0.25, (22, 3))
    local += size * np.sin(phase + 5 * t[:, None, None])
    local[:, 0] *= 0.3
    for joint, vector in {
        "left_knee": (0.7, 0, 0),
        "right_knee": (0.5, 0, 0),
        "left_hip": (-0.4, 0, 0),
        "right_hip": (-0.2, 0, 0),
        "left_shoulder": (0, 0, -0.9),
        "right_shoulder": (0, 0, 0.9),
        "left_elbow": (0, -0.8, 0),
        "right_elbow": (0, 0.8, 0),
    }.items():
        local[:, JOINT_INDEX[joint]] += np.array(vector) * (0.6 + 0.4 * np.sin(7 * t))[:, None]
    local[0, [7, 8, 10, 11]] = 0
    turned = Rotation.from_rotvec(local.reshape(-1, 3)).as_matrix().reshape(case.frames, 22, 3, 3)
    heading = Rotation.from_euler("y", (case.turn + 40 * t)[:, None], degrees=True).as_matrix()
    out = np.empty_like(turned)
    for joint in range(22):
        parent = SMPL_PARENTS[joint]
        out[:, joint] = heading @ turned[:, 0] if parent < 0 else out[:, parent] @ turned[:, joint]
    return out, np.stack([0.4 * t, 0.9 + 0.03 * np.sin(9 * t), 1.5 * t], 1)


def write(case: Case, seed: int = 3) -> tuple[str, dict[str, str], np.ndarray]:
    """(the text of a BVH file, joint -> name of its bone, the motion's global rotations (F, 22, 3, 3) away from the T-pose)."""
    rng = np.random.default_rng(seed)
    names = NAMES[case.names]
    moved, pelvis = _move(case, rng)
    rest = rigs.make_joints(case.leg, case.arm)[:22]
    axes = Z_UP_FROM_Y if case.up == "Z" else np.eye(3)
    # (name, parent, rest place, rotation of its own axes in the T-pose, rotation in each frame, joint)
    bones: list[list] = []
    index: dict[str, int] = {}
    if case.extra_root:
        bones.append(["reference", -1, np.zeros(3), np.eye(3), np.tile(np.eye(3), (case.frames, 1, 1)), None])
    children = {n: [c for c in range(22) if SMPL_PARENTS[c] == n and SMPL_JOINTS[c] in names] for n in range(22)}
    for joint, name in enumerate(SMPL_JOINTS[:22]):
        if name not in names:
            continue
        above = SMPL_PARENTS[joint]
        while above >= 0 and SMPL_JOINTS[above] not in names:
            above = SMPL_PARENTS[above]
        parent = index[SMPL_JOINTS[above]] if above >= 0 else len(bones) - 1
        own = np.eye(3)
        if case.zero == "A" and any(part in name for part in ("shoulder", "elbow", "wrist")):
            # what turns the lowered arm of the zero pose into the T's
            own = Rotation.from_euler("z", 50 if "left" in name else -50, degrees=True).as_matrix()
        if case.zero == "X":
            end = children[joint][-1] if children[joint] else None
            along = normalise(rest[end] - rest[joint]) if end else normalise(rest[joint] - rest[above])
            own = (
                Rotation.align_vectors([along], [[1.0, 0, 0]])[0].as_matrix()
                @ Rotation.from_euler("x", rng.uniform(0, 360), degrees=True).as_matrix()
            )
        if case.hip_joints and name in ("left_hip", "right_hip"):
            turn = Rotation.from_rotvec(0.3 * np.sin(np.arange(case.frames))[:, None] * [0.5, 1, 0.3]).as_matrix()
            bones.append([f"{name[0].upper()}HipJoint", parent, rest[0], np.eye(3), moved[:, 0] @ turn, None])
            parent = len(bones) - 1
        index[name] = len(bones)
        bones.append([names[name], parent, rest[joint], own, moved[:, joint], joint])
    world = [moved_bone @ own for _, _, _, own, moved_bone, _ in bones]
    lines: dict[int, list[str]] = {}
    columns: list[list[np.ndarray]] = []
    orders = ("ZXY", "XYZ", "YZX", "ZYX", "XZY", "YXZ")
    for number, (_, parent, place, _, _, joint) in enumerate(bones):
        order = orders[number % 6] if case.mixed else case.order
        own_root = parent < 0 or (case.extra_root and joint == 0)
        offset = (place if parent < 0 else bones[parent][3].T @ (place - bones[parent][2])) * case.unit
        local = axes @ world[number] if parent < 0 else np.swapaxes(world[parent], -1, -2) @ world[number]
        angles = Rotation.from_matrix(local).as_euler(order, degrees=True)
        if own_root:
            where = pelvis * case.unit if joint == 0 else np.zeros_like(pelvis)
            where = where if case.extra_root else where @ axes.T
            offset = where[0] if joint == 0 else np.zeros(3)
        elif case.six:
            where = np.tile(offset, (case.frames, 1))
        if own_root or case.six:
            columns.append([where, angles])
            channels = "6 Xposition Yposition Zposition"
        else:
            columns.append([angles])
            channels = "3"
        spelled = " ".join(f"{axis}rotation" for axis in order)
        lines[number] = [f"OFFSET {offset[0]:.6f} {offset[1]:.6f} {offset[2]:.6f}", f"CHANNELS {channels} {spelled}"]

    def nest(number: int, depth: int) -> list[str]:
        tab = "\t" * depth
        own = [n for n, bone in enumerate(bones) if bone[1] == number]
        out = [f"{tab}{'JOINT' if depth else 'ROOT'} {bones[number][0]}", tab + "{", *(f"{tab}\t{line}" for line in lines[number])]
        for child in own:
            out += nest(child, depth + 1)
        if not own:
            along = bones[number][3].T @ np.array([0.0, 0, 0.08] if bones[number][5] in (7, 8, 10, 11) else [0, 0.1, 0.0])
            tip = along * case.unit
            out += [f"{tab}\tEnd Site", tab + "\t{", f"{tab}\t\tOFFSET {tip[0]:.6f} {tip[1]:.6f} {tip[2]:.6f}", tab + "\t}"]
        return [*out, tab + "}"]

    # the numbers stand in the order in which the joints do
    walk: list[int] = []

    def visit(number: int) -> None:
        walk.append(number)
        for n, bone in enumerate(bones):
            if bone[1] == number:
                visit(n)

    visit(0)
    ordered = [column for number in walk for column in columns[number]]
    values = np.concatenate(ordered, 1)
    rows = [" ".join(f"{x:.7f}" for x in row) for row in values]
    text = ["HIERARCHY", *nest(0, 0), "MOTION", f"Frames: {case.frames}", "Frame Time: 0.05", *rows, ""]
    return "\n".join(text), names, moved


CASES = {
    **{order: Case(order=order) for order in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")},
    "orders mixed": Case(mixed=True, names="biovision", turn=130),
    "six channels on every joint": Case(six=True, order="YXZ", unit=1.0),
    "hip joints that rotate": Case(hip_joints=True, names="mixamo", unit=5.6444**-1 * 100),
    "an extra root": Case(extra_root=True, names="biped", zero="A"),
    "every bone along its own x": Case(zero="X", names="suffixes", six=True, extra_root=True),
    "along x, other names": Case(zero="X", names="shins", order="ZYX", leg=1.1, turn=-100),
    "along x, toes of another name": Case(zero="X", names="toes", turn=20),
    "A-pose": Case(zero="A", names="anatomy", order="ZYX", arm=0.9),
    "Z up": Case(up="Z", names="biovision", turn=75),
    "Z up, along x": Case(up="Z", zero="X", unit=1000.0),
    "inches, no toes": Case(unit=1 / 0.0254, names="poser", leg=0.9),
    "names that say nothing": Case(names="numbers", six=True),
    "a person of half a unit": Case(unit=0.3),
}


@pytest.fixture(scope="module")
def targets():
    """Two rigs: the mannequin, and one of other proportions with lowered arms, centimetres and rolled bones."""
    from latentman.blender_addon.character.body_model import MANNEQUIN, load

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 20
    other = rigs.build_rig(rigs.make_joints(1.15, 0.85, 48), rigs.get_bone_names("Unreal"), True, False, "root")
    return add_character(bpy.context, load(MANNEQUIN), "Mannequin"), other


def _compare(truth, names, seen, to_world) -> dict[tuple[str, str], np.ndarray]:
    """Limb -> (F,) degrees between the source's direction and the rig's."""
    out = {}
    for upper, lower in LIMBS:
        if upper not in names or upper not in seen or lower not in seen:
            continue
        end = truth[names[lower]] if lower in names else truth.get(names[upper] + " end")
        if end is None:
            continue
        wanted = normalise(end - truth[names[upper]]) @ to_world.T
        found = normalise(seen[lower] - seen[upper])
        out[upper, lower] = np.degrees(np.arccos(np.clip((wanted * found).sum(-1), -1, 1)))
    return out


@pytest.mark.parametrize("name", list(CASES))
def test_limbs_point_as_the_files_do(targets, tmp_path, name):
    case = CASES[name]
    text, names, _ = write(case)
    (tmp_path / "a.bvh").write_text(text)
    body = bvh.read_body(tmp_path / "a.bvh")
    assert body.motion.fps == 20 and body.motion.frame_count == FRAMES and body.motion.text == "a"
    limbs = {joint: bone for joint, bone in names.items() if "spine" not in joint}
    assert {joint: bone for joint, bone in body.mapping.items() if joint in limbs} == limbs
    assert any(f"Up: {case.up}" in note for note in body.notes)
    told = "zero pose is no person" if case.zero == "X" else "zero pose, which is a person"
    assert any(told in note for note in body.notes)
    truth = oracle.pose(text)
    for armature in targets:
        apply_motion(armature, body.motion, 1, 20.0)
        seen = rigs.read_mapped_heads(armature, range(1, 1 + FRAMES))
        angles = _compare(truth, names, seen, np.eye(3) if case.up == "Z" else Y_UP_TO_BLENDER)
        assert len(angles) >= 12
        if "left_foot" not in names:
            # the line from an ankle to the end of a foot says nothing of the sole
            angles = {limb: found for limb, found in angles.items() if "ankle" not in limb[0]}
        for limb, found in angles.items():
            assert found.mean() < 1.5 and found.max() < 5, (limb, found.round(1))
        lowest = min(places[:, 2].min() for places in seen.values())
        assert -0.02 < lowest < 0.06


def _compose(quaternions: np.ndarray) -> np.ndarray:
    """(F, 24, 3, 3) global rotations of local ones (F, 24, 4)."""
    local = quaternion_to_matrix(quaternions)
    out = np.empty_like(local)
    for joint, parent in enumerate(SMPL_PARENTS):
        out[:, joint] = local[:, joint] if parent < 0 else out[:, parent] @ local[:, joint]
    return out


def test_rotations_are_those_of_the_truth(tmp_path):
    """With a zero pose that is a person nothing is lost, the twist of hands and head neither."""
    for zero in ("T", "A"):
        text, _, moved = write(Case(zero=zero))
        (tmp_path / "a.bvh").write_text(text)
        motion = bvh.read_body(tmp_path / "a.bvh").motion
        whole = _compose(motion.rotations)
        apart = np.degrees(Rotation.from_matrix((np.swapaxes(whole[:, :22], -1, -2) @ moved).reshape(-1, 3, 3)).magnitude())
        apart = apart.reshape(FRAMES, 22)
        assert apart.max() < 6 and apart.mean() < 1.5, {SMPL_JOINTS[n]: a for n, a in enumerate(apart.max(0).round(1))}


def test_twist_is_found_where_the_zero_pose_says_nothing(tmp_path):
    text, _, moved = write(Case(zero="X", names="suffixes", frames=40))
    (tmp_path / "a.bvh").write_text(text)
    motion = bvh.read_body(tmp_path / "a.bvh").motion
    whole = _compose(motion.rotations)
    apart = np.degrees(Rotation.from_matrix((np.swapaxes(whole[:, :22], -1, -2) @ moved).reshape(-1, 3, 3)).magnitude())
    apart = apart.reshape(-1, 22).mean(0)
    for joint in ("pelvis", "spine3", "left_hip", "right_knee", "left_shoulder", "right_elbow", "head"):
        assert apart[JOINT_INDEX[joint]] < 25, (joint, apart.round(1))


def _spell(text: str, how: str) -> bytes:
    head, rows = text.split("MOTION\n")
    if how == "windows":
        return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    if how == "old mac":
        return text.replace("\n", "\r").encode()
    if how == "blanks":
        return ("\n" + head.replace("{", "{\n\n").replace("\t", "  ") + "MOTION  \n\n" + rows.replace("\n", "\n\n")).encode()
    if how == "tight":
        return text.replace("Frames: ", "FRAMES:").replace("Frame Time: ", "frame time :\t").encode()
    if how == "braces":
        return head.replace("\n{", " {").encode().replace(b"{ ", b"{") + b"MOTION\n" + rows.encode()
    if how == "broken rows":
        lead, frames, *rest = rows.split("\n")
        return "\n".join([head + "MOTION", lead, frames, *(row.replace(" ", "\n", 7) for row in rest)]).encode()
    if how == "commas":
        return text.replace(".", ",").encode()
    if how == "behind":
        return (text + "End of the motion.\nThank you, 1 2 3\n").encode()
    if how == "exponents":
        return text.replace("Frame Time: 0.05", "Frame Time: 5.0e-2").replace(" 0.0000000", " 0.0E+00").encode()
    if how == "shouting":
        return text.replace("rotation", "ROTATION").replace("End Site", "end site").replace("OFFSET", "offset").encode()
    if how == "no space":
        return text.replace("Hips", "Hüfte 腰:x ").encode()
    return text.encode("utf-16")


@pytest.mark.parametrize(
    "how",
    [
        "windows",
        "old mac",
        "blanks",
        "tight",
        "braces",
        "broken rows",
        "commas",
        "behind",
        "exponents",
        "shouting",
        "no space",
        "wide",
    ],
)
def test_every_spelling_is_the_same_motion(tmp_path, how):
    text, _, _ = write(Case(names="biovision", frames=5))
    (tmp_path / "a.bvh").write_text(text)
    (tmp_path / "b.bvh").write_bytes(_spell(text, how))
    plain, spelled = (bvh.read_body(tmp_path / name).motion for name in ("a.bvh", "b.bvh"))
    assert spelled.fps == plain.fps and np.abs(spelled.joints - plain.joints).max() < 1e-6
    assert np.abs(spelled.rotations - plain.rotations).max() < 1e-6


def test_fewer_and_added_channels(tmp_path):
    """Two position channels leave the third to the offset; positions that hover about 0 are added to the offset."""
    lines = [
        "HIERARCHY",
        "ROOT a",
        "{",
        "OFFSET 0 5 0",
        "CHANNELS 2 Xposition Zposition",
        "JOINT b",
        "{",
        "OFFSET 0 2 0",
        "CHANNELS 4 Yrotation Zposition Xposition Yposition",
        "JOINT c",
        "{",
        "OFFSET 1 0 0",
        "CHANNELS 0",
        "End Site",
        "{",
        "OFFSET 0 1 0",
        "}",
        "}",
        "}",
        "}",
        "MOTION",
        "Frames: 1",
        "Frame Time: .1",
        "3 4 90 0.1 0 0",
    ]
    (tmp_path / "a.bvh").write_text("\n".join(lines))
    posed = bvh.open_bvh(tmp_path / "a.bvh").pose()
    assert np.allclose(posed.positions[0], [[3, 5, 4], [3, 7, 4.1], [3, 7, 3.1]])
    assert np.isnan(posed.tips[0]).all() and np.allclose(posed.tips[2], [0, 1, 0])
    assert np.allclose(posed.rest_positions, [[0, 5, 0], [0, 7, 0], [1, 7, 0]])


@pytest.mark.parametrize("flat", [True, False])
def test_flat_soles_or_pointed_feet(targets, tmp_path, flat):
    """However far the toes lie below the ankle in the source: the sole counts, or the line between them."""
    case = Case()
    text, _, _ = write(case)
    steep = text
    for side in (1, -1):
        offset = f"OFFSET {side * 0.8:.6f} -5.300000 13.400000"
        assert offset in text
        steep = steep.replace(offset, f"OFFSET {side * 0.8:.6f} -9.300000 11.400000")
    (tmp_path / "a.bvh").write_text(steep)
    for armature in targets:
        motion = bvh.read_body(tmp_path / "a.bvh").motion
        apply_motion(armature, motion, 1, motion.fps, KeyOptions(flat_soles=flat))
        rig, seen = read_rig(armature), rigs.read_mapped_heads(armature, range(1, 1 + FRAMES))
        for side in ("left", "right"):
            ankle, foot = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
            # ankles do not bend in the first frame, so that the foot lies to the shin as in the rest pose
            shin = normalise(seen[f"{side}_knee"][0] - seen[f"{side}_ankle"][0])
            toes = normalise(seen[f"{side}_foot"][0] - seen[f"{side}_ankle"][0])
            own = normalise(rig.joints[foot] - rig.joints[ankle]) @ normalise(rig.joints[ankle - 3] - rig.joints[ankle])
            own_angle, angle = (float(np.degrees(np.arccos(cosine))) for cosine in (own, shin @ toes))
            as_in_file = (motion.joints[0, foot] - motion.joints[0, ankle])[[0, 2, 1]] * [1, -1, 1]
            if flat:
                assert abs(angle - own_angle) < 3
            else:
                assert normalise(as_in_file) @ toes > np.cos(np.radians(0.5)) and abs(angle - own_angle) > 10


def test_the_ground_is_where_feet_stand(tmp_path):
    text, _, _ = write(Case(frames=30))
    (tmp_path / "a.bvh").write_text(text)
    skeleton = bvh.open_bvh(tmp_path / "a.bvh").pose()
    plain = body_from_skeleton(skeleton).motion
    frames = np.arange(30)
    leap = np.zeros((30, 1, 3))
    leap[:, 0, 1] = 100 * np.maximum(0, 0.6 - 0.006 * (frames - 10.0) ** 2)
    jump = body_from_skeleton(replace(skeleton, positions=skeleton.positions + leap)).motion
    assert np.abs(jump.joints[25:] - plain.joints[25:])[..., 1].max() < 0.06
    # the middle of a leap only: the file's own ground counts
    low = plain.joints[0, :, 1].min() + (skeleton.positions[0, :, 1].min() / 100 - plain.joints[0, :, 1].min())
    part = slice(5, 15)
    lifted = replace(
        skeleton, positions=(skeleton.positions + leap * 1.0 - [0, low * 100, 0])[part], rotations=skeleton.rotations[part]
    )
    flying = body_from_skeleton(lifted)
    assert flying.motion.joints[..., 1].min() > 0.2 and "in the air" in flying.notes[-1]


def test_what_is_no_person_is_one_sentence_and_a_map_helps(tmp_path):
    text, names, _ = write(Case(names="numbers", zero="X"))
    (tmp_path / "a.bvh").write_text(text)
    shuffled = dict(zip(names, list(names.values())[::-1], strict=True))
    with pytest.raises(MotionError, match="two joints"):
        bvh.read_body(tmp_path / "a.bvh", mapping={joint: names["pelvis"] for joint in shuffled})
    chosen = bvh.read_body(tmp_path / "a.bvh", mapping=names).motion
    truth = oracle.pose(text)
    own = normalise(chosen.joints[:, JOINT_INDEX["left_knee"]] - chosen.joints[:, JOINT_INDEX["left_hip"]])
    assert np.allclose(own, normalise(truth[names["left_knee"]] - truth[names["left_hip"]]), atol=1e-4)
    heap = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Xrotation Yrotation Zrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\n"
    (tmp_path / "c.bvh").write_text(heap + "MOTION\nFrames: 1\nFrame Time: 0.05\n0 0 0\n")
    with pytest.raises(MotionError, match=r"no person was found in its 1 bones; .* Motion from Armature\.$"):
        bvh.read_body(tmp_path / "c.bvh")
    assert describe_motion_file(str(tmp_path / "c.bvh"))[:2] == ["BVH", "1 frames at 20 fps"]


def test_of_two_people_the_first_is_taken_and_that_is_said(tmp_path):
    first, names, _ = write(Case(turn=60))
    second, _, _ = write(Case(turn=-60), seed=8)
    head, rows = first.split("MOTION\n")
    other, more = second.replace("mixamorig:", "friend:").replace("HIERARCHY\n", "").split("MOTION\n")
    lines, others = rows.split("\n"), more.split("\n")
    both = [*lines[:2], *(f"{a} {b}" for a, b in zip(lines[2:-1], others[2:-1], strict=True)), ""]
    (tmp_path / "a.bvh").write_text(first)
    (tmp_path / "b.bvh").write_text(head + other + "MOTION\n" + "\n".join(both))
    alone, found = (bvh.read_body(tmp_path / name) for name in ("a.bvh", "b.bvh"))
    assert "of the first of 2 people" in found.notes[0] and found.mapping["left_knee"] == names["left_knee"]
    assert np.abs(found.motion.joints - alone.motion.joints).max() < 1e-9


def test_a_wrong_limb_is_doubtful(tmp_path):
    text, names, _ = write(Case())
    # a left thigh of twice its length
    wrong = text.replace("OFFSET 1.000000 -40.000000 0.400000", "OFFSET 1.000000 -90.000000 0.400000")
    assert wrong != text
    (tmp_path / "a.bvh").write_text(wrong)
    with pytest.raises(MotionError, match="thighs differ in length"):
        bvh.read_body(tmp_path / "a.bvh")
    assert bvh.read_body(tmp_path / "a.bvh", mapping=names).motion.frame_count == FRAMES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mixamorig:LeftUpLeg", ("left", ("up", "leg"))),
        ("Bip01 L Thigh", ("left", ("bip", "01", "thigh"))),
        ("rShldr", ("right", ("shldr",))),
        ("lfemur", ("left", ("femur",))),
        ("LowerArm_R", ("right", ("low", "arm"))),
        ("upperarm_l", ("left", ("up", "arm"))),
        ("LHipJoint", ("left", ("hip", "joint"))),
        ("Hips", (None, ("hips",))),
        ("RIGHT_ANKLE", ("right", ("ankle",))),
        ("LeftToeBase", ("left", ("toe",))),
        ("ball_l", ("left", ("ball",))),
        ("head", (None, ("head",))),
    ],
)
def test_names_are_taken_apart(name, expected):
    assert split_name(name) == expected
