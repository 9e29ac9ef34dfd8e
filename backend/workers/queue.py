"""Which unit a free worker takes next. Pure bookkeeping: no threads, no clock."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Payload = TypeVar("Payload")

#: workers that may die over a unit before it is given up: then it is the unit that kills them
MOST_TRIES = 3


@dataclass(frozen=True)
class Place:
    """Where a shot's units stand: of a higher ``priority`` before others, of the same in the ``turn`` in which the shots came."""

    priority: int
    turn: int


@dataclass(order=True)
class QueuedUnit(Generic[Payload]):
    """A unit that waits, or is being made for the ``tries``-th time."""

    order: tuple[int, int, int, int]
    payload: Payload = field(compare=False)
    place: Place = field(compare=False)
    tries: int = field(default=0, compare=False)


class UnitQueue(Generic[Payload]):
    """The units that wait, the next one first: by priority, then the shot that came first, then in their order."""

    def __init__(self) -> None:
        self._waiting: list[QueuedUnit[Payload]] = []
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, payload: Payload, place: Place) -> QueuedUnit[Payload]:
        """A new unit at the end of its shot's."""
        queued = QueuedUnit((-place.priority, place.turn, 1, next(self._number)), payload, place)
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
        priority, turn, _, number = queued.order
        queued.order = (priority, turn, 0, number)
        heapq.heappush(self._waiting, queued)
        return True

    def drop(self, place: Place) -> list[Payload]:
        """Take a shot's units out."""
        dropped = [queued.payload for queued in self._waiting if queued.place == place]
        self._waiting = [queued for queued in self._waiting if queued.place != place]
        heapq.heapify(self._waiting)
        return dropped
