"""The batch budget: how many frames go through the networks at a time, fewer when memory turns out to be short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ...shared.shot import ShotError
from .run_context import RunContext

#: most frames in a batch; memory grows with it, results do not depend on it
MAX_BATCH_FRAMES = 8


@dataclass
class BatchBudget:
    """How many ``frames`` fit into one batch; shrinks when memory is short."""

    frames: int = field(default_factory=lambda: MAX_BATCH_FRAMES)

    @classmethod
    def within(cls, frames: int) -> BatchBudget:
        """A budget of at most so many frames."""
        return cls(min(frames, MAX_BATCH_FRAMES))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "alloc" in text


def run_together(work: Callable[[], None], count: int, run_context: RunContext) -> None:
    """Do ``work`` for ``count`` frames that cannot be split. Raises ``ShotError`` when they are too much."""
    run_context.check()
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ShotError(
            "memory",
            f"There is not enough memory for {count} frames, which the model denoises together; use a smaller size, half "
            "precision, or a model that makes frames one by one.",
        ) from error


def run_in_batches(
    work: Callable[[list[int]], None], frames: Sequence[int], batch_budget: BatchBudget, run_context: RunContext
) -> None:
    """Do ``work`` for all frames in order, as many at a time as the budget allows, and half as many once memory was short.

    Raises ``ShotError`` when a single frame is too much.
    """
    start = 0
    while start < len(frames):
        run_context.check()
        batch = list(frames[start : start + batch_budget.frames])
        try:
            work(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_budget.frames == 1:
                raise ShotError(
                    "memory",
                    "There is not enough memory for one frame; use a smaller size, or switch the "
                    "pixel guidance's gradient to 'decoder' or off.",
                ) from error
            batch_budget.frames = max(1, batch_budget.frames // 2)
            run_context.warnings.append(f"Memory was short: {batch_budget.frames} frames are denoised together.")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += len(batch)
