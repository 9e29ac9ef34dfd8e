"""Feet that stand where they stand: plants are found, pinned, and the legs follow (after Kovar et al. 2002).

Body space, metres, Y up, the ground at y = 0. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise, smootherstep
from .retarget import RigMotion
from .rotations import forward, swing

SIDES = ("left", "right")
HEEL_BEHIND_ANKLE = 0.04
REACH = 0.998


@dataclass(frozen=True)
class Plant:
    """A foot (``left`` or ``right``) that stands from frame ``start`` up to and including ``end``, counted from 0."""

    side: str
    start: int
    end: int


@dataclass(frozen=True)
class PlantSettings:
    """When a foot counts as planted: toes lower than ``height`` m above where they rest, and slower than ``speed`` m/s plus
    ``share`` of the pelvis's own speed.

    Feet of generated motion slide along with the body, so a fixed speed would miss the very plants that need mending; a
    swinging foot is about twice as fast as the body. A plant ends when a limit is exceeded ``hysteresis`` times. Shorter
    plants than ``frames`` are dropped.
    """

    speed: float = 0.45
    share: float = 0.75
    height: float = 0.035
    hysteresis: float = 1.5
    frames: int = 3


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over axis 0, the ends held."""
    reach = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, [(reach, reach)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    return np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), 0, padded)


def find_plants(joints: np.ndarray, rest: np.ndarray, fps: float, settings: PlantSettings | None = None) -> list[Plant]:
    """Plants of both feet in joints (F, J, 3); ``rest`` (J, 3) tells how high resting toes are."""
    settings = settings or PlantSettings()
    out = []
    travel = np.linalg.norm(np.gradient(joints[:, 0, [0, 2]], axis=0), axis=1) * fps if len(joints) > 1 else np.zeros(1)
    limit = settings.speed + settings.share * _smooth(travel, 0.2 * fps)
    for side in SIDES:
        toe = JOINT_INDEX[f"{side}_foot"]
        path = joints[:, toe]
        step = np.linalg.norm(np.diff(path[:, [0, 2]], axis=0), axis=1) * fps
        # a frame is as slow as the slower of its two neighbouring steps: plants keep their first and last frames
        speed = np.minimum(np.append(step, np.inf), np.insert(step, 0, np.inf)) if len(step) else np.zeros(1)
        height = path[:, 1] - min(rest[toe, 1], np.percentile(path[:, 1], 5) + 0.01)
        enter = (speed < limit) & (height < settings.height)
        stay = (speed < limit * settings.hysteresis) & (height < settings.height * settings.hysteresis)
        start: int | None = None
        for frame in range(len(path) + 1):
            planted = frame < len(path) and (stay[frame] if start is not None else enter[frame])
            if planted and start is None:
                start = frame
            elif not planted and start is not None:
                if frame - start >= settings.frames:
                    out.append(Plant(side, start, frame - 1))
                start = None
    return out


def soles(rest: np.ndarray, side: str) -> np.ndarray:
    """(2, 3) points under toes and heel of a resting foot, relative to its ankle."""
    ankle, toe = rest[JOINT_INDEX[f"{side}_ankle"]], rest[JOINT_INDEX[f"{side}_foot"]]
    points = np.stack([toe, ankle - [0, 0, HEEL_BEHIND_ANKLE]])
    points[:, 1] = 0.0
    return points - ankle


def penetration(motion: RigMotion, rest: np.ndarray) -> np.ndarray:
    """(F,) how far in metres the lowest sole point is below the ground."""
    joints = forward(motion.local, rest, motion.pelvis, SMPL_PARENTS)
    depth = np.zeros(len(joints))
    for side in SIDES:
        ankle = JOINT_INDEX[f"{side}_ankle"]
        points = joints[:, ankle, None] + soles(rest, side) @ np.swapaxes(motion.turned[:, ankle], -1, -2)
        depth = np.maximum(depth, -points[..., 1].min(1))
    return np.maximum(depth, 0)


def skating_ratio(joints: np.ndarray, fps: float) -> float:
    """Share of low toes (under 5 cm in two frames running) that move faster than 0.5 m/s."""
    feet = joints[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps
    low = (feet[1:, :, 1] < 0.05) & (feet[:-1, :, 1] < 0.05)
    return float((speed > 0.5)[low].mean()) if low.any() else 0.0


def _offsets(path: np.ndarray, plants: list[Plant], rest_height: float, strength: float, ease: int) -> np.ndarray:
    """(F, 3) how far a toe path (F, 3) must move: onto its plants, and smoothly from one to the next."""
    frames = len(path)
    out = np.zeros((frames, 3))
    ends: list[tuple[int, np.ndarray]] = []
    for plant in plants:
        start, end = max(plant.start, 0), min(plant.end, frames - 1)
        if end < start:
            continue
        inside = path[start : end + 1]
        anchor = np.median(inside, axis=0)
        anchor[1] = rest_height
        out[start : end + 1] = strength * (anchor - inside)
        ends += [(start, out[start].copy()), (end, out[end].copy())]

    def between(a: int, b: int, from_: np.ndarray, to: np.ndarray) -> None:
        span = b - a
        part = smootherstep(np.arange(1, span) / span)[:, None]
        out[a + 1 : b] = from_ + (to - from_) * part

    zero = np.zeros(3)
    if ends:
        first, last = ends[0][0], ends[-1][0]
        between(max(first - ease, -1), first, zero, ends[0][1])
        between(last, min(last + ease, frames), ends[-1][1], zero)
        for (a, da), (b, db) in zip(ends[1::2], ends[2::2], strict=False):
            between(a, b, da, db)
    return out


def lock(motion: RigMotion, rest: np.ndarray, plants: list[Plant], fps: float, mode: str = "hard") -> RigMotion:
    """The motion with its feet pinned to their plants and none below the ground.

    ``mode``: ``hard`` pins planted toes exactly, ``soft`` takes four fifths of the slide away, ``off`` changes nothing.
    What planted feet have in common, sliding along with the body, is taken off the body's path; the legs make up for the
    rest. Bones keep their lengths: where a leg is too short for its plant the pelvis comes down. Feet keep their
    orientation.
    """
    if mode == "off":
        return motion
    strength, ease = (1.0 if mode == "hard" else 0.8), max(2, round(0.25 * fps))
    joints = forward(motion.local, rest, motion.pelvis, SMPL_PARENTS)
    glide = strength * _glide(joints, plants)
    joints, motion = joints - glide[:, None], replace(motion, pelvis=motion.pelvis - glide)
    offsets = {}
    for side in SIDES:
        ankle, toe = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
        move = _offsets(joints[:, toe], [p for p in plants if p.side == side], rest[toe, 1], strength, ease)
        points = soles(rest, side) @ np.swapaxes(motion.turned[:, ankle], -1, -2)
        low = (joints[:, ankle, 1] + move[:, 1])[:, None] + points[..., 1]
        # what is still in the ground is lifted out, and its neighbours a little so that nothing jumps
        lift = np.maximum(-low.min(1), 0)
        move[:, 1] += np.maximum(lift, _smooth(_widest(lift, 2), 1.0))
        offsets[side] = move
    mean = _smooth(sum(offsets.values(), np.zeros_like(motion.pelvis)) / 2, 0.12 * fps)
    pelvis = motion.pelvis + mean * [1.0, 0.5, 1.0]
    pelvis = pelvis - [0, 1.0, 0] * _drop(joints, offsets, pelvis - motion.pelvis, rest, fps)[:, None]
    turned = motion.turned.copy()
    for side in SIDES:
        hip, knee, ankle = (JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle"))
        root = joints[:, hip] + (pelvis - motion.pelvis)
        target = joints[:, ankle] + offsets[side]
        thigh, shin = joints[:, knee] - joints[:, hip], joints[:, ankle] - joints[:, knee]
        new_knee = _bend(root, target, thigh, shin, turned[:, hip] @ np.array([0, 0, 1.0]))
        new_thigh = normalise(new_knee - root)
        new_shin = normalise(_reached(root, target, thigh, shin) - new_knee)
        turned[:, hip] = swing(normalise(thigh), new_thigh) @ turned[:, hip]
        turned[:, knee] = swing(normalise(shin), new_shin) @ turned[:, knee]
    return replace(motion, turned=turned, pelvis=pelvis)


def _glide(joints: np.ndarray, plants: list[Plant]) -> np.ndarray:
    """(F, 3) how far the body has slid along the ground since the first frame, seen from its planted feet."""
    steps = np.zeros((len(joints), 3))
    seen = np.zeros(len(joints))
    for plant in plants:
        toe = joints[:, JOINT_INDEX[f"{plant.side}_foot"]]
        rows = np.arange(max(plant.start, 0) + 1, min(plant.end, len(joints) - 1) + 1)
        steps[rows] += toe[rows] - toe[rows - 1]
        seen[rows] += 1
    known = np.flatnonzero(seen)
    if not len(known):
        return steps
    for axis in (0, 2):
        steps[:, axis] = np.interp(np.arange(len(joints)), known, steps[known, axis] / seen[known])
    steps[0] = steps[:, 1] = 0
    return np.cumsum(steps, 0)


def _widest(values: np.ndarray, reach: int) -> np.ndarray:
    """The maximum over ``reach`` frames either side."""
    padded = np.pad(values, reach, mode="edge")
    return np.max([padded[n : n + len(values)] for n in range(2 * reach + 1)], axis=0)


def _leg(rest: np.ndarray, side: str) -> float:
    hip, knee, ankle = (rest[JOINT_INDEX[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))


def _drop(joints: np.ndarray, offsets: dict[str, np.ndarray], shift: np.ndarray, rest: np.ndarray, fps: float) -> np.ndarray:
    """(F,) how far the pelvis comes down so that both ankles can be reached, smooth over time."""
    need = np.zeros(len(joints))
    for side, move in offsets.items():
        hip, ankle = JOINT_INDEX[f"{side}_hip"], JOINT_INDEX[f"{side}_ankle"]
        way = joints[:, ankle] + move - joints[:, hip] - shift
        longest = REACH * _leg(rest, side)
        flat = np.linalg.norm(way[:, [0, 2]], axis=1)
        allowed = np.sqrt(np.maximum(longest**2 - flat**2, (0.3 * longest) ** 2))
        need = np.maximum(need, -way[:, 1] - allowed)
    if not (need > 0).any():
        return need
    sigma = 0.1 * fps
    return _smooth(_widest(np.maximum(need, 0), max(1, int(np.ceil(3 * sigma)))), sigma)


def _reached(root: np.ndarray, target: np.ndarray, thigh: np.ndarray, shin: np.ndarray) -> np.ndarray:
    """Targets moved towards the hip where the leg is too short."""
    longest = REACH * (np.linalg.norm(thigh, axis=1) + np.linalg.norm(shin, axis=1))
    way = target - root
    length = np.linalg.norm(way, axis=1)
    return root + way * np.minimum(1, longest / np.maximum(length, 1e-9))[:, None]


def _bend(root: np.ndarray, target: np.ndarray, thigh: np.ndarray, shin: np.ndarray, front: np.ndarray) -> np.ndarray:
    """(F, 3) knees of two-bone legs from ``root`` to ``target`` that bend the way they did, or to the front if straight."""
    a, b = np.linalg.norm(thigh, axis=1), np.linalg.norm(shin, axis=1)
    end = _reached(root, target, thigh, shin)
    way = end - root
    length = np.clip(np.linalg.norm(way, axis=1), np.abs(a - b) + 1e-6, a + b - 1e-9)
    along = normalise(way)
    old = normalise(thigh + shin)
    out = thigh - old * (thigh * old).sum(-1, keepdims=True)
    # a straight leg has no bending side of its own; the front of the thigh takes over smoothly
    out = out + 0.02 * front
    out = normalise(out - along * (out * along).sum(-1, keepdims=True))
    share = (length**2 + a**2 - b**2) / (2 * length)
    side = np.sqrt(np.maximum(a**2 - share**2, 0))
    return root + along * share[:, None] + out * side[:, None]
