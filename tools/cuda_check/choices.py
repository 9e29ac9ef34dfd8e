"""What else makes frames quicker, or larger models fit: batch sizes, precisions, layouts, offloading, compilation, each against the
usual choice in the same process."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch

from latentman.backend.models.devices import choose_device
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.memory_plan import MemoryPlan
from latentman.backend.models.placement import place
from latentman.backend.video import memory
from latentman.shared.load_options import LoadOptions

from .cells import Cell, measure_cell, warm_up
from .child import Task
from .device import describe_device
from .models import make_model
from .shots import DrawnShot, take_drawn

USUAL = "as usual"
#: seconds of a row at most
LIMIT = 30.0
FAMILY = "sd1"


@contextmanager
def _use_batches(frames: int) -> Iterator[None]:
    """Up to so many frames in a batch, also more than usual."""
    with mock.patch.object(memory, "MAX_BATCH_FRAMES", frames):
        yield


class _Choices:
    """The rows, each with a time of its own."""

    def __init__(self, task: Task, device: torch.device, shot: DrawnShot) -> None:
        self._task, self._device, self._shot = task, device, shot
        self._usual: float | None = None
        frames = max(task.scale.frame_counts[0], min(task.scale.batches[-1], task.scale.frame_counts[1]))
        self._cell = Cell("", "per_frame", frames, max(2, task.scale.steps // 2))

    def add(self, name: str, make: Callable[[], ImageModel], batch: int = memory.MAX_BATCH_FRAMES) -> None:
        """Measure a choice; what it cannot do is its reason."""
        recorder, left = self._task.recorder, min(self._task.clock.left, LIMIT)
        if left <= 0:
            recorder.add(name, seconds_per_frame=None, reason="no time was left")
            return
        recorder.begin(name, seconds_per_frame=None)
        gc.collect()
        try:
            model = make()
            model = replace(model, plan=replace(model.plan, frames=batch))
            with _use_batches(batch):
                warming = warm_up(model, self._shot)
                figures = measure_cell(model, self._shot, self._cell, left)
        except Exception as error:  # a compiler that is missing, an allocator that gives up: the rows after it are still tried
            recorder.add(name, seconds_per_frame=None, reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return
        found = figures["seconds_per_frame"]
        if name == USUAL:
            self._usual = found
        if self._usual and found:
            figures["of_usual"] = found / self._usual
        recorder.add(name, batch=batch, warming_seconds=warming, **figures)


def _compile(model: ImageModel) -> ImageModel:
    """As ``loading.load`` does."""
    model.denoiser.compile()
    for network in model.controlnets:
        network.compile()
    return model


def _make_offloaded(make: Callable[[], ImageModel], way: str) -> ImageModel:
    model = make()
    model.pipeline.to("cpu")
    place(model.pipeline, model.device, MemoryPlan(way), LoadOptions(offload="on"))
    return model


def run(task: Task) -> None:
    """Measure all choices, the most important first and what may take minutes last."""
    device, scale = choose_device(task.device), task.scale
    task.recorder.tell(**describe_device(task.device))
    shot = take_drawn(task.drawn, scale.sides[FAMILY], scale.frame_counts[1], max(0.0, task.clock.left / 3))
    choices = _Choices(task, device, shot)

    def make(**options: Any) -> ImageModel:
        return make_model(FAMILY, device, LoadOptions(**options), scale.divisor)

    usual = [make()]
    choices.add(USUAL, lambda: usual[0])
    for batch in scale.batches:
        choices.add(f"{batch} frames a batch", lambda: usual[0], batch)
    # the peaks of what comes now are without it
    usual.clear()
    for precision in ("bfloat16", "float16", "float32"):
        choices.add(precision, partial(make, dtype=precision))
    choices.add("without channels-last", lambda: make_model(FAMILY, device, divisor=scale.divisor, channels_last=False))
    for way in ("model", "sequential"):
        if device.type == "cpu":
            task.recorder.add(f"offload: {way}", seconds_per_frame=None, reason="a processor has nothing to offload to")
        else:
            choices.add(f"offload: {way}", partial(_make_offloaded, make, way))
    # last, because nothing can end it but the whole part's end
    choices.add("compiled", lambda: _compile(make()))
