"""What stands in for a model in measurements of workers: it only waits. Neither torch nor a model is imported with it, so that a
machine has room for many."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

from PIL import Image

from latentman.backend.metrics.code_identity import describe_code
from latentman.backend.workers.units import FrameMade, KeyUnit, LookMade, UnitEnded, WorkerDescription
from latentman.shared.version import VERSION

#: the pictures' side in pixels
SIDE = 64


class WaitingMaker:
    """Stands in for a model: a finished look, and frames that take their time and nothing else."""

    def __init__(self, look: bytes, keyframes: tuple[int, ...], wait: float) -> None:
        self._look, self._keyframes, self._wait = look, keyframes, wait
        buffer = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE)).save(buffer, "PNG")
        self._png = buffer.getvalue()

    def describe(self) -> Any:
        """See ``UnitMaker``."""
        return WorkerDescription(VERSION, describe_code(), "waiting", "here")

    def run(self, unit: Any, port: Any) -> Iterator[Any]:
        """See ``UnitMaker``."""
        is_key = isinstance(unit, KeyUnit)
        for row in self._keyframes if is_key else unit.rows:
            time.sleep(self._wait)
            yield FrameMade(row, self._png)
        if is_key:
            yield LookMade(self._look)
        yield UnitEnded({}, (), "waiting", 8, self._keyframes if is_key else ())
