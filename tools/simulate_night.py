"""A night of shots on workers that die at random, by the clock of a simulation: the real queue, and no processes.

Workers die as a Poisson process, whatever they do; what they held is made again by others. A unit is a shot's key frames, or a
batch of its other frames, which can begin when the key frames are there.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass

from latentman.backend.tasks.turns import Turn
from latentman.backend.workers.queue import QueuedUnit, UnitQueue

#: seconds in an hour
HOUR = 3600.0


@dataclass(frozen=True)
class Night:
    """What is simulated: ``shots`` of ``frames`` each, of which ``keyframes`` are made first in ``key_seconds``, the others in
    batches of ``batch`` in ``frame_seconds`` each; ``workers`` that die ``deaths_per_hour`` times an hour and are back after
    ``restart_seconds``."""

    shots: int = 1000
    frames: int = 96
    keyframes: int = 8
    batch: int = 8
    key_seconds: float = 40.0
    frame_seconds: float = 1.0
    workers: int = 16
    deaths_per_hour: float = 1.0
    restart_seconds: float = 60.0


@dataclass(frozen=True)
class NightReport:
    """``hours`` that the night took and an ideal one would have; ``deaths`` of workers; ``wasted``, the fraction of the work that
    was done in vain; ``given_up`` units that too many workers died over; ``wrong`` frames that were not made exactly once."""

    hours: float
    ideal_hours: float
    deaths: int
    wasted: float
    given_up: int
    wrong: int


def simulate(night: Night, seed: int = 0) -> NightReport:
    """The report of a night; the same seed gives the same night."""
    random_numbers, queue = random.Random(seed), UnitQueue[tuple[int, range]]()
    rest = range(night.keyframes, night.frames)
    made, given_up, wasted, useful, deaths = Counter[tuple[int, int]](), 0, 0.0, 0.0, 0
    turns = [Turn(0, shot, shot) for shot in range(night.shots)]
    for shot in range(night.shots):
        queue.add((shot, range(night.keyframes)), turns[shot])
    order = itertools.count()
    # (time, number, worker, the unit that ends then, when it began, whether the worker dies)
    events: list[tuple[float, int, int, QueuedUnit[tuple[int, range]] | None, float, bool]] = []
    idle, now, last = list(range(night.workers)), 0.0, 0.0

    def begin(worker: int, queued: QueuedUnit[tuple[int, range]]) -> None:
        rows = queued.payload[1]
        seconds = night.key_seconds if rows.start == 0 else len(rows) * night.frame_seconds
        life = random_numbers.expovariate(night.deaths_per_hour / HOUR) if night.deaths_per_hour else float("inf")
        heapq.heappush(events, (now + min(seconds, life), next(order), worker, queued, now, life < seconds))

    while True:
        while idle and (queued := queue.take()) is not None:
            begin(idle.pop(), queued)
        if not events:
            break
        now, _, worker, ended, began, died = heapq.heappop(events)
        if ended is None:
            idle.append(worker)
            continue
        if died:
            deaths, wasted = deaths + 1, wasted + now - began
            given_up += not queue.put_back(ended)
            heapq.heappush(events, (now + night.restart_seconds, next(order), worker, None, now, False))
            continue
        useful, last = useful + now - began, now
        shot, rows = ended.payload
        made.update((shot, row) for row in rows)
        if rows.start == 0:
            for start in range(rest.start, rest.stop, night.batch):
                queue.add((shot, range(start, min(start + night.batch, rest.stop))), turns[shot])
        idle.append(worker)
    wrong = sum(made[shot, row] != 1 for shot in range(night.shots) for row in range(night.frames))
    return NightReport(last / HOUR, useful / night.workers / HOUR, deaths, wasted / (useful + wasted), given_up, wrong)
