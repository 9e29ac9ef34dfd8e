"""What the procedural performer can do, in random variety: every action fills a passage of a timeline."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS
from latentman.shared.vectors import smootherstep

from .timeline import HIP, Passage, Step, hold

TRAVELLING = ("walk", "run", "limp", "sneak", "march")
DIRECTIONS = ("forward", "backward", "left", "right", "circle left", "circle right")
PACE = {"slow": 0.72, "": 1.0, "fast": 1.38}
SIDES = ("left", "right")
#: directions, whether a side is named, and how often it may be asked for
CHOICES: dict[str, tuple[tuple[str, ...], bool, int]] = {
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
    """What is asked for: fields that do not matter to the action are empty or 0."""

    action: str
    direction: str = ""
    pace: str = ""
    side: str = ""
    count: int = 0
    style: str = ""


def sample_move(generator: np.random.Generator, action: str | None = None) -> Move:
    """A random move, of one action if it is given."""

    def pick(options, p=None):
        return options[int(generator.choice(len(options), p=p))]

    action = action or pick(tuple(CHOICES))
    directions, sided, most = CHOICES[action]
    return Move(
        action,
        pick(directions),
        pick(("", "slow", "fast"), (0.5, 0.25, 0.25)),
        pick(SIDES) if sided else "",
        int(generator.integers(1, most + 1)) if most else 0,
        pick(STYLES, (0.7, 0.15, 0.15)) if action == "walk" else "",
    )


def held_out(moves: tuple[Move, ...]) -> bool:
    """Whether these moves in this order are kept from training: one in twelve, the same on every machine."""
    return zlib.crc32(repr(moves).encode()) % 12 == 0


def every_move(action: str) -> list[Move]:
    """All moves of an action."""
    directions, sided, most = CHOICES[action]
    return [
        Move(action, direction, pace, side, count, style)
        for direction in directions
        for pace in PACE
        for side in (SIDES if sided else ("",))
        for count in (range(1, most + 1) if most else (0,))
        for style in (STYLES if action == "walk" else ("",))
    ]


def _frames(seconds: float) -> int:
    return max(8, round(seconds * HUMANML_FPS))


def _stepping(passage: Passage, period: float, stance: float, until: float, lift: float, first: int, start: float = 0.05) -> None:
    """Alternate steps until both feet have landed where the body stands after ``until``."""
    swing, n, landed = (1 - stance) * period, 0, {0: False, 1: False}
    while not all(landed.values()):
        leave = start + n * period / 2
        foot, land = (first + n) % 2, leave + swing
        aim = land + stance * period / 2
        landed[foot] = aim >= until
        passage.steps.append(Step(foot, leave, land, aim, lift))
        n += 1


def _travel(
    move: Move,
    g: np.random.Generator,
    seconds: float,
    speed: float,
    period: float,
    stance: float,
    lift: float,
) -> tuple[Passage, np.ndarray, np.ndarray]:
    """Footsteps and path of a gait; gives its phase (F,) in turns and how much it is under way (F,), 0..1."""
    tail = period * 1.6
    passage = Passage(_frames(seconds + tail))
    going = hold(passage.t, 0.0, seconds + 0.2, 0.7)
    ahead = {"backward": -0.75, "left": 0.0, "right": 0.0, "in place": 0.0}.get(move.direction, 1.0)
    aside = {"left": 0.5, "right": -0.5}.get(move.direction, 0.0)
    passage.velocity[:] = speed * going[:, None] * [aside, ahead]
    if move.direction.startswith("circle"):
        radius = g.uniform(0.9, 1.5) * (1.6 if move.action == "run" else 1.0)
        passage.turning[:] = going * speed / radius * (1 if move.direction.endswith("left") else -1)
    first = {"left": 0, "right": 1}.get(move.direction, int(g.integers(2)))
    _stepping(passage, period, stance, seconds + 0.2, lift, first)
    return passage, passage.t / period + 0.5 * first, going


def _swinging_arms(passage: Passage, phase: np.ndarray, amount: np.ndarray, degrees: float, elbow: float = 0.0) -> None:
    swing = degrees * amount * np.sin(2 * np.pi * (phase + 0.02))
    passage.turn("left_shoulder", -swing)
    passage.turn("right_shoulder", swing)
    passage.turn("left_elbow", y=-elbow * amount - 0.3 * swing)
    passage.turn("right_elbow", y=elbow * amount - 0.3 * swing)
    passage.turn("pelvis", 2 * amount, -0.2 * swing, 2 * amount * np.cos(2 * np.pi * phase))
    passage.turn("spine1", 0, 0.17 * swing, 0)


def walk(move: Move, g: np.random.Generator) -> Passage:
    """A walk in any direction, cheerful or tired."""
    pace = PACE[move.pace] * g.uniform(0.92, 1.08) * {"sad": 0.8, "happy": 1.06}.get(move.style, 1.0)
    period, speed = 1.1 / pace**0.5, 1.12 * pace
    passage, phase, going = _travel(move, g, g.uniform(1.8, 4.2), speed, period, 0.62, 0.09 if move.style != "sad" else 0.06)
    _swinging_arms(passage, phase, going, (24 if move.style != "sad" else 9) * pace**0.5 * g.uniform(0.8, 1.2))
    bounce = 0.012 if move.style != "happy" else 0.03
    passage.height -= going * (0.005 + bounce * np.cos(4 * np.pi * phase))
    if move.style == "sad":
        passage.turn("spine2", 12 * going)
        passage.turn("neck", 22 * going)
    elif move.style == "happy":
        passage.turn("neck", -6 * going, 0, 6 * going * np.sin(2 * np.pi * phase))
        passage.turn_both("shoulder", z=8 * going)
    return passage


def run(move: Move, g: np.random.Generator) -> Passage:
    """A run, arms bent."""
    pace = PACE[move.pace] * g.uniform(0.92, 1.08)
    passage, phase, going = _travel(move, g, g.uniform(1.6, 3.2), 2.3 * pace, 0.74 / pace**0.4, 0.38, 0.22)
    _swinging_arms(passage, phase, going, 40 * g.uniform(0.85, 1.15), 65)
    passage.turn("pelvis", 8 * going)
    passage.turn("neck", -8 * going)
    passage.height -= going * (0.03 - 0.03 * np.sin(4 * np.pi * phase - 1.2))
    return passage


def limp(move: Move, g: np.random.Generator) -> Passage:
    """A walk that spares one leg: the body drops and leans over it."""
    pace = PACE[move.pace] * g.uniform(0.9, 1.1)
    foot = SIDES.index(move.side)
    passage, phase, going = _travel(move, g, g.uniform(2.2, 4.0), 0.7 * pace, 1.25 / pace**0.5, 0.64, 0.05)
    # the phase at which the spared foot bears the body
    first = passage.steps[0].foot
    over = np.clip(np.sin(2 * np.pi * (phase - 0.5 * first) - 2 * np.pi * (0.5 * ((foot - first) % 2) + 0.38)), 0, 1)
    _swinging_arms(passage, phase, going, 10)
    sign = 1 - 2 * foot
    passage.height -= going * (0.02 + 0.07 * over)
    passage.turn("pelvis", 4 * going, 0, -sign * 7 * going * over)
    passage.turn("spine2", 6 * going, 0, -sign * 10 * going * over)
    passage.turn_side("shoulder", foot, z=-4 * going)
    return passage


def sneak(move: Move, g: np.random.Generator) -> Passage:
    """Crouched, careful steps, hands before the chest."""
    pace = PACE[move.pace] * g.uniform(0.9, 1.1)
    passage, phase, going = _travel(move, g, g.uniform(2.4, 4.4), 0.5 * pace, 1.5 / pace**0.5, 0.66, 0.2)
    passage.height -= going * (0.2 + 0.02 * np.cos(4 * np.pi * phase))
    passage.lean[:, 1] -= 0.05 * going
    passage.turn("spine1", 18 * going)
    passage.turn("spine2", 14 * going, 6 * going * np.sin(2 * np.pi * phase))
    passage.turn("neck", -20 * going, 14 * going * np.sin(np.pi * phase))
    passage.turn_both("shoulder", x=-35 * going)
    passage.turn_both("elbow", y=-75 * going)
    return passage


def march(move: Move, g: np.random.Generator) -> Passage:
    """High knees, straight swinging arms."""
    pace = PACE[move.pace] * g.uniform(0.93, 1.07)
    passage, phase, going = _travel(move, g, g.uniform(2.2, 4.0), 0.85 * pace, 1.05 / pace, 0.54, 0.34)
    _swinging_arms(passage, phase, going, 48, -12)
    passage.turn("neck", -4 * going)
    return passage


def turn(move: Move, g: np.random.Generator) -> Passage:
    """Turns on the spot in small steps."""
    pace = PACE[move.pace] * g.uniform(0.9, 1.1)
    angle = {"left": np.pi / 2, "right": -np.pi / 2}.get(move.direction, np.pi * (1 if g.random() < 0.5 else -1))
    seconds = (1.2 if abs(angle) < 2 else 2.2) / pace
    passage = Passage(_frames(seconds + 1.2))
    there = smootherstep(passage.t / seconds)
    passage.turning[:-1] = np.diff(angle * there) * HUMANML_FPS
    _stepping(passage, 0.72, 0.5, seconds, 0.07, 0 if angle > 0 else 1)
    passage.turn("neck", 0, np.degrees(angle) * 0.15 * np.sin(np.pi * there))
    return passage


def jump(move: Move, g: np.random.Generator) -> Passage:
    """Crouch, leap, land, as often as asked."""
    pace = PACE[move.pace] ** 0.5
    top, reach = g.uniform(0.28, 0.42), g.uniform(0.45, 0.8) if move.direction == "forward" else 0.0
    flight, cycle = 0.55, 1.75 / pace
    passage = Passage(_frames(cycle * move.count + 0.4))
    t = passage.t
    for n in range(move.count):
        leave = n * cycle + 0.75 / pace
        land = leave + flight
        u = np.clip((t - leave) / flight, 0, 1)
        rise = top * 4 * u * (1 - u)
        crouch = 0.24 * np.exp(-(((t - leave + 0.22) / 0.17) ** 2)) + 0.2 * np.exp(-(((t - land - 0.12) / 0.15) ** 2))
        passage.rise += rise
        passage.height += rise - crouch
        passage.lean[:, 1] -= 0.25 * crouch
        passage.velocity[:, 1] += reach * ((t >= leave) & (t < land)) / flight
        passage.turn("pelvis", 110 * crouch)
        passage.turn("neck", -60 * crouch)
        passage.turn_both("shoulder", x=-120 * rise / top + 150 * crouch)
        if reach:
            passage.steps += [Step(foot, leave, land, land + 0.05, 0.0) for foot in (0, 1)]
    return passage


def hop(move: Move, g: np.random.Generator) -> Passage:
    """Small jumps on one foot, the other held up behind."""
    pace, foot = PACE[move.pace], SIDES.index(move.side)
    hops, cycle, flight = int(g.integers(3, 6)), 0.62 / pace**0.6, 0.3
    top, reach = g.uniform(0.1, 0.16), g.uniform(0.25, 0.4) if move.direction == "forward" else 0.0
    passage = Passage(_frames(hops * cycle + 1.5))
    t, other, began = passage.t, 1 - foot, 0.6
    for n in range(hops):
        leave = began + n * cycle
        u = np.clip((t - leave) / flight, 0, 1)
        dip = 0.07 * np.exp(-(((t - leave + 0.1) / 0.09) ** 2))
        passage.rise += top * 4 * u * (1 - u)
        passage.height += top * 4 * u * (1 - u) - dip
        passage.velocity[:, 1] += reach * ((t >= leave) & (t < leave + flight)) / flight
        if reach:
            passage.steps.append(Step(foot, leave, leave + flight, leave + flight + 0.04, 0.0))
    end = began + hops * cycle
    if reach:
        passage.steps.append(Step(other, 0.2, end + 0.55, end + 0.6, 0.0))
    up = hold(t, 0.1, end + 0.6, 0.4)
    sign = 1 - 2 * other
    passage.swings[other] = (up, np.stack([np.full(len(t), HIP * sign * 0.9), 0.32 + passage.rise, np.full(len(t), -0.28)], 1))
    passage.lean[:, 0] -= sign * 0.06 * up
    passage.height -= 0.02 * up
    passage.turn_both("shoulder", x=-12 * up, z=22 * up)
    return passage


def wave(move: Move, g: np.random.Generator) -> Passage:
    """A raised hand waves."""
    hand, rate = SIDES.index(move.side), 1.6 * PACE[move.pace] * g.uniform(0.9, 1.1)
    passage = Passage(_frames(g.uniform(2.4, 4.0)))
    t = passage.t
    up = hold(t, 0.1, t[-1] - 0.05, 0.6)
    passage.turn_side("shoulder", hand, y=-12 * up, z=(82 + g.uniform(-8, 14)) * up)
    passage.turn_side("elbow", hand, y=-10 * up, z=(78 + 24 * np.sin(2 * np.pi * rate * t)) * up)
    passage.turn("spine2", 0, 0, (1 - 2 * hand) * -3 * up)
    passage.turn("head", 0, (1 - 2 * hand) * 8 * up)
    return passage


def _blows(move: Move, seconds: float, width: float, g: np.random.Generator) -> tuple[Passage, list[np.ndarray]]:
    """A passage with ``count`` short bumps (F,) of height 1."""
    cycle = seconds / PACE[move.pace] * g.uniform(0.92, 1.08)
    passage = Passage(_frames(cycle * max(move.count, 1) + 0.7))
    narrow = width / PACE[move.pace] ** 0.5
    return passage, [np.exp(-(((passage.t - 0.35 - (n + 0.5) * cycle) / narrow) ** 2)) for n in range(max(move.count, 1))]


def punch(move: Move, g: np.random.Generator) -> Passage:
    """Fists up, one arm shoots forward."""
    hand = SIDES.index(move.side)
    passage, blows = _blows(move, 0.85, 0.14, g)
    guard = hold(passage.t, 0.0, passage.t[-1], 0.35)
    out = np.clip(sum(blows), 0, 1)
    passage.turn_both("shoulder", x=-38 * guard)
    passage.turn_both("elbow", y=-95 * guard)
    passage.turn_side("shoulder", hand, x=-44 * out, z=-6 * out)
    passage.turn_side("elbow", hand, y=108 * out)
    sign = 1 - 2 * hand
    passage.turn("spine2", 4 * out, -sign * 24 * out)
    passage.turn("pelvis", 3 * out, -sign * 8 * out)
    passage.lean[:, 1] += 0.05 * out
    passage.height -= 0.03 * guard
    return passage


def kick(move: Move, g: np.random.Generator) -> Passage:
    """One leg swings forward and up."""
    foot, high = SIDES.index(move.side), g.uniform(0.5, 0.8)
    passage, blows = _blows(move, 1.25, 0.17, g)
    t, sign = passage.t, 1 - 2 * foot
    out = np.clip(sum(blows), 0, 1)
    off = np.clip(sum(np.exp(-((np.abs(np.log(np.maximum(b, 1e-9))) / 6.0) ** 2)) for b in blows), 0, 1)
    place = np.stack([np.full(len(t), HIP * sign * 0.8), 0.2 + (high - 0.2) * out, -0.22 + 0.85 * out], 1)
    passage.swings[foot] = (off, place)
    passage.lean[:, 0] -= sign * 0.05 * off
    passage.lean[:, 1] -= 0.06 * out
    passage.turn("pelvis", -10 * out)
    passage.turn_both("shoulder", x=-14 * off, z=24 * off)
    passage.turn_side("shoulder", 1 - foot, x=-28 * out)
    passage.height -= 0.015 * off
    return passage


def squat(move: Move, g: np.random.Generator) -> Passage:
    """Down with a straight back and up again, arms forward."""
    cycle, deep = 1.7 / PACE[move.pace] * g.uniform(0.92, 1.08), g.uniform(0.36, 0.46)
    passage = Passage(_frames(cycle * move.count + 0.3))
    u = np.clip(passage.t / cycle, 0, move.count)
    down = 0.5 - 0.5 * np.cos(2 * np.pi * u)
    passage.height -= deep * down
    passage.lean[:, 1] -= 0.16 * down
    passage.turn("pelvis", 34 * down)
    passage.turn("neck", -18 * down)
    passage.turn_both("shoulder", x=-92 * down)
    passage.turn_both("elbow", y=14 * down)
    return passage


def sit(move: Move, g: np.random.Generator) -> Passage:
    """Sits down as on a chair, stays, and stands up."""
    ease, stay = 1.1 / PACE[move.pace], g.uniform(1.0, 2.2)
    passage = Passage(_frames(2 * ease + stay + 0.4))
    t = passage.t
    down = hold(t, 0.1, t[-1] - 0.05, ease)
    bent = 4 * down * (1 - down)
    passage.height -= 0.42 * down
    passage.lean[:, 1] -= 0.36 * down
    passage.turn("pelvis", 38 * bent)
    passage.turn("neck", -15 * bent)
    passage.turn_both("shoulder", x=-34 * down - 20 * bent)
    passage.turn_both("elbow", y=-34 * down)
    return passage


def dance(move: Move, g: np.random.Generator) -> Passage:
    """Steps from side to side, hips and arms in time."""
    beat = 0.55 / PACE[move.pace] ** 0.6 * g.uniform(0.94, 1.06)
    beats = int(g.integers(6, 11)) // 2 * 2
    passage = Passage(_frames(beats * beat + 0.6))
    t = passage.t
    on = hold(t, 0.0, t[-1], 0.4)
    pulse, wide = np.sin(np.pi * t / beat), g.uniform(0.7, 1.2)
    reach, first = g.uniform(0.1, 0.16), int(g.integers(2))
    for n in range(beats):
        out = reach if n < beats - 2 else 0.0
        passage.steps.append(Step((n + first) % 2, n * beat + 0.1, n * beat + 0.8 * beat, t[-1], 0.1, out * (1 - n // 2 % 2)))
    passage.lean[:, 0] += on * reach * 0.5 * np.sin(np.pi * t / beat + 0.4)
    passage.height -= on * (0.035 - 0.015 * np.cos(2 * np.pi * t / beat))
    passage.turn_both("shoulder", y=-30 * on)
    passage.turn("left_shoulder", y=25 * pulse * on * wide, z=(30 + 42 * pulse * wide) * on)
    passage.turn("right_shoulder", y=25 * pulse * on * wide, z=(-30 + 42 * pulse * wide) * on)
    passage.turn("left_elbow", y=(-40 - 25 * pulse) * on)
    passage.turn("right_elbow", y=(40 - 25 * pulse) * on)
    passage.turn("pelvis", 4 * on, 12 * pulse * on, 6 * pulse * on)
    passage.turn("spine2", 0, -16 * pulse * on, -6 * pulse * on)
    passage.turn("head", 4 * on * np.cos(2 * np.pi * t / beat), 10 * pulse * on)
    return passage


def bow(move: Move, g: np.random.Generator) -> Passage:
    """Bends forward from the hips and comes up."""
    cycle = 1.9 / PACE[move.pace] * g.uniform(0.92, 1.08)
    passage = Passage(_frames(cycle * move.count + 0.3))
    down = (0.5 - 0.5 * np.cos(2 * np.pi * np.clip(passage.t / cycle, 0, move.count))) ** 0.8
    passage.turn("pelvis", g.uniform(34, 46) * down)
    passage.turn("spine2", 24 * down)
    passage.turn("neck", 14 * down)
    passage.lean[:, 1] -= 0.12 * down
    passage.turn_both("shoulder", x=-48 * down)
    passage.turn_both("elbow", y=12 * down)
    return passage


def clap(move: Move, g: np.random.Generator) -> Passage:
    """Hands meet before the chest again and again."""
    rate = 2.1 * PACE[move.pace] * g.uniform(0.9, 1.1)
    passage = Passage(_frames(g.uniform(2.0, 3.4)))
    t = passage.t
    up = hold(t, 0.0, t[-1], 0.45)
    apart = 0.5 + 0.5 * np.cos(2 * np.pi * rate * t)
    passage.turn_both("shoulder", x=-46 * up, y=(54 - 34 * apart) * up, z=4 * up)
    passage.turn_both("elbow", y=-74 * up)
    return passage


def throw(move: Move, g: np.random.Generator) -> Passage:
    """Draws an arm back over the shoulder and throws."""
    hand, pace = SIDES.index(move.side), PACE[move.pace] ** 0.7 * g.uniform(0.92, 1.08)
    passage = Passage(_frames(2.4 / pace))
    t, sign = passage.t * pace, 1 - 2 * hand
    back = np.exp(-(((t - 0.95) / 0.32) ** 2))
    out = np.exp(-(((t - 1.42) / 0.2) ** 2))
    passage.turn_side("shoulder", hand, x=-78 * out + 18 * back, y=22 * back, z=84 * back + 22 * out)
    passage.turn_side("elbow", hand, y=-48 * back + 10 * out, z=58 * back)
    passage.turn_side("shoulder", 1 - hand, x=-50 * back)
    passage.turn("spine2", -6 * back + 12 * out, sign * 30 * back - sign * 26 * out)
    passage.turn("pelvis", 6 * out, sign * 12 * back - sign * 10 * out)
    passage.lean[:, 1] += 0.09 * out - 0.06 * back
    passage.height -= 0.02 * out
    return passage


PERFORM: dict[str, Callable[[Move, np.random.Generator], Passage]] = {
    "walk": walk,
    "run": run,
    "jump": jump,
    "hop": hop,
    "turn": turn,
    "wave": wave,
    "punch": punch,
    "kick": kick,
    "squat": squat,
    "sit": sit,
    "dance": dance,
    "bow": bow,
    "clap": clap,
    "throw": throw,
    "limp": limp,
    "sneak": sneak,
    "march": march,
}


def stand(g: np.random.Generator) -> Passage:
    """A short rest between two moves."""
    return Passage(int(g.integers(2, 7)))
