"""Ctrl-C and the signals that ask a program to end: noted while a command works, which then ends in order and says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

#: what asks a command to stop; not every system has all of them
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Interrupted(Exception):
    """A signal has asked the command to stop."""


class Terminated(BaseException):
    """The signal ``number`` ends what is being done, wherever it is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def catch_termination() -> Iterator[None]:
    """Within the block such a signal raises ``Terminated``, for commands that have nothing to put in order; a ``SignalWatch`` in it
    comes first. Does nothing beside the main thread."""
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    if threading.current_thread() is threading.main_thread():
        for number in _list_signals():
            before[number] = signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt:
        # raised by somebody else's handler, or by hand
        raise Terminated(signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _list_signals() -> list[int]:
    """The numbers of those that are listened to: what ``nohup`` has switched off stays off; a shell's background jobs are asked by
    SIGINT all the same."""
    numbers = [getattr(signal, name, None) for name in SIGNALS]
    hangup = getattr(signal, "SIGHUP", None)
    return [
        number for number in numbers if number is not None and not (number == hangup and signal.getsignal(number) == signal.SIG_IGN)
    ]


class SignalWatch:
    """Within its block such a signal ends nothing; ``requested`` tells that one has come. Must be entered on the main thread."""

    def __init__(self) -> None:
        #: the signal's number, 0 while none has come
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        for number in _list_signals():
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            # Blender programs install their handler from C, which Python reports as None
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number

    @property
    def requested(self) -> bool:
        """Whether the command is to stop."""
        return self.number != 0

    @property
    def exit_code(self) -> int:
        """What shells report of a program that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number

    def check(self) -> None:
        """Raise ``Interrupted`` once the command is to stop."""
        if self.requested:
            raise Interrupted
