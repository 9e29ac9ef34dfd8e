"""Workers that do units: a thread for each, which takes the next unit, passes on what is told of it, and replaces its worker when
that dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from ...shared import logs
from ...shared.shot import ShotError
from ..tasks.turns import FairTurns, Turn
from .queue import MOST_TRIES, QueuedUnit, UnitQueue
from .units import Event, PackedPasses, Unit, UnitEnded, UnitFailed, Wanted, WorkerDescription

logger = logs.get_logger(__name__)


class WorkerLost(Exception):
    """A worker's process is gone."""


class Running(Protocol):
    """A unit that a worker makes."""

    def iter_events(self) -> Iterator[Event]:
        """What happens, the end last. Raises ``WorkerLost``."""

    def answer(self, passes: PackedPasses | str) -> None:
        """What was wanted last, or why it cannot be had."""

    def stop(self) -> None:
        """End at the next step; calling it twice, or when the worker is gone, does no harm."""


class WorkerHandle(Protocol):
    """A worker."""

    @property
    def description(self) -> WorkerDescription:
        """What it is."""

    def run(self, unit: Unit) -> Running:
        """Begin a unit. Raises ``WorkerLost``."""

    def close(self) -> None:
        """End the worker; never raises."""


@dataclass
class Order:
    """A unit that a shot has ordered: ``listen`` is told what happens, on a thread of the pool, the same frame perhaps twice where
    a worker died; ``fetch`` gives the passes that are wanted. ``renew`` gives the unit as another worker is to go on with it.
    ``done`` has the unit's end, or raises ``ShotError``."""

    unit: Unit
    listen: Callable[[Event], None]
    fetch: Callable[[int, bool], PackedPasses]
    renew: Callable[[Unit], Unit] = lambda unit: unit
    done: Future[UnitEnded] = field(default_factory=Future)
    stopped: bool = False


class WorkerPool:
    """Workers, and the units that wait for them."""

    def __init__(self, workers: Sequence[WorkerHandle], replace: Callable[[], WorkerHandle]) -> None:
        """``replace`` makes a worker in the place of one that is gone; raises ``ShotError`` or ``WorkerLost`` when it cannot."""
        self._queue: UnitQueue[Order] = UnitQueue()
        self._changed = threading.Condition()
        self._turns = FairTurns()
        self._replace, self._closing = replace, False
        self._running: dict[int, tuple[QueuedUnit[Order], Running]] = {}
        self._workers: list[WorkerHandle | None] = list(workers)
        #: threads that have a worker, or can have one; why units are refused when there are none
        self._left, self._refusal = len(workers), ""
        self.descriptions = [worker.description for worker in workers]
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"worker {n}", daemon=True) for n in range(len(workers))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self._workers)

    def begin_shot(self, priority: int = 0, owner: bytes = b"") -> Turn:
        """The turn of a new shot's units, until ``stop``."""
        with self._changed:
            return self._turns.begin(owner, priority)

    def submit(self, order: Order, turn: Turn) -> Order:
        """Have a unit made."""
        with self._changed:
            if self._closing or self._refusal:
                sentence = self._refusal or "The backend is ending; generate the shot again."
                order.done.set_exception(ShotError("worker", sentence))
                return order
            self._queue.add(order, turn)
            self._changed.notify()
        return order

    def stop(self, turn: Turn) -> None:
        """A shot is over: drop its units, and end those that are being made at their next step."""
        with self._changed:
            self._turns.end(turn)
            dropped = self._queue.drop(turn)
            running = [(queued, unit) for queued, unit in self._running.values() if queued.turn == turn]
            for queued, _ in running:
                queued.payload.stopped = True
        for order in dropped:
            _cancel(order)
        for _, unit in running:
            unit.stop()

    def close(self) -> None:
        """End all workers, whatever they do."""
        with self._changed:
            self._closing = True
            waiting = [queued.payload for queued in iter(self._queue.take, None)]
            self._changed.notify_all()
        for order in waiting:
            _cancel(order)
        for worker in self._workers:
            if worker is not None:
                worker.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self, number: int) -> None:
        while True:
            with self._changed:
                while not len(self._queue) and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
            # before a unit is taken, which others would make meanwhile
            if not self._ensure_worker(number):
                return
            with self._changed:
                queued = self._queue.take()
            if queued is not None:
                self._make(number, queued)

    def _ensure_worker(self, number: int) -> bool:
        """Whether there is a worker; a new one where the last one died. Where none can be had and this was the last, whoever waits
        is told why."""
        if self._workers[number] is not None:
            return True
        try:
            self._workers[number] = self._replace()
            return True
        except BaseException as error:  # Ray ends threads with SystemExit when it is shut down
            logger.warning("a worker could not be replaced: %s", error)
        with self._changed:
            self._left -= 1
            if self._left:
                return False
            self._refusal = "No worker is left; see the backend's log, and start the backend again."
            waiting = [queued.payload for queued in iter(self._queue.take, None)]
        for order in waiting:
            _fail(order, ShotError("worker", self._refusal))
        return False

    def _make(self, number: int, queued: QueuedUnit[Order]) -> None:
        order, worker = queued.payload, self._workers[number]
        assert worker is not None
        try:
            self._end(order, self._follow(number, worker, queued))
        except WorkerLost as error:
            self._lose(number, queued, error)
        except ShotError as error:
            _fail(order, error)
        except Exception as error:  # what a listener or Ray raises ends the unit, and not the thread
            logger.exception("a unit could not be made")
            _fail(order, error)

    def _follow(self, number: int, worker: WorkerHandle, queued: QueuedUnit[Order]) -> UnitEnded | UnitFailed:
        order = queued.payload
        running = worker.run(order.unit)
        with self._changed:
            self._running[number] = queued, running
        try:
            if order.stopped:
                running.stop()
            for event in running.iter_events():
                if isinstance(event, Wanted):
                    running.answer(self._fetch(order, event))
                elif isinstance(event, (UnitEnded, UnitFailed)):
                    return event
                else:
                    order.listen(event)
        except WorkerLost:
            raise
        except BaseException:
            running.stop()
            raise
        finally:
            with self._changed:
                self._running.pop(number, None)
        raise WorkerLost("it ended without a word")

    def _fetch(self, order: Order, wanted: Wanted) -> PackedPasses | str:
        try:
            return order.fetch(wanted.index, wanted.overview)
        except Exception as error:  # the worker waits for an answer
            if not isinstance(error, ShotError):
                logger.exception("passes could not be read")
            return str(error)

    def _end(self, order: Order, end: UnitEnded | UnitFailed) -> None:
        if isinstance(end, UnitEnded):
            order.done.set_result(end)
        elif end.interrupted:
            _cancel(order)
        else:
            _fail(order, ShotError(end.code, end.sentence))

    def _lose(self, number: int, queued: QueuedUnit[Order], error: WorkerLost) -> None:
        """A worker is gone: another one makes what it had, unless it was stopped or kills every worker."""
        order, worker = queued.payload, self._workers[number]
        self._workers[number] = None
        if worker is not None:
            worker.close()
        logger.warning("a worker is gone: %s", error)
        if order.stopped:
            _cancel(order)
            return
        order.unit = order.renew(order.unit)
        with self._changed:
            again = not self._closing and self._queue.put_back(queued)
            self._changed.notify()
        if not again:
            _fail(
                order,
                ShotError(
                    "worker",
                    f"{MOST_TRIES} workers ended while they made the same frames ({error}); use a smaller size or fewer workers, "
                    "and see the backend's log.",
                ),
            )


def _cancel(order: Order) -> None:
    """Nobody makes the unit; whoever waits for it is told, which ``cancel`` alone does not do."""
    if not order.done.done() and order.done.cancel():
        order.done.set_running_or_notify_cancel()


def _fail(order: Order, error: Exception) -> None:
    if not order.done.done():
        order.done.set_exception(error)
