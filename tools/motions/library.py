"""Captioned performances: an unlimited number, one for every seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentman.shared.skeleton import HUMANML_FPS, HUMANML_MAX_FRAMES

from .actions import GAITS, SEGMENT_MAKERS, Move, is_held_out, list_moves, make_pause, sample_move
from .gait import perform
from .sentences import write_sentence
from .timeline import Segment, join_segments

#: sentences for each performance
CAPTIONS = 4


@dataclass(frozen=True)
class Performance:
    """``joints`` (F, 22, 3) float32 at 20 frames per second, at most 197 of them; ``captions`` all describe its ``moves``."""

    joints: np.ndarray
    moves: tuple[Move, ...]
    captions: tuple[str, ...]


def _sample_moves(generator: np.random.Generator, action: str | None) -> tuple[Move, ...]:
    count = 1 if action or generator.random() < 0.7 else 2
    moves = [sample_move(generator, action)]
    while len(moves) < count:
        other = sample_move(generator)
        if other.action != moves[0].action:
            moves.append(other)
    return tuple(moves)


def make_performance(seed: int, from_held_out: bool = False, action: str | None = None) -> Performance:
    """The performance of a seed, from the moves for training or from those held out; of one action alone if it is named.

    ``ValueError`` when the action has so few moves that none is held out.
    """
    if action and from_held_out and not any(is_held_out((move,)) for move in list_moves(action)):
        raise ValueError(f"No move of '{action}' is held out.")
    generator = np.random.default_rng(seed)
    while True:
        moves = _sample_moves(generator, action)
        if is_held_out(moves) != from_held_out:
            continue
        segments: list[Segment] = []
        for n, move in enumerate(moves):
            segments += [make_pause(generator)] if n else []
            segments.append(SEGMENT_MAKERS[move.action](move, generator))
        if sum(p.frames for p in segments) <= HUMANML_MAX_FRAMES + 1:
            break
    joints = perform(join_segments(segments))
    if len(moves) == 1 and moves[0].action in GAITS and generator.random() < 0.4:
        # clips of travelling often begin and end under way
        start, end = generator.integers(0, int(0.9 * HUMANML_FPS)), generator.integers(0, int(1.2 * HUMANML_FPS))
        joints = joints[start : len(joints) - end]
    return Performance(joints, moves, tuple(write_sentence(moves, generator) for _ in range(CAPTIONS)))
