"""How long work takes: before it begins, from earlier work of its kind, and while it runs. Nothing here uses bpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..shared.shot import METHODS

#: seconds of a shot from which on the user is asked before it begins
QUESTION_SECONDS = 180.0
#: nothing is said about the time left before so much is done and so many seconds have passed, or where a change is so fresh
LEAST_FRACTION, LEAST_SECONDS = 0.06, 4.0
#: seconds in which the shown time left approaches what is measured
SMOOTHING_SECONDS = 6.0
#: what a frame costs beside its denoising steps, in shares of all of them: passes, decoding, finishing
BESIDE_STEPS = 0.1
#: from so many times as many frames on an estimate is rough
MANY_MORE = 4


class Run(msgspec.Struct, frozen=True):
    """A finished shot: how many ``frames`` were made in how many ``seconds``, with how many denoising ``steps``, at which size.

    ``device``, ``model`` and ``preset`` say what made it.
    """

    device: str
    model: str
    preset: str
    width: int
    height: int
    steps: int
    frames: int
    seconds: float


class Job(msgspec.Struct, frozen=True):
    """A shot that is to be made; the same as in ``Run``."""

    device: str
    model: str
    preset: str
    width: int
    height: int
    steps: int
    frames: int


class Estimate(msgspec.Struct, frozen=True):
    """``seconds`` that a shot may take; ``is_rough`` where no shot of the same size and steps was made before."""

    seconds: float
    is_rough: bool


def estimate(job: Job, runs: Sequence[Run]) -> Estimate | None:
    """How long a shot may take, from earlier ones (the newest last) of the same device, model and preset; None without any.

    The one that is most like it counts: of the same size and steps, and of nearly as many frames, since loading weighs more in a
    short shot. The time follows the frames, of which those that are made from key frames cost less. From another size or number
    of steps it follows their product; that, and many more frames than before, is only roughly so.
    """

    def distance(pair: tuple[int, Run]) -> tuple[bool, float, int]:
        number, run = pair
        other = abs(math.log(max(job.frames, 1) / run.frames)) + abs(math.log(_compute_load(job) / _compute_load(run)))
        # of equally near ones the newest
        return (not _is_same_kind(job, run), round(other, 1), -number)

    usable = [
        (number, run)
        for number, run in enumerate(runs)
        if (run.device, run.model, run.preset) == (job.device, job.model, job.preset)
        and run.frames > 0
        and math.isfinite(run.seconds)
        and run.seconds > 0
        and _compute_load(run) > 0
    ]
    if not usable or _compute_load(job) <= 0:
        return None
    run = min(usable, key=distance)[1]
    ratio = count_whole_frames(job.preset, job.frames) / count_whole_frames(run.preset, run.frames)
    is_rough = not _is_same_kind(job, run) or job.frames > MANY_MORE * run.frames
    return Estimate(run.seconds * ratio * _compute_load(job) / _compute_load(run), is_rough)


def count_whole_frames(preset: str, frames: int) -> float:
    """How many frames that take all steps cost as much as a shot of so many frames."""
    method = METHODS.get(preset)
    if method is None or method.keyframes is None:
        return float(frames)
    whole = min(frames, method.keyframes.count)
    return whole + (frames - whole) * min(1.0, method.keyframes.strength + BESIDE_STEPS)


def _compute_load(work: Run | Job) -> float:
    return float(work.width * work.height * work.steps)


def _is_same_kind(job: Job, run: Run) -> bool:
    return (run.width, run.height, run.steps) == (job.width, job.height, job.steps)


def write_duration(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``3 min``, ``2 h 10 min``; rounded, as it is an estimate."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(5 * round(minutes / 5), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def write_estimate(found: Estimate | None) -> str:
    """What is shown before a shot is made."""
    if found is None:
        return "time not known yet: the first shot tells"
    return f"{'roughly' if found.is_rough else 'about'} {write_duration(found.seconds)}"


class TimeLeft:
    """The time left of work whose progress is told now and then: smoothed, never negative, and None until it is known well."""

    def __init__(self, started: float, expected: float | None = None) -> None:
        """``started`` is the clock's time in seconds, ``expected`` how long earlier work of the kind took."""
        self._started, self._expected = started, expected
        self._left: float | None = None
        self._last = started

    def update(self, now: float, fraction: float) -> None:
        """``fraction`` of the work is done at ``now``."""
        elapsed, fraction = max(0.0, now - self._started), min(max(fraction, 0.0), 1.0)
        measured = self._measure(elapsed, fraction)
        if measured is None:
            return
        if self._left is None:
            self._left = measured
        else:
            passed = max(0.0, now - self._last)
            counted = max(0.0, self._left - passed)
            self._left = counted + (measured - counted) * (1 - math.exp(-passed / SMOOTHING_SECONDS))
        self._last = now

    def _measure(self, elapsed: float, fraction: float) -> float | None:
        """What is left by the share that is done, and by earlier work as long as that share is small."""
        if elapsed < LEAST_SECONDS or fraction < LEAST_FRACTION:
            return None
        by_share = elapsed * (1 - fraction) / fraction
        if self._expected is None:
            # the first shares tell little: some more of them must be there
            return by_share if fraction >= 3 * LEAST_FRACTION else None
        # from the half on the work itself tells enough
        trust = min(1.0, 2 * fraction)
        return trust * by_share + (1 - trust) * max(self._expected - elapsed, by_share * trust)

    def get(self, now: float) -> float | None:
        """Seconds left at ``now``; None as long as that is not known well."""
        return None if self._left is None else max(0.0, self._left - max(0.0, now - self._last))


def write_time_left(seconds: float | None) -> str:
    """The time left as it is shown; empty where it is not known."""
    return "" if seconds is None else f"{write_duration(seconds)} left"
