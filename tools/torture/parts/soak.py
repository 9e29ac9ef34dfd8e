"""Many small jobs in one backend: memory, descriptors and threads stay where they are."""

from __future__ import annotations

import os

from ..client import open_client, play
from ..processes import Backend
from ..shots import KINDS, make_shot
from ..trial import Budget, Figures

#: jobs before the first measurement
WARM_UP = 16
#: what memory may grow by after it, and by how many a hundred jobs may add descriptors or threads
MOST_GROWTH_MB, MOST_MORE = 60, 2


def _measure(backend: Backend) -> tuple[float, int, int]:
    """Memory in MB, descriptors, threads."""
    return backend.read_status("VmRSS") / 1024, backend.count_descriptors(), len(os.listdir(f"/proc/{backend.pid}/task"))


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is a job with a seed of its own. Every second one comes from a new connection."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("jobs that failed",), 0))
    backend = Backend(budget.work / "jobs")
    client, before = open_client(backend.endpoint), (0.0, 0, 0)
    done = 0
    try:
        for number, chance, _ in budget.trials():
            shot = make_shot(budget.model, list(KINDS)[number % len(KINDS)], seed=chance.randrange(2**31))
            if number % 2:
                client.close()
                client = open_client(backend.endpoint)
            played = play(client, shot)
            done += 1
            if played.end != "finished" or len(played.frames) != len(shot.request.frames):
                figures.counts["jobs that failed"] += 1
                figures.fault(f"soak --seed {budget.seed}, job {number}: it {played.end}: {played.sentence}")
                if not backend.alive:
                    return figures
            if done == WARM_UP:
                before = _measure(backend)
        after = _measure(backend)
    finally:
        client.close()
        backend.stop()
    figures.counts["jobs"] = done
    if done <= WARM_UP:
        figures.measures["memory and descriptors"] = f"not compared: fewer than {WARM_UP + 1} jobs in the time"
        return figures
    for name, start, stop, most in zip(
        ("memory in MB", "descriptors", "threads"), before, after, (MOST_GROWTH_MB, MOST_MORE, MOST_MORE), strict=True
    ):
        figures.measures[f"{name}, after {WARM_UP} jobs and at the end"] = f"{start:.0f}, {stop:.0f}"
        if stop - start > most:
            figures.fault(f"soak --seed {budget.seed}: {name} went from {start:.0f} to {stop:.0f} in {done - WARM_UP} jobs")
    return figures
