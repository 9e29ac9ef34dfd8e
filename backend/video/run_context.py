"""What a running shot is given: callbacks for its progress and its checkpoints, and a place for times and warnings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # imported by the service before torch
    import torch

    from .look import Look
    from .prediction import Predictor


class Interrupted(Exception):
    """The shot was asked to stop."""


def _ignore_progress(stage: str, step: int, steps: int) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Checkpoint:
    """Where denoising stood after ``step`` steps: the ``latents`` (F, C, h, w) of the frames that are denoised jointly, and the
    first frame's latents before each of those steps, its ``trajectory`` (step, C, h, w)."""

    step: int
    latents: np.ndarray
    trajectory: np.ndarray


@dataclass
class RunContext:
    """Callbacks of a running shot: its progress, whether it should stop, a checkpoint after every step, and the look as soon as
    it is final. ``seconds`` (of each stage) and ``warnings`` (sentences for the user) are filled while it runs.
    """

    progress: Callable[[str, int, int], None] = _ignore_progress
    should_stop: Callable[[], bool] = _never
    save: Callable[[Checkpoint], None] = lambda checkpoint: None
    resume: Callable[[], Checkpoint | None] = lambda: None
    #: is given a step's number, its timestep, the latents after it and what predicts; gives the latents to go on with
    after_step: Callable[[int, torch.Tensor, torch.Tensor, Predictor], torch.Tensor] | None = None
    keep_look: Callable[[Look], None] = lambda look: None
    #: gets the look that the key frames agree on, and gives the one that all other frames are made from
    complete_look: Callable[[Look], Look] = lambda look: look
    #: is shown the indices of frames that are denoised jointly, and their clean latents (N, C, h, w) after every step
    show_clean: Callable[[Sequence[int], torch.Tensor], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise ``Interrupted`` when the shot should stop."""
        if self.should_stop():
            raise Interrupted

    def add_warnings(self, sentences: Iterable[str]) -> None:
        """Tell the user what has not been said yet."""
        for sentence in sentences:
            if sentence not in self.warnings:
                self.warnings.append(sentence)

    def record_time(self, stage: str, start: float) -> None:
        """Add the time since ``start`` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
