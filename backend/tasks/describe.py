"""How a model likes to be run, for a client that asks before it renders anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...shared.messages import Cancelled, ModelDescribed
from ...shared.task import TaskState
from ..models.profiles import find_profile
from .outbox import Outbox
from .own_thread import OwnThreadTask

if TYPE_CHECKING:
    from .worker import Worker


class DescribeTask(OwnThreadTask):
    """Answers with a model's profile; nothing is loaded for it."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, model: str, *, download: bool) -> None:
        """``download`` gets a configuration from the hub where it is not here."""
        super().__init__(ticket, client, outbox)
        self._model, self._download = model, download

    def prepare(self, worker: Worker) -> None:
        """Nothing but the hub's library is needed."""
        worker.loader.wait_for_hub(self._stop.is_set)

    def work(self) -> None:
        """Read the model's files."""
        profile = find_profile(self._model, download=self._download)
        if self._stop.is_set():
            self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))
        else:
            self.end(TaskState.FINISHED, ModelDescribed(ticket=self.ticket, profile=profile))
