"""Teaches a denoiser to take few steps: a LoRA with which one step of DDIM ends where several guided ones of its teacher do.

Progressive distillation (Salimans & Ho 2022), several halvings at once, with the classifier-free guidance of Meng et al. 2023 taken
in: the teacher is the same denoiser without the LoRA. Works for a scheduler whose last timestep has no signal, since the end
of a step is compared, not the noise in it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

#: numbers of steps that the student learns to take
STEP_COUNTS = (4, 8)
#: steps of the teacher for one of the student's
SUBSTEPS = 4
RANK = 8
#: the UNet's layers that the LoRA changes
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "proj_in", "proj_out")

Predictor = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def list_timesteps(count: int, train: int = 1000) -> torch.Tensor:
    """(count,) the timesteps of ``count`` steps with trailing spacing, the noisiest first."""
    return torch.round(torch.arange(train, 0, -train / count, dtype=torch.float64)).long() - 1


def _split(alphas: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of picture and noise (N, 1, 1, 1) at timesteps (N,); a picture without noise at -1 has those of timestep 0, as
    schedulers with ``set_alpha_to_one=False`` have it."""
    alpha = alphas[timestep.clamp(min=0)][:, None, None, None]
    return alpha.sqrt(), (1 - alpha).sqrt()


def step_ddim(
    noisy: torch.Tensor, velocity: torch.Tensor, alphas: torch.Tensor, timestep: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    """Latents (N, 4, S, S) after one step of DDIM with the predicted v from timesteps (N,) to ``after`` (N,), -1 for the end;
    ``alphas`` (T,) are the schedule's cumulative products."""
    a, s = _split(alphas, timestep)
    b, r = _split(alphas, after)
    return (b * a + r * s) * noisy + (r * a - b * s) * velocity


def find_velocity(
    noisy: torch.Tensor, reached: torch.Tensor, alphas: torch.Tensor, timestep: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    """The v with which ``step_ddim`` ends at ``reached``."""
    a, s = _split(alphas, timestep)
    b, r = _split(alphas, after)
    return (reached - (b * a + r * s) * noisy) / (r * a - b * s)


def add_lora(unet: Any) -> list[torch.nn.Parameter]:
    """Give a UNet a LoRA that changes nothing yet; returns its parameters."""
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS)))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def sample_steps(count: int, generator: torch.Generator, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """(substeps + 1, N) timesteps from the beginning to the end of one of the student's steps, and (N,) how many steps it takes."""
    which = torch.randint(0, len(STEP_COUNTS), (count,), generator=generator, device=device)
    chance = torch.rand(count, generator=generator, device=device)
    paths = []
    for steps in STEP_COUNTS:
        fine = torch.cat([list_timesteps(steps * SUBSTEPS), torch.tensor([-1])]).to(device)
        first = (chance * steps).long().clamp(max=steps - 1) * SUBSTEPS
        paths.append(torch.stack([fine[first + k] for k in range(SUBSTEPS + 1)]))
    chosen = torch.stack(paths)[which, :, torch.arange(count, device=device)].T
    return chosen, torch.tensor(STEP_COUNTS, device=device)[which]


def compute_target(
    predict: Predictor,
    noisy: torch.Tensor,
    path: torch.Tensor,
    ids: torch.Tensor,
    empty: torch.Tensor,
    depth: torch.Tensor,
    guidance: float,
    alphas: torch.Tensor,
) -> torch.Tensor:
    """The v (N, 4, S, S) that takes the student in one step where the teacher, ``predict``, gets along ``path``, with
    classifier-free ``guidance`` against the ``empty`` text."""
    latents = noisy
    for now, after in pairwise(path):
        both = predict(
            torch.cat([latents, latents]), torch.cat([now, now]), torch.cat([empty.expand_as(ids), ids]), torch.cat([depth, depth])
        ).float()
        without, velocity = both.chunk(2)
        latents = step_ddim(latents, without + guidance * (velocity - without), alphas, now, after)
    return find_velocity(noisy, latents, alphas, path[0], path[-1])


def save_lora(unet: Any, folder: Path, name: str) -> Path:
    """Write the LoRA as diffusers loads it, in float16."""
    state = {key: value.to(torch.float16).cpu() for key, value in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state, weight_name=name, safe_serialization=True)
    return folder / name
