"""Which frames are rendered next, by several who take them, and which are handed over next. Nothing here uses bpy."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from typing import Generic, TypeVar

#: finished frames that wait for an earlier one, for each who renders; beyond it only that one is rendered
MOST_WAITING = 4

Result = TypeVar("Result")
#: whether it is a small copy, and a frame's place in the shot
Wanted = tuple[bool, int]


class FrameQueue(Generic[Result]):
    """The frames that were asked for, small copies apart. They are handed over in the order in which they were asked for, whoever
    is quick, slow or ends meanwhile."""

    def __init__(self) -> None:
        #: those that are nobody's yet
        self._waiting: deque[Wanted] = deque()
        self._order: dict[bool, deque[int]] = {True: deque(), False: deque()}
        self._ready: dict[Wanted, Result] = {}

    def add(self, wanted: Wanted) -> None:
        """Ask for a frame."""
        self._waiting.append(wanted)
        self._order[wanted[0]].append(wanted[1])

    def take(self, preferred: Container[int], count: int) -> Wanted | None:
        """The frame that one of ``count`` renders next, None for none: of those that are next one whose place is ``preferred``,
        else the first."""
        if not self._waiting:
            return None
        if len(self._ready) >= MOST_WAITING * count:
            heads = [(overview, order[0]) for overview, order in self._order.items() if order]
            chosen = next((head for head in heads if head in self._waiting), None)
        else:
            near = [self._waiting[n] for n in range(min(len(self._waiting), 2 * count))]
            chosen = next((one for one in near if one[1] in preferred), near[0])
        if chosen is not None:
            self._waiting.remove(chosen)
        return chosen

    def give_back(self, frames: Iterable[Wanted]) -> None:
        """Let others render these next, in their order, as who had taken them has ended."""
        self._waiting.extendleft(reversed(list(frames)))

    def finish(self, wanted: Wanted, result: Result) -> None:
        """A frame is rendered."""
        self._ready[wanted] = result

    def is_next_ready(self) -> bool:
        """Whether a frame can be handed over."""
        return any(order and (overview, order[0]) in self._ready for overview, order in self._order.items())

    def pop_ready(self, overview: bool) -> tuple[int, Result] | None:
        """The place and the result of the frame that is handed over next; None as long as it is not rendered."""
        order = self._order[overview]
        if not order or (overview, order[0]) not in self._ready:
            return None
        index = order.popleft()
        return index, self._ready.pop((overview, index))

    def pop_unfinished(self, overview: bool) -> int | None:
        """The place of the next frame that was asked for, whatever has become of it; None where there is none."""
        order = self._order[overview]
        return order.popleft() if order else None
