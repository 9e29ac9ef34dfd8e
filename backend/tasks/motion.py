"""A motion from words."""

from __future__ import annotations

from ...shared.messages import MotionMade, clean_words
from ...shared.motion_request import Kept, MotionRequest
from ...shared.task import TaskState
from ..video.run_context import Interrupted
from .outbox import Outbox
from .task import Task
from .worker import Worker


class MotionTask(Task):
    """Makes the motions of one request."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, request: MotionRequest, kept: Kept | None) -> None:
        super().__init__(ticket, client, outbox)
        self._request, self._kept = request, kept

    def start(self, worker: Worker) -> None:
        """Wait for the worker."""
        worker.submit(self)

    def run(self, worker: Worker) -> None:
        """Make them and send them."""

        def step_done(step: int, of: int) -> None:
            if self._stop.is_set():
                raise Interrupted
            self.report_progress("making motion", step, of)

        made = self.await_resources(worker).motions.make(self._request, self._kept, step_done)
        message = MotionMade(ticket=self.ticket, fps=made.fps, warnings=tuple(clean_words(one) for one in made.warnings))
        self.end(TaskState.FINISHED, message, made.list_arrays())
