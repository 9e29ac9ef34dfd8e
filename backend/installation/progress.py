"""How it goes, as JSON objects, one a line."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

#: how often the same step is told of, and over how many seconds the rate is measured
TELL_SECONDS, RATE_SECONDS = 0.2, 5.0


class Progress:
    """Tells of steps, as ``{"event": "progress", "step": ..., "done": ..., "total": ..., "rate": ..., "name": ...}``; the
    numbers are bytes, and bytes a second."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._step, self._total, self._base, self._name = "", 0, 0, ""
        self._told = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def emit(self, event: str, **values: Any) -> None:
        """Write an event."""
        with self._lock:
            self._stream.write(json.dumps({"event": event, **values}) + "\n")
            self._stream.flush()

    def begin(self, step: str, total: int = 0) -> None:
        """A step begins, of so many bytes, or of an unknown number."""
        self._step, self._total, self._base, self._name = step, total, 0, ""
        self._seen.clear()
        self._told = 0.0
        self.emit("step", step=step, total=total)

    def set_name(self, name: str) -> None:
        """What the step works on now."""
        self._name, self._told = name, 0.0

    def advance(self, done: int) -> None:
        """So many bytes of the step are done, of what is worked on now."""
        now = time.monotonic()
        if now < self._told + TELL_SECONDS and self._base + done < self._total:
            return
        self._told = now
        whole = self._base + done
        self._seen.append((now, whole))
        while len(self._seen) > 2 and self._seen[0][0] < now - RATE_SECONDS:
            self._seen.popleft()
        (first, start), (last, end) = self._seen[0], self._seen[-1]
        rate = (end - start) / (last - first) if last > first else 0.0
        self.emit(
            "progress", step=self._step, done=whole, total=max(self._total, whole), rate=round(max(0.0, rate)), name=self._name
        )

    def complete(self, size: int) -> None:
        """What was worked on is done, of so many bytes."""
        self._base += size
        self.advance(0)
