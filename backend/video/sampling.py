"""A diffusers scheduler that steps whole clips, gives clean predictions, and lets techniques change its history."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler


class Sampler:
    """Steps all frames of a clip together with one of diffusers' schedulers (``ImageModel.make_scheduler`` lists them)."""

    def __init__(self, scheduler: Any, seed: int, sources: Sequence[int] | None = None) -> None:
        """``sources`` says whose random numbers each frame of the clip takes where the scheduler adds noise; by default its own."""
        self._scheduler, self._seed, self._sources = scheduler, seed, sources
        self._sigmas = isinstance(scheduler, (EulerDiscreteScheduler, DPMSolverMultistepScheduler))

    @property
    def timesteps(self) -> torch.Tensor:
        """(S,) timesteps, noisiest first."""
        return self._scheduler.timesteps

    @property
    def resumable(self) -> bool:
        """Whether latents alone are enough to resume; multistep solvers also need the steps before."""
        return not isinstance(self._scheduler, DPMSolverMultistepScheduler)

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise as the scheduler's first latents."""
        return noise * self._scheduler.init_noise_sigma

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents (N, C, h, w) with standard normal noise of a step's level."""
        if isinstance(self._scheduler, EulerDiscreteScheduler):
            return clean + self._scheduler.sigmas[step].to(clean) * noise
        _, alpha = self._unit(clean, step)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def skip_to(self, step: int) -> None:
        """Continue at a step without running those before it."""
        if self._sigmas and step < len(self.timesteps):
            self._scheduler._step_index = step

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The network's input for latents (N, C, h, w) at a step."""
        if isinstance(self._scheduler, EulerDiscreteScheduler):
            sigma = self._scheduler.sigmas[step].to(latents.device, latents.dtype)
            return latents / (sigma**2 + 1).sqrt()
        return self._scheduler.scale_model_input(latents, self.timesteps[step])

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents of an epsilon, v or sample prediction; differentiable."""
        kind = self._scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            return output
        latents, alpha = self._unit(latents, step)
        if kind == "epsilon":
            # where alpha is 0 nothing of the picture is left, and an epsilon model cannot predict it
            return (latents - (1 - alpha).sqrt() * output) / alpha.sqrt().clamp(min=1e-4)
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * output

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The inverse of ``predict_clean``: the network's output that would mean these clean latents."""
        kind = self._scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            return clean
        latents, alpha = self._unit(latents, step)
        spread = (1 - alpha).sqrt().clamp(min=1e-4)
        if kind == "epsilon":
            return (latents - alpha.sqrt() * clean) / spread
        return (alpha.sqrt() * latents - clean) / spread

    def _unit(self, latents: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of unit variance, and the fraction of the picture's variance in them."""
        if not self._sigmas:
            return latents, self._scheduler.alphas_cumprod.to(latents.device, latents.dtype)[self.timesteps[step]]
        sigma = self._scheduler.sigmas[step].to(latents.device, torch.float32)
        alpha = (1 / (sigma**2 + 1)).to(latents.dtype)
        # Euler's latents carry noise of strength sigma on top of the picture; the others keep unit variance
        return latents * alpha.sqrt() if isinstance(self._scheduler, EulerDiscreteScheduler) else latents, alpha

    def change_history(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Apply a change of the latents to the earlier predictions that a multistep solver keeps."""
        kept = getattr(self._scheduler, "model_outputs", None)
        if isinstance(self._scheduler, DPMSolverMultistepScheduler) and kept:
            self._scheduler.model_outputs = [None if x is None else change(x) for x in kept]

    def step(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (F, C, h, w) of the next step. Few-step schedulers add noise, the same to frames that share it."""
        timestep = self.timesteps[step]
        if isinstance(self._scheduler, DDIMScheduler):
            return self._scheduler.step(output, timestep, latents, eta=0.0).prev_sample
        if self._sigmas:
            return self._scheduler.step(output, timestep, latents).prev_sample
        moved = torch.empty_like(latents)
        for frame in range(len(latents)):
            entropy = (self._seed, step, frame if self._sources is None else self._sources[frame])
            generator = torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            # these schedulers count their own calls; a copy has each frame start from the same count
            moved[frame] = (
                copy.copy(self._scheduler)
                .step(output[frame : frame + 1], timestep, latents[frame : frame + 1], generator=generator)
                .prev_sample[0]
            )
        return moved
