"""A cell of a table: one shot, made once with a model, within a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from latentman.backend.metrics.peak_memory import PeakMemory
from latentman.backend.metrics.variants import VARIANTS
from latentman.backend.models.image_model import ImageModel
from latentman.backend.video.pipeline import ShotPipeline
from latentman.backend.video.run_context import Interrupted, RunContext
from latentman.shared.settings import SettingError
from latentman.shared.shot import Method, ShotError

from .shots import DrawnShot
from .stages import StageClock, synchronize

#: shots of fewer frames do not show what a further frame takes, which is made from the look that key frames agreed on
LEAST_FRAMES = 16


@dataclass(frozen=True)
class Cell:
    """What is made: a ``variant`` of the method. With ``stands_for`` steps more are computed from those that were made, since all
    steps of a kind take the same time."""

    name: str
    variant: str
    frames: int
    steps: int
    guidance_scale: float = 7.5
    stands_for: int = 0


class _Steps:
    """The seconds of each step that frames are denoised jointly in, but for the first, before which much else is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = 0.0
        self.seconds: dict[int, float] = {}

    def after_step(self, step: int, timestep: Any, latents: torch.Tensor, predictor: Any) -> torch.Tensor:
        """See ``RunContext.after_step``."""
        synchronize(self._device)
        now = time.perf_counter()
        if self._last:
            self.seconds[step] = now - self._last
        self._last = now
        return latents


def scale_steps(method: Method, cell: Cell, seconds: dict[int, float], whole: float) -> float:
    """The seconds that ``cell.stands_for`` steps would take: what is beside the steps stays, and steps are of two kinds."""
    guided: set[int] = set()
    if method.guidance is not None:
        guided = set(range(round(method.guidance.start * cell.steps), round(method.guidance.until * cell.steps)))
    beside, scaled = whole, 0.0
    for kind in (guided, set(range(cell.steps)) - guided):
        known = [seconds[step] for step in kind if step in seconds]
        usual = sum(known) / max(1, len(known))
        beside -= usual * len(kind)
        scaled += usual * len(kind) * cell.stands_for / cell.steps
    return beside + scaled


def measure_cell(model: ImageModel, shot: DrawnShot, cell: Cell, seconds: float) -> dict[str, Any]:
    """The figures of a cell: ``seconds_per_frame``, None with a ``reason`` where that was not reached within ``seconds``,
    ``seconds_per_further_frame`` of those that are made from a look, ``peak_mb``, and the ``stages``' shares."""
    figures: dict[str, Any] = {
        "variant": cell.variant,
        "frames": cell.frames,
        "steps": cell.stands_for or cell.steps,
        "guidance_scale": cell.guidance_scale,
        "size": shot.manifest.width,
        "seconds_per_frame": None,
    }
    if seconds <= 0:
        return figures | {"reason": "no time was left"}
    method = VARIANTS[cell.variant]
    part = shot.select(cell.frames)
    end = time.monotonic() + seconds
    clock, steps = StageClock(model.device), _Steps(model.device)
    joint = method.keyframes is None and cell.stands_for
    context = RunContext(should_stop=lambda: time.monotonic() > end, after_step=steps.after_step if joint else None)
    request = part.request(method=method, steps=cell.steps, guidance_scale=cell.guidance_scale)
    came: list[float] = []
    # the peak of one cell is not the next one's
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        with PeakMemory(model.device) as memory, clock.measure(model):
            started = time.perf_counter()
            came.extend(time.perf_counter() for _ in ShotPipeline(model, request, part.passes, context).frames())
            synchronize(model.device)
            whole = time.perf_counter() - started
    except Interrupted:
        return figures | {"reason": f"{len(came)} of {cell.frames} frames were made in {seconds:.0f} s", "stages": clock.shares()}
    except (ShotError, SettingError, RuntimeError) as error:
        # out of memory, or what a device cannot do; the cells after it are still tried
        return figures | {"reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    if joint:
        figures["is_computed"] = True
        figures["made_steps"] = cell.steps
        whole = scale_steps(method, cell, steps.seconds, whole)
    figures |= {"seconds_per_frame": whole / cell.frames, "peak_mb": memory.megabytes, "stages": clock.shares()}
    if method.keyframes is not None and cell.frames >= LEAST_FRAMES:
        middle = cell.frames // 2
        figures["seconds_per_further_frame"] = (came[-1] - came[middle - 1]) / (cell.frames - middle)
    if context.warnings:
        figures["warnings"] = context.warnings
    return figures


def warm_up(model: ImageModel, shot: DrawnShot) -> float:
    """Make two frames, so that what a device does once is not a cell's time; the seconds that it took."""
    started = time.perf_counter()
    part = shot.select(min(2, shot.passes.frame_count))
    request = part.request(preset="per_frame", steps=2, guidance_scale=7.5)
    list(ShotPipeline(model, request, part.passes, RunContext()).frames())
    synchronize(model.device)
    return time.perf_counter() - started
