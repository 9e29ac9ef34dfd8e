"""Damage of what is stored: whatever of a job was lost or changed is made again, without a hand."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from latentman.backend.jobs.runner import ModelCache, RunCallbacks
from latentman.backend.jobs.runner import run as run_job
from latentman.backend.jobs.store import JobStore
from latentman.backend.video.run_context import Interrupted
from latentman.shared.files import is_unfinished

from ..mutation import mutate_bytes
from ..shots import KINDS, Shot, make_shot
from ..trial import Budget, Figures


def _overwrite(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, Path], None]:
    def damage(chance: random.Random, path: Path) -> None:
        path.write_bytes(change(chance, path.read_bytes()))

    return damage


def _replace_by_folder(chance: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_link(chance: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(chance.choice(("nowhere", "/dev/zero", path.name)))


DAMAGES: dict[str, Callable[[random.Random, Path], None]] = {
    "emptied": _overwrite(lambda chance, data: b""),
    "cut": _overwrite(lambda chance, data: data[: chance.randrange(len(data) + 1)]),
    "changed": _overwrite(mutate_bytes),
    "zeroed": _overwrite(lambda chance, data: bytes(len(data))),
    "overwritten": _overwrite(lambda chance, data: chance.randbytes(len(data))),
    "of another": _overwrite(lambda chance, data: b"\x89PNG\r\n\x1a\n" + data[chance.randrange(len(data) + 1) :]),
    "removed": lambda chance, path: path.unlink(),
    "a folder": _replace_by_folder,
    "a link": _replace_by_link,
}


def _make_job(store: Path, shot: Shot, models: ModelCache, stop_after: int | None = None) -> tuple[Path, dict[str, bytes]]:
    """Ask for a job, and let it run to its end or until so many frames are stored: its folder and its pictures."""
    job = JobStore(store).open(shot.request, shot.passes)
    stored: list[int] = []
    try:
        run_job(
            job,
            models,
            RunCallbacks(frame_stored=stored.append, should_stop=lambda: stop_after is not None and len(stored) >= stop_after),
        )
    except Interrupted:
        pass
    pictures = {f"frame {n}": job.read_png(n) for n in job.list_finished_frames()}
    return job.folder, pictures | job.textures()


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is one damaged file, or in every fourth trial several."""
    figures, models = Figures(), ModelCache()
    figures.counts.update(dict.fromkeys(("cases stuck", "pictures changed"), 0))
    made: dict[tuple[str, int | None], tuple[Path, dict[str, bytes]]] = {}
    for number, chance, folder in budget.trials():
        kind, stop_after = chance.choice(list(KINDS)), chance.choice((None, None, 0, 1, 2))
        shot = make_shot(budget.model, kind)
        if (kind, stop_after) not in made:
            before = budget.work / f"{kind} {stop_after}"
            _, expected = _make_job(budget.work / f"whole {kind}", shot, models)
            _make_job(before, shot, models, stop_after)
            made[kind, stop_after] = before, expected
        before, expected = made[kind, stop_after]
        store = folder / "jobs"
        shutil.copytree(before, store)
        (job,) = (path.parent for path in store.glob("*/request.json"))
        files = sorted(path for path in job.rglob("*") if path.is_file())
        damaged = chance.sample(files, min(len(files), 1 if number % 4 else chance.randint(2, 8)))
        said = []
        for path in damaged:
            damage = chance.choice(list(DAMAGES))
            said.append(f"{path.relative_to(job)} {damage}")
            DAMAGES[damage](chance, path)
            figures.counts["damaged files"] += 1
        where = f"stores --seed {budget.seed}, trial {number}: '{kind}', stopped after {stop_after}, {'; '.join(said)}"
        figures.counts["cases"] += 1
        _check(figures, store, shot, models, expected, where)
        shutil.rmtree(folder)
    return figures


def _check(figures: Figures, store: Path, shot: Shot, models: ModelCache, expected: dict[str, bytes], where: str) -> None:
    try:
        _, pictures = _make_job(store, shot, models)
    except Exception as error:
        figures.counts["cases stuck"] += 1
        figures.fault(f"{where}: {type(error).__name__}: {error}")
        return
    if pictures != expected:
        figures.counts["pictures changed"] += 1
        figures.fault(f"{where}: other pictures: {sorted(set(pictures) ^ set(expected)) or 'changed'}")
    left = [path.name for path in store.rglob("*") if is_unfinished(path)]
    if left:
        figures.fault(f"{where}: left behind: {left}")
