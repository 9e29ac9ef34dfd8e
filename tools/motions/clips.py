"""The plans of the bundled motions: walk, run, jump, wave, dance, turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latentman.shared.vectors import smoothstep

from .gait import AngleCurve, FootContact, MotionPlan
from .timeline import HIP_OFFSET, STANDING_HEIGHT

#: times (F,) in seconds -> values (F,), or (F, 4) for a root path
Curve = Callable[[np.ndarray], np.ndarray]


def _make_arm_angles(swing: Curve, elbow: float = 20.0, down: float = 72.0) -> dict[str, AngleCurve]:
    """Lowered arms that swing against the legs; ``swing(t)`` in degrees, positive brings the left arm forward."""
    return {
        "left_shoulder": lambda t: (-swing(t), 0 * t, -down + 0 * t),
        "right_shoulder": lambda t: (swing(t), 0 * t, down + 0 * t),
        "left_elbow": lambda t: (0 * t, -elbow - 0.3 * swing(t), 0 * t),
        "right_elbow": lambda t: (0 * t, elbow - 0.3 * swing(t), 0 * t),
    }


def _make_root_path(
    x: float | Curve = 0.0, height: float | Curve = STANDING_HEIGHT, z: float | Curve = 0.0, yaw: float | Curve = 0.0
) -> Curve:
    def path(t: np.ndarray) -> np.ndarray:
        values = [value(t) if callable(value) else value for value in (x, height, z, yaw)]
        return np.stack(np.broadcast_arrays(*values, t)[:4], 1)

    return path


def _make_steps(period: float, speed: float, stance: float, seconds: float, offset: float, x: float) -> list[FootContact]:
    """Contacts of one foot in a steady gait; the body passes over the foot in the middle of its stance."""
    out = []
    for n in range(-2, int(seconds / period) + 3):
        start = (n + offset) * period
        out.append(FootContact(start, start + stance * period, x, speed * (start + stance * period / 2)))
    return out


def plan_walk() -> MotionPlan:
    """A steady walk forward."""
    period, speed, seconds = 1.1, 1.15, 4.0

    def swing(t: np.ndarray) -> np.ndarray:
        return 24 * np.sin(2 * np.pi * (t / period + 0.02))

    contacts = (
        _make_steps(period, speed, 0.62, seconds, 0.0, HIP_OFFSET),
        _make_steps(period, speed, 0.62, seconds, 0.5, -HIP_OFFSET),
    )
    turns: dict[str, AngleCurve] = _make_arm_angles(swing) | {
        "spine1": lambda t: (3 + 0 * t, 4 * np.sin(2 * np.pi * t / period), 0 * t),
        "pelvis": lambda t: (2 + 0 * t, -5 * np.sin(2 * np.pi * t / period), 2 * np.cos(2 * np.pi * t / period)),
    }
    return MotionPlan(
        seconds,
        _make_root_path(z=lambda t: speed * t, height=lambda t: 0.925 - 0.012 * np.cos(4 * np.pi * t / period)),
        contacts,
        turns,
        0.09,
    )


def plan_run() -> MotionPlan:
    """A run forward, arms bent."""
    period, speed, seconds = 0.72, 2.7, 3.0

    def swing(t: np.ndarray) -> np.ndarray:
        return 42 * np.sin(2 * np.pi * (t / period + 0.05))

    contacts = (_make_steps(period, speed, 0.34, seconds, 0.0, 0.07), _make_steps(period, speed, 0.34, seconds, 0.5, -0.07))
    turns: dict[str, AngleCurve] = _make_arm_angles(swing, 85) | {
        "pelvis": lambda t: (10 + 0 * t, -7 * np.sin(2 * np.pi * t / period), 0 * t),
        "neck": lambda t: (-8 + 0 * t, 0 * t, 0 * t),
    }
    return MotionPlan(
        seconds,
        _make_root_path(z=lambda t: speed * t, height=lambda t: 0.91 + 0.03 * np.sin(4 * np.pi * t / period - 1.2)),
        contacts,
        turns,
        0.24,
    )


def plan_jump() -> MotionPlan:
    """Crouch, leap, land, stand."""
    lift_off, touch_down, top = 1.0, 1.55, 0.37

    def rise(t: np.ndarray) -> np.ndarray:
        u = np.clip((t - lift_off) / (touch_down - lift_off), 0, 1)
        return top * 4 * u * (1 - u)

    def crouch(t: np.ndarray) -> np.ndarray:
        return 0.24 * np.exp(-(((t - 0.72) / 0.20) ** 2)) + 0.20 * np.exp(-(((t - 1.68) / 0.16) ** 2))

    contacts = [FootContact(0, 9, HIP_OFFSET + 0.02, 0)], [FootContact(0, 9, -HIP_OFFSET - 0.02, 0)]
    turns: dict[str, AngleCurve] = {
        "left_shoulder": lambda t: (-120 * rise(t) / top + 150 * crouch(t), 0 * t, -72 + 0 * t),
        "right_shoulder": lambda t: (-120 * rise(t) / top + 150 * crouch(t), 0 * t, 72 + 0 * t),
        "left_elbow": lambda t: (0 * t, -20 + 0 * t, 0 * t),
        "right_elbow": lambda t: (0 * t, 20 + 0 * t, 0 * t),
        "pelvis": lambda t: (110 * crouch(t), 0 * t, 0 * t),
        "neck": lambda t: (-60 * crouch(t), 0 * t, 0 * t),
    }
    return MotionPlan(
        2.8,
        _make_root_path(height=lambda t: STANDING_HEIGHT - crouch(t) + rise(t), z=lambda t: -0.25 * crouch(t)),
        contacts,
        turns,
        feet_rise=rise,
    )


def plan_wave() -> MotionPlan:
    """Standing, the right hand waves."""

    def compute_raise(t: np.ndarray) -> np.ndarray:
        return smoothstep(t / 0.7) * np.clip((3.9 - t) / 0.6, 0, 1)

    contacts = [FootContact(0, 9, HIP_OFFSET, 0)], [FootContact(0, 9, -HIP_OFFSET, 0)]
    turns: dict[str, AngleCurve] = _make_arm_angles(lambda t: 3 * np.sin(1.7 * t)) | {
        "right_shoulder": lambda t: (0 * t, 12 * compute_raise(t), 72 - 82 * compute_raise(t)),
        "right_elbow": lambda t: (0 * t, 20 + 10 * compute_raise(t), -(78 + 24 * np.sin(2 * np.pi * 1.6 * t)) * compute_raise(t)),
        "spine2": lambda t: (0 * t, 0 * t, 3 * compute_raise(t)),
        "head": lambda t: (0 * t, -8 * compute_raise(t), 0 * t),
    }
    return MotionPlan(4.0, _make_root_path(x=lambda t: 0.015 * np.sin(1.5 * t)), contacts, turns)


def plan_dance() -> MotionPlan:
    """Steps from side to side with swinging hips and arms."""
    beat, seconds = 0.55, 4.4
    left, right, side = [FootContact(-1, 0.0, HIP_OFFSET, 0)], [FootContact(-1, beat * 1.0, -HIP_OFFSET, 0)], 1
    for n in range(int(seconds / beat)):
        foot = left if n % 2 == 0 else right
        reach = 0.20 * side
        start = n * beat + beat * 0.8
        foot[-1] = FootContact(foot[-1].start, n * beat + 0.1, foot[-1].x, foot[-1].z, foot[-1].yaw)
        foot.append(FootContact(start, start + 9, reach + (HIP_OFFSET if foot is left else -HIP_OFFSET), 0.0, 0.15 * side))
        side = -side if n % 2 else side

    def pulse(t: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * t / (2 * beat))

    turns: dict[str, AngleCurve] = {
        "left_shoulder": lambda t: (0 * t, -30 + 25 * pulse(t), -35 + 45 * pulse(t)),
        "right_shoulder": lambda t: (0 * t, 30 + 25 * pulse(t), 35 + 45 * pulse(t)),
        "left_elbow": lambda t: (0 * t, -60 - 25 * pulse(t), 0 * t),
        "right_elbow": lambda t: (0 * t, 60 - 25 * pulse(t), 0 * t),
        "pelvis": lambda t: (4 + 0 * t, 12 * pulse(t), 6 * pulse(t)),
        "spine2": lambda t: (0 * t, -16 * pulse(t), -6 * pulse(t)),
        "head": lambda t: (4 * np.cos(2 * np.pi * t / beat), 10 * pulse(t), 0 * t),
    }
    return MotionPlan(
        seconds,
        _make_root_path(
            x=lambda t: 0.12 * np.sin(2 * np.pi * (t - 0.4) / (4 * beat)),
            height=lambda t: 0.895 + 0.015 * np.cos(2 * np.pi * t / beat),
        ),
        (left, right),
        turns,
        0.10,
    )


def plan_turn() -> MotionPlan:
    """Turns half round on the spot in small steps."""
    seconds, step = 3.4, 0.45

    def yaw(t: np.ndarray) -> np.ndarray:
        return np.pi * smoothstep((t - 0.3) / 2.7)

    feet: tuple[list[FootContact], list[FootContact]] = ([], [])
    for which, (foot, sign) in enumerate(zip(feet, (1.0, -1.0), strict=True)):
        angle, start = 0.0, -1.0
        for n in range(4):
            end = 0.3 + (2 * n + which) * step * 0.8
            foot.append(FootContact(start, end, sign * HIP_OFFSET * np.cos(angle), -sign * HIP_OFFSET * np.sin(angle), angle))
            start = end + step * 0.75
            angle = float(yaw(np.array(start + step)))
        foot.append(FootContact(start, 9, sign * HIP_OFFSET * np.cos(np.pi), -sign * HIP_OFFSET * np.sin(np.pi), np.pi))
    turns: dict[str, AngleCurve] = _make_arm_angles(lambda t: 8 * np.sin(3 * t)) | {
        "neck": lambda t: (0 * t, 18 * np.sin(np.pi * np.clip(t / 3, 0, 1)), 0 * t)
    }
    return MotionPlan(seconds, _make_root_path(yaw=yaw), feet, turns, 0.07)


CLIPS = {
    "a person walks forward": plan_walk,
    "a person runs forward": plan_run,
    "a person jumps": plan_jump,
    "a person waves with the right hand": plan_wave,
    "a person dances": plan_dance,
    "a person turns around": plan_turn,
}
