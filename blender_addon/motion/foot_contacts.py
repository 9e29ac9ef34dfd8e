"""Foot contacts: finding them, and locking feet to them so that they do not slide (after Kovar et al. 2002).

Body space, metres, Y up, the ground at y = 0. No bpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise, smootherstep
from ..character.joints import SIDES
from .retarget import RigMotion
from .rotations import forward_kinematics, rotation_between

HEEL_BEHIND_ANKLE = 0.04
#: a leg is stretched to at most this fraction of its length, so that the knee never snaps straight
MAX_STRETCH = 0.998
#: length in metres of the legs for which contacts are measured
LEG = 0.8
#: how fast a stepping foot swings past the body, m/s; slower steps are slow motion, down to a fraction of it
SWING_SPEED, SLOWEST_PACE = 2.0, 0.08
#: feet that stay within this fraction of the leg's length below the body do not step
STEP = 0.3
#: which part of a contact, at either end, is not used to measure how the body slides
EDGE = 0.2
#: seconds over which places are smoothed before their speed is taken
SPEED_WINDOW = 0.02


@dataclass(frozen=True)
class FootContact:
    """A foot (``left`` or ``right``) on the ground from frame ``start`` up to and including ``end``, counted from 0."""

    side: str
    start: int
    end: int


@dataclass(frozen=True)
class ContactSettings:
    """When a foot counts as in contact: toes lower than ``height`` m above their rest height, and slower than ``speed`` m/s
    plus ``pelvis_fraction`` of the pelvis's own speed.

    Feet of generated motion slide along with the body, so a fixed speed limit would miss the contacts that need locking
    most; a swinging foot is about twice as fast as the body. A contact ends when a limit is exceeded ``hysteresis`` times.
    Contacts shorter than ``min_seconds`` are dropped. Metres are those of a body with legs of ``LEG`` m, and grow and shrink
    with the legs; ``speed`` becomes less where the feet step more slowly than people do, as in slow motion.
    """

    speed: float = 0.45
    pelvis_fraction: float = 0.75
    height: float = 0.035
    hysteresis: float = 1.5
    min_seconds: float = 0.15


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over axis 0, the first and last value repeated beyond the ends."""
    reach = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, [(reach, reach)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    return np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), 0, padded)


def find_foot_contacts(
    joints: np.ndarray, rest: np.ndarray, fps: float, settings: ContactSettings | None = None
) -> list[FootContact]:
    """Contacts of both feet in joints (F, J, 3), the left foot's first; rest joints (J, 3) give the toes' rest height."""
    settings = settings or ContactSettings()
    out = []
    size = sum(_compute_leg_length(rest, side) for side in SIDES) / 2 / LEG
    joints = _smooth(joints, SPEED_WINDOW * fps) if SPEED_WINDOW * fps >= 0.5 and len(joints) > 1 else joints
    pace = _measure_pace(joints, size, fps)
    pelvis_speed = np.linalg.norm(np.gradient(joints[:, 0, [0, 2]], axis=0), axis=1) * fps if len(joints) > 1 else np.zeros(1)
    limit = settings.speed * size * pace + settings.pelvis_fraction * _smooth(pelvis_speed, 0.2 * fps)
    high, shortest = settings.height * size, max(2, round(settings.min_seconds * fps))
    for side in SIDES:
        toe = JOINT_INDEX[f"{side}_foot"]
        positions = joints[:, toe]
        step = np.linalg.norm(np.diff(positions[:, [0, 2]], axis=0), axis=1) * fps
        # a frame is as slow as the slower of its two neighbouring steps, so contacts keep their first and last frames
        speed = np.minimum(np.append(step, np.inf), np.insert(step, 0, np.inf)) if len(step) else np.zeros(1)
        height = positions[:, 1] - min(rest[toe, 1], np.percentile(positions[:, 1], 5) + 0.01 * size)
        begins = (speed < limit) & (height < high)
        lasts = (speed < limit * settings.hysteresis) & (height < high * settings.hysteresis)
        out += [FootContact(side, first, last) for first, last in _find_runs(begins, lasts) if last - first + 1 >= shortest]
    return out


def _find_runs(begins: np.ndarray, lasts: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) frames of what begins where ``begins`` (F,) is true, and lasts while ``lasts`` (F,) is."""
    out: list[tuple[int, int]] = []
    start: int | None = None
    for frame, (can_begin, can_last) in enumerate(zip(begins, lasts, strict=True)):
        if start is None and can_begin:
            start = frame
        elif start is not None and not can_last:
            out.append((start, frame - 1))
            start = None
    return out if start is None else [*out, (start, len(begins) - 1)]


def _measure_pace(joints: np.ndarray, size: float, fps: float) -> float:
    """How fast the feet of joints (F, J, 3) step, as a fraction of a usual step's speed: 1 for usual ones and without steps.

    It is measured past the body, so that neither where the body goes nor whether feet slide along with it counts.
    """
    if len(joints) < 3:
        return 1.0
    fastest, widest = 0.0, 0.0
    for side in SIDES:
        below = joints[:, JOINT_INDEX[f"{side}_foot"]] - joints[:, 0]
        below = below[:, [0, 2]]
        fastest = max(fastest, float(np.percentile(np.linalg.norm(np.diff(below, axis=0), axis=1), 98)) * fps)
        widest = max(widest, float(np.linalg.norm(np.ptp(below, axis=0))))
    if widest < STEP * LEG * size:
        return 1.0
    return float(np.clip(fastest / (SWING_SPEED * size), SLOWEST_PACE, 1.0))


def get_sole_points(rest: np.ndarray, side: str) -> np.ndarray:
    """(2, 3) points under the toes and the heel of a foot in the rest pose, relative to its ankle."""
    ankle, toe = rest[JOINT_INDEX[f"{side}_ankle"]], rest[JOINT_INDEX[f"{side}_foot"]]
    points = np.stack([toe, ankle - [0, 0, HEEL_BEHIND_ANKLE]])
    points[:, 1] = 0.0
    return points - ankle


def compute_penetration(motion: RigMotion, rest: np.ndarray) -> np.ndarray:
    """(F,) how far in metres the lowest sole point is below the ground; 0 where none is."""
    joints = forward_kinematics(motion.local_rotations, rest, motion.pelvis, SMPL_PARENTS)
    depth = np.zeros(len(joints))
    for side in SIDES:
        ankle = JOINT_INDEX[f"{side}_ankle"]
        rotations = motion.global_rotations[:, ankle]
        points = joints[:, ankle, None] + get_sole_points(rest, side) @ np.swapaxes(rotations, -1, -2)
        depth = np.maximum(depth, -points[..., 1].min(1))
    return np.maximum(depth, 0)


def compute_skating_ratio(joints: np.ndarray, fps: float) -> float:
    """Fraction of low toes (under 5 cm in two consecutive frames) that move faster than 0.5 m/s, in joints (F, J, 3)."""
    toes = joints[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]]
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * fps
    low = (toes[1:, :, 1] < 0.05) & (toes[:-1, :, 1] < 0.05)
    return float((speed > 0.5)[low].mean()) if low.any() else 0.0


def compute_path_length(pelvis: np.ndarray) -> float:
    """How far pelvis positions (F, 3) travel over the ground, in metres."""
    return float(np.linalg.norm(np.diff(pelvis[:, [0, 2]], axis=0), axis=1).sum())


def lock_feet(motion: RigMotion, rest: np.ndarray, contacts: list[FootContact], fps: float, mode: str = "hard") -> RigMotion:
    """The motion with its feet locked to their contacts and none below the ground; rest joints (J, 3).

    ``mode``: ``hard`` locks toes in contact exactly, ``soft`` removes four fifths of the sliding, ``off`` changes nothing.
    The root drift, which all feet in contact share, is removed from the pelvis; the legs make up for the rest by two-bone
    IK. Bones keep their lengths: where a leg is too short for its contact the pelvis comes down. Feet keep their
    orientation.
    """
    if mode == "off":
        return motion
    strength, ease = (1.0 if mode == "hard" else 0.8), max(2, round(0.25 * fps))
    joints = forward_kinematics(motion.local_rotations, rest, motion.pelvis, SMPL_PARENTS)
    drift = strength * _compute_root_drift(joints, contacts)
    joints, motion = joints - drift[:, None], replace(motion, pelvis=motion.pelvis - drift)
    offsets = {}
    for side in SIDES:
        ankle, toe = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        own_contacts = [contact for contact in contacts if contact.side == side]
        offset = _compute_toe_offsets(joints[:, toe], own_contacts, rest[toe, 1], strength, ease)
        points = get_sole_points(rest, side) @ np.swapaxes(motion.global_rotations[:, ankle], -1, -2)
        low = (joints[:, ankle, 1] + offset[:, 1])[:, None] + points[..., 1]
        # what is still in the ground is lifted out, and its neighbours a little so that nothing jumps
        lift = np.maximum(-low.min(1), 0)
        offset[:, 1] += np.maximum(lift, _smooth(_max_filter(lift, 2), 1.0))
        offsets[side] = offset
    mean = _smooth(sum(offsets.values(), np.zeros_like(motion.pelvis)) / 2, 0.12 * fps)
    pelvis = motion.pelvis + mean * [1.0, 0.5, 1.0]
    pelvis = pelvis - [0, 1.0, 0] * _compute_pelvis_drop(joints, offsets, pelvis - motion.pelvis, rest, fps)[:, None]
    rotations = motion.global_rotations.copy()
    for side in SIDES:
        hip, knee, ankle = (JOINT_INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        root = joints[:, hip] + (pelvis - motion.pelvis)
        target = joints[:, ankle] + offsets[side]
        thigh, shin = joints[:, knee] - joints[:, hip], joints[:, ankle] - joints[:, knee]
        new_knee = _solve_knees(root, target, thigh, shin, rotations[:, hip] @ np.array([0, 0, 1.0]))
        new_thigh = normalise(new_knee - root)
        new_shin = normalise(_clamp_to_reach(root, target, thigh, shin) - new_knee)
        rotations[:, hip] = rotation_between(normalise(thigh), new_thigh) @ rotations[:, hip]
        rotations[:, knee] = rotation_between(normalise(shin), new_shin) @ rotations[:, knee]
    return replace(motion, global_rotations=rotations, pelvis=pelvis)


def _compute_toe_offsets(
    positions: np.ndarray, contacts: list[FootContact], rest_height: float, strength: float, ease: int
) -> np.ndarray:
    """(F, 3) how far toe positions (F, 3) must move: onto their contacts, and smoothly from one contact to the next."""
    frames = len(positions)
    out = np.zeros((frames, 3))
    ends: list[tuple[int, np.ndarray]] = []
    for contact in contacts:
        start, end = max(contact.start, 0), min(contact.end, frames - 1)
        if end < start:
            continue
        inside = positions[start : end + 1]
        anchor = np.median(inside, axis=0)
        anchor[1] = rest_height
        out[start : end + 1] = strength * (anchor - inside)
        ends += [(start, out[start].copy()), (end, out[end].copy())]

    def ease_between(first: int, last: int, first_offset: np.ndarray, last_offset: np.ndarray) -> None:
        span = last - first
        t = smootherstep(np.arange(1, span) / span)[:, None]
        out[first + 1 : last] = first_offset + (last_offset - first_offset) * t

    zero = np.zeros(3)
    if ends:
        first, last = ends[0][0], ends[-1][0]
        ease_between(max(first - ease, -1), first, zero, ends[0][1])
        ease_between(last, min(last + ease, frames), ends[-1][1], zero)
        for (left, left_offset), (right, right_offset) in zip(ends[1::2], ends[2::2], strict=False):
            ease_between(left, right, left_offset, right_offset)
    return out


def _compute_root_drift(joints: np.ndarray, contacts: list[FootContact]) -> np.ndarray:
    """(F, 3) how far the body has slid along the ground since the first frame, measured at its feet in contact."""
    steps = np.zeros((len(joints), 3))
    feet = np.zeros(len(joints))
    for contact in contacts:
        toe = joints[:, JOINT_INDEX[f"{contact.side}_foot"]]
        first, last = max(contact.start, 0), min(contact.end, len(joints) - 1)
        # a foot that lands or rolls off moves by itself, so the ends of a contact say nothing of the body
        margin = int(EDGE * (last - first))
        rows = np.arange(first + margin + 1, last - margin + 1)
        steps[rows] += toe[rows] - toe[rows - 1]
        feet[rows] += 1
    known = np.flatnonzero(feet)
    if not len(known):
        return steps
    for axis in (0, 2):
        steps[:, axis] = np.interp(np.arange(len(joints)), known, steps[known, axis] / feet[known])
    steps[0] = steps[:, 1] = 0
    return np.cumsum(steps, 0)


def _max_filter(values: np.ndarray, reach: int) -> np.ndarray:
    """(F,) the maximum over ``reach`` frames on either side."""
    padded = np.pad(values, reach, mode="edge")
    return np.max([padded[n : n + len(values)] for n in range(2 * reach + 1)], axis=0)


def _compute_leg_length(rest: np.ndarray, side: str) -> float:
    hip, knee, ankle = (rest[JOINT_INDEX[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))


def _compute_pelvis_drop(
    joints: np.ndarray, offsets: dict[str, np.ndarray], shift: np.ndarray, rest: np.ndarray, fps: float
) -> np.ndarray:
    """(F,) how far the pelvis comes down so that both ankles can be reached, smooth over time."""
    need = np.zeros(len(joints))
    for side, offset in offsets.items():
        hip, ankle = JOINT_INDEX[f"{side}_hip"], JOINT_INDEX[f"{side}_ankle"]
        to_ankle = joints[:, ankle] + offset - joints[:, hip] - shift
        longest = MAX_STRETCH * _compute_leg_length(rest, side)
        horizontal = np.linalg.norm(to_ankle[:, [0, 2]], axis=1)
        allowed = np.sqrt(np.maximum(longest**2 - horizontal**2, (0.3 * longest) ** 2))
        need = np.maximum(need, -to_ankle[:, 1] - allowed)
    if not (need > 0).any():
        return need
    sigma = 0.1 * fps
    return _smooth(_max_filter(np.maximum(need, 0), max(1, int(np.ceil(3 * sigma)))), sigma)


def _clamp_to_reach(root: np.ndarray, target: np.ndarray, thigh: np.ndarray, shin: np.ndarray) -> np.ndarray:
    """(F, 3) ankle targets, moved towards the hip where the leg is too short for them."""
    longest = MAX_STRETCH * (np.linalg.norm(thigh, axis=1) + np.linalg.norm(shin, axis=1))
    to_target = target - root
    length = np.linalg.norm(to_target, axis=1)
    return root + to_target * np.minimum(1, longest / np.maximum(length, 1e-9))[:, None]


def _solve_knees(root: np.ndarray, target: np.ndarray, thigh: np.ndarray, shin: np.ndarray, front: np.ndarray) -> np.ndarray:
    """(F, 3) knees of two-bone legs from hips ``root`` to ankles ``target``, bent the way they were, or to the front if
    straight."""
    a, b = np.linalg.norm(thigh, axis=1), np.linalg.norm(shin, axis=1)
    to_end = _clamp_to_reach(root, target, thigh, shin) - root
    length = np.clip(np.linalg.norm(to_end, axis=1), np.abs(a - b) + 1e-6, a + b - 1e-9)
    axis = normalise(to_end)
    old_axis = normalise(thigh + shin)
    bend = thigh - old_axis * (thigh * old_axis).sum(-1, keepdims=True)
    # a straight leg has no bending side of its own; the front of the thigh takes over smoothly
    bend = bend + 0.02 * front
    bend = normalise(bend - axis * (bend * axis).sum(-1, keepdims=True))
    # the law of cosines: how far along the axis the knee lies, and how far beside it
    along = (length**2 + a**2 - b**2) / (2 * length)
    beside = np.sqrt(np.maximum(a**2 - along**2, 0))
    return root + axis * along[:, None] + bend * beside[:, None]
