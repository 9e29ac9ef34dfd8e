"""Whose work comes next where several people share a backend: by priority, then in rounds, one piece of work of each in a round.

Pure bookkeeping: no threads, no clock.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Turn:
    """A piece of work's place among all; the smallest comes next."""

    #: the negative priority
    rank: int
    round: int
    number: int


class FairTurns:
    """Gives turns. Who asks for ten shots has them made one a round, so that somebody else's one waits for the one that is being
    made, and not for ten."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        #: turns that are not over, and whose they are
        self._open: dict[Turn, bytes] = {}

    def begin(self, owner: bytes, priority: int = 0) -> Turn:
        """The turn of a new piece of work of ``owner``, after those that the owner has asked for before."""
        first = min((turn.round for turn in self._open), default=0)
        mine = [turn.round for turn, other in self._open.items() if other == owner]
        turn = Turn(-priority, max(mine) + 1 if mine else first, next(self._numbers))
        self._open[turn] = owner
        return turn

    def end(self, turn: Turn) -> None:
        """A piece of work is over; twice does no harm."""
        self._open.pop(turn, None)
