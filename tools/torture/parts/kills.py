"""SIGKILL, at random moments, of the backend, of the client, or of both; whoever was killed starts again and goes on."""

from __future__ import annotations

import random
import time
from pathlib import Path

from ..client import ENDED, Played, play_once, run_client
from ..processes import Backend, Program
from ..shots import KINDS, Shot, make_shot
from ..trial import Budget, Figures

#: kills of one job before it is left in peace
MOST_KILLS = 4
#: how long a job may take that nobody disturbs any more
PEACE_SECONDS = 120.0


def make_references(budget: Budget, kinds: tuple[str, ...] = tuple(KINDS), **changes: int) -> dict[str, tuple[Shot, Played, float]]:
    """For each kind of job: itself, what it gives when nothing disturbs it, and how long that takes in seconds."""
    backend = Backend(budget.work / "undisturbed" / "jobs")
    found: dict[str, tuple[Shot, Played, float]] = {}
    try:
        for kind in kinds:
            play_once(backend.endpoint, make_shot(budget.model, kind, seed=99, **changes))  # whatever is slow the first time
            shot = make_shot(budget.model, kind, **changes)
            started = time.monotonic()
            played = play_once(backend.endpoint, shot)
            if played.end != "finished" or len(played.frames) != len(shot.request.frames):
                raise RuntimeError(f"the undisturbed job '{kind}' {played.end}: {played.sentence}")
            found[kind] = shot, played, time.monotonic() - started
    finally:
        backend.stop()
    return found


def count_damage(folder: Path, expected: Played) -> int:
    """How many of the client's frames and textures are not, byte for byte, what they should be."""
    wanted = {f"{n:04d}.png": data for n, data in expected.frames.items()}
    wanted |= {f"{name}.png": data for name, data in expected.textures.items()}
    return sum(path.read_bytes() != wanted.get(path.name) for path in folder.glob("*.png"))


def run(budget: Budget) -> Figures:
    """See ``PARTS``; ``goal`` counts kills."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("frames lost", "frames changed", "jobs that need a hand"), 0))
    references = make_references(budget)
    for number, chance, folder in budget.trials():
        _run_job(figures, chance, folder, references, f"kills --seed {budget.seed}, job {number}")
        if figures.counts["kills"] >= budget.goal:
            break
    return figures


def _run_job(
    figures: Figures, chance: random.Random, folder: Path, references: dict[str, tuple[Shot, Played, float]], where: str
) -> None:
    counts, kind = figures.counts, chance.choice(list(references))
    shot, expected, seconds = references[kind]
    counts["jobs"] += 1
    frames = folder / "frames"
    frames.mkdir()
    backend = Backend(folder / "jobs")
    try:
        for _ in range(chance.randint(1, MOST_KILLS)):
            client = Program(run_client, backend.endpoint, shot, frames)
            victim = chance.choice(("backend", "client", "both"))
            client.wait(chance.uniform(0, 1.1 * seconds + 0.2))
            for name, process in (("client", client), ("backend", backend)):
                if victim in (name, "both") and process.kill():
                    counts["kills"] += 1
                    counts[f"kills of the {name}"] += 1
            if not client.wait(PEACE_SECONDS):
                figures.fault(f"{where}: the client of '{kind}' hangs after a kill of the {victim}")
                client.kill()
            elif client.code == ENDED["failed"]:
                figures.fault(f"{where}: '{kind}' failed although it was only killed: {(frames / 'end.txt').read_text()}")
            counts["frames changed"] += count_damage(frames, expected)
            if not backend.alive:
                backend = Backend(folder / "jobs")
        _finish_job(figures, backend, shot, expected, frames, where)
    finally:
        backend.stop()


def _finish_job(figures: Figures, backend: Backend, shot: Shot, expected: Played, frames: Path, where: str) -> None:
    """Nobody is killed any more: the job must end by itself, with the frames that it would have had."""
    counts = figures.counts
    client = Program(run_client, backend.endpoint, shot, frames)
    if not client.wait(PEACE_SECONDS) or client.code != ENDED["finished"]:
        counts["jobs that need a hand"] += 1
        client.kill()
        said = (frames / "end.txt").read_text() if (frames / "end.txt").exists() else "nothing was said"
        figures.fault(f"{where}: '{shot.kind}' does not finish: {said}")
        return
    lost = sum(not (frames / f"{n:04d}.png").exists() for n in expected.frames)
    changed = count_damage(frames, expected)
    counts["frames"] += len(expected.frames)
    counts["frames lost"] += lost
    counts["frames changed"] += changed
    if lost or changed:
        figures.fault(f"{where}: '{shot.kind}' has {lost} frames lost and {changed} pictures changed")
