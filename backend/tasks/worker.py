"""The one thread that uses the device: it runs tasks one after the other, by their priority and in fair turns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ...shared import logs
from ...shared.shot import ShotError
from ..video.run_context import Interrupted
from .resources import LOADING, ResourceLoader
from .turns import FairTurns, Turn

if TYPE_CHECKING:
    from .task import Task

logger = logs.get_logger(__name__)


class Worker:
    """Runs tasks from when ``loader`` has made what they are done with."""

    def __init__(self, loader: ResourceLoader) -> None:
        self.loader = loader
        self._waiting: dict[Turn, Task] = {}
        self._turns = FairTurns()
        self._changed = threading.Condition()
        self._stopping = self._busy = False
        self._thread = threading.Thread(target=self._run_tasks, name="worker", daemon=True)
        #: of tasks that other processes work on: none of them waits for another
        self._beside: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Run a task when its turn comes."""
        with self._changed:
            # one that was cancelled while it waited has nothing left to run
            for turn in [turn for turn, waiting in self._waiting.items() if waiting.state.ended]:
                del self._waiting[turn]
                self._turns.end(turn)
            own = self._turns.begin(task.owner, task.priority)
            ahead = sum(turn < own for turn in self._waiting) + self._busy
            self._waiting[own] = task
            self._changed.notify()
        if not self.loader.ended:
            task.report_progress(LOADING, 0, 1)
        elif ahead:
            task.report_progress(f"waiting for {ahead} before it", 0, 1)

    @property
    def has_waiting(self) -> bool:
        """Whether a task waits for the one that runs."""
        with self._changed:
            return any(not task.state.ended for task in self._waiting.values())

    def run_beside(self, task: Task) -> None:
        """Run a task at once, in a thread of its own: what uses the device is elsewhere."""
        thread = threading.Thread(target=task.run_safely, args=(self,), name=f"work {task.ticket[:8]}", daemon=True)
        self._beside = [running for running in self._beside if running.is_alive()]
        self._beside.append(thread)
        thread.start()

    def stop(self, seconds: float) -> None:
        """Finish with the running task, which must have been cancelled, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        end = time.monotonic() + seconds
        for thread in [self._thread, *self._beside]:
            if thread.is_alive():
                thread.join(timeout=max(end - time.monotonic(), 0.0))

    def _run_tasks(self) -> None:
        try:
            self.loader.wait(lambda: self._stopping)
        except Interrupted:
            return
        except ShotError:
            pass  # each task is told so itself
        while True:
            with self._changed:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                turn = min(self._waiting)
                task = self._waiting.pop(turn)
                self._busy = True
            try:
                task.run_safely(self)
            except BaseException:  # there is no other worker
                logger.exception("a piece of work could not be ended")
            with self._changed:
                self._busy = False
                self._turns.end(turn)
