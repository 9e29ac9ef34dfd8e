"""What is guessed about skeletons of strangers: bones by words of several languages or by shape, and which way is up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentman.blender_addon.motion import bvh
from latentman.blender_addon.motion.body_from_skeleton import body_from_skeleton, fit_body
from latentman.blender_addon.motion.bone_words import find_side_letters, split_name
from latentman.blender_addon.motion.skeleton_motion import SkeletonMotion
from latentman.blender_addon.motion.source_axes import TO_BODY
from latentman.blender_addon.motion.source_bones import find_source_map
from latentman.blender_addon.motion.track_decoding import ReadOptions
from latentman.blender_addon.operators.motion import inspect_motion_file
from latentman.shared.motion import MotionError
from latentman.shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from tools import rigs

from .test_bvh import Case, write

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
FRAMES = 24
BODY = SMPL_JOINTS[:22]
LYING = {"back": (-88.0, 0, 0), "front": (88.0, 0, 0), "side": (0, 0, 86.0), "hands": (178.0, 0, 0)}


def name_joints(words: dict[str, str], left: str, right: str) -> dict[str, str]:
    """Joint -> bone; {S} stands for the side."""
    out = {}
    for joint in BODY:
        side, _, part = joint.rpartition("_")
        bone = words.get(part or joint, words.get(joint, ""))
        out[joint] = bone.replace("{S}", left if side == "left" else right) if bone else f"bone {len(out)}"
    return out


def move(posture: str = "", zero: str = "T", noise: float = 6.0, seed: int = 0, extras: dict[str, tuple[str, tuple]] | None = None):
    """A moving skeleton, Y up on a floor at 0, with SMPL's names; ``extras``: bone -> (what it hangs on, offset)."""
    rng = np.random.default_rng(seed)
    rest = rigs.make_joints()[:22]
    names, parents, places = list(BODY), list(SMPL_PARENTS[:22]), [*rest]
    for bone, (parent, offset) in (extras or {}).items():
        parents.append(names.index(parent))
        places.append(places[parents[-1]] + np.array(offset))
        names.append(bone)
    t = np.arange(FRAMES) / 20
    places = np.array(places)
    world = np.empty((FRAMES, len(names), 3, 3))
    positions = np.zeros((FRAMES, len(names), 3))
    bends = {"elbow": (0, 40.0, 0), "knee": (30.0, 0, 0), "shoulder": (0, 0, 50.0), "hip": (-20.0, 0, 0)}
    for n, (name, parent) in enumerate(zip(names, parents, strict=True)):
        turn = noise * np.sin(rng.uniform(0, 6, 3) + t[:, None] * rng.uniform(1, 4, 3))
        part = name.split("_")[-1]
        if n < 22 and part in bends and not (posture and part in ("knee", "hip")):
            sign = np.array([1.0, -1, -1]) if name.startswith("left") else np.ones(3)
            turn = turn + np.array(bends[part]) * sign * (0.6 + 0.4 * np.sin(4 * t))[:, None]
        if n == 0 and posture:
            turn = np.array(LYING[posture]) + 0 * turn
        if posture == "hands" and part == "shoulder":
            turn = np.array([0, 0, 80.0 if name.startswith("left") else -80.0]) + 0 * turn
        local = Rotation.from_rotvec(np.radians(turn)).as_matrix()
        if parent < 0:
            world[:, n] = local
        else:
            world[:, n] = world[:, parent] @ local
            positions[:, n] = positions[:, parent] + world[:, parent] @ (places[n] - places[parent])
    positions[..., 1] -= positions[:, :22, 1].min(1)[:, None] - 0.03
    positions += np.array([1.7, 0, -2.3])
    own = np.broadcast_to(np.eye(3), (len(names), 3, 3)).copy()
    zeros = places - places[0]
    if zero == "random":
        # the zero pose of a skeleton in which every bone has axes of its own is no person
        own = Rotation.random(len(names), random_state=seed).as_matrix()
        for n, parent in enumerate(parents):
            zeros[n] = zeros[parent] + own[parent].T @ (places[n] - places[parent]) if parent >= 0 else 0
    rotations = world @ own
    identity = np.broadcast_to(np.eye(3), own.shape)
    return SkeletonMotion(
        tuple(names), tuple(parents), positions, rotations, np.full((len(names), 3), np.nan), zeros, identity, 20.0, "a.bvh"
    )


def rename(motion: SkeletonMotion, names: dict[str, str]) -> SkeletonMotion:
    return replace(motion, names=tuple(names.get(name, name) for name in motion.names))


def check_found(motion: SkeletonMotion, names: dict[str, str], how: str, kinds: tuple[str, ...] = ()) -> None:
    """Every limb's bones, and head and neck, are those that they are."""
    found = find_source_map(motion)
    assert how in found.how
    mapped = {joint: motion.names[bone] for joint, bone in found.bones.items()}
    for joint in BODY:
        if "spine" not in joint and not any(kind in joint for kind in kinds):
            assert mapped.get(joint) == names[joint], joint


LANGUAGES = {
    "German": (
        "L",
        "R",
        "Becken Hals Kopf Oberschenkel_{S} Unterschenkel_{S} Fuß_{S} Zehen_{S} Schlüsselbein_{S} Oberarm_{S} Unterarm_{S} Hand_{S}",
    ),
    "German, long": (
        "links",
        "rechts",
        "Huefte Nacken Schaedel Bein.{S} Knie.{S} Knoechel.{S} Ballen.{S} Schulter.{S} Arm.{S} Ellbogen.{S} Handgelenk.{S}",
    ),
    "Spanish": (
        "izq",
        "der",
        "Cadera Cuello Cabeza Muslo_{S} Pantorrilla_{S} Pie_{S} Dedos_{S} Clavícula_{S} Brazo_{S} Antebrazo_{S} Mano_{S}",
    ),
    "Portuguese": (
        "Esquerdo",
        "Direito",
        "quadril pescoço cabeça coxa{S} panturrilha{S} pé{S} ponta{S} clavicula{S} braço{S} antebraço{S} mão{S}",
    ),
    "French": (
        "G",
        "D",
        "Bassin Cou Tête Cuisse_{S} Mollet_{S} Pied_{S} Orteils_{S} Clavicule_{S} Bras_{S} AvantBras_{S} Main_{S}",
    ),
    "Italian": (
        "Sx",
        "Dx",
        "Bacino Collo Testa Coscia_{S} Polpaccio_{S} Piede_{S} Dita_{S} Clavicola_{S} Braccio_{S} Avambraccio_{S} Mano_{S}",
    ),
    "Japanese": ("左", "右", "腰 首 頭 {S}もも {S}すね {S}足首 {S}つま先 {S}鎖骨 {S}腕 {S}ひじ {S}手首"),
    "Chinese": ("左", "右", "骨盆 颈 头 {S}大腿 {S}小腿 {S}脚踝 {S}脚趾 {S}锁骨 {S}上臂 {S}前臂 {S}手"),
    "numbered limbs": ("L", "R", "01_hips 05_neck 06_head {S}_leg1 {S}_leg2 {S}_foot {S}_toe {S}_clav {S}_arm1 {S}_arm2 {S}_hand"),
    "muscles": ("L", "R", "Pelvis Neck Head Thigh{S} Calf{S} Foot{S} Toes{S} Clavicle{S} Bicep{S} Forearm{S} Hand{S}"),
}


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_words_of_other_languages(language):
    left, right, words = LANGUAGES[language]
    joints = ("pelvis", "neck", "head", "hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
    names = name_joints(dict(zip(joints, words.split(), strict=True)), left, right)
    check_found(rename(move(zero="random"), names), names, "by the words")


def test_letters_for_sides_count_only_in_pairs_of_limbs():
    limbs = tuple(f"{limb}_{side}" for limb in ("Bras", "Main", "Pied", "Cuisse", "Mollet") for side in "GD")
    assert find_side_letters(limbs) == find_side_letters((*limbs, "L_Index1", "HairR")) == {"g": "left", "d": "right"}
    assert find_side_letters(tuple(f"{limb}_{side}" for limb in ("Arm", "Hand", "Foot", "Thigh") for side in "LR")) == {}
    assert find_side_letters(limbs[:4]) == find_side_letters(("bone_g", "bone_d")) == {}
    assert split_name("AvantBras_G", {"g": "left"}) == ("left", ("fore", "arm"))


EXTRAS = {
    "nothing": {},
    "hair": {
        "h1": ("head", (0.1, 0.1, -0.1)),
        "h2": ("h1", (0.05, -0.25, 0)),
        "h3": ("h2", (0, -0.3, 0)),
        "h4": ("head", (-0.1, 0.1, -0.1)),
        "h5": ("h4", (-0.05, -0.25, 0)),
        "h6": ("h5", (0, -0.3, 0)),
    },
    "a tail and a sword": {
        "t1": ("pelvis", (0, 0, -0.1)),
        "t2": ("t1", (0, -0.3, -0.2)),
        "t3": ("t2", (0, -0.3, -0.2)),
        "p": ("right_wrist", (-0.1, 0, 0)),
        "q": ("p", (0, 0, 1.3)),
    },
    "face and fingers": {
        "jaw": ("head", (0, -0.02, 0.05)),
        "e1": ("head", (0.03, 0.06, 0.08)),
        "e2": ("head", (-0.03, 0.06, 0.08)),
        **{
            f"{side}{finger}{n}": (
                f"{side}_wrist" if n == 1 else f"{side}{finger}{n - 1}",
                (sign * (0.08 if n == 1 else 0.03), 0, 0.03 - 0.02 * finger if n == 1 else 0),
            )
            for side, sign in (("left", 1), ("right", -1))
            for finger in range(4)
            for n in (1, 2, 3)
        },
    },
    "a skirt": {
        f"s{side}{n}": (
            "pelvis" if n == 1 else f"s{side}{n - 1}",
            ((0.12 if n == 1 else 0.03) * sign, -0.05 if n == 1 else -0.3, 0),
        )
        for side, sign in (("a", 1), ("b", -1))
        for n in (1, 2, 3)
    },
}


@pytest.mark.parametrize("extras", list(EXTRAS))
@pytest.mark.parametrize(("zero", "posture"), [("T", ""), ("random", ""), ("random", "side"), ("random", "hands")])
def test_names_that_say_nothing(extras, zero, posture):
    motion = move(posture, zero, extras=EXTRAS[extras])
    names = {name: f"node {n * 7 % 61}" for n, name in enumerate(motion.names)}
    check_found(rename(motion, names), names, "by the shape")


def test_bones_that_twist_lie_within_limbs():
    """A bone halfway along a limb is no knee."""
    motion = move(zero="random")
    names, parents = list(motion.names), list(motion.parents)
    knee = names.index("left_ankle")
    for lower in ("left_elbow", "right_elbow", "left_ankle", "right_ankle"):
        n = names.index(lower)
        upper = parents[n]
        names.append(f"half {lower}")
        parents.append(upper)
        middle = (motion.positions[:, [n]] + motion.positions[:, [upper]]) / 2
        rest = (motion.rest_positions[[n]] + motion.rest_positions[[upper]]) / 2
        motion = replace(
            motion,
            names=tuple(names),
            positions=np.concatenate([motion.positions, middle], 1),
            rotations=np.concatenate([motion.rotations, motion.rotations[:, [upper]]], 1),
            rest_positions=np.concatenate([motion.rest_positions, rest]),
            rest_rotations=np.concatenate([motion.rest_rotations, motion.rest_rotations[[upper]]]),
            tips=np.concatenate([motion.tips, motion.tips[:1]]),
        )
        parents[n] = len(parents) - 1
    assert parents[knee] > knee
    order: list[int] = []
    while len(order) < len(parents):
        order += [n for n, parent in enumerate(parents) if n not in order and (parent < 0 or parent in order)]
    motion = replace(
        motion,
        names=tuple(f"node {n}" for n in order),
        parents=tuple(order.index(parents[n]) if parents[n] >= 0 else -1 for n in order),
        positions=motion.positions[:, order],
        rotations=motion.rotations[:, order],
        rest_positions=motion.rest_positions[order],
        rest_rotations=motion.rest_rotations[order],
    )
    check_found(motion, {joint: f"node {n}" for n, joint in enumerate(BODY)}, "by the shape")


@pytest.mark.parametrize("zero", ["T", "random"])
@pytest.mark.parametrize("posture", ["", *LYING])
@pytest.mark.parametrize("up", ["Y", "Z"])
def test_up_of_people_who_do_not_stand(zero, posture, up):
    """Lying or on the hands in all frames, whatever the zero pose is."""
    motion = move(posture, zero)
    turn = TO_BODY[up].T
    turned = replace(
        motion,
        positions=motion.positions @ turn.T,
        rotations=turn @ motion.rotations @ turn.T,
        rest_positions=motion.rest_positions @ turn.T,
    )
    body = body_from_skeleton(turned)
    assert f"Up: {up}, facing as in the file." in body.notes
    expected = motion.positions[:, 0] - motion.positions[0, 0]
    assert np.abs(body.motion.joints[:, 0] - body.motion.joints[0, 0] - expected).max() < 1e-6
    trunk, wanted = body.motion.joints[:, 12] - body.motion.joints[:, 0], motion.positions[:, 12] - motion.positions[:, 0]
    assert np.abs(trunk - wanted).max() < 1e-6


def test_up_can_be_chosen_and_doubt_is_said():
    """Somebody who leans, between two axes, without a floor and without a zero pose that says more."""
    motion, found = move(), []
    for lean in range(30, 65, 5):
        turn = Rotation.from_euler("x", lean, degrees=True).as_matrix()
        leaning = replace(
            motion,
            positions=(motion.positions - motion.positions[:, :1]) @ turn.T,
            rotations=turn @ motion.rotations,
            rest_positions=motion.rest_positions * 0,
        )
        fit = fit_body(leaning, None)
        assert fit.is_doubtful == any("The up axis is doubtful" in note for note in fit.notes)
        found.append(fit.is_doubtful)
        for axis, to_body in TO_BODY.items():
            chosen = fit_body(leaning, None, axis)
            assert not chosen.is_doubtful and np.array_equal(chosen.to_body, to_body)
    assert any(found) and not found[0]


def test_a_pelvis_that_is_put_elsewhere_is_said():
    """The bone that carries the body lies on the floor, as roots of games do."""
    motion = move(noise=3)
    assert not any(note.startswith("Pelvis:") for note in fit_body(motion, None).notes)
    positions, rest = motion.positions.copy(), motion.rest_positions.copy()
    positions[:, 0, 1], rest[0, 1] = 0.0, rest[:, 1].min()
    body = body_from_skeleton(replace(motion, positions=positions, rest_positions=rest), {joint: joint for joint in BODY})
    assert any(note.startswith("Pelvis: put above the hips") for note in body.notes)
    hips = body.motion.joints[:, 1:3].mean(1)
    assert (np.linalg.norm(body.motion.joints[:, 0] - hips, axis=-1) < 0.15).all()


def test_animals_on_four_feet_are_doubtful_and_people_who_crawl_are_not():
    def stand(knees: float, leap: int = 0) -> SkeletonMotion:
        motion = move(noise=3)
        rest = rigs.make_joints()[:22]
        local = np.zeros((22, 3))
        local[0] = (85, 0, 0)
        for side, sign in (("left", 1), ("right", -1)):
            local[JOINT_INDEX[f"{side}_hip"]] = (-85, 0, 0)
            local[JOINT_INDEX[f"{side}_knee"]] = (knees, 0, 0)
            local[JOINT_INDEX[f"{side}_shoulder"]] = (0, -85 * sign, 0)
        positions, world = np.zeros((FRAMES, 22, 3)), np.empty((FRAMES, 22, 3, 3))
        wave = np.sin(np.arange(FRAMES) / 3)[:, None] * np.array([10.0, 0, 0])
        for n, parent in enumerate(SMPL_PARENTS[:22]):
            turn = Rotation.from_rotvec(np.radians(local[n] + (wave if "hip" in BODY[n] else 0 * wave))).as_matrix()
            world[:, n] = turn if parent < 0 else world[:, parent] @ turn
            if parent >= 0:
                positions[:, n] = positions[:, parent] + world[:, parent] @ (rest[n] - rest[parent])
        # a leap stretches out what stood
        for n, name in enumerate(BODY):
            if leap and name.startswith(("left_", "right_")) and "collar" not in name:
                positions[:leap, n] = positions[:leap, 0] + rest[n] @ world[0, 0].T - rest[0] @ world[0, 0].T
        # the zero pose stands as the frames do
        return replace(motion, positions=positions, rotations=world, rest_positions=positions[-1], rest_rotations=world[-1])

    with pytest.raises(MotionError, match="four feet; import it with"):
        find_source_map(stand(10))
    assert find_source_map(stand(88)).how
    # a leap now and then makes no person of an animal, but much of it does
    with pytest.raises(MotionError, match="four feet"):
        find_source_map(stand(10, FRAMES // 12))
    assert find_source_map(stand(10, FRAMES // 4)).how
    # of many files' zero poses every bone points along one axis, which says nothing; an upright one is a person's, who may crawl
    animal = stand(10)
    along = np.zeros((22, 3))
    for n, parent in enumerate(SMPL_PARENTS[:22]):
        if parent >= 0:
            along[n] = along[parent] + [np.linalg.norm(animal.positions[0, n] - animal.positions[0, parent]), 0, 0]
    with pytest.raises(MotionError, match="four feet"):
        find_source_map(replace(animal, rest_positions=along, rest_rotations=np.tile(np.eye(3), (22, 1, 1))))
    upright = replace(animal, rest_positions=rigs.make_joints()[:22], rest_rotations=np.tile(np.eye(3), (22, 1, 1)))
    assert find_source_map(upright).how
    named = dict(zip(BODY, BODY, strict=True))
    assert find_source_map(stand(10), named).how == "as chosen"


@pytest.mark.parametrize(
    ("lower", "upper", "plain"),
    [
        ("neckDummy", "neck", "neck"),
        ("Neck_Root", "Neck", "Neck"),
        ("neck", "neck1", "neck"),
        ("Neck", "NeckTwist", "Neck"),
        # what all names have is no addition
        ("Hero1_Neck", "Neck", "Hero1_Neck"),
    ],
)
def test_a_plain_neck_comes_before_what_is_added_to_one(lower, upper, plain):
    """Of two necks the one is taken whose name says nothing more; of two alike the lower one."""
    motion = move(extras={"between": ("neck", (0, 0.05, 0.01))})
    names = [{"neck": lower, "between": upper}.get(name, name) for name in motion.names]
    if "Hero" in lower:
        names = [name if "eck" in name else f"Hero1_{name}" for name in names]
    parents = list(motion.parents)
    parents[JOINT_INDEX["head"]] = names.index(upper)
    order = [*range(JOINT_INDEX["neck"] + 1), len(names) - 1, *range(JOINT_INDEX["neck"] + 1, len(names) - 1)]
    at = {bone: n for n, bone in enumerate(order)}
    motion = replace(
        motion,
        names=tuple(names[bone] for bone in order),
        parents=tuple(at[parents[bone]] if parents[bone] >= 0 else -1 for bone in order),
        positions=motion.positions[:, order],
        rotations=motion.rotations[:, order],
        tips=motion.tips[order],
        rest_positions=motion.rest_positions[order],
        rest_rotations=motion.rest_rotations[order],
    )
    assert motion.names[find_source_map(motion).bones["neck"]] == plain


def test_feet_that_hang_on_the_root():
    """Of rigs whose legs follow their feet, feet are no children of the shins."""
    motion = move()
    parents = list(motion.parents)
    for side in ("left", "right"):
        parents[JOINT_INDEX[f"{side}_ankle"]] = 0
    words = {
        "hip": "UpperLeg{S}",
        "knee": "LowerLeg{S}",
        "ankle": "Foot{S}",
        "collar": "Shoulder{S}",
        "shoulder": "UpperArm{S}",
        "elbow": "LowerArm{S}",
        "wrist": "Palm{S}",
        "pelvis": "Hips",
        "neck": "Neck",
        "head": "Head",
    }
    names = name_joints(words, "L", "R")
    check_found(rename(replace(motion, parents=tuple(parents)), names), names, "by the words", ("foot",))


def test_what_may_be_one_or_the_other_is_refused():
    """Wings as long as arms, which never bend, on somebody whose arms never bend."""
    motion = move(noise=0)
    still = replace(
        motion,
        positions=np.tile(rigs.make_joints()[:22], (FRAMES, 1, 1)),
        rotations=np.broadcast_to(np.eye(3), motion.rotations.shape),
    )
    names, parents, places = list(still.names), list(still.parents), [still.positions[0, n] for n in range(22)]
    for side, sign in (("left", 1), ("right", -1)):
        for n, joint in enumerate(("shoulder", "elbow", "wrist")):
            parents.append(names.index("spine3") if n == 0 else len(names) - 1)
            names.append(f"wing {side} {joint}")
            places.append(places[JOINT_INDEX[f"{side}_{joint}"]] + np.array([0.02 * sign, 0.1, -0.1]))
    places = np.array(places)
    count = len(names)
    winged = SkeletonMotion(
        tuple(f"node {n}" for n in range(count)),
        tuple(parents),
        np.tile(places, (FRAMES, 1, 1)),
        np.broadcast_to(np.eye(3), (FRAMES, count, 3, 3)),
        np.full((count, 3), np.nan),
        places,
        np.broadcast_to(np.eye(3), (count, 3, 3)),
        20.0,
        "a.glb",
    )
    with pytest.raises(MotionError, match=r"its arms may be .* Keep Armature"):
        find_source_map(winged)


def test_the_dialog_offers_and_takes_the_axis(tmp_path):
    text, _, _ = write(Case(frames=6))
    path = tmp_path / "a.bvh"
    path.write_text(text)
    lines, choices = inspect_motion_file(str(path), ReadOptions())
    assert "up_axis" in choices and any(line.startswith("Up: Y") for line in lines)
    lines, _ = inspect_motion_file(str(path), ReadOptions(up_axis="Y_DOWN"))
    assert any(line.startswith("Up: -Y") for line in lines)
    as_found, upside_down = (bvh.read_body(path, up_axis=axis).motion.joints for axis in (None, "-Y"))
    heights = as_found[..., 1] - as_found[:, :1, 1]
    assert np.abs(upside_down[..., 1] - upside_down[:, :1, 1] + heights).max() < 1e-6
