"""The life of a piece of work, the same on both sides: a shot or a motion, named by its ticket."""

from __future__ import annotations

import enum
import threading
import uuid


class TaskState(enum.StrEnum):
    """Where a piece of work stands. The last three are the end of it."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (TaskState.CANCELLED, TaskState.FAILED, TaskState.FINISHED)


_ENDS = frozenset((TaskState.CANCELLED, TaskState.FAILED, TaskState.FINISHED))
#: state -> what may follow. Preparing and running overlap where a shot streams, so a shot may wait for its turn after preparing
_FOLLOWS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset((TaskState.PREPARING, TaskState.RUNNING, TaskState.CANCELLING)) | _ENDS,
    TaskState.PREPARING: frozenset((TaskState.QUEUED, TaskState.RUNNING, TaskState.CANCELLING)) | _ENDS,
    TaskState.RUNNING: frozenset((TaskState.CANCELLING,)) | _ENDS,
    TaskState.CANCELLING: _ENDS,
    TaskState.CANCELLED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.FINISHED: frozenset(),
}


def new_ticket() -> str:
    """A name for a piece of work that no other has."""
    return uuid.uuid4().hex


class StateMachine:
    """A state that only moves forward, whichever thread asks."""

    def __init__(self, state: TaskState) -> None:
        self._state, self._lock = state, threading.Lock()

    @property
    def state(self) -> TaskState:
        """Where it stands."""
        return self._state

    def advance(self, state: TaskState) -> bool:
        """Move on to a state; False, and nothing changes, where it cannot follow. Of two ends only the first one counts."""
        with self._lock:
            if state not in _FOLLOWS[self._state]:
                return False
            self._state = state
            return True
