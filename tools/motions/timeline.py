"""Puts passages of movement one after another: each starts and ends standing, and says how the body travels meanwhile.

Everything is sampled at HumanML3D's 20 frames a second. Metres and seconds; velocities are in the heading frame: x to the
left, z ahead, yaw positive to the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS
from latentman.shared.vectors import smootherstep

from .gait import Plan, Plant

HIP, STAND = 0.09, 0.93
NEUTRAL = {
    "left_shoulder": (0.0, 0.0, -72.0),
    "right_shoulder": (0.0, 0.0, 72.0),
    "left_elbow": (0.0, -20.0, 0.0),
    "right_elbow": (0.0, 20.0, 0.0),
}


@dataclass(frozen=True)
class Step:
    """One foot (0 left, 1 right) leaves the ground at ``leave`` and lands at ``land`` seconds, where the body is at ``aim``."""

    foot: int
    leave: float
    land: float
    aim: float
    lift: float = 0.09
    out: float = 0.0


@dataclass
class Passage:
    """F frames of movement: ``velocity`` (F, 2) as (x, z), ``turning`` (F,) radians a second, ``height`` (F,) added to the
    pelvis, ``lean`` (F, 2) moves it (x, z) and comes back, ``rise`` (F,) lifts both feet, ``angles`` are added to the neutral
    pose in degrees, ``swings`` foot -> (weight (F,), place (F, 3))."""

    frames: int
    steps: list[Step] = field(default_factory=list)
    angles: dict[str, np.ndarray] = field(default_factory=dict)
    swings: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.velocity, self.lean = np.zeros((self.frames, 2)), np.zeros((self.frames, 2))
        self.turning, self.height, self.rise = (np.zeros(self.frames) for _ in range(3))

    @property
    def t(self) -> np.ndarray:
        """(F,) seconds."""
        return np.arange(self.frames) / HUMANML_FPS

    def turn(self, joint: str, x=0.0, y=0.0, z=0.0) -> None:
        """Add angles in degrees to a joint, numbers or (F,)."""
        more = np.stack(np.broadcast_arrays(x, y, z, np.zeros(self.frames))[:3], 1)
        self.angles[joint] = self.angles.get(joint, 0.0) + more

    def turn_both(self, joint: str, x=0.0, y=0.0, z=0.0) -> None:
        """Add mirrored angles to a joint of both sides; written for the left one."""
        self.turn(f"left_{joint}", x, y, z)
        self.turn(f"right_{joint}", x, -np.asarray(y), -np.asarray(z))

    def turn_side(self, joint: str, foot: int, x=0.0, y=0.0, z=0.0) -> None:
        """Add angles to a joint of one side (0 left, 1 right); written for the left one."""
        sign = 1 - 2 * foot
        self.turn(f"{('left', 'right')[foot]}_{joint}", x, sign * np.asarray(y), sign * np.asarray(z))


def hold(t: np.ndarray, start: float, end: float, ease: float) -> np.ndarray:
    """0, then 1 between ``start`` and ``end``, then 0, each change within ``ease`` seconds inside."""
    return smootherstep((t - start) / ease) * smootherstep((end - t) / ease)


def plan(passages: list[Passage]) -> Plan:
    """One performance of them all, standing at the origin and facing +Z at first."""
    frames = sum(p.frames for p in passages)
    t = np.arange(frames) / HUMANML_FPS
    velocity, turning, lean = (np.concatenate([getattr(p, name) for p in passages]) for name in ("velocity", "turning", "lean"))
    height, rise = (np.concatenate([getattr(p, name) for p in passages]) for name in ("height", "rise"))
    yaw = np.concatenate([[0.0], np.cumsum(turning[:-1] / HUMANML_FPS)])

    def world(local: np.ndarray) -> np.ndarray:
        c, s = np.cos(yaw), np.sin(yaw)
        return np.stack([c * local[:, 0] + s * local[:, 1], -s * local[:, 0] + c * local[:, 1]], 1)

    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(world(velocity)[:-1] / HUMANML_FPS, 0)])
    root = np.stack([travelled[:, 0], STAND + height, travelled[:, 1], yaw], 1)
    root[:, [0, 2]] += world(lean)
    feet: tuple[list[Plant], list[Plant]] = ([Plant(-1.0, 1e9, HIP, 0.0)], [Plant(-1.0, 1e9, -HIP, 0.0)])
    began = 0.0
    for passage in passages:
        for step in passage.steps:
            at = min(began + step.aim, t[-1])
            x, z, facing = (float(np.interp(at, t, values)) for values in (travelled[:, 0], travelled[:, 1], yaw))
            aside = (HIP + step.out) * (1 - 2 * step.foot)
            own = feet[step.foot]
            last = own[-1]
            own[-1] = Plant(last.start, began + step.leave, last.x, last.z, last.yaw, last.lift)
            own.append(Plant(began + step.land, 1e9, x + aside * np.cos(facing), z - aside * np.sin(facing), facing, step.lift))
        began += passage.frames / HUMANML_FPS
    turns = {
        joint: _curve(
            t,
            np.concatenate([np.broadcast_to(p.angles.get(joint, np.zeros(3)), (p.frames, 3)) for p in passages])
            + NEUTRAL.get(joint, (0.0, 0.0, 0.0)),
        )
        for joint in sorted({name for p in passages for name in p.angles} | set(NEUTRAL))
    }
    return Plan(
        frames / HUMANML_FPS, lambda _: root, feet, turns, airborne=lambda _: rise, swung=(_swing(passages, 0), _swing(passages, 1))
    )


def _curve(t: np.ndarray, values: np.ndarray):
    return lambda _: tuple(values.T)


def _swing(passages: list[Passage], foot: int):
    if not any(foot in p.swings for p in passages):
        return None
    still = np.array([HIP * (1 - 2 * foot), 0.08, 0.0])
    both = [p.swings.get(foot, (np.zeros(p.frames), np.broadcast_to(still, (p.frames, 3)))) for p in passages]
    weight, place = (np.concatenate([pair[n] for pair in both]) for n in (0, 1))
    return lambda _: (weight, place)
