"""What a shot and a motion have in common on Blender's side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ...shared import logs, messages
from ...shared.motion import MotionError
from ...shared.shot import ShotError
from ...shared.task import StateMachine, TaskState, new_ticket
from ..client import BackendClient, Event

logger = logs.get_logger(__name__)

REPLACED = "The scene was replaced meanwhile, by an undo or by another file; what is finished is kept. Start it again to go on."
#: calls when a task has ended, however it did
DoneCallback = Callable[["Task"], None]


class Task:
    """A piece of work that a backend does for this Blender. Everything here happens on the main thread.

    ``stage`` and ``fraction`` are for people. ``on_message`` hears of progress and results as they come.
    """

    def __init__(self, client: BackendClient, stage: str, on_message: Callable[[messages.AnyMessage], None] | None = None) -> None:
        self.ticket = new_ticket()
        self.stage, self.fraction, self.error = stage, 0.0, ""
        self._client, self._on_message = client, on_message
        self._machine = StateMachine(TaskState.PREPARING)
        self._inbox: deque[Event] = deque()
        self._done_callbacks: list[DoneCallback] = []
        #: whether the backend knows of it
        self._submitted = False

    @property
    def state(self) -> TaskState:
        """Where it stands."""
        return self._machine.state

    @property
    def done(self) -> bool:
        """Whether nothing more will happen: finished, failed or cancelled."""
        return self.state.ended

    @property
    def succeeded(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.state is TaskState.FINISHED

    @property
    def cancelled(self) -> bool:
        """Whether it ended because it was asked to."""
        return self.state is TaskState.CANCELLED

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do right now."""
        return not self.done and bool(self._inbox)

    def add_done_callback(self, callback: DoneCallback) -> None:
        """Call ``callback`` with the task when it ends; at once if it has ended."""
        if self.done:
            callback(self)
        else:
            self._done_callbacks.append(callback)

    def receive(self, event: Event) -> None:
        """A message of the backend's about this task; ``step`` will handle it."""
        self._inbox.append(event)

    def step(self) -> None:
        """Do a little of the work. Whatever goes wrong ends the task with a sentence."""
        if self.done:
            return
        try:
            self._step()
        except (ShotError, MotionError) as error:
            self.fail(str(error))
        except ReferenceError:
            logger.exception("a task's scene is gone")
            self.fail(REPLACED)
        except OSError as error:
            logger.exception("a task stopped")
            self.fail(f"The work stopped: {error}")
        except Exception as error:  # nothing may end the timer that calls this
            logger.exception("a task failed")
            self.fail(f"The work failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}")

    def _step(self) -> None:
        while self._inbox and not self.done:
            event = self._inbox.popleft()
            self._handle(event.message, event.arrays)

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, Any]) -> None:
        """What the kinds have in common; each handles its own messages first."""
        if isinstance(message, messages.Progress):
            if self.state is not TaskState.CANCELLING:
                self._machine.advance(message.state)
                self._show_progress(message)
        elif isinstance(message, messages.Cancelled):
            self._end(TaskState.CANCELLED)
        elif isinstance(message, messages.Failed):
            self.fail(message.message)

    def _show_progress(self, message: messages.Progress) -> None:
        self.stage, self.fraction = message.stage, message.step / max(message.steps, 1)
        self._hear(message)

    def _hear(self, message: messages.AnyMessage) -> None:
        if self._on_message:
            self._on_message(message)

    def cancel(self) -> None:
        """Stop, whatever the state; what is finished is kept."""
        if self.done or self.state is TaskState.CANCELLING:
            return
        if self._submitted:
            self._machine.advance(TaskState.CANCELLING)
            self.stage = "cancelling"
            self._client.send(messages.Cancel(ticket=self.ticket))
            self._try_release()
        else:
            self._end(TaskState.CANCELLED)

    def fail(self, sentence: str) -> None:
        """End with an error; the backend is told to stop as well."""
        if self.done:
            return
        self.error = sentence
        if self._submitted:
            self._client.send(messages.Cancel(ticket=self.ticket))
        self._end(TaskState.FAILED)

    def _end(self, state: TaskState) -> None:
        if not self._machine.advance(state):
            return
        self._try_release()
        for callback in self._done_callbacks:
            try:
                callback(self)
            except Exception as error:
                logger.exception("a callback failed")
                self.error = (
                    self.error or f"The result could not be shown ({type(error).__name__}: {error}); more is in {logs.find_own()}"
                )
        self._done_callbacks.clear()

    def _try_release(self) -> None:
        """Whatever goes wrong, the task ends: after an undo there may be nothing to which something could be given back."""
        try:
            self._release()
        except Exception:
            logger.exception("what a task had borrowed could not be given back")

    def _release(self) -> None:
        """Let go of what is borrowed from the scene."""
