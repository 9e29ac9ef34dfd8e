"""How fast the starter learns: the real training, from the starter's weights on, with pictures of noise."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from latentman.backend.models.devices import choose_device
from latentman.backend.models.registry import STARTER
from tools.starter import networks, training
from tools.starter.dataset import SIZE, Renders
from tools.starter.scenery import SCENES

from .child import Task
from .device import describe_device
from .shots import PROMPT
from .stages import synchronize

#: steps that are not counted: a device's first ones are slower
FIRST = 1


@dataclass(frozen=True)
class TimedRenders(Renders):
    """Pictures that notice when the training asks for a step's, which it does at the step's beginning: ``asked`` are the times, and
    for how many."""

    asked: list[tuple[float, int]] = field(default_factory=list)

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Renders``."""
        synchronize(self.images.device)
        self.asked.append((time.perf_counter(), len(index)))
        return super().rows(index)

    def list_steps(self) -> list[tuple[float, int]]:
        """(seconds, pictures) of each step that another one came after."""
        return [
            (after - now, pictures)
            for (now, pictures), (after, _) in zip(self.asked[FIRST:], self.asked[FIRST + 1 :], strict=False)
        ]


def make_pictures(count: int, device: torch.device) -> TimedRenders:
    """Noise, with a body in its middle."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    depths = torch.zeros((count, SIZE, SIZE), dtype=torch.uint8)
    depths[:, SIZE // 8 : -SIZE // 8, SIZE // 3 : -SIZE // 3] = 180
    scenes = torch.randint(0, len(SCENES), (count,), dtype=torch.uint8, generator=generator)
    return TimedRenders(images.to(device), depths.to(device), scenes.to(device), [[PROMPT]] * count)


def measure_training(device: torch.device, count: int, steps: int, batch: int, seconds: float) -> dict[str, Any]:
    """Pictures a second of the diffusion stage with ``batch`` whole pictures a step, or twice as many halves, within a time."""
    renders = make_pictures(count, device)
    latents = torch.randn((count, 1, 4, SIZE // 8, SIZE // 8)).half()
    tokenizer = CLIPTokenizer.from_pretrained(STARTER, subfolder="tokenizer")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        config = training.TrainingConfig(str(device), 0, steps, batch, 1, seconds=seconds, mirrored=False, checkpoint_every=10**9)
        training.train_diffusion(renders, latents, tokenizer, Path(folder), config, networks.load_networks(STARTER)[1])
    made = renders.list_steps()
    peak = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None
    if not made:
        return {"examples_per_second": None, "reason": "no two steps were made in time", "peak_mb": peak}
    return {
        "examples_per_second": sum(pictures for _, pictures in made) / sum(seconds for seconds, _ in made),
        "seconds_per_step": statistics.median(seconds for seconds, _ in made),
        "steps": len(made),
        "peak_mb": peak,
    }


def run(task: Task) -> None:
    """Time the training with batches of several sizes."""
    device = choose_device(task.device)
    task.recorder.tell(**describe_device(task.device))
    steps, batch = task.scale.training
    for size in (batch, batch * 4):
        figures: dict[str, Any] = {"examples_per_second": None, "reason": "no time was left"}
        if task.clock.left > 0:
            try:
                figures = measure_training(device, task.scale.pictures, steps, size, max(2.0, task.clock.left / 2))
            except torch.OutOfMemoryError as error:
                figures = {"examples_per_second": None, "reason": " ".join(str(error).split())[:300]}
        task.recorder.add(f"{size} pictures a step", **figures)
