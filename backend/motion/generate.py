"""From a sentence to HumanML3D vectors: length rules, guidance, sampling, and undoing the normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from shared.motion import MotionError

from .checkpoints import MotionModel
from .diffusion import Pins, Schedule, guided, sample_ddim, sample_ddpm
from .network import MAX_FRAMES
from .text import EncodedText

FPS = 20.0
MIN_FRAMES = 10


@dataclass(frozen=True)
class MotionRequest:
    """What is asked for. ``steps`` 0 runs the model's whole chain, other values that many deterministic steps."""

    text: str
    seconds: float = 4.0
    seed: int = 0
    variants: int = 1
    guidance_scale: float = 2.5
    steps: int = 0


@dataclass(frozen=True)
class MadeMotion:
    """``vectors`` (N, F, 263) float32 in HumanML3D's units at 20 frames a second, one for each variant; ``notices`` are
    sentences for the user."""

    vectors: np.ndarray
    notices: tuple[str, ...]


def frame_count(request: MotionRequest) -> int:
    """The frames of a request; ``MotionError`` for what no motion model makes."""
    if not request.text.strip():
        raise MotionError("The text is empty; describe what the person does.")
    frames = round(request.seconds * FPS) if np.isfinite(request.seconds) else 0
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise MotionError(f"{request.seconds:g} seconds are out of range; choose {MIN_FRAMES / FPS:g} to {MAX_FRAMES / FPS:g}.")
    if not 1 <= request.variants <= 64:
        raise MotionError(f"{request.variants} variants are out of range; choose 1 to 64.")
    if not (np.isfinite(request.guidance_scale) and 0 <= request.guidance_scale <= 100):
        raise MotionError(f"A guidance scale of {request.guidance_scale} is out of range; choose 0 to 100.")
    if not 0 <= request.steps <= 1000:
        raise MotionError(f"{request.steps} steps are out of range; choose 0 (all) to 1000.")
    return frames


def make(model: MotionModel, request: MotionRequest, text: EncodedText, device: torch.device, pins: Pins | None = None,
         step_done: Callable[[int], None] = lambda step: None) -> MadeMotion:
    """Sample a request's motions. ``pins`` are normalised values (N, T, 263) to keep, T being what the network is run on.

    Models that were trained without masking are run on 196 frames and cut, as in training. Raises ``MotionError``.
    """
    frames = frame_count(request)
    length = frames if model.network.shape.mask_frames else MAX_FRAMES
    generator = torch.Generator().manual_seed(request.seed)
    noise = torch.randn((request.variants, length, model.network.shape.features), generator=generator).to(device)
    vectors = text.vectors.to(device).expand(request.variants, -1, -1)
    padding = text.padding.to(device).expand(request.variants, -1) if text.padding is not None else None
    lengths = torch.full((request.variants,), frames, device=device)
    network = model.network.to(device)
    denoise = guided(network, vectors, request.guidance_scale, text_mask=padding, lengths=lengths)
    schedule = Schedule(model.diffusion_steps)
    if request.steps:
        made = sample_ddim(denoise, schedule, noise, request.steps, pins, step_done)
    else:
        made = sample_ddpm(denoise, schedule, noise, generator, pins, step_done)
    found = made[:, :frames].float().cpu().numpy() * model.std + model.mean
    if not np.isfinite(found).all():
        raise MotionError("The model gave values that are no motion; check that checkpoint and statistics belong together.")
    notices = ("The text is longer than the model reads; its end was left out.",) if text.cut else ()
    return MadeMotion(found.astype(np.float32), notices)
