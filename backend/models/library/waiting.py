"""Work that waits for others, in a thread of its own: whoever asked for it can stop waiting at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
POLL_SECONDS = 0.05


class StoppedError(Exception):
    """Nobody waits for the work any more."""


class _Work(Generic[Result]):
    def __init__(self, work: Callable[[Callable[[], None]], Result]) -> None:
        self._work, self._stop = work, threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="library", daemon=True)

    def stop(self) -> None:
        self._stop.set()

    def _check(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _run(self) -> None:
        try:
            self.result = self._work(self._check)
        except BaseException as error:  # raised again where it is waited for
            self.error = error


def run_stoppable(work: Callable[[Callable[[], None]], Result], check: Callable[[], None]) -> Result:
    """The result of ``work``, or what it raises. ``check`` is called all the time, and what it raises ends the waiting at once;
    ``work`` is given a function to be called now and then, which raises ``StoppedError`` from then on."""
    running = _Work(work)
    running.thread.start()
    try:
        while running.thread.is_alive():
            running.thread.join(POLL_SECONDS)
            check()
    finally:
        running.stop()
    if running.error is not None:
        raise running.error
    return running.result  # type: ignore[return-value]
