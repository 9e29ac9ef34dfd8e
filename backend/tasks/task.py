"""What a shot and a motion have in common: a ticket, a client, a state, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...shared import logs
from ...shared.messages import Cancelled, Failed, Message, Ping, Progress, clean_words
from ...shared.task import StateMachine, TaskState
from ..failures import explain_failure
from ..video.run_context import Interrupted
from .outbox import Outbox
from .resources import LOADING, Resources

if TYPE_CHECKING:
    from .worker import Worker

logger = logs.get_logger(__name__)


class Task:
    """A piece of work for one client."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox) -> None:
        self.ticket, self._client, self._outbox = ticket, client, outbox
        self._machine = StateMachine(TaskState.QUEUED)
        self._stop = threading.Event()
        self._lost = False
        #: what decides when it is done: whose it is (a client's key), and what goes before others
        self.owner, self.priority = b"", 0

    @property
    def state(self) -> TaskState:
        """Where it stands."""
        return self._machine.state

    @property
    def client(self) -> bytes:
        """Whose it is."""
        return self._client

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left to do, so that it may be forgotten."""
        return self.state.ended

    def send(self, message: Message, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Tell the client, if it is still there."""
        if not self._lost:
            self._outbox.put(self._client, message, arrays)

    def report_progress(self, stage: str, step: int, steps: int) -> None:
        """Tell the client where the work stands."""
        self.send(Progress(ticket=self.ticket, state=self.state, stage=stage, step=step, steps=steps))

    def ping(self) -> None:
        """Send something that says nothing: that shows whether the client is still there."""
        self.send(Ping(ticket=self.ticket))

    def await_resources(self, worker: Worker) -> Resources:
        """What the work is done with, for the task's own thread. Raises ``Interrupted`` when the task is stopped before it is
        there, and ``ShotError`` when it will not be."""
        if not worker.loader.ended:
            self.report_progress(LOADING, 0, 1)
        return worker.loader.wait(self._stop.is_set)

    def start(self, worker: Worker) -> None:
        """Begin to live; does not block."""
        raise NotImplementedError

    def run(self, worker: Worker) -> None:
        """Do the work, on the worker's thread, and end. Whatever it raises fails the task."""
        raise NotImplementedError

    def run_safely(self, worker: Worker) -> None:
        """Run, unless it has ended already; never raises."""
        if not self._machine.advance(TaskState.RUNNING):
            return
        logger.info("%s %s begins", type(self).__name__, self.ticket)
        try:
            self.run(worker)
        except BaseException as error:  # not even a plugin that exits may end the one worker
            self.fail(error)

    def cancel(self) -> None:
        """Stop, whatever the state; does not block. Work that is running stops after its current step."""
        self._stop.set()
        if self.state is TaskState.RUNNING:
            self._machine.advance(TaskState.CANCELLING)
        elif self.state is not TaskState.CANCELLING:
            self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))

    def leave(self) -> None:
        """Cancel it for other reasons than its client's wish."""
        self.cancel()

    def wait(self, seconds: float) -> None:
        """Wait until its own thread, where it has one, has ended."""

    def forget_client(self) -> None:
        """The client is gone; work whose input is complete goes on, so that its result is there when it is asked for again."""
        self._lost = True

    def fail(self, error: BaseException) -> None:
        """End with an error, or as cancelled when that is why."""
        if isinstance(error, Interrupted):
            self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))
            return
        code, sentence = explain_failure(error)
        self.end(TaskState.FAILED, Failed(ticket=self.ticket, code=code, message=clean_words(sentence)))

    def end(self, state: TaskState, message: Message, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """End once and for all; of two ends only the first one counts, and only it is told."""
        if self._machine.advance(state):
            logger.info("%s %s: %s", type(self).__name__, self.ticket, state.value)
            self._stop.set()
            self.send(message, arrays)
