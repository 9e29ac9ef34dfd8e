"""Joins segments of movement one after another. Each starts and ends standing and holds how the body travels in between.

Everything is sampled at HumanML3D's 20 frames per second. Metres and seconds; velocities are in the heading frame: x to the
left, z ahead, yaw positive to the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS
from latentman.shared.vectors import smootherstep

from .gait import AngleCurve, FootContact, FreeFootPath, MotionPlan

#: distance of a standing foot from the middle, and height of a standing pelvis, in metres
HIP_OFFSET, STANDING_HEIGHT = 0.09, 0.93
NEUTRAL_POSE = {
    "left_shoulder": (0.0, 0.0, -72.0),
    "right_shoulder": (0.0, 0.0, 72.0),
    "left_elbow": (0.0, -20.0, 0.0),
    "right_elbow": (0.0, 20.0, 0.0),
}


#: degrees: a number, or (F,)
Angle = float | np.ndarray


@dataclass(frozen=True)
class Step:
    """A step of one foot (0 left, 1 right), in seconds from the start of its segment.

    The foot leaves the ground at ``lift_off`` and lands at ``touch_down``, below the place where the body will be at ``body_time``;
    it swings ``step_height`` metres high and lands ``sideways`` metres farther out than the hip.
    """

    foot: int
    lift_off: float
    touch_down: float
    body_time: float
    step_height: float = 0.09
    sideways: float = 0.0


@dataclass
class Segment:
    """F frames of movement.

    ``velocity`` (F, 2) is (x, z) in metres per second, ``turning`` (F,) in radians per second. ``height`` (F,) and ``lean`` (F, 2),
    as (x, z), are added to the pelvis's place and end at 0; ``rise`` (F,) lifts both feet; all in metres. ``angles`` (F, 3) of a
    joint are added to the neutral pose, in degrees. ``free_feet`` gives, for a foot that leaves its footsteps, how far it does so
    (F,), 0..1, and its place then (F, 3).
    """

    frames: int
    steps: list[Step] = field(default_factory=list)
    angles: dict[str, np.ndarray] = field(default_factory=dict)
    free_feet: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.velocity, self.lean = np.zeros((self.frames, 2)), np.zeros((self.frames, 2))
        self.turning, self.height, self.rise = (np.zeros(self.frames) for _ in range(3))

    @property
    def t(self) -> np.ndarray:
        """(F,) seconds."""
        return np.arange(self.frames) / HUMANML_FPS

    def rotate(self, joint: str, x: Angle = 0.0, y: Angle = 0.0, z: Angle = 0.0) -> None:
        """Add Euler angles in degrees to a joint: numbers, or arrays (F,)."""
        more = np.stack(np.broadcast_arrays(x, y, z, np.zeros(self.frames))[:3], 1)
        self.angles[joint] = self.angles.get(joint, 0.0) + more

    def rotate_both(self, joint: str, x: Angle = 0.0, y: Angle = 0.0, z: Angle = 0.0) -> None:
        """Add angles to a joint of both sides; they are those of the left one and are mirrored for the right one."""
        self.rotate(f"left_{joint}", x, y, z)
        self.rotate(f"right_{joint}", x, -np.asarray(y), -np.asarray(z))

    def rotate_side(self, joint: str, foot: int, x: Angle = 0.0, y: Angle = 0.0, z: Angle = 0.0) -> None:
        """Add angles to a joint of one side (0 left, 1 right); those of the left one, mirrored for the right one."""
        sign = 1 - 2 * foot
        self.rotate(f"{('left', 'right')[foot]}_{joint}", x, sign * np.asarray(y), sign * np.asarray(z))


def plateau(t: np.ndarray, start: float, end: float, ease: float) -> np.ndarray:
    """0 outside ``start`` and ``end``, 1 in between, with ``ease`` seconds of smooth change inside both ends."""
    return smootherstep((t - start) / ease) * smootherstep((end - t) / ease)


def join_segments(segments: list[Segment]) -> MotionPlan:
    """One plan of all the segments, which begins standing at the origin and facing +Z."""
    frames = sum(p.frames for p in segments)
    t = np.arange(frames) / HUMANML_FPS
    velocity, turning, lean = (np.concatenate([getattr(p, name) for p in segments]) for name in ("velocity", "turning", "lean"))
    height, rise = (np.concatenate([getattr(p, name) for p in segments]) for name in ("height", "rise"))
    yaw = np.concatenate([[0.0], np.cumsum(turning[:-1] / HUMANML_FPS)])

    def world(local: np.ndarray) -> np.ndarray:
        c, s = np.cos(yaw), np.sin(yaw)
        return np.stack([c * local[:, 0] + s * local[:, 1], -s * local[:, 0] + c * local[:, 1]], 1)

    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(world(velocity)[:-1] / HUMANML_FPS, 0)])
    root = np.stack([travelled[:, 0], STANDING_HEIGHT + height, travelled[:, 1], yaw], 1)
    root[:, [0, 2]] += world(lean)
    feet: tuple[list[FootContact], list[FootContact]] = (
        [FootContact(-1.0, 1e9, HIP_OFFSET, 0.0)],
        [FootContact(-1.0, 1e9, -HIP_OFFSET, 0.0)],
    )
    began = 0.0
    for segment in segments:
        for step in segment.steps:
            at = min(began + step.body_time, t[-1])
            x, z, facing = (float(np.interp(at, t, values)) for values in (travelled[:, 0], travelled[:, 1], yaw))
            aside = (HIP_OFFSET + step.sideways) * (1 - 2 * step.foot)
            own = feet[step.foot]
            last = own[-1]
            own[-1] = FootContact(last.start, began + step.lift_off, last.x, last.z, last.yaw, last.step_height)
            own.append(
                FootContact(
                    began + step.touch_down, 1e9, x + aside * np.cos(facing), z - aside * np.sin(facing), facing, step.step_height
                )
            )
        began += segment.frames / HUMANML_FPS
    turns = {
        joint: _as_curve(
            np.concatenate([np.broadcast_to(p.angles.get(joint, np.zeros(3)), (p.frames, 3)) for p in segments])
            + NEUTRAL_POSE.get(joint, (0.0, 0.0, 0.0)),
        )
        for joint in sorted({name for p in segments for name in p.angles} | set(NEUTRAL_POSE))
    }
    return MotionPlan(
        frames / HUMANML_FPS,
        lambda _: root,
        feet,
        turns,
        feet_rise=lambda _: rise,
        free_feet=(_join_free_foot(segments, 0), _join_free_foot(segments, 1)),
    )


def _as_curve(values: np.ndarray) -> AngleCurve:
    """The curve of angles (F, 3) that are sampled already."""
    x, y, z = values.T
    return lambda _: (x, y, z)


def _join_free_foot(segments: list[Segment], foot: int) -> FreeFootPath | None:
    if not any(foot in p.free_feet for p in segments):
        return None
    still = np.array([HIP_OFFSET * (1 - 2 * foot), 0.08, 0.0])
    both = [p.free_feet.get(foot, (np.zeros(p.frames), np.broadcast_to(still, (p.frames, 3)))) for p in segments]
    weight, place = (np.concatenate([pair[n] for pair in both]) for n in (0, 1))
    return lambda _: (weight, place)
