"""How far a shot is as a whole: every stage has its share of one bar, which never goes back. Nothing here uses bpy."""

from __future__ import annotations

import time
from collections.abc import Callable

from .time_estimate import TimeLeft, write_time_left

#: stage -> the share of the bar at its beginning and at its end; in the order in which they usually come
SPANS = {
    "rendering passes": (0.0, 0.15),
    "loading the model": (0.1, 0.12),
    "matching": (0.15, 0.2),
    "denoising": (0.2, 0.55),
    "decoding": (0.55, 0.6),
    "frames": (0.6, 0.95),
    "measuring": (0.95, 1.0),
}
CANCELLING = "cancelling"


def compute_overall(stage: str, fraction: float, arrived: int, total: int) -> float:
    """The share of a whole shot that is done: ``fraction`` of a stage, and ``arrived`` of ``total`` frames. A stage without a
    share, such as waiting and downloading, is no progress."""
    begin, end = SPANS.get(stage, (0.0, 0.0))
    done = begin + (end - begin) * min(max(fraction, 0.0), 1.0)
    if total > 0 and arrived:
        first, last = SPANS["frames"]
        done = max(done, first + (last - first) * min(arrived / total, 1.0))
    return done


class ShotProgress:
    """The bar of one shot and its time left."""

    def __init__(self, total: int, expected: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``total`` frames are made; ``expected`` is how many seconds earlier shots of the kind took."""
        self.fraction, self.arrived, self.total = 0.0, 0, total
        self._clock, self._left = clock, TimeLeft(clock(), expected)

    def update(self, stage: str, fraction: float, arrived: int) -> None:
        """Where the shot stands now."""
        self.arrived = arrived
        self.fraction = max(self.fraction, compute_overall(stage, fraction, arrived, self.total))
        self._left.update(self._clock(), self.fraction)

    def get_seconds_left(self) -> float | None:
        """Seconds left; None as long as they are not known well."""
        return self._left.get(self._clock())

    def describe(self, stage: str) -> str:
        """The text on the bar: stage, frames, time left."""
        if stage == CANCELLING:
            return CANCELLING
        frames = f"frame {self.arrived}/{self.total}" if self.arrived else f"{self.total} frames"
        return " · ".join(filter(None, [stage, frames, write_time_left(self.get_seconds_left())]))
