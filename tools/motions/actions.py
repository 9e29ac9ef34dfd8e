"""The actions of performances: each makes a segment of a timeline from a move, with random variation."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS
from latentman.shared.vectors import smootherstep

from .timeline import HIP_OFFSET, Segment, Step, plateau

GAITS = ("walk", "run", "limp", "sneak", "march")
DIRECTIONS = ("forward", "backward", "left", "right", "circle left", "circle right")
PACE_FACTORS = {"slow": 0.72, "": 1.0, "fast": 1.38}
SIDES = ("left", "right")
#: action -> its directions, whether it has a side, and how many repetitions can be asked for at most
MOVE_CHOICES: dict[str, tuple[tuple[str, ...], bool, int]] = {
    "walk": (DIRECTIONS, False, 0),
    "run": (("forward", "backward", "circle left", "circle right"), False, 0),
    "jump": (("", "forward"), False, 3),
    "hop": (("", "forward"), True, 0),
    "turn": (("left", "right", "around"), False, 0),
    "wave": (("",), True, 0),
    "punch": (("",), True, 3),
    "kick": (("",), True, 3),
    "squat": (("",), False, 3),
    "sit": (("",), False, 0),
    "dance": (("",), False, 0),
    "bow": (("",), False, 2),
    "clap": (("",), False, 0),
    "throw": (("",), True, 0),
    "limp": (("forward",), True, 0),
    "sneak": (("forward",), False, 0),
    "march": (("forward", "in place"), False, 0),
}
STYLES = ("", "happy", "sad")


@dataclass(frozen=True)
class Move:
    """What a performer is asked to do. Fields that do not apply to the action are empty or 0."""

    action: str
    direction: str = ""
    pace: str = ""
    side: str = ""
    count: int = 0
    style: str = ""


def sample_move(generator: np.random.Generator, action: str | None = None) -> Move:
    """A random move, of one action if it is given."""

    def pick(options: Sequence[str], p: Sequence[float] | None = None) -> str:
        return options[int(generator.choice(len(options), p=p))]

    action = action or pick(tuple(MOVE_CHOICES))
    directions, sided, most = MOVE_CHOICES[action]
    return Move(
        action,
        pick(directions),
        pick(("", "slow", "fast"), (0.5, 0.25, 0.25)),
        pick(SIDES) if sided else "",
        int(generator.integers(1, most + 1)) if most else 0,
        pick(STYLES, (0.7, 0.15, 0.15)) if action == "walk" else "",
    )


def is_held_out(moves: tuple[Move, ...]) -> bool:
    """Whether these moves in this order are kept from training: one in twelve, the same on every machine."""
    return zlib.crc32(repr(moves).encode()) % 12 == 0


def list_moves(action: str) -> list[Move]:
    """All moves of an action."""
    directions, sided, most = MOVE_CHOICES[action]
    return [
        Move(action, direction, pace, side, count, style)
        for direction in directions
        for pace in PACE_FACTORS
        for side in (SIDES if sided else ("",))
        for count in (range(1, most + 1) if most else (0,))
        for style in (STYLES if action == "walk" else ("",))
    ]


def _count_frames(seconds: float) -> int:
    return max(8, round(seconds * HUMANML_FPS))


def _add_steps(
    segment: Segment, period: float, stance: float, until: float, step_height: float, first: int, start: float = 0.05
) -> None:
    """Add alternating steps until both feet have landed where the body stands after ``until`` seconds."""
    swing, n, landed = (1 - stance) * period, 0, {0: False, 1: False}
    while not all(landed.values()):
        lift_off = start + n * period / 2
        foot, touch_down = (first + n) % 2, lift_off + swing
        body_time = touch_down + stance * period / 2
        landed[foot] = body_time >= until
        segment.steps.append(Step(foot, lift_off, touch_down, body_time, step_height))
        n += 1


def _make_travel(
    move: Move,
    g: np.random.Generator,
    seconds: float,
    speed: float,
    period: float,
    stance: float,
    step_height: float,
) -> tuple[Segment, np.ndarray, np.ndarray]:
    """Footsteps and path of a gait; with it its phase (F,) in cycles and how much it is under way (F,), 0..1."""
    tail = period * 1.6
    segment = Segment(_count_frames(seconds + tail))
    going = plateau(segment.t, 0.0, seconds + 0.2, 0.7)
    ahead = {"backward": -0.75, "left": 0.0, "right": 0.0, "in place": 0.0}.get(move.direction, 1.0)
    aside = {"left": 0.5, "right": -0.5}.get(move.direction, 0.0)
    segment.velocity[:] = speed * going[:, None] * [aside, ahead]
    if move.direction.startswith("circle"):
        radius = g.uniform(0.9, 1.5) * (1.6 if move.action == "run" else 1.0)
        segment.turning[:] = going * speed / radius * (1 if move.direction.endswith("left") else -1)
    first = {"left": 0, "right": 1}.get(move.direction, int(g.integers(2)))
    _add_steps(segment, period, stance, seconds + 0.2, step_height, first)
    return segment, segment.t / period + 0.5 * first, going


def _swing_arms(segment: Segment, phase: np.ndarray, amount: np.ndarray, degrees: float, elbow: float = 0.0) -> None:
    swing = degrees * amount * np.sin(2 * np.pi * (phase + 0.02))
    segment.rotate("left_shoulder", -swing)
    segment.rotate("right_shoulder", swing)
    segment.rotate("left_elbow", y=-elbow * amount - 0.3 * swing)
    segment.rotate("right_elbow", y=elbow * amount - 0.3 * swing)
    segment.rotate("pelvis", 2 * amount, -0.2 * swing, 2 * amount * np.cos(2 * np.pi * phase))
    segment.rotate("spine1", 0, 0.17 * swing, 0)


def make_walk(move: Move, g: np.random.Generator) -> Segment:
    """A walk in any direction, cheerful or tired."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.92, 1.08) * {"sad": 0.8, "happy": 1.06}.get(move.style, 1.0)
    period, speed = 1.1 / pace**0.5, 1.12 * pace
    segment, phase, going = _make_travel(move, g, g.uniform(1.8, 4.2), speed, period, 0.62, 0.09 if move.style != "sad" else 0.06)
    _swing_arms(segment, phase, going, (24 if move.style != "sad" else 9) * pace**0.5 * g.uniform(0.8, 1.2))
    bounce = 0.012 if move.style != "happy" else 0.03
    segment.height -= going * (0.005 + bounce * np.cos(4 * np.pi * phase))
    if move.style == "sad":
        segment.rotate("spine2", 12 * going)
        segment.rotate("neck", 22 * going)
    elif move.style == "happy":
        segment.rotate("neck", -6 * going, 0, 6 * going * np.sin(2 * np.pi * phase))
        segment.rotate_both("shoulder", z=8 * going)
    return segment


def make_run(move: Move, g: np.random.Generator) -> Segment:
    """A run, arms bent."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.92, 1.08)
    segment, phase, going = _make_travel(move, g, g.uniform(1.6, 3.2), 2.3 * pace, 0.74 / pace**0.4, 0.38, 0.22)
    _swing_arms(segment, phase, going, 40 * g.uniform(0.85, 1.15), 65)
    segment.rotate("pelvis", 8 * going)
    segment.rotate("neck", -8 * going)
    segment.height -= going * (0.03 - 0.03 * np.sin(4 * np.pi * phase - 1.2))
    return segment


def make_limp(move: Move, g: np.random.Generator) -> Segment:
    """A walk that spares one leg: the body drops and leans over it."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.9, 1.1)
    foot = SIDES.index(move.side)
    segment, phase, going = _make_travel(move, g, g.uniform(2.2, 4.0), 0.7 * pace, 1.25 / pace**0.5, 0.64, 0.05)
    # the phase at which the spared foot bears the body
    first = segment.steps[0].foot
    over = np.clip(np.sin(2 * np.pi * (phase - 0.5 * first) - 2 * np.pi * (0.5 * ((foot - first) % 2) + 0.38)), 0, 1)
    _swing_arms(segment, phase, going, 10)
    sign = 1 - 2 * foot
    segment.height -= going * (0.02 + 0.07 * over)
    segment.rotate("pelvis", 4 * going, 0, -sign * 7 * going * over)
    segment.rotate("spine2", 6 * going, 0, -sign * 10 * going * over)
    segment.rotate_side("shoulder", foot, z=-4 * going)
    return segment


def make_sneak(move: Move, g: np.random.Generator) -> Segment:
    """Crouched, careful steps, hands before the chest."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.9, 1.1)
    segment, phase, going = _make_travel(move, g, g.uniform(2.4, 4.4), 0.5 * pace, 1.5 / pace**0.5, 0.66, 0.2)
    segment.height -= going * (0.2 + 0.02 * np.cos(4 * np.pi * phase))
    segment.lean[:, 1] -= 0.05 * going
    segment.rotate("spine1", 18 * going)
    segment.rotate("spine2", 14 * going, 6 * going * np.sin(2 * np.pi * phase))
    segment.rotate("neck", -20 * going, 14 * going * np.sin(np.pi * phase))
    segment.rotate_both("shoulder", x=-35 * going)
    segment.rotate_both("elbow", y=-75 * going)
    return segment


def make_march(move: Move, g: np.random.Generator) -> Segment:
    """High knees, straight swinging arms."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.93, 1.07)
    segment, phase, going = _make_travel(move, g, g.uniform(2.2, 4.0), 0.85 * pace, 1.05 / pace, 0.54, 0.34)
    _swing_arms(segment, phase, going, 48, -12)
    segment.rotate("neck", -4 * going)
    return segment


def make_turn(move: Move, g: np.random.Generator) -> Segment:
    """Turns on the spot in small steps."""
    pace = PACE_FACTORS[move.pace] * g.uniform(0.9, 1.1)
    angle = {"left": np.pi / 2, "right": -np.pi / 2}.get(move.direction, np.pi * (1 if g.random() < 0.5 else -1))
    seconds = (1.2 if abs(angle) < 2 else 2.2) / pace
    segment = Segment(_count_frames(seconds + 1.2))
    there = smootherstep(segment.t / seconds)
    segment.turning[:-1] = np.diff(angle * there) * HUMANML_FPS
    _add_steps(segment, 0.72, 0.5, seconds, 0.07, 0 if angle > 0 else 1)
    segment.rotate("neck", 0, np.degrees(angle) * 0.15 * np.sin(np.pi * there))
    return segment


def make_jump(move: Move, g: np.random.Generator) -> Segment:
    """Crouch, leap, land, as often as asked."""
    pace = PACE_FACTORS[move.pace] ** 0.5
    top, reach = g.uniform(0.28, 0.42), g.uniform(0.45, 0.8) if move.direction == "forward" else 0.0
    flight, cycle = 0.55, 1.75 / pace
    segment = Segment(_count_frames(cycle * move.count + 0.4))
    t = segment.t
    for n in range(move.count):
        lift_off = n * cycle + 0.75 / pace
        touch_down = lift_off + flight
        u = np.clip((t - lift_off) / flight, 0, 1)
        rise = top * 4 * u * (1 - u)
        crouch = 0.24 * np.exp(-(((t - lift_off + 0.22) / 0.17) ** 2)) + 0.2 * np.exp(-(((t - touch_down - 0.12) / 0.15) ** 2))
        segment.rise += rise
        segment.height += rise - crouch
        segment.lean[:, 1] -= 0.25 * crouch
        segment.velocity[:, 1] += reach * ((t >= lift_off) & (t < touch_down)) / flight
        segment.rotate("pelvis", 110 * crouch)
        segment.rotate("neck", -60 * crouch)
        segment.rotate_both("shoulder", x=-120 * rise / top + 150 * crouch)
        if reach:
            segment.steps += [Step(foot, lift_off, touch_down, touch_down + 0.05, 0.0) for foot in (0, 1)]
    return segment


def make_hop(move: Move, g: np.random.Generator) -> Segment:
    """Small jumps on one foot, the other held up behind."""
    pace, foot = PACE_FACTORS[move.pace], SIDES.index(move.side)
    hops, cycle, flight = int(g.integers(3, 6)), 0.62 / pace**0.6, 0.3
    top, reach = g.uniform(0.1, 0.16), g.uniform(0.25, 0.4) if move.direction == "forward" else 0.0
    segment = Segment(_count_frames(hops * cycle + 1.5))
    t, other, began = segment.t, 1 - foot, 0.6
    for n in range(hops):
        lift_off = began + n * cycle
        u = np.clip((t - lift_off) / flight, 0, 1)
        dip = 0.07 * np.exp(-(((t - lift_off + 0.1) / 0.09) ** 2))
        segment.rise += top * 4 * u * (1 - u)
        segment.height += top * 4 * u * (1 - u) - dip
        segment.velocity[:, 1] += reach * ((t >= lift_off) & (t < lift_off + flight)) / flight
        if reach:
            segment.steps.append(Step(foot, lift_off, lift_off + flight, lift_off + flight + 0.04, 0.0))
    end = began + hops * cycle
    if reach:
        segment.steps.append(Step(other, 0.2, end + 0.55, end + 0.6, 0.0))
    up = plateau(t, 0.1, end + 0.6, 0.4)
    sign = 1 - 2 * other
    segment.free_feet[other] = (
        up,
        np.stack([np.full(len(t), HIP_OFFSET * sign * 0.9), 0.32 + segment.rise, np.full(len(t), -0.28)], 1),
    )
    segment.lean[:, 0] -= sign * 0.06 * up
    segment.height -= 0.02 * up
    segment.rotate_both("shoulder", x=-12 * up, z=22 * up)
    return segment


def make_wave(move: Move, g: np.random.Generator) -> Segment:
    """A raised hand waves."""
    hand, rate = SIDES.index(move.side), 1.6 * PACE_FACTORS[move.pace] * g.uniform(0.9, 1.1)
    segment = Segment(_count_frames(g.uniform(2.4, 4.0)))
    t = segment.t
    up = plateau(t, 0.1, t[-1] - 0.05, 0.6)
    segment.rotate_side("shoulder", hand, y=-12 * up, z=(82 + g.uniform(-8, 14)) * up)
    segment.rotate_side("elbow", hand, y=-10 * up, z=(78 + 24 * np.sin(2 * np.pi * rate * t)) * up)
    segment.rotate("spine2", 0, 0, (1 - 2 * hand) * -3 * up)
    segment.rotate("head", 0, (1 - 2 * hand) * 8 * up)
    return segment


def _make_strikes(move: Move, seconds: float, width: float, g: np.random.Generator) -> tuple[Segment, list[np.ndarray]]:
    """A segment, and for each of ``count`` strikes a short bump (F,) of height 1."""
    cycle = seconds / PACE_FACTORS[move.pace] * g.uniform(0.92, 1.08)
    segment = Segment(_count_frames(cycle * max(move.count, 1) + 0.7))
    narrow = width / PACE_FACTORS[move.pace] ** 0.5
    return segment, [np.exp(-(((segment.t - 0.35 - (n + 0.5) * cycle) / narrow) ** 2)) for n in range(max(move.count, 1))]


def make_punch(move: Move, g: np.random.Generator) -> Segment:
    """Fists up, one arm shoots forward."""
    hand = SIDES.index(move.side)
    segment, strikes = _make_strikes(move, 0.85, 0.14, g)
    guard = plateau(segment.t, 0.0, segment.t[-1], 0.35)
    out = np.clip(sum(strikes), 0, 1)
    segment.rotate_both("shoulder", x=-38 * guard)
    segment.rotate_both("elbow", y=-95 * guard)
    segment.rotate_side("shoulder", hand, x=-44 * out, z=-6 * out)
    segment.rotate_side("elbow", hand, y=108 * out)
    sign = 1 - 2 * hand
    segment.rotate("spine2", 4 * out, -sign * 24 * out)
    segment.rotate("pelvis", 3 * out, -sign * 8 * out)
    segment.lean[:, 1] += 0.05 * out
    segment.height -= 0.03 * guard
    return segment


def make_kick(move: Move, g: np.random.Generator) -> Segment:
    """One leg swings forward and up."""
    foot, high = SIDES.index(move.side), g.uniform(0.5, 0.8)
    segment, strikes = _make_strikes(move, 1.25, 0.17, g)
    t, sign = segment.t, 1 - 2 * foot
    out = np.clip(sum(strikes), 0, 1)
    off = np.clip(sum(np.exp(-((np.abs(np.log(np.maximum(b, 1e-9))) / 6.0) ** 2)) for b in strikes), 0, 1)
    place = np.stack([np.full(len(t), HIP_OFFSET * sign * 0.8), 0.2 + (high - 0.2) * out, -0.22 + 0.85 * out], 1)
    segment.free_feet[foot] = (off, place)
    segment.lean[:, 0] -= sign * 0.05 * off
    segment.lean[:, 1] -= 0.06 * out
    segment.rotate("pelvis", -10 * out)
    segment.rotate_both("shoulder", x=-14 * off, z=24 * off)
    segment.rotate_side("shoulder", 1 - foot, x=-28 * out)
    segment.height -= 0.015 * off
    return segment


def make_squat(move: Move, g: np.random.Generator) -> Segment:
    """Down with a straight back and up again, arms forward."""
    cycle, deep = 1.7 / PACE_FACTORS[move.pace] * g.uniform(0.92, 1.08), g.uniform(0.36, 0.46)
    segment = Segment(_count_frames(cycle * move.count + 0.3))
    u = np.clip(segment.t / cycle, 0, move.count)
    down = 0.5 - 0.5 * np.cos(2 * np.pi * u)
    segment.height -= deep * down
    segment.lean[:, 1] -= 0.16 * down
    segment.rotate("pelvis", 34 * down)
    segment.rotate("neck", -18 * down)
    segment.rotate_both("shoulder", x=-92 * down)
    segment.rotate_both("elbow", y=14 * down)
    return segment


def make_sit(move: Move, g: np.random.Generator) -> Segment:
    """Sits down as on a chair, stays, and stands up."""
    ease, stay = 1.1 / PACE_FACTORS[move.pace], g.uniform(1.0, 2.2)
    segment = Segment(_count_frames(2 * ease + stay + 0.4))
    t = segment.t
    down = plateau(t, 0.1, t[-1] - 0.05, ease)
    bent = 4 * down * (1 - down)
    segment.height -= 0.42 * down
    segment.lean[:, 1] -= 0.36 * down
    segment.rotate("pelvis", 38 * bent)
    segment.rotate("neck", -15 * bent)
    segment.rotate_both("shoulder", x=-34 * down - 20 * bent)
    segment.rotate_both("elbow", y=-34 * down)
    return segment


def make_dance(move: Move, g: np.random.Generator) -> Segment:
    """Steps from side to side, hips and arms in time."""
    beat = 0.55 / PACE_FACTORS[move.pace] ** 0.6 * g.uniform(0.94, 1.06)
    beats = int(g.integers(6, 11)) // 2 * 2
    segment = Segment(_count_frames(beats * beat + 0.6))
    t = segment.t
    on = plateau(t, 0.0, t[-1], 0.4)
    pulse, wide = np.sin(np.pi * t / beat), g.uniform(0.7, 1.2)
    reach, first = g.uniform(0.1, 0.16), int(g.integers(2))
    for n in range(beats):
        out = reach if n < beats - 2 else 0.0
        segment.steps.append(Step((n + first) % 2, n * beat + 0.1, n * beat + 0.8 * beat, t[-1], 0.1, out * (1 - n // 2 % 2)))
    segment.lean[:, 0] += on * reach * 0.5 * np.sin(np.pi * t / beat + 0.4)
    segment.height -= on * (0.035 - 0.015 * np.cos(2 * np.pi * t / beat))
    segment.rotate_both("shoulder", y=-30 * on)
    segment.rotate("left_shoulder", y=25 * pulse * on * wide, z=(30 + 42 * pulse * wide) * on)
    segment.rotate("right_shoulder", y=25 * pulse * on * wide, z=(-30 + 42 * pulse * wide) * on)
    segment.rotate("left_elbow", y=(-40 - 25 * pulse) * on)
    segment.rotate("right_elbow", y=(40 - 25 * pulse) * on)
    segment.rotate("pelvis", 4 * on, 12 * pulse * on, 6 * pulse * on)
    segment.rotate("spine2", 0, -16 * pulse * on, -6 * pulse * on)
    segment.rotate("head", 4 * on * np.cos(2 * np.pi * t / beat), 10 * pulse * on)
    return segment


def make_bow(move: Move, g: np.random.Generator) -> Segment:
    """Bends forward from the hips and comes up."""
    cycle = 1.9 / PACE_FACTORS[move.pace] * g.uniform(0.92, 1.08)
    segment = Segment(_count_frames(cycle * move.count + 0.3))
    down = (0.5 - 0.5 * np.cos(2 * np.pi * np.clip(segment.t / cycle, 0, move.count))) ** 0.8
    segment.rotate("pelvis", g.uniform(34, 46) * down)
    segment.rotate("spine2", 24 * down)
    segment.rotate("neck", 14 * down)
    segment.lean[:, 1] -= 0.12 * down
    segment.rotate_both("shoulder", x=-48 * down)
    segment.rotate_both("elbow", y=12 * down)
    return segment


def make_clap(move: Move, g: np.random.Generator) -> Segment:
    """Hands meet before the chest again and again."""
    rate = 2.1 * PACE_FACTORS[move.pace] * g.uniform(0.9, 1.1)
    segment = Segment(_count_frames(g.uniform(2.0, 3.4)))
    t = segment.t
    up = plateau(t, 0.0, t[-1], 0.45)
    apart = 0.5 + 0.5 * np.cos(2 * np.pi * rate * t)
    segment.rotate_both("shoulder", x=-46 * up, y=(54 - 34 * apart) * up, z=4 * up)
    segment.rotate_both("elbow", y=-74 * up)
    return segment


def make_throw(move: Move, g: np.random.Generator) -> Segment:
    """Draws an arm back over the shoulder and throws."""
    hand, pace = SIDES.index(move.side), PACE_FACTORS[move.pace] ** 0.7 * g.uniform(0.92, 1.08)
    segment = Segment(_count_frames(2.4 / pace))
    t, sign = segment.t * pace, 1 - 2 * hand
    back = np.exp(-(((t - 0.95) / 0.32) ** 2))
    out = np.exp(-(((t - 1.42) / 0.2) ** 2))
    segment.rotate_side("shoulder", hand, x=-78 * out + 18 * back, y=22 * back, z=84 * back + 22 * out)
    segment.rotate_side("elbow", hand, y=-48 * back + 10 * out, z=58 * back)
    segment.rotate_side("shoulder", 1 - hand, x=-50 * back)
    segment.rotate("spine2", -6 * back + 12 * out, sign * 30 * back - sign * 26 * out)
    segment.rotate("pelvis", 6 * out, sign * 12 * back - sign * 10 * out)
    segment.lean[:, 1] += 0.09 * out - 0.06 * back
    segment.height -= 0.02 * out
    return segment


SEGMENT_MAKERS: dict[str, Callable[[Move, np.random.Generator], Segment]] = {
    "walk": make_walk,
    "run": make_run,
    "jump": make_jump,
    "hop": make_hop,
    "turn": make_turn,
    "wave": make_wave,
    "punch": make_punch,
    "kick": make_kick,
    "squat": make_squat,
    "sit": make_sit,
    "dance": make_dance,
    "bow": make_bow,
    "clap": make_clap,
    "throw": make_throw,
    "limp": make_limp,
    "sneak": make_sneak,
    "march": make_march,
}


def make_pause(g: np.random.Generator) -> Segment:
    """A short rest between two moves."""
    return Segment(int(g.integers(2, 7)))
