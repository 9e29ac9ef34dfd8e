"""Skeletons of which files hold only joint positions -> the 22 joints of SMPL that everything else works on. No bpy.

What a skeleton does not have is completed: a spine between pelvis and neck, collars below it, feet in front of the ankles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS
from ...shared.vectors import normalise
from ..character.joints import SIDES, SPINE
from .sampling import spread_frames

#: length in metres of an average body's thigh and shin together
LEG = 0.81
#: lengths of thigh and shin, in metres, that are a person's
PLAUSIBLE_LEG = (0.25, 2.0)
#: relative change of bone lengths over time, and between left and right, above which joints are those of another skeleton
MAX_UNSTEADY, MAX_UNEVEN = 0.12, 0.25
#: frames that are looked at
SAMPLE = 200
_LIMBS = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))


@dataclass(frozen=True)
class JointLayout:
    """A skeleton of ``count`` joints: which of them are SMPL's, by name; several numbers stand for their middle.

    ``fps`` is the usual rate, ``trunk`` the joints from pelvis to neck where they are not SMPL's, ``completes`` what is made up.
    """

    name: str
    count: int
    joints: dict[str, int | tuple[int, ...]]
    fps: float = 30.0
    trunk: tuple[int, ...] = ()
    is_robot: bool = False
    completes: tuple[str, ...] = ()


def _both(**ends: tuple[int, int]) -> dict[str, int | tuple[int, ...]]:
    """Joints of both sides from (left, right)."""
    return {f"{side}_{name}": pair[n] for name, pair in ends.items() for n, side in enumerate(SIDES)}


_FIRST_22: dict[str, int | tuple[int, ...]] = {name: n for n, name in enumerate(SMPL_JOINTS[:HUMANML_JOINT_COUNT])}
_COCO = JointLayout(
    "COCO's 17 joints",
    17,
    {
        "head": (3, 4),
        **_both(shoulder=(5, 6), elbow=(7, 8), wrist=(9, 10), hip=(11, 12), knee=(13, 14), ankle=(15, 16)),
    },
    completes=("spine", "collars", "feet"),
)
_H36M = JointLayout(
    "Human3.6M's 17 joints",
    17,
    {
        "neck": 8,
        "head": 10,
        **_both(shoulder=(11, 14), elbow=(12, 15), wrist=(13, 16), hip=(4, 1), knee=(5, 2), ankle=(6, 3)),
    },
    trunk=(0, 7, 8),
    completes=("spine", "collars", "feet"),
)
_KIT = JointLayout(
    "KIT's 21 joints",
    21,
    {
        "pelvis": 0,
        "neck": 3,
        "head": 4,
        **_both(shoulder=(8, 5), elbow=(9, 6), wrist=(10, 7), hip=(16, 11), knee=(17, 12), ankle=(18, 13), foot=(20, 15)),
    },
    12.5,
    (0, 1, 2, 3),
    completes=("spine", "collars"),
)
_NTU = JointLayout(
    "Kinect's 25 joints",
    25,
    {
        "pelvis": 0,
        "neck": 2,
        "head": 3,
        **_both(shoulder=(4, 8), elbow=(5, 9), wrist=(6, 10), hip=(12, 16), knee=(13, 17), ankle=(14, 18), foot=(15, 19)),
    },
    trunk=(0, 1, 20, 2),
    completes=("spine", "collars"),
)
_BODY_25 = JointLayout(
    "OpenPose's 25 joints",
    25,
    {
        "neck": 1,
        "head": (17, 18),
        **_both(shoulder=(5, 2), elbow=(6, 3), wrist=(7, 4), hip=(12, 9), knee=(13, 10), ankle=(14, 11), foot=(19, 22)),
    },
    trunk=(8, 1),
    completes=("spine", "collars"),
)


def _name_soma(names: tuple[str, ...]) -> dict[str, int | tuple[int, ...]]:
    """Joints of a skeleton with the names of SOMA, or those of Mixamo."""
    at = {name: n for n, name in enumerate(names)}
    mixamo = "LeftUpLeg" in at
    leg, shin = ("UpLeg", "Leg") if mixamo else ("Leg", "Shin")
    spine = ("Spine1", "Spine2", "Spine3") if mixamo else ("Spine1", "Spine2", "Chest")
    found: dict[str, int | tuple[int, ...]] = {"pelvis": at["Hips"], "head": at["Head"]}
    found["neck"] = at["Neck"] if mixamo else at["Neck1"]
    found |= {f"spine{n}": at[name] for n, name in enumerate(spine, 1)}
    for side in ("Left", "Right"):
        chain = {"hip": leg, "knee": shin, "ankle": "Foot", "foot": "ToeBase"}
        chain |= {"collar": "Shoulder", "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand"}
        found |= {f"{side.lower()}_{joint}": at[side + name] for joint, name in chain.items()}
    return found


def _list_limb_after_limb(sides: tuple[str, str], trunk: tuple[str, ...], arm: tuple[str, ...]) -> dict[str, int | tuple[int, ...]]:
    """Joints in the order in which a skeleton is walked through: legs, trunk, arms."""
    legs = (f"{side}_{joint}" for side in sides for joint in ("hip", "knee", "ankle", "foot"))
    names = ("pelvis", *legs, *trunk, *(f"{side}_{joint}" for side in sides for joint in arm))
    return {name: n for n, name in enumerate(names) if name in _FIRST_22}


_TRUNK = ("spine1", "spine2", "spine3", "neck", "head")
_ARM = ("collar", "shoulder", "elbow", "wrist")


def _list_soma(hand: tuple[str, ...], head: tuple[str, ...], toe: tuple[str, ...]) -> tuple[str, ...]:
    names = ["Hips", "Spine1", "Spine2", "Chest", "Neck1", "Neck2", "Head", *head]
    for side in ("Left", "Right"):
        names += [side + part for part in ("Shoulder", "Arm", "ForeArm", "Hand", *(f"Hand{finger}" for finger in hand))]
    for side in ("Left", "Right"):
        names += [side + part for part in ("Leg", "Shin", "Foot", "ToeBase", *toe)]
    return tuple(names)


_FINGERS = tuple(
    f"{finger}{part}" for finger, parts in (("Thumb", "123"), *((f, "1234") for f in ("Index", "Middle", "Ring", "Pinky")))
    for part in (*parts, "End")
)  # fmt: skip
#: joints of Kimodo's SOMA skeletons, and of ARDY's, in their order
SOMA_77 = _list_soma(_FINGERS, ("HeadEnd", "Jaw", "LeftEye", "RightEye"), ("ToeEnd",))
SOMA_30 = _list_soma(("ThumbEnd", "MiddleEnd"), ("Jaw", "LeftEye", "RightEye"), ())
ARDY_27 = (
    *("Hips", "Spine", "Spine1", "Spine2", "Spine3", "Neck", "Head"),
    *(side + part for side in ("Right", "Left") for part in ("Shoulder", "Arm", "ForeArm", "Hand", "HandEnd", "HandThumb1")),
    *(side + part for side in ("Right", "Left") for part in ("UpLeg", "Leg", "Foot", "ToeBase")),
)
#: the names of the joints of skeletons with names -> by number of joints
NAMES: dict[int, tuple[str, ...]] = {len(names): names for names in (SOMA_77, SOMA_30, ARDY_27)}
_TRUNKS = (
    ("Hips", "Spine1", "Spine2", "Chest", "Neck1", "Neck2", "Head"),
    ("Hips", "Spine", "Spine1", "Spine2", "Spine3", "Neck", "Head"),
)
LAYOUTS: tuple[JointLayout, ...] = (
    JointLayout("22 joints of SMPL", 22, _FIRST_22, 20.0),
    JointLayout("22 joints, limb after limb, as LAFAN1's", 22, _list_limb_after_limb(("left", "right"), _TRUNK, _ARM)),
    JointLayout("22 joints, limb after limb, the right one first", 22, _list_limb_after_limb(("right", "left"), _TRUNK, _ARM)),
    JointLayout("24 joints of SMPL", 24, _FIRST_22, 20.0),
    JointLayout("24 joints of SMPL, limb after limb", 24, _list_limb_after_limb(("left", "right"), _TRUNK, (*_ARM, "hand"))),
    JointLayout("52 joints of SMPL-H", 52, _FIRST_22),
    JointLayout("55 joints of SMPL-X", 55, _FIRST_22),
    JointLayout("45 joints of SMPL", 45, _FIRST_22),
    JointLayout("127 joints of SMPL-X", 127, _FIRST_22),
    JointLayout("144 joints of SMPL-X", 144, _FIRST_22),
    _COCO,
    _H36M,
    _KIT,
    _NTU,
    _BODY_25,
    JointLayout("ARDY's 27 joints", 27, _name_soma(ARDY_27), 20.0),
    JointLayout("SOMA's 30 joints", 30, _name_soma(SOMA_30)),
    JointLayout("SOMA's 77 joints", 77, _name_soma(SOMA_77)),
    JointLayout("the robot G1's 34 joints", 34, {}, is_robot=True),
)


def find_parents(count: int) -> tuple[int, ...] | None:
    """(J,) the parent of each joint of the body, -1 for the root and for fingers and faces, of a skeleton with names; None for
    others."""
    names = NAMES.get(count)
    if names is None:
        return None
    trunk = next(trunk for trunk in _TRUNKS if set(trunk) <= set(names))
    leg = ("UpLeg", "Leg", "Foot", "ToeBase") if "LeftUpLeg" in names else ("Leg", "Shin", "Foot", "ToeBase")
    above = dict(zip(trunk[1:], trunk, strict=False))
    for side in ("Left", "Right"):
        for start, chain in (("Hips", leg), (trunk[-3 if "Neck" in trunk else -4], ("Shoulder", "Arm", "ForeArm", "Hand"))):
            joints = [start, *(side + part for part in chain)]
            above |= dict(zip(joints[1:], joints, strict=False))
    return tuple(names.index(above[name]) if name in above else -1 for name in names)


def find_layout(joints: np.ndarray) -> tuple[JointLayout, bool]:
    """The skeleton of joints (F, J, 3) and whether that is doubtful: another fits nearly as well, or the distances of what is taken
    are not a body's.

    Raises ``MotionError`` where there is none with so many joints, or their distances are not a body's.
    """
    known = [layout for layout in LAYOUTS if layout.count == joints.shape[1]]
    if not known:
        counts = ", ".join(map(str, sorted({layout.count for layout in LAYOUTS if not layout.is_robot})))
        raise MotionError(f"it has {joints.shape[1]} joints, which is no known skeleton (known are {counts}); save it as BVH.")
    if known[0].is_robot:
        raise MotionError(f"it is the motion of {known[0].name}, not of a person; take the model's motion for people.")
    misfits = sorted((_measure_misfit(joints, layout), n) for n, layout in enumerate(known))
    best, n = misfits[0]
    if len(known) == 1:
        return known[0], best > 1.0
    second = misfits[1][0]
    if best > 1.0 and known[0].joints is _FIRST_22:
        # a model's joints may be uneven
        return known[0], True
    if best > 1.0:
        raise MotionError(
            f"its {joints.shape[1]} joints are neither {' nor '.join(layout.name for layout in known)}; save it as BVH."
        )
    return known[n], second < 1.5 * best


def looks_like_joints(joints: np.ndarray) -> bool:
    """Whether values (F, J, 3) can be the joints of a body: distances along its limbs hardly change, and both sides are alike."""
    known = [layout for layout in LAYOUTS if layout.count == joints.shape[1] and not layout.is_robot]
    return any(_measure_misfit(joints, layout) <= 1.0 for layout in known)


def _measure_misfit(joints: np.ndarray, layout: JointLayout) -> float:
    """How badly joints (F, J, 3) are those of a layout: 1 and less is plausible."""
    sample = _sample(joints)
    if not np.isfinite(sample).all() or not len(sample):
        return 0.0
    lengths = []
    for side in SIDES:
        for limb in _LIMBS:
            ends = [_take(sample, layout.joints[f"{side}_{name}"]) for name in limb]
            lengths.append([np.linalg.norm(b - a, axis=-1) for a, b in pairwise(ends)])
    measured = np.asarray(lengths).reshape(2, 4, -1)
    means = measured.mean(-1)
    if means.min() <= 1e-9 * max(float(np.abs(sample).max()), 1.0):
        return 9.0
    unsteady = float(np.median(measured.std(-1) / means))
    uneven = float(np.abs(np.log(means[0] / means[1])).max())
    # thigh and shin, upper arm and forearm are of about the same length, and legs longer than arms
    odd = float(np.abs(np.log(means.mean(0)[[0, 2]] / means.mean(0)[[1, 3]])).max()) / 0.7
    if _looks_backwards(sample, layout):
        return 9.0
    return max(unsteady / MAX_UNSTEADY, uneven / MAX_UNEVEN, odd)


def _looks_backwards(joints: np.ndarray, layout: JointLayout) -> bool:
    """Whether the toes of joints (F, J, 3) lie behind the body in most frames: left and right are the other way around."""
    if "left_foot" not in layout.joints or "neck" not in layout.joints:
        return False
    at = {name: _take(joints, place) for name, place in layout.joints.items()}
    across, up = at["left_hip"] - at["right_hip"], at["neck"] - (at["left_hip"] + at["right_hip"]) / 2
    toes = at["left_foot"] - at["left_ankle"] + at["right_foot"] - at["right_ankle"]
    return bool(np.median((np.cross(across, up) * toes).sum(-1)) < 0)


def measure_leg(joints: np.ndarray, layout: JointLayout) -> float:
    """The length of thigh and shin together of joints (F, J, 3), in their unit."""
    sample = _sample(joints)
    ends = [[_take(sample, layout.joints[f"{side}_{name}"]) for name in _LIMBS[0]] for side in SIDES]
    lengths = [np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1) for hip, knee, ankle in ends]
    return float(np.median(lengths)) if len(sample) else 0.0


def find_unit(joints: np.ndarray, layout: JointLayout) -> tuple[float, str]:
    """Metres of one unit of joints (F, J, 3), and what the unit is, empty for metres."""
    leg = measure_leg(joints, layout)
    low, high = PLAUSIBLE_LEG
    if not np.isfinite(leg) or leg <= 0 or low <= leg <= high:
        return 1.0, ""
    for factor, name in ((0.01, "centimetres"), (0.001, "millimetres"), (0.0254, "inches")):
        if 0.5 <= leg * factor <= 1.3:
            return factor, name
    return LEG / leg, "a unit of its own, scaled to a person's size"


def to_smpl(joints: np.ndarray, layout: JointLayout) -> np.ndarray:
    """(F, 22, 3) joints of SMPL of joints (F, J, 3), in metres, of a layout; float64."""
    joints = np.asarray(joints, np.float64)
    found = {name: _take(joints, at) for name, at in layout.joints.items()}
    if len(found) == HUMANML_JOINT_COUNT:
        return np.stack([found[name] for name in SMPL_JOINTS[:HUMANML_JOINT_COUNT]], 1)
    hips = (found["left_hip"] + found["right_hip"]) / 2
    shoulders = (found["left_shoulder"] + found["right_shoulder"]) / 2
    up = normalise(shoulders - hips)
    # what is made up fits the body's size
    size = measure_leg(joints, layout) / LEG
    found.setdefault("pelvis", hips + 0.08 * size * up)
    found.setdefault("neck", shoulders + 0.065 * size * up)
    found.setdefault("head", found["neck"] + 0.1 * size * up)
    _complete_trunk(found, [_take(joints, at) for at in layout.trunk])
    for side in SIDES:
        found.setdefault(f"{side}_collar", found["neck"] + 0.4 * (found[f"{side}_shoulder"] - found["neck"]) - 0.06 * size * up)
    _complete_feet(found, up, size)
    return np.stack([found[name] for name in SMPL_JOINTS[:HUMANML_JOINT_COUNT]], 1)


def _complete_trunk(found: dict[str, np.ndarray], known: list[np.ndarray]) -> None:
    """Put the spine's joints on the line from pelvis to neck through the joints between."""
    if "spine3" in found:
        return
    line = np.stack([found["pelvis"], *known[1:-1], found["neck"]], 1)
    lengths = np.linalg.norm(np.diff(line, axis=1), axis=-1)
    along = np.concatenate([np.zeros((len(line), 1)), np.cumsum(lengths, 1)], 1) / np.maximum(lengths.sum(1), 1e-9)[:, None]
    for name, share in SPINE:
        after = np.clip((along < share).sum(1), 1, line.shape[1] - 1)
        frames = np.arange(len(line))
        start, end = along[frames, after - 1], along[frames, after]
        weight = ((share - start) / np.maximum(end - start, 1e-9))[:, None]
        found[name] = line[frames, after - 1] * (1 - weight) + line[frames, after] * weight


def _complete_feet(found: dict[str, np.ndarray], up: np.ndarray, size: float) -> None:
    """Feet in front of the ankles: where the body looks, at a right angle to the shin as in the rest pose."""
    if "left_foot" in found:
        return
    forward = normalise(np.cross(found["left_hip"] - found["right_hip"], up))
    for side in SIDES:
        down = normalise(found[f"{side}_ankle"] - found[f"{side}_knee"])
        ahead = normalise(forward - (forward * down).sum(-1, keepdims=True) * down)
        found[f"{side}_foot"] = found[f"{side}_ankle"] + size * (0.134 * ahead + 0.05 * down)


def fill_missing(joints: np.ndarray) -> tuple[np.ndarray, int]:
    """Joints (F, J, 3) of values (F, J, 4) whose fourth is a confidence: those of confidence 0 are interpolated over time.
    Also how many they were."""
    out = np.array(joints[..., :3], np.float64)
    missing = ~(np.asarray(joints[..., 3]) > 0)
    frames = np.arange(len(out))
    for joint in np.flatnonzero(missing.any(0)):
        seen = ~missing[:, joint]
        if not seen.any():
            continue
        for axis in range(3):
            out[~seen, joint, axis] = np.interp(frames[~seen], frames[seen], out[seen, joint, axis])
    return out, int(missing.sum())


def _take(joints: np.ndarray, at: int | tuple[int, ...]) -> np.ndarray:
    return np.asarray(joints[:, at] if isinstance(at, int) else joints[:, list(at)].mean(1), np.float64)


def _sample(joints: np.ndarray) -> np.ndarray:
    return np.asarray(joints[spread_frames(len(joints), SAMPLE)], np.float64)
