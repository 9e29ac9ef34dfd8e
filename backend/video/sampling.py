"""A diffusers scheduler that steps whole clips, gives clean predictions, and lets techniques change its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler, TCDScheduler


class Sampler:
    """Steps all frames of a clip together with one of diffusers' schedulers (``models.schedulers`` lists them).

    Arithmetic is in float32 at least: what is left of noise or of the picture at the ends of a schedule is lost in 16 bits.
    """

    def __init__(self, scheduler: Any, seed: int, sources: Sequence[int] | None = None, eta: float | None = None) -> None:
        """``sources`` says whose random numbers each frame of the clip takes where the scheduler adds noise; by default its own.
        ``eta`` is how much noise DDIM and TCD add, None for what is usual."""
        self._scheduler, self._seed, self._sources = scheduler, seed, sources
        self._options: dict[str, Any] = (
            {"eta": eta} if eta is not None and isinstance(scheduler, (DDIMScheduler, TCDScheduler)) else {}
        )
        self._sigmas = hasattr(scheduler, "sigmas")
        # their latents carry noise of strength sigma on top of the picture; those of the others keep unit variance
        self._exploding = isinstance(scheduler, (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler))
        few_steps = isinstance(scheduler, (LCMScheduler, TCDScheduler, EulerAncestralDiscreteScheduler))
        self._adds_noise = few_steps or bool(eta) or str(scheduler.config.get("algorithm_type", "")).startswith("sde-")

    @property
    def timesteps(self) -> torch.Tensor:
        """(S,) timesteps, noisiest first."""
        return self._scheduler.timesteps

    @property
    def resumable(self) -> bool:
        """Whether latents alone are enough to resume; multistep solvers also need the steps before."""
        return not hasattr(self._scheduler, "model_outputs")

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise as the scheduler's first latents."""
        return noise * self._scheduler.init_noise_sigma

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents (N, C, h, w) with standard normal noise of a step's level."""
        if self._exploding:
            return (_widen(clean) + self._scheduler.sigmas[step].to(clean.device) * _widen(noise)).to(clean.dtype)
        _, alpha = self._unit(clean, step)
        return (alpha.sqrt() * _widen(clean) + (1 - alpha).sqrt() * _widen(noise)).to(clean.dtype)

    def get_picture_scale(self, step: int) -> float:
        """How strongly the latents before a step hold the clean ones."""
        return 1.0 if self._exploding else float(self._unit(torch.zeros(1), step)[1].sqrt())

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The network's input for latents (N, C, h, w) at a step: of unit variance."""
        self._turn_to(step)
        return self._scheduler.scale_model_input(_widen(latents), self.timesteps[step]).to(latents.dtype)

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents of an epsilon, v or sample prediction; differentiable."""
        kind = self._scheduler.config.prediction_type
        if kind == "sample":
            return output
        unit, alpha = self._unit(latents, step)
        output = _widen(output)
        if kind == "epsilon":
            # where alpha is 0 nothing of the picture is left, and an epsilon model cannot predict it
            clean = (unit - (1 - alpha).sqrt() * output) / alpha.sqrt().clamp(min=1e-4)
        else:
            clean = alpha.sqrt() * unit - (1 - alpha).sqrt() * output
        return clean.to(latents.dtype)

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The inverse of ``predict_clean``: the network's output that would mean these clean latents."""
        kind = self._scheduler.config.prediction_type
        if kind == "sample":
            return clean
        unit, alpha = self._unit(latents, step)
        clean = _widen(clean)
        spread = (1 - alpha).sqrt().clamp(min=1e-4)
        if kind == "epsilon":
            return ((unit - alpha.sqrt() * clean) / spread).to(latents.dtype)
        return ((alpha.sqrt() * unit - clean) / spread).to(latents.dtype)

    def _unit(self, latents: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of unit variance, and the fraction of the picture's variance in them, both in float32 at least."""
        latents = _widen(latents)
        if not self._sigmas:
            return latents, self._scheduler.alphas_cumprod.to(latents.device, latents.dtype)[self.timesteps[step]]
        sigma = self._scheduler.sigmas[step].to(latents.device, torch.float32)
        alpha = (1 / (sigma**2 + 1)).to(latents.dtype)
        return latents * alpha.sqrt() if self._exploding else latents, alpha

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
        moved = self._scheduler.step(_widen(output), self.timesteps[step], _widen(latents), **options)
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


def _widen(x: torch.Tensor) -> torch.Tensor:
    """A tensor of 32 bits or more a number."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
