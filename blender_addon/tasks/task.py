"""What the tasks for shots and motions have in common on Blender's side."""

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

REPLACED = "The scene was replaced meanwhile, by an undo or by another file; what is finished is kept. Start again to continue."
#: is called with a task that has ended, whether it finished, failed or was cancelled
DoneCallback = Callable[["Task"], None]


class Task:
    """Work that a backend does for this Blender. All methods must be called on the main thread.

    ``stage`` and ``fraction`` describe the progress for people. ``on_message`` is called with every progress and result.
    ``error`` is why it failed, a sentence, and ``error_code`` the same for programs.
    """

    #: whether it may run beside a shot or a motion, and its error is shown elsewhere
    is_background = False

    def __init__(self, client: BackendClient, stage: str, on_message: Callable[[messages.AnyMessage], None] | None = None) -> None:
        self.ticket = new_ticket()
        self.stage, self.fraction, self.error, self.error_code = stage, 0.0, "", ""
        self._client, self._on_message = client, on_message
        self._machine = StateMachine(TaskState.PREPARING)
        self._inbox: deque[Event] = deque()
        self._done_callbacks: list[DoneCallback] = []
        #: whether the backend knows of it
        self._submitted = False

    @property
    def state(self) -> TaskState:
        """The current state."""
        return self._machine.state

    @property
    def done(self) -> bool:
        """Whether the task has ended: it finished, failed or was cancelled."""
        return self.state.ended

    @property
    def succeeded(self) -> bool:
        """Whether everything that was requested exists."""
        return self.state is TaskState.FINISHED

    @property
    def cancelled(self) -> bool:
        """Whether it ended because it was cancelled."""
        return self.state is TaskState.CANCELLED

    @property
    def note(self) -> str:
        """What is worth knowing of how it is done, a sentence; mostly empty."""
        return ""

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do right now."""
        return not self.done and bool(self._inbox)

    def add_done_callback(self, callback: DoneCallback) -> None:
        """Call ``callback`` with the task when it ends; at once if it has ended."""
        if self.done:
            self._call(callback)
        else:
            self._done_callbacks.append(callback)

    def receive(self, event: Event) -> None:
        """Queue a message from the backend about this task; ``step`` handles it."""
        self._inbox.append(event)

    def step(self) -> None:
        """Do a small part of the work. Any exception ends the task with a sentence for the user."""
        if self.done:
            return
        try:
            self._step()
        except ShotError as error:
            self.fail(str(error), error.code)
        except MotionError as error:
            self.fail(str(error), "motion")
        except MemoryError:
            logger.exception("a task ran out of memory")
            self.fail("There is not enough memory; use fewer frames or a smaller resolution.", "memory")
        except ReferenceError:
            logger.exception("a task's scene no longer exists")
            self.fail(REPLACED)
        except OSError as error:
            logger.exception("a task stopped")
            self.fail(f"The work stopped: {error}", "disk")
        except Exception as error:  # no exception may reach the timer that calls this
            logger.exception("a task failed")
            self.fail(f"The work failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}", "internal")

    def _step(self) -> None:
        while self._inbox and not self.done:
            event = self._inbox.popleft()
            self._handle(event.message, event.arrays)

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, Any]) -> None:
        """Handle the messages that all tasks have; subclasses handle their own first."""
        if isinstance(message, messages.Progress):
            if self.state is not TaskState.CANCELLING:
                # the end has messages of its own, which say how it ended
                if not message.state.ended:
                    self._machine.advance(message.state)
                self._show_progress(message)
        elif isinstance(message, messages.Cancelled):
            self._end(TaskState.CANCELLED)
        elif isinstance(message, messages.Failed):
            self.fail(message.message, message.code)

    def _show_progress(self, message: messages.Progress) -> None:
        self.stage, self.fraction = message.stage, min(message.step / max(message.steps, 1), 1.0)
        self._notify(message)

    def _notify(self, message: messages.AnyMessage) -> None:
        if self._on_message:
            self._on_message(message)

    def cancel(self) -> None:
        """Stop the task in any state; what is finished is kept."""
        if self.done or self.state is TaskState.CANCELLING:
            return
        if self._submitted:
            self._machine.advance(TaskState.CANCELLING)
            self.stage = "cancelling"
            self._client.send(messages.Cancel(ticket=self.ticket))
            self._try_release()
        else:
            self._end(TaskState.CANCELLED)

    def fail(self, sentence: str, code: str = "failed") -> None:
        """End with an error, and tell the backend to stop; ``code`` is for programs."""
        if self.done:
            return
        self.error_code = code
        self.error = sentence.strip() or f"The work failed, and no reason was given; more may be in {logs.find_own()}"
        if self._submitted:
            try:
                self._client.send(messages.Cancel(ticket=self.ticket))
            except Exception:  # the task ends all the same
                logger.exception("the backend could not be told to stop")
        self._end(TaskState.FAILED)

    def _end(self, state: TaskState) -> None:
        if not self._machine.advance(state):
            return
        self._try_release()
        callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            self._call(callback)

    def _call(self, callback: DoneCallback) -> None:
        try:
            callback(self)
        except Exception as error:
            logger.exception("a callback failed")
            self.error = (
                self.error or f"The result could not be shown ({type(error).__name__}: {error}); more is in {logs.find_own()}"
            )

    def _try_release(self) -> None:
        """Let go of what the task has made in the file; errors are only logged, as after an undo it may no longer exist."""
        try:
            self._release()
        except Exception:
            logger.exception("the file as it was before a task could not be restored")

    def _release(self) -> None:
        """Remove whatever the task has made in the file for its own use."""
