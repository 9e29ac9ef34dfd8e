"""How noise, clean latents and what a network predicts belong together at a step: for each kind of diffusion, by its scheduler.

A scheduler is of one kind by its class and configuration, and of none where either is not known, so that what a network predicts is
never taken for something else.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from ...shared.shot import ShotError
from .schedulers import FLOW, PREDICTIONS, STEPPED


class NoiseLine:
    """Latents (N, C, h, w) between the clean ones and noise, at the steps of a scheduler. Arithmetic is in float32 at least.

    What a schedule says of a step is a single number, which stays on the CPU: uploading it would wait for all work of a GPU.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise as the first latents."""
        raise NotImplementedError

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents with standard normal noise of a step's level."""
        raise NotImplementedError

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The network's input for latents at a step."""
        raise NotImplementedError

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents that a network's output stands for; differentiable."""
        raise NotImplementedError

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The inverse of ``predict_clean``: the network's output that would mean these clean latents."""
        raise NotImplementedError


class DiffusionLine(NoiseLine):
    """Noise whose variance and the picture's add up to 1; the network predicts the noise (epsilon), v or the clean latents."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._kind = scheduler.config.prediction_type
        self._sigmas = hasattr(scheduler, "sigmas")
        # their latents carry noise of strength sigma on top of the picture; those of the others keep unit variance
        self._exploding = isinstance(scheduler, (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler))

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """See ``NoiseLine``."""
        return noise * self._scheduler.init_noise_sigma

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        if self._exploding:
            return (widen(clean) + self._scheduler.sigmas[step] * widen(noise)).to(clean.dtype)
        _, alpha = self._unit(clean, step)
        return (alpha.sqrt() * widen(clean) + (1 - alpha).sqrt() * widen(noise)).to(clean.dtype)

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Of unit variance."""
        return self._scheduler.scale_model_input(widen(latents), self._scheduler.timesteps[step]).to(latents.dtype)

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        if self._kind == "sample":
            return output
        unit, alpha = self._unit(latents, step)
        output = widen(output)
        if self._kind == "epsilon":
            # where alpha is 0 nothing of the picture is left, and an epsilon model cannot predict it
            clean = (unit - (1 - alpha).sqrt() * output) / alpha.sqrt().clamp(min=1e-4)
        else:
            clean = alpha.sqrt() * unit - (1 - alpha).sqrt() * output
        return clean.to(latents.dtype)

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        if self._kind == "sample":
            return clean
        unit, alpha = self._unit(latents, step)
        clean = widen(clean)
        spread = (1 - alpha).sqrt().clamp(min=1e-4)
        if self._kind == "epsilon":
            return ((unit - alpha.sqrt() * clean) / spread).to(latents.dtype)
        return ((alpha.sqrt() * unit - clean) / spread).to(latents.dtype)

    def _unit(self, latents: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of unit variance, and the fraction of the picture's variance in them, both in float32 at least."""
        latents = widen(latents)
        if not self._sigmas:
            timestep = self._scheduler.timesteps[step]
            return latents, self._scheduler.alphas_cumprod.cpu()[timestep].to(latents.dtype)
        sigma = self._scheduler.sigmas[step].to(torch.float32)
        alpha = (1 / (sigma**2 + 1)).to(latents.dtype)
        return latents * alpha.sqrt() if self._exploding else latents, alpha


class FlowLine(NoiseLine):
    """The straight line of flow matching: the picture and the noise in parts that add up to 1; the network predicts the way from
    the one to the other."""

    def scale_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Noise alone is where the line begins."""
        return noise

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        sigma = self._get_sigma(clean, step)
        return ((1 - sigma) * widen(clean) + sigma * widen(noise)).to(clean.dtype)

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """As they are."""
        return latents

    def predict_clean(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        return (widen(latents) - self._get_sigma(latents, step) * widen(output)).to(latents.dtype)

    def prediction_for(self, latents: torch.Tensor, clean: torch.Tensor, step: int) -> torch.Tensor:
        """See ``NoiseLine``."""
        return ((widen(latents) - widen(clean)) / self._get_sigma(latents, step)).to(latents.dtype)

    def _get_sigma(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The part that is noise; above 0 at each step, whatever the schedule."""
        return self._scheduler.sigmas[step].to(widen(latents).dtype)


def find_noise_line(scheduler: Any) -> NoiseLine:
    """The line of a scheduler that has been set to its steps. Raises ``ShotError`` for one of a kind that is not known, whatever
    its class is based on."""
    config = scheduler.config
    if type(scheduler) is FlowMatchEulerDiscreteScheduler and not config.get("invert_sigmas"):
        return FlowLine(scheduler)
    if type(scheduler) is UniPCMultistepScheduler and config.get("use_flow_sigmas") and config.get("prediction_type") == FLOW:
        return FlowLine(scheduler)
    if type(scheduler) in STEPPED and config.get("prediction_type") in PREDICTIONS and not config.get("use_flow_sigmas"):
        return DiffusionLine(scheduler)
    raise ShotError(
        "scheduler",
        f"The steps of a {type(scheduler).__name__} with the prediction type '{config.get('prediction_type')}' are not known; use "
        "the model's own scheduler.",
    )


def widen(x: torch.Tensor) -> torch.Tensor:
    """A tensor of 32 bits or more a number."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
