"""Two backends in one folder, as two Blenders of one user start them."""

from __future__ import annotations

import threading
from pathlib import Path

from ..client import Played, play_once
from ..processes import Backend
from ..shots import Shot
from ..trial import Budget, Figures
from .kills import make_references


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is two backends with one job each, the same one in half of the trials."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("jobs that failed", "pictures changed"), 0))
    references = make_references(budget)
    for number, chance, folder in budget.trials():
        first = chance.choice(list(references))
        second = first if chance.random() < 0.5 else chance.choice(list(references))
        figures.counts["on the same job" if first == second else "on different jobs"] += 1
        shots = [references[first][:2], references[second][:2]]
        delay = chance.uniform(0, references[first][2]) if chance.random() < 0.5 else 0.0
        victim = chance.choice((None, None, 0, 1))
        where = f"sharing --seed {budget.seed}, trial {number} ('{first}' and '{second}', kill of {victim})"
        _play_both(figures, folder, shots, delay, victim, where)
    return figures


def _play_both(
    figures: Figures, folder: Path, shots: list[tuple[Shot, Played]], delay: float, victim: int | None, where: str
) -> None:
    backends = [Backend(folder / "jobs"), Backend(folder / "jobs")]
    heard: dict[int, Played] = {}

    def play(n: int) -> None:
        heard[n] = play_once(backends[n].endpoint, shots[n][0])

    threads = [threading.Thread(target=play, args=(n,)) for n in range(2)]
    try:
        threads[0].start()
        threads[0].join(delay)
        threads[1].start()
        if victim is not None:
            threads[1].join(delay / 2)
            figures.counts["kills"] += backends[victim].kill()
        for thread in threads:
            thread.join()
        for n, (shot, expected) in enumerate(shots):
            played = heard[n]
            if victim == n and played.end == "lost":
                played = play_once(backends[1 - n].endpoint, shot)
            if played.end != "finished":
                figures.counts["jobs that failed"] += 1
                figures.fault(f"{where}: number {n} {played.end}: {played.sentence}")
            elif not played.is_same(expected):
                figures.counts["pictures changed"] += 1
                figures.fault(f"{where}: number {n} has other pictures")
            figures.counts["jobs"] += 1
    finally:
        for backend in backends:
            backend.stop()
