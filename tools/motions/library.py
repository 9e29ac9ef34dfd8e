"""Captioned performances without end: one for every seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS, HUMANML_MAX_FRAMES

from .actions import PERFORM, TRAVELLING, Move, every_move, held_out, sample_move, stand
from .gait import perform
from .sentences import sentence
from .timeline import Passage, plan

#: sentences for each performance
CAPTIONS = 4


@dataclass(frozen=True)
class Performance:
    """``joints`` (F, 22, 3) float32 at 20 frames a second, at most 197 of them, and sentences that say the same."""

    joints: np.ndarray
    moves: tuple[Move, ...]
    captions: tuple[str, ...]


def _moves(generator: np.random.Generator, action: str | None) -> tuple[Move, ...]:
    count = 1 if action or generator.random() < 0.7 else 2
    moves = [sample_move(generator, action)]
    while len(moves) < count:
        other = sample_move(generator)
        if other.action != moves[0].action:
            moves.append(other)
    return tuple(moves)


def performance(seed: int, from_held_out: bool = False, action: str | None = None) -> Performance:
    """The performance of a seed, from the moves for training or from those held out; of one action alone if it is named.

    ``ValueError`` when the action has so few moves that none is held out.
    """
    if action and from_held_out and not any(held_out((move,)) for move in every_move(action)):
        raise ValueError(f"No move of '{action}' is held out.")
    generator = np.random.default_rng(seed)
    while True:
        moves = _moves(generator, action)
        if held_out(moves) != from_held_out:
            continue
        passages: list[Passage] = []
        for n, move in enumerate(moves):
            passages += [stand(generator)] if n else []
            passages.append(PERFORM[move.action](move, generator))
        if sum(p.frames for p in passages) <= HUMANML_MAX_FRAMES + 1:
            break
    joints = perform(plan(passages))
    if len(moves) == 1 and moves[0].action in TRAVELLING and generator.random() < 0.4:
        # clips of travelling often begin and end under way
        start, end = generator.integers(0, int(0.9 * HUMANML_FPS)), generator.integers(0, int(1.2 * HUMANML_FPS))
        joints = joints[start : len(joints) - end]
    return Performance(joints, moves, tuple(sentence(moves, generator) for _ in range(CAPTIONS)))
