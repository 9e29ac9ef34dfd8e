"""What lies between a unit's own thread in a worker and whoever asked for the unit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from ..video.run_context import Interrupted
from .units import Event, PackedPasses, UnitEnded, UnitFailed, Wanted

#: how often a thread that waits for passes looks whether it should stop
LOOK_SECONDS = 0.2


class UnitPort:
    """Events go out, passes and the word to stop come in; any thread may use it."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[PackedPasses | str] = queue.SimpleQueue()
        self._stop = threading.Event()

    def tell(self, event: Event) -> None:
        """An event for whoever asked."""
        self._events.put(event)

    def stop(self) -> None:
        """The unit should end at its next step."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether it should."""
        return self._stop.is_set()

    def answer(self, passes: PackedPasses | str) -> None:
        """What was wanted, or a sentence that says why it cannot be had."""
        self._answers.put(passes)

    def want(self, index: int, *, overview: bool) -> PackedPasses:
        """The passes of a frame from whoever asked for the unit. Raises ``Interrupted``, and ``PassesMissing`` when they cannot be
        had."""
        self.tell(Wanted(index, overview))
        while True:
            try:
                found = self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self.should_stop():
                    raise Interrupted from None
                continue
            if isinstance(found, str):
                raise PassesMissing(found)
            return found

    def iter_events(self, work: Callable[[], None]) -> Iterator[Event]:
        """Run ``work`` in a thread of its own, and give what it tells up to its end."""
        threading.Thread(target=work, name="unit", daemon=True).start()
        while True:
            event = self._events.get()
            yield event
            if isinstance(event, (UnitEnded, UnitFailed)):
                return


class PassesMissing(Exception):
    """Passes that a unit needs cannot be had; the message is a sentence."""
