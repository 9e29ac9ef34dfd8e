"""How a model likes to be run, for a client that asks before it renders anything. Its own thread reads the files."""

from __future__ import annotations

import threading

from ...shared.messages import Cancelled, ModelDescribed
from ...shared.task import TaskState
from ..models.profiles import find_profile
from .outbox import Outbox
from .task import Task
from .worker import Worker


class DescribeTask(Task):
    """Answers with a model's profile; nothing is loaded for it."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, model: str, *, download: bool) -> None:
        """``download`` gets a configuration from the hub where it is not here."""
        super().__init__(ticket, client, outbox)
        self._model, self._download = model, download
        self._thread = threading.Thread(target=self._run_thread, name=f"describe {ticket[:8]}", daemon=True)

    @property
    def gone(self) -> bool:
        """Whether its thread has ended."""
        return self.state.ended and not self._thread.is_alive()

    def start(self, worker: Worker) -> None:
        """Begin the task's own thread."""
        self._machine.advance(TaskState.RUNNING)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until its thread has ended."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run_thread(self) -> None:
        try:
            profile = find_profile(self._model, download=self._download)
            if self._stop.is_set():
                self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))
            else:
                self.end(TaskState.FINISHED, ModelDescribed(ticket=self.ticket, profile=profile))
        except Exception as error:
            self.fail(error)
