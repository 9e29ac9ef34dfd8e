"""Motions made for clients: one source kept loaded, progress and cancelling between steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...shared.made_motion import MadeMotion
from ...shared.motion_request import Kept, MotionRequest
from ..motion.registry import MotionSource, load


class MotionCache:
    """Keeps the motion source used last."""

    def __init__(self, device: torch.device) -> None:
        self._name, self._device = "", device
        self._source: MotionSource | None = None

    def _load(self, name: str) -> MotionSource:
        if self._source is None or self._name != name:
            self._source = None  # two models at once need not fit
            self._source, self._name = load(name, self._device), name
        return self._source

    def make(self, request: MotionRequest, kept: Kept | None, step_done: Callable[[int, int], None]) -> MadeMotion:
        """Make a request's motions. ``step_done`` is called after every step; what it raises ends the work.

        Raises ``MotionError`` for a source that cannot be loaded or asked for this.
        """
        return self._load(request.model).make(request, kept, step_done)
