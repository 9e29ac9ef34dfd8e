"""Which unit a free worker takes next. Pure bookkeeping: no threads, no clock."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..tasks.turns import Turn

Payload = TypeVar("Payload")

#: workers that may die over a unit before it is given up: then it is the unit that kills them
MOST_TRIES = 3


@dataclass(order=True)
class QueuedUnit(Generic[Payload]):
    """A unit that waits, or is being made for the ``tries``-th time."""

    order: tuple[Turn, int, int]
    payload: Payload = field(compare=False)
    turn: Turn = field(compare=False)
    tries: int = field(default=0, compare=False)


class UnitQueue(Generic[Payload]):
    """The units that wait, the next one first: by their shots' turns, then in their order."""

    def __init__(self) -> None:
        self._waiting: list[QueuedUnit[Payload]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, payload: Payload, turn: Turn) -> QueuedUnit[Payload]:
        """A new unit at the end of those of its shot, whose turn it has."""
        queued = QueuedUnit((turn, 1, next(self._number)), payload, turn)
        heapq.heappush(self._waiting, queued)
        return queued

    def take(self) -> QueuedUnit[Payload] | None:
        """The next unit, which counts as tried once more; None when none waits."""
        if not self._waiting:
            return None
        found = heapq.heappop(self._waiting)
        found.tries += 1
        return found

    def put_back(self, queued: QueuedUnit[Payload]) -> bool:
        """A unit whose worker died waits again, before those of its shot that nobody has begun; False when too many have died
        over it."""
        if queued.tries >= MOST_TRIES:
            return False
        turn, _, number = queued.order
        queued.order = (turn, 0, number)
        heapq.heappush(self._waiting, queued)
        return True

    def drop(self, turn: Turn) -> list[Payload]:
        """Take a shot's units out."""
        dropped = [queued.payload for queued in self._waiting if queued.turn == turn]
        self._waiting = [queued for queued in self._waiting if queued.turn != turn]
        heapq.heapify(self._waiting)
        return dropped
