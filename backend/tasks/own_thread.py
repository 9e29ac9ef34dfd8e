"""Tasks that need no device: each does its work in a thread of its own, beside the worker's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ...shared.task import TaskState
from .outbox import Outbox
from .resources import Resources
from .task import Task

if TYPE_CHECKING:
    from .worker import Worker


class OwnThreadTask(Task):
    """Runs ``work`` in its own thread as soon as it is started; whatever that raises fails the task."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox) -> None:
        super().__init__(ticket, client, outbox)
        self._worker: Worker | None = None
        #: what the work is done with, from ``prepare`` on
        self.resources: Resources | None = None
        self._thread = threading.Thread(target=self._run_thread, name=f"{type(self).__name__} {ticket[:8]}", daemon=True)

    @property
    def gone(self) -> bool:
        """Whether its thread has ended."""
        return self.state.ended and not self._thread.is_alive()

    def start(self, worker: Worker) -> None:
        """Begin the task's own thread."""
        self._machine.advance(TaskState.RUNNING)
        self._worker = worker
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until its thread has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def prepare(self, worker: Worker) -> None:
        """Wait for what the work is done with, before ``work``: ``resources``, unless a task needs less."""
        self.resources = self.await_resources(worker)

    def work(self) -> None:
        """Do the work and end."""
        raise NotImplementedError

    def _run_thread(self) -> None:
        try:
            assert self._worker is not None
            self.prepare(self._worker)
            self.work()
        except Exception as error:
            self.fail(error)
