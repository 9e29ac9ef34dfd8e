"""The kinds of trouble: each file has one, as a function that takes a ``Budget`` and gives ``Figures``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..trial import Budget, Figures
from . import cancelling, disks, files, kills, messages, orphans, sharing, soak, stores, strangers


@dataclass(frozen=True)
class Part:
    """A kind of trouble: what is done, how many trials a full run has, and its share of the time."""

    run: Callable[[Budget], Figures]
    title: str
    goal: int
    share: float


PARTS: dict[str, Part] = {
    "kills": Part(kills.run, "Backend and client are killed (SIGKILL) at random moments of small jobs, which then go on", 200, 5),
    "messages": Part(messages.run, "Changed and malformed messages, with the right keys, to the backend and to the client", 220, 4),
    "files": Part(files.run, "Changed files of every kind that is read", 110, 2),
    "stores": Part(
        stores.run, "Each file of a job is emptied, cut, changed, overwritten or removed; the job is asked for again", 300, 3
    ),
    "disks": Part(disks.run, "The job store's disk becomes full, or read-only; then it has room again", 40, 1),
    "sharing": Part(sharing.run, "Two backends work in one folder, on the same job and on different ones", 20, 1),
    "strangers": Part(strangers.run, "Peers without keys: silence, noise, other keys, huge frames, hundreds of connections", 16, 1),
    "soak": Part(soak.run, "One backend makes small jobs one after the other", 200, 2),
    "cancelling": Part(cancelling.run, "A job is cancelled in every state", 45, 1),
    "orphans": Part(orphans.run, "The program that started a backend as Blender does is killed", 8, 1),
}
