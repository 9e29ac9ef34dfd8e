"""Sampling a network that predicts the clean motion: DDPM as MDM was trained, or fewer deterministic steps (DDIM)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

#: (noisy (B, T, F), timestep index (B,)) -> clean (B, T, F)
Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MAX_BETA = 0.999


@dataclass(frozen=True)
class InpaintingMask:
    """Feature values that must come out as given: ``values`` (B, T, F) where ``mask`` (B, T, F) is True."""

    values: torch.Tensor
    mask: torch.Tensor


def make_cosine_betas(steps: int) -> np.ndarray:
    """(steps,) float64: alpha-bar(t) = cos^2((t + 0.008) / 1.008 * pi / 2), betas at most 0.999 (Nichol and Dhariwal 2021)."""

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - alpha_bar((n + 1) / steps) / alpha_bar(n / steps), MAX_BETA) for n in range(steps)])


def make_linear_betas(steps: int) -> np.ndarray:
    """(steps,) float64: from 0.0001 to 0.02 for a chain of 1000, as much in all for others (Ho et al. 2020)."""
    return np.minimum(np.linspace(0.1, 20.0, steps) / steps, MAX_BETA)


#: the noise schedules that MDM has, by their names in ``args.json``
SCHEDULES = {"cosine": make_cosine_betas, "linear": make_linear_betas}


class Schedule:
    """The constants of a chain of ``steps`` noise levels; index 0 is the least noisy. ``large_variance`` is that of MDM's models
    without ``sigma_small``."""

    def __init__(self, steps: int, kind: str = "cosine", large_variance: bool = False) -> None:
        self.betas = SCHEDULES[kind](steps)
        self.alpha_bars = np.cumprod(1 - self.betas)
        before = np.append(1.0, self.alpha_bars[:-1])
        self.clean_weight = self.betas * np.sqrt(before) / (1 - self.alpha_bars)
        self.noisy_weight = (1 - before) * np.sqrt(1 - self.betas) / (1 - self.alpha_bars)
        variance = self.betas * (1 - before) / (1 - self.alpha_bars)
        # the first step has no variance; the second's stands in for its logarithm
        wide = self.betas if large_variance else variance
        self.log_variance = np.log(np.append(variance[1], wide[1:])) if steps > 1 else np.log(self.betas)

    def __len__(self) -> int:
        return len(self.betas)


@torch.no_grad()
def sample_ddpm(
    denoise: Denoiser,
    schedule: Schedule,
    noise: torch.Tensor,
    generator: torch.Generator,
    mask: InpaintingMask | None = None,
    step_done: Callable[[int], None] = lambda step: None,
) -> torch.Tensor:
    """(B, T, F) clean motion from noise by the whole chain with its fixed small variance.

    ``mask`` holds values that replace every prediction of the clean motion (MDM's editing). ``step_done`` is called with each
    finished step's number and may raise.
    """
    x = noise
    for done, n in enumerate(reversed(range(len(schedule))), 1):
        clean = _inpaint(denoise(x, torch.full((len(x),), n, device=x.device)), mask)
        mean = float(schedule.clean_weight[n]) * clean + float(schedule.noisy_weight[n]) * x
        if n == 0:
            x = mean
        else:
            fresh = torch.randn(x.shape, generator=generator).to(x)
            x = mean + math.exp(0.5 * float(schedule.log_variance[n])) * fresh
        step_done(done)
    return _inpaint(x, mask)


@torch.no_grad()
def sample_ddim(
    denoise: Denoiser,
    schedule: Schedule,
    noise: torch.Tensor,
    steps: int,
    mask: InpaintingMask | None = None,
    step_done: Callable[[int], None] = lambda step: None,
) -> torch.Tensor:
    """(B, T, F) clean motion in ``steps`` deterministic steps (Song et al. 2021), spread evenly over the chain."""
    levels = np.unique(np.linspace(0, len(schedule) - 1, steps).round().astype(int))[::-1]
    x = noise
    for done, n in enumerate(levels, 1):
        clean = _inpaint(denoise(x, torch.full((len(x),), int(n), device=x.device)), mask)
        now = float(schedule.alpha_bars[n])
        then = float(schedule.alpha_bars[levels[done]]) if done < len(levels) else 1.0
        direction = (x - math.sqrt(now) * clean) / math.sqrt(max(1 - now, 1e-12))
        x = math.sqrt(then) * clean + math.sqrt(1 - then) * direction
        step_done(done)
    return _inpaint(x, mask)


def _inpaint(clean: torch.Tensor, mask: InpaintingMask | None) -> torch.Tensor:
    return clean if mask is None else torch.where(mask.mask, mask.values, clean)


def make_guided_denoiser(
    network: Callable[..., torch.Tensor], text: torch.Tensor, scale: float, **options: torch.Tensor | None
) -> Denoiser:
    """Classifier-free guidance on the clean prediction: unconditional + scale * (conditional - unconditional).

    The unconditional pass has zeros for its text.
    """

    def denoise(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        conditional = network(x, timesteps, text, **options)
        if scale == 1.0:
            return conditional
        unconditional = network(x, timesteps, torch.zeros_like(text), **options)
        return unconditional + scale * (conditional - unconditional)

    return denoise
