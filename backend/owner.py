"""Ends a backend whose owner is gone: Blender started it, and has quit, crashed or been killed.

Blender holds the other end of the standard input and never writes to it; the system closes it when Blender dies, however that
happens. On Linux the kernel tells it as well, which also works where a copy of Blender's process has kept that end open.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from ..shared import logs

logger = logs.get_logger(__name__)

#: seconds that an orderly end may take before the process ends at once; what is finished is on the disk by then
GRACE_SECONDS = 10.0
#: the exit code of a process that had to end at once
EXIT_CODE = 3
_PR_SET_PDEATHSIG = 1


class OwnerWatch:
    """Waits for the owner's end from ``start`` on. Until ``end_with`` has said how, the process ends at once."""

    def __init__(self, stream: int = 0) -> None:
        """``stream`` is the file descriptor of the pipe."""
        self._stream, self._parent = stream, os.getppid()
        self._end: Callable[[], None] | None = None
        self._gone = threading.Lock()

    def start(self) -> None:
        """Begin to watch; must be called on the main thread."""
        threading.Thread(target=self._read, name="owner", daemon=True).start()
        if sys.platform == "linux":
            self._ask_kernel()

    def end_with(self, end: Callable[[], None]) -> None:
        """Call ``end``, which must be safe from any thread, when the owner is gone."""
        self._end = end

    def _read(self) -> None:
        try:
            while os.read(self._stream, 4096):
                pass
        except OSError:
            pass  # no pipe, no owner
        self._finish()

    def _ask_kernel(self) -> None:
        # a signal of its own: its sender is the end of the thread that started this process, which need not be the owner's end
        signal.signal(signal.SIGUSR1, self._on_signal)
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR1), 0, 0, 0)
        except (OSError, AttributeError):
            return
        self._on_signal()  # the parent may have ended before the kernel was asked

    def _on_signal(self, *_: object) -> None:
        if os.getppid() != self._parent:
            threading.Thread(target=self._finish, name="orphan", daemon=True).start()

    def _finish(self) -> None:
        if not self._gone.acquire(blocking=False):
            return
        if self._end is None:
            os._exit(EXIT_CODE)
        logger.info("The program that started this backend is gone")
        try:
            self._end()
            time.sleep(GRACE_SECONDS)
        finally:
            os._exit(EXIT_CODE)
