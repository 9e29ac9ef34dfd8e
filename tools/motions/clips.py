"""The bundled performances: walk, run, jump, wave, dance, turn."""

from __future__ import annotations

import numpy as np

from latentman.shared.vectors import smoothstep

from .gait import Plan, Plant

HIP, STAND = 0.09, 0.93


def _arms(swing, elbow=20.0, down=72.0):
    """Lowered arms that swing against the legs; ``swing(t)`` in degrees, positive brings the left arm forward."""
    return {
        "left_shoulder": lambda t: (-swing(t), 0 * t, -down + 0 * t),
        "right_shoulder": lambda t: (swing(t), 0 * t, down + 0 * t),
        "left_elbow": lambda t: (0 * t, -elbow - 0.3 * swing(t), 0 * t),
        "right_elbow": lambda t: (0 * t, elbow - 0.3 * swing(t), 0 * t),
    }


def _root(x=0.0, height=STAND, z=0.0, yaw=0.0):
    def path(t: np.ndarray) -> np.ndarray:
        values = [value(t) if callable(value) else value for value in (x, height, z, yaw)]
        return np.stack(np.broadcast_arrays(*values, t)[:4], 1)

    return path


def _steps(period: float, speed: float, stance: float, seconds: float, offset: float, x: float) -> list[Plant]:
    """Plants of one foot in a steady gait; the body passes over the foot in the middle of its stance."""
    out = []
    for n in range(-2, int(seconds / period) + 3):
        start = (n + offset) * period
        out.append(Plant(start, start + stance * period, x, speed * (start + stance * period / 2)))
    return out


def walk() -> Plan:
    """A steady walk forward."""
    period, speed, seconds = 1.1, 1.15, 4.0

    def swing(t):
        return 24 * np.sin(2 * np.pi * (t / period + 0.02))

    gait = tuple(_steps(period, speed, 0.62, seconds, offset, x) for offset, x in ((0.0, HIP), (0.5, -HIP)))
    turns = _arms(swing) | {
        "spine1": lambda t: (3 + 0 * t, 4 * np.sin(2 * np.pi * t / period), 0 * t),
        "pelvis": lambda t: (2 + 0 * t, -5 * np.sin(2 * np.pi * t / period), 2 * np.cos(2 * np.pi * t / period)),
    }
    return Plan(
        seconds, _root(z=lambda t: speed * t, height=lambda t: 0.925 - 0.012 * np.cos(4 * np.pi * t / period)), gait, turns, 0.09
    )


def run() -> Plan:
    """A run forward, arms bent."""
    period, speed, seconds = 0.72, 2.7, 3.0

    def swing(t):
        return 42 * np.sin(2 * np.pi * (t / period + 0.05))

    gait = tuple(_steps(period, speed, 0.34, seconds, offset, x) for offset, x in ((0.0, 0.07), (0.5, -0.07)))
    turns = _arms(swing, 85) | {
        "pelvis": lambda t: (10 + 0 * t, -7 * np.sin(2 * np.pi * t / period), 0 * t),
        "neck": lambda t: (-8 + 0 * t, 0 * t, 0 * t),
    }
    return Plan(
        seconds,
        _root(z=lambda t: speed * t, height=lambda t: 0.91 + 0.03 * np.sin(4 * np.pi * t / period - 1.2)),
        gait,
        turns,
        0.24,
    )


def jump() -> Plan:
    """Crouch, leap, land, stand."""
    leave, land, top = 1.0, 1.55, 0.37

    def rise(t):
        u = np.clip((t - leave) / (land - leave), 0, 1)
        return top * 4 * u * (1 - u)

    def crouch(t):
        return 0.24 * np.exp(-(((t - 0.72) / 0.20) ** 2)) + 0.20 * np.exp(-(((t - 1.68) / 0.16) ** 2))

    both = tuple([Plant(0, 9, x, 0)] for x in (HIP + 0.02, -HIP - 0.02))
    turns = {
        "left_shoulder": lambda t: (-120 * rise(t) / top + 150 * crouch(t), 0 * t, -72 + 0 * t),
        "right_shoulder": lambda t: (-120 * rise(t) / top + 150 * crouch(t), 0 * t, 72 + 0 * t),
        "left_elbow": lambda t: (0 * t, -20 + 0 * t, 0 * t),
        "right_elbow": lambda t: (0 * t, 20 + 0 * t, 0 * t),
        "pelvis": lambda t: (110 * crouch(t), 0 * t, 0 * t),
        "neck": lambda t: (-60 * crouch(t), 0 * t, 0 * t),
    }
    return Plan(2.8, _root(height=lambda t: STAND - crouch(t) + rise(t), z=lambda t: -0.25 * crouch(t)), both, turns, airborne=rise)


def wave() -> Plan:
    """Standing, the right hand waves."""

    def raised(t):
        return smoothstep(t / 0.7) * np.clip((3.9 - t) / 0.6, 0, 1)

    both = tuple([Plant(0, 9, x, 0)] for x in (HIP, -HIP))
    turns = _arms(lambda t: 3 * np.sin(1.7 * t)) | {
        "right_shoulder": lambda t: (0 * t, 12 * raised(t), 72 - 82 * raised(t)),
        "right_elbow": lambda t: (0 * t, 20 + 10 * raised(t), -(78 + 24 * np.sin(2 * np.pi * 1.6 * t)) * raised(t)),
        "spine2": lambda t: (0 * t, 0 * t, 3 * raised(t)),
        "head": lambda t: (0 * t, -8 * raised(t), 0 * t),
    }
    return Plan(4.0, _root(x=lambda t: 0.015 * np.sin(1.5 * t)), both, turns)


def dance() -> Plan:
    """Steps from side to side with swinging hips and arms."""
    beat, seconds = 0.55, 4.4
    left, right, side = [Plant(-1, 0.0, HIP, 0)], [Plant(-1, beat * 1.0, -HIP, 0)], 1
    for n in range(int(seconds / beat)):
        foot = left if n % 2 == 0 else right
        reach = 0.20 * side
        start = n * beat + beat * 0.8
        foot[-1] = Plant(foot[-1].start, n * beat + 0.1, foot[-1].x, foot[-1].z, foot[-1].yaw)
        foot.append(Plant(start, start + 9, reach + (HIP if foot is left else -HIP), 0.0, 0.15 * side))
        side = -side if n % 2 else side

    def pulse(t):
        return np.sin(2 * np.pi * t / (2 * beat))

    turns = {
        "left_shoulder": lambda t: (0 * t, -30 + 25 * pulse(t), -35 + 45 * pulse(t)),
        "right_shoulder": lambda t: (0 * t, 30 + 25 * pulse(t), 35 + 45 * pulse(t)),
        "left_elbow": lambda t: (0 * t, -60 - 25 * pulse(t), 0 * t),
        "right_elbow": lambda t: (0 * t, 60 - 25 * pulse(t), 0 * t),
        "pelvis": lambda t: (4 + 0 * t, 12 * pulse(t), 6 * pulse(t)),
        "spine2": lambda t: (0 * t, -16 * pulse(t), -6 * pulse(t)),
        "head": lambda t: (4 * np.cos(2 * np.pi * t / beat), 10 * pulse(t), 0 * t),
    }
    return Plan(
        seconds,
        _root(
            x=lambda t: 0.12 * np.sin(2 * np.pi * (t - 0.4) / (4 * beat)),
            height=lambda t: 0.895 + 0.015 * np.cos(2 * np.pi * t / beat),
        ),
        (left, right),
        turns,
        0.10,
    )


def turn() -> Plan:
    """Turns half round on the spot in small steps."""
    seconds, step = 3.4, 0.45

    def yaw(t):
        return np.pi * smoothstep((t - 0.3) / 2.7)

    feet: tuple[list[Plant], list[Plant]] = ([], [])
    for which, (foot, sign) in enumerate(zip(feet, (1.0, -1.0), strict=True)):
        angle, start = 0.0, -1.0
        for n in range(4):
            end = 0.3 + (2 * n + which) * step * 0.8
            foot.append(Plant(start, end, sign * HIP * np.cos(angle), -sign * HIP * np.sin(angle), angle))
            start = end + step * 0.75
            angle = float(yaw(np.array(start + step)))
        foot.append(Plant(start, 9, sign * HIP * np.cos(np.pi), -sign * HIP * np.sin(np.pi), np.pi))
    turns = _arms(lambda t: 8 * np.sin(3 * t)) | {"neck": lambda t: (0 * t, 18 * np.sin(np.pi * np.clip(t / 3, 0, 1)), 0 * t)}
    return Plan(seconds, _root(yaw=yaw), feet, turns, 0.07)


CLIPS = {
    "a person walks forward": walk,
    "a person runs forward": run,
    "a person jumps": jump,
    "a person waves with the right hand": wave,
    "a person dances": dance,
    "a person turns around": turn,
}
