"""Motions made for clients: one source kept loaded, progress and cancelling between steps."""

from __future__ import annotations

from collections.abc import Callable

from ...shared.messages import Cancelled, Failed, MotionMade, Progress
from ...shared.motion import MotionError
from ...shared.motion_request import Kept, MotionRequest
from ..models.loading import best_device
from ..motion.registry import MotionSource, load
from .runner import Emit


class _Stopped(Exception):
    """Somebody asked to stop."""


class MotionRunner:
    """Runs one request after the other."""

    def __init__(self) -> None:
        self._name = ""
        self._source: MotionSource | None = None

    def _load(self, name: str) -> MotionSource:
        if self._source is None or self._name != name:
            self._source = None  # two models at once need not fit
            self._source, self._name = load(name, best_device()), name
        return self._source

    def run(self, ticket: str, request: MotionRequest, kept: Kept | None, emit: Emit, should_stop: Callable[[], bool]) -> None:
        """Make a request's motions; the last message is ``MotionMade``, ``Cancelled`` or ``Failed``."""

        def step_done(step: int, of: int) -> None:
            if should_stop():
                raise _Stopped
            emit(Progress(job=ticket, stage="making motion", step=step, steps=of), None)

        try:
            made = self._load(request.model).make(request, kept, step_done)
        except MotionError as error:
            emit(Failed(job=ticket, code="motion", message=str(error)), None)
        except _Stopped:
            emit(Cancelled(job=ticket), None)
        else:
            emit(MotionMade(job=ticket, notices=made.notices), {"vectors": made.vectors})
