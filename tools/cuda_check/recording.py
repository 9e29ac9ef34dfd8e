"""What a part has found out, on disk after every row, so that what comes later cannot lose it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentman.shared.files import write_atomically


def encode(value: object) -> bytes:
    """As JSON without numbers that JSON does not have: what is not finite is null."""
    return json.dumps(_make_plain(value), indent=1, allow_nan=False).encode() + b"\n"


def _make_plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _make_plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_make_plain(one) for one in value]
    return value


#: the reason of a row that was begun and not finished
UNFINISHED = "it was not finished when the part's time was over"


class Clock:
    """The time that a part has."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, below 0 when it is over."""
        return self._end - time.monotonic()


class Recorder:
    """Takes a part's rows: a name and figures of it, ``passed`` where it is a check, a ``reason`` for what is not there.

    Without a ``path`` rows are only kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def begin(self, name: str, **figures: Any) -> None:
        """Say that a row is being found out, which stays so when the part ends before it."""
        self.rows.append({"name": name, **figures, "reason": UNFINISHED})
        self._write()

    def add(self, name: str, **figures: Any) -> None:
        """Add a row, or finish the one that was begun."""
        if self.rows and self.rows[-1]["name"] == name and self.rows[-1].get("reason") == UNFINISHED:
            self.rows.pop()
        self.rows.append({"name": name, **figures})
        self._write()

    def check(self, name: str, passed: bool | None, wanted: str, reason: str = "", **figures: Any) -> None:
        """Add a check: whether it has ``passed``, None where it was left out for a ``reason``, and what was ``wanted``."""
        self.add(name, passed=passed, wanted=wanted, **figures, **({"reason": reason} if reason else {}))

    def tell(self, **facts: Any) -> None:
        """Say what holds for all rows, such as the device's name."""
        self.facts |= facts
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            write_atomically(self._path, encode({"facts": self.facts, "rows": self.rows}))


def read_rows(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts and rows that a part has written so far."""
    if not path.exists():
        return {}, []
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["facts"], found["rows"]
