"""Workers in threads of the test's own process: the same units and the same maker as under Ray."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial

from latentman.backend.workers.maker import UnitMaker
from latentman.backend.workers.pool import WorkerLost
from latentman.backend.workers.port import UnitPort
from latentman.backend.workers.units import FrameMade, WorkerDescription

#: diffusers cannot load two models at the same time in one process
LOADING = threading.Lock()


def _load_alone(get, *arguments):
    with LOADING:
        return get(*arguments)


class LocalUnit:
    """A unit that a maker makes in a thread."""

    def __init__(self, worker: LocalWorker, unit) -> None:
        self._worker, self._port = worker, UnitPort()
        # as between processes: nothing is shared
        self._unit = pickle.loads(pickle.dumps(unit))

    def iter_events(self) -> Iterator:
        frames = 0
        for event in self._worker.maker.run(self._unit, self._port):
            self._worker.check(event, frames)
            frames += isinstance(event, FrameMade)
            yield pickle.loads(pickle.dumps(event))

    def answer(self, passes) -> None:
        self._port.answer(pickle.loads(pickle.dumps(passes)))

    def stop(self) -> None:
        self._port.stop()


class LocalWorker:
    """A worker; ``dies`` is asked at every event, with how many frames of the unit have come before."""

    def __init__(self, dies: Callable[[object, int], bool] = lambda event, frames: False) -> None:
        self.maker, self._dies = UnitMaker(), dies
        self.maker._models.get = partial(_load_alone, self.maker._models.get)
        self.units: list = []
        self.closed = threading.Event()
        self.description = WorkerDescription("1", "code", "cpu", "here")

    def check(self, event, frames: int) -> None:
        if self.closed.is_set() or self._dies(event, frames):
            self.closed.set()
            raise WorkerLost("killed")

    def run(self, unit) -> LocalUnit:
        if self.closed.is_set():
            raise WorkerLost("it is gone")
        self.units.append(unit)
        return LocalUnit(self, unit)

    def close(self) -> None:
        self.closed.set()
