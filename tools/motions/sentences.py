"""Captions of moves, in the words that people use for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .actions import Move

SUBJECTS = ("a person", "a person", "a man", "a woman", "someone", "the person", "a figure", "the man")
VERBS: dict[str, tuple[str, ...]] = {
    "walk": ("walks", "walks", "strolls", "is walking"),
    "run": ("runs", "runs", "jogs", "is running"),
    "jump": ("jumps", "leaps"),
    "hop": ("hops", "hops", "jumps"),
    "turn": ("turns", "turns", "spins"),
    "wave": ("waves", "waves", "is waving"),
    "punch": ("punches", "throws a punch", "boxes"),
    "kick": ("kicks", "kicks", "does a kick"),
    "squat": ("squats", "does a squat", "crouches down and stands up"),
    "sit": ("sits down and stands up", "sits down", "sits on a chair", "takes a seat"),
    "dance": ("dances", "dances", "is dancing"),
    "bow": ("bows", "bows", "takes a bow", "bends forward"),
    "clap": ("claps", "claps their hands", "applauds", "is clapping"),
    "throw": ("throws a ball", "throws something", "throws"),
    "limp": ("limps", "walks with a limp", "hobbles"),
    "sneak": ("sneaks", "creeps", "tiptoes", "walks stealthily"),
    "march": ("marches", "marches", "walks with high knees"),
}
DIRECTION_PHRASES: dict[str, tuple[str, ...]] = {
    "forward": ("forward", "forwards", "ahead", "straight ahead"),
    "backward": ("backward", "backwards"),
    "circle left": ("in a circle to the left", "in a counterclockwise circle", "in a circle counterclockwise"),
    "circle right": ("in a circle to the right", "in a clockwise circle", "in a circle clockwise"),
    "around": ("around", "half around"),
    "in place": ("in place", "on the spot"),
}
PACE_PHRASES: dict[str, tuple[str, ...]] = {"slow": ("slowly", "at a slow pace"), "fast": ("quickly", "fast", "at a fast pace")}
COUNT_PHRASES = {2: ("twice", "two times"), 3: ("three times",)}
STYLE_PHRASES = {"happy": ("happily", "cheerfully"), "sad": ("sadly", "wearily")}
#: the limb whose side is named
LIMBS = {
    "wave": ("hand", "arm"),
    "punch": ("hand", "fist", "arm"),
    "kick": ("leg", "foot"),
    "throw": ("hand", "arm"),
    "limp": ("leg", "foot"),
    "hop": ("foot", "leg"),
}
CONJUNCTIONS = (", then ", " and then ", ", and then ", " and ", ", after that ")


def _describe_direction(move: Move, pick: Callable[[Sequence[str]], str]) -> str:
    if move.action == "turn" and move.direction in ("left", "right"):
        return pick((move.direction, f"to the {move.direction}"))
    if move.direction in ("left", "right"):
        return pick((f"sideways to the {move.direction}", f"to the {move.direction}", f"sidesteps to the {move.direction}"))
    return pick(DIRECTION_PHRASES[move.direction]) if move.direction else ""


def write_clause(move: Move, generator: np.random.Generator) -> str:
    """What a move does, as a clause without its subject."""

    def pick(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    verb, where = pick(VERBS[move.action]), _describe_direction(move, pick)
    if where.startswith("sidesteps"):
        verb, where = "sidesteps", where[len("sidesteps ") :]
    if move.direction == "forward" and move.action != "jump" and generator.random() < 0.3:
        where = ""
    side = ""
    if move.side:
        preposition = "on" if move.action in ("hop", "limp") else "with"
        side = f"{preposition} {pick(('the', 'the', 'their', 'his'))} {move.side} {pick(LIMBS[move.action])}"
    pace = pick(PACE_PHRASES[move.pace]) if move.pace else ""
    mood = pick(STYLE_PHRASES[move.style]) if move.style else ""
    count = (
        pick(COUNT_PHRASES[move.count])
        if move.count in COUNT_PHRASES
        else ("once" if move.count == 1 and generator.random() < 0.3 else "")
    )
    early = pace if " " not in pace and generator.random() < 0.3 else ""
    parts = [early, verb, where, side, count, mood, "" if early else pace]
    return " ".join(part for part in parts if part)


def write_sentence(moves: tuple[Move, ...], generator: np.random.Generator) -> str:
    """One sentence that describes moves in their order."""
    text = f"{SUBJECTS[int(generator.integers(len(SUBJECTS)))]} {write_clause(moves[0], generator)}"
    for move in moves[1:]:
        text += CONJUNCTIONS[int(generator.integers(len(CONJUNCTIONS)))] + write_clause(move, generator)
    return text + ("." if generator.random() < 0.3 else "")
