"""Disks without room and disks that cannot be written: a sentence, nothing broken left behind, and the job goes on with room.

The store lies on a small file system in memory where mounting is allowed. Elsewhere the backend may write no file beyond a size,
which is the same error at other moments.
"""

from __future__ import annotations

import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentman.shared.files import is_unfinished

from ..client import Played, play_once
from ..processes import Backend
from ..shots import Shot
from ..trial import Budget, Figures
from .kills import make_references

ROOM = 64 << 20
#: words of the sentences that say what happened
WORDS = ("cannot be used", "space", "disk", "Read-only", "read-only", "too large", "written")


def _mount(folder: Path, *options: str) -> bool:
    return subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A file system of so many bytes at a folder, until the end of the block; False where that is not allowed."""
    folder.mkdir(parents=True)
    mounted = _mount(folder, "-t", "tmpfs", "-o", f"size={max(size, 4096)},mode=700", "torture")
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is one disk."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("frames changed", "jobs that need a hand", "unfinished files left behind"), 0))
    references = make_references(budget)
    needed = {kind: _measure_folder(shot, budget.work / "undisturbed" / "jobs") for kind, (shot, _, _) in references.items()}
    for number, chance, folder in budget.trials():
        kind = chance.choice(list(references))
        shot, expected, _ = references[kind]
        where = f"disks --seed {budget.seed}, disk {number} ('{kind}')"
        size = int(chance.uniform(0, 1.1) * needed[kind]) // 4096 * 4096
        with small_disk(folder / "disk", size) as mounted:
            figures.counts["disks"] += 1
            if not mounted:
                figures.measures["how"] = "RLIMIT_FSIZE of the backend, since mounting is not allowed here"
                _limit_files(figures, chance, folder, shot, expected, where)
            elif number % 4 == 3:
                _lock(figures, folder, shot, expected, where)
            else:
                figures.measures["how"] = "tmpfs of a random size; read-only by remounting it"
                _fill(figures, folder, shot, expected, where, size)
    return figures


def _measure_folder(shot: Shot, jobs: Path) -> int:
    """Bytes on disk of the largest job, in whole pages."""
    sizes = [sum(-(-path.stat().st_size // 4096) * 4096 for path in job.rglob("*")) for job in jobs.iterdir() if job.is_dir()]
    return max(sizes)


def _fill(figures: Figures, folder: Path, shot: Shot, expected: Played, where: str, size: int) -> None:
    try:
        backend = Backend(folder / "disk" / "jobs", folder / "backend.log")
    except (RuntimeError, OSError):
        figures.counts["refused to start"] += 1
        return
    try:
        played = play_once(backend.endpoint, shot)
        _note(figures, played, expected, f"{where}, {size} bytes")
        if played.end == "failed":
            figures.counts["unfinished files left behind"] += _count_unfinished(folder, where, figures)
        _mount(folder / "disk", "-o", f"remount,size={ROOM}")
        _finish(figures, backend, shot, expected, where)
    finally:
        backend.stop()


def _lock(figures: Figures, folder: Path, shot: Shot, expected: Played, where: str) -> None:
    _mount(folder / "disk", "-o", f"remount,size={ROOM}")
    store = folder / "disk" / "jobs"
    store.mkdir()
    _mount(folder / "disk", "-o", "remount,ro")
    try:
        backend = Backend(store, folder / "backend.log")
    except (RuntimeError, OSError):
        figures.counts["refused to start"] += 1
        return
    try:
        figures.counts["read-only disks"] += 1
        _note(figures, play_once(backend.endpoint, shot), expected, f"{where}, read-only")
        _mount(folder / "disk", "-o", f"remount,rw,size={ROOM}")
        _finish(figures, backend, shot, expected, where)
    finally:
        backend.stop()


def _limit_files(figures: Figures, chance: random.Random, folder: Path, shot: Shot, expected: Played, where: str) -> None:
    backend = Backend(folder / "jobs")
    try:
        before = resource.prlimit(backend.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(backend.pid, resource.RLIMIT_FSIZE, (chance.choice((0, 100, 2000, 20_000)), before[1]))
        _note(figures, play_once(backend.endpoint, shot), expected, where)
        resource.prlimit(backend.pid, resource.RLIMIT_FSIZE, before)
        figures.counts["unfinished files left behind"] += _count_unfinished(folder, where, figures)
        _finish(figures, backend, shot, expected, where)
    finally:
        backend.stop()


def _note(figures: Figures, played: Played, expected: Played, where: str) -> None:
    figures.counts[f"{played.end} without room"] += 1
    changed = sum(data != expected.frames[n] for n, data in played.frames.items())
    figures.counts["frames changed"] += changed
    if changed or played.end not in ("failed", "finished"):
        figures.fault(f"{where}: {changed} frames changed, and it {played.end}: {played.sentence}")
    elif played.end == "failed" and not any(word in played.sentence for word in WORDS):
        figures.fault(f"{where}: the sentence does not say what to do: {played.sentence}")


def _count_unfinished(folder: Path, where: str, figures: Figures) -> int:
    left = [path.name for path in folder.rglob("*") if is_unfinished(path)]
    if left:
        figures.fault(f"{where}: left behind: {left}")
    return len(left)


def _finish(figures: Figures, backend: Backend, shot: Shot, expected: Played, where: str) -> None:
    played = play_once(backend.endpoint, shot)
    if not played.is_same(expected):
        figures.counts["jobs that need a hand"] += played.end != "finished"
        figures.counts["frames changed"] += sum(data != expected.frames[n] for n, data in played.frames.items())
        figures.fault(f"{where}: with room again it {played.end} ({played.sentence}) or is not what it should be")
