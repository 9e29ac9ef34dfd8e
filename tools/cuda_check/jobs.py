"""Checks of what happens to a job: resumed, made from a kept look, cancelled, short of memory, one after the other."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch

from latentman.backend.models.image_model import ImageModel
from latentman.backend.video import memory
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import ShotPipeline
from latentman.backend.video.run_context import Checkpoint, Interrupted, RunContext
from latentman.shared.shot import ShotError

from .child import Task
from .frames import Maker, count_held_bytes, find_largest_difference

#: the preset that has all parts: key frames, a look, and frames that are made from it
PRESET = "surface"
#: bytes by which a second job may leave more behind than the first
MOST_GROWTH = 1 << 20
#: parts in which a memory limit is searched for, of what is between one frame's need and all frames'
MIDDLE, TOO_LITTLE = 0.5, 0.6


def check_resumption(task: Task, maker: Maker) -> None:
    """A job that goes on from a checkpoint makes the same frames, to the last bit, and so does one that is made again."""
    model, saved = maker.load(task.device), list[Checkpoint]()
    whole = maker.make(model, RunContext(save=saved.append), preset=PRESET)
    again = maker.make(model, preset=PRESET)
    same = find_largest_difference(again, whole)
    task.recorder.check("made again", same == 0, "the same frames to the last bit", largest_difference=same)
    middle = saved[len(saved) // 2 - 1] if len(saved) > 1 else saved[0]
    resumed = maker.make(model, RunContext(resume=lambda: middle), preset=PRESET)
    levels = find_largest_difference(resumed, whole)
    task.recorder.check(
        f"resumed after step {middle.step}", levels == 0, "the same frames to the last bit", largest_difference=levels
    )


def check_kept_look(task: Task, maker: Maker) -> None:
    """A look that was written and read makes the same frames as in the job that it is of."""
    model, kept = maker.load(task.device), list[Look]()
    whole = maker.make(model, RunContext(keep_look=kept.append), preset=PRESET)
    if not kept:
        task.recorder.check("kept look", False, "a look", "the job kept none")
        return
    look = Look.decode(kept[0].encode())
    request = maker.shot.request(steps=maker.steps, guidance_scale=4.0, preset=PRESET)
    pipeline = ShotPipeline(model, request, maker.shot.passes, RunContext(), look=look, finalized=True)
    rest = [row for row in range(len(whole)) if row not in look.keyframes]
    if not rest:
        task.recorder.check("kept look", None, "frames that are no key frames", "all of the shot's frames are key frames")
        return
    found = dict(pipeline.make_batch(rest))
    levels = max(find_largest_difference(found[row], whole[row]) for row in rest)
    task.recorder.check("kept look", levels == 0, "the same frames to the last bit", frames=len(rest), largest_difference=levels)


class _CountedCalls:
    """Counts the networks' calls, and asks for a stop during one of them."""

    def __init__(self, model: ImageModel, stop_at: int = 0) -> None:
        self.count, self._stop_at = 0, stop_at
        self._owner: Any = type(model.family)
        self._predict = self._owner.predict

    def should_stop(self) -> bool:
        """Whether it was asked for."""
        return bool(self._stop_at) and self.count >= self._stop_at

    def watch(self) -> Any:
        """A block in which calls are counted."""

        def predict(*args: Any) -> torch.Tensor:
            self.count += 1
            found: torch.Tensor = self._predict(*args)
            return found

        return mock.patch.object(self._owner, "predict", predict)


def check_cancelling(task: Task, maker: Maker) -> None:
    """A job that is asked to stop during a call of the networks stops before the next step's, and leaves nothing behind."""
    model = maker.load(task.device)
    per_step = _CountedCalls(model)
    with per_step.watch():
        maker.make(model, preset="per_frame", steps=1)
    before, calls = count_held_bytes(model.device), _CountedCalls(model, stop_at=2)
    stopped = False
    with calls.watch():
        try:
            maker.make(model, RunContext(should_stop=calls.should_stop), preset="per_frame", steps=max(4, maker.steps))
        except Interrupted:
            stopped = True
    late, held = calls.count - 2, count_held_bytes(model.device) - before
    task.recorder.check(
        "cancelled",
        stopped and late < max(1, per_step.count) and held <= MOST_GROWTH,
        "within a step, and nothing is left behind",
        calls_after=late,
        held_bytes=held,
    )


def _measure_peak(model: ImageModel, maker: Maker, batch: int) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(model.device)
    with mock.patch.object(memory, "MAX_BATCH_FRAMES", batch):
        maker.make(model, preset="per_frame", steps=1)
    return int(torch.cuda.max_memory_reserved(model.device))


def check_short_memory(task: Task, maker: Maker) -> None:
    """Where memory is short batches become smaller and frames stay the same; where one frame does not fit, a sentence says so."""
    name, model = "short memory", maker.load(task.device)
    if model.device.type != "cuda":
        task.recorder.check(name, None, "smaller batches, then a sentence", "a processor's memory cannot be limited for this")
        return
    wanted = maker.make(model, preset="per_frame", steps=1)
    least, most = _measure_peak(model, maker, 1), _measure_peak(model, maker, 8)
    held = count_held_bytes(model.device)
    total = torch.cuda.get_device_properties(model.device).total_memory
    # which takes a number alone
    index = torch.cuda.current_device() if model.device.index is None else model.device.index
    for title, limit in (
        ("smaller batches", least + MIDDLE * (most - least)),
        ("one frame is too much", held + TOO_LITTLE * (least - held) / 2),
    ):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(limit / total, index)
        context, said, frames = RunContext(), "", None
        try:
            frames = maker.make(model, context, preset="per_frame", steps=1)
        except ShotError as error:
            said = str(error)
        except RuntimeError as error:
            said = f"not a sentence: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, index)
            torch.cuda.empty_cache()
        figures: dict[str, Any] = {"limit_mb": limit / 1e6, "one_frame_mb": least / 1e6, "all_frames_mb": most / 1e6, "said": said}
        if title == "smaller batches":
            smaller = any("Memory was short" in warning for warning in context.warnings)
            levels = None if frames is None else find_largest_difference(frames, wanted)
            passed = smaller and levels is not None and levels <= 1
            figures |= {"warnings": context.warnings, "largest_difference": levels}
        else:
            passed = said.startswith("There is not enough memory")
        task.recorder.check(f"{name}: {title}", passed, "as its name says", **figures)


def check_growth(task: Task, maker: Maker) -> None:
    """Jobs that come one after the other leave no memory behind."""
    model, held = maker.load(task.device), list[int]()
    made = list[np.ndarray]()
    for _ in range(3):
        made = [maker.make(model, preset=PRESET)]
        held.append(count_held_bytes(model.device))
    del made
    growth = held[-1] - held[-2]
    task.recorder.check("jobs in a row", growth <= MOST_GROWTH, "no growth of what is held", growth_bytes=growth, held_bytes=held)
