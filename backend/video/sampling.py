"""A diffusers scheduler that steps whole clips, gives clean predictions, and lets techniques change its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, TCDScheduler

from ..models.noise_lines import find_noise_line, widen


class Sampler:
    """Steps all frames of a clip together with one of diffusers' schedulers (``models.schedulers`` lists them).

    Arithmetic is in float32 at least: what is left of noise or of the picture at the ends of a schedule is lost in 16 bits.
    """

    def __init__(self, scheduler: Any, seed: int, sources: Sequence[int] | None = None, eta: float | None = None) -> None:
        """``sources`` says whose random numbers each frame of the clip takes where the scheduler adds noise; by default its own.
        ``eta`` is how much noise DDIM and TCD add, None for what is usual."""
        self._scheduler, self._seed, self._sources = scheduler, seed, sources
        # the schedule is of single numbers: on a GPU each look at one would wait until all work there is done
        scheduler.timesteps = scheduler.timesteps.cpu()
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = scheduler.sigmas.cpu()
        self._options: dict[str, Any] = (
            {"eta": eta} if eta is not None and isinstance(scheduler, (DDIMScheduler, TCDScheduler)) else {}
        )
        # raises for a scheduler whose predictions nobody here knows
        self._line = find_noise_line(scheduler)
        few_steps = isinstance(scheduler, (LCMScheduler, TCDScheduler, EulerAncestralDiscreteScheduler))
        stochastic = str(scheduler.config.get("algorithm_type", "")).startswith("sde-")
        self._adds_noise = few_steps or bool(eta) or stochastic or bool(scheduler.config.get("stochastic_sampling"))

    @property
    def timesteps(self) -> torch.Tensor:
        """(S,) timesteps on the CPU, noisiest first."""
        return self._scheduler.timesteps

    @property
    def resumable(self) -> bool:
        """Whether latents alone are enough to resume; multistep solvers also need the steps before."""
        return not hasattr(self._scheduler, "model_outputs")

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise as the scheduler's first latents."""
        return self._line.scale_noise(noise)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents (N, C, h, w) with standard normal noise of a step's level."""
        return self._line.add_noise(clean, noise, step)

    def get_picture_scale(self, step: int) -> float:
        """How strongly the latents before a step hold the clean ones."""
        return float(self._line.add_noise(torch.ones(1), torch.zeros(1), step))

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The network's input for latents (N, C, h, w) at a step: of unit variance."""
        self._turn_to(step)
        return self._line.scale_model_input(latents, step)

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents that the network's output stands for; differentiable."""
        return self._line.predict_clean(latents, output, step)

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The inverse of ``predict_clean``: the network's output that would mean these clean latents."""
        return self._line.prediction_for(latents, clean, step)

    def change_history(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Apply a change of the latents to what a multistep solver keeps: earlier predictions, and the latents before them."""
        kept = getattr(self._scheduler, "model_outputs", None)
        if kept:
            self._scheduler.model_outputs = [None if x is None else change(x) for x in kept]
        last = getattr(self._scheduler, "last_sample", None)
        if last is not None:
            self._scheduler.last_sample = change(last)

    def keep_moves(self) -> None:
        """The latents were moved after the step. A solver that would correct them from the latents before that step goes on from
        where they are instead."""
        if hasattr(self._scheduler, "last_sample"):
            self._scheduler.last_sample = None

    def step(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (F, C, h, w) of the next step. Some schedulers add noise, the same to frames that share it."""
        self._turn_to(step)
        options = dict(self._options)
        if self._adds_noise:
            options["generator"] = self._make_generators(len(latents), step)
        moved = self._scheduler.step(widen(output), self.timesteps[step], widen(latents), **options)
        return moved.prev_sample.to(latents.dtype)

    def _turn_to(self, step: int) -> None:
        """Have the scheduler be at a step: the one that it counts itself is another after a resumption, and where steps share a
        timestep."""
        if hasattr(self._scheduler, "_step_index"):
            self._scheduler._step_index = step

    def _make_generators(self, count: int, step: int) -> list[torch.Generator]:
        """One for each frame, which depends on nothing but the seed, the step and the frame that it takes its numbers from."""
        out = []
        for frame in range(count):
            entropy = (self._seed, step, frame if self._sources is None else self._sources[frame])
            out.append(torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0])))
        return out
