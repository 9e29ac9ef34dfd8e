"""Diffusers components of a named model, on a device, ready for the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    TCDScheduler,
)

from shared.shot import ShotError

from .registry import find


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass(frozen=True)
class TextConditions:
    """Text embeddings, unconditional first when guidance is on: ``embeddings`` (1 or 2, S, D); ``added`` are SDXL's
    pooled embeddings and time ids, empty otherwise."""

    embeddings: torch.Tensor
    added: dict[str, torch.Tensor]


@dataclass(frozen=True)
class ImageModel:
    """A loaded pipeline's components and what can be asked of them."""

    name: str
    pipeline: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype

    @property
    def unet(self) -> Any:
        """The denoising UNet."""
        return self.pipeline.unet

    @property
    def controlnet(self) -> Any:
        """The depth ControlNet."""
        return self.pipeline.controlnet

    @property
    def latent_factor(self) -> int:
        """Pixels a latent covers along each side."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def size_multiple(self) -> int:
        """What width and height must be divisible by."""
        return self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def check_size(self, width: int, height: int) -> None:
        """``ShotError`` naming the nearest size that works, when this one does not."""
        n = self.size_multiple
        if width % n or height % n:
            near = [max(n, round(side / n) * n) for side in (width, height)]
            raise ShotError("size", f"The model '{self.name}' cannot make {width}x{height}; the nearest size is "
                                    f"{near[0]}x{near[1]} (multiples of {n}).")

    def new_scheduler(self, steps: int) -> DDIMScheduler | LCMScheduler | TCDScheduler:
        """DDIM with the model's own betas and prediction type, set to a number of steps.

        A model that was distilled to few steps names LCM or TCD as its scheduler, and keeps it.
        """
        given = type(self.pipeline.scheduler)
        kind = given if given in (LCMScheduler, TCDScheduler) else DDIMScheduler
        options = {"clip_sample": False, "set_alpha_to_one": False} if kind is DDIMScheduler else {}
        scheduler = kind.from_config(self.pipeline.scheduler.config, **options)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    @torch.no_grad()
    def encode_text(self, prompt: str, negative: str, guided: bool, width: int, height: int) -> TextConditions:
        """Embeddings of a prompt, with those of the negative prompt in front when ``guided``."""
        common = dict(prompt=prompt, negative_prompt=negative, device=self.device, num_images_per_prompt=1,
                      do_classifier_free_guidance=guided)
        if not isinstance(self.pipeline, StableDiffusionXLControlNetPipeline):
            positive, unconditional = self.pipeline.encode_prompt(**common)
            return TextConditions(torch.cat([unconditional, positive]) if guided else positive, {})
        positive, unconditional, pooled, no_pooled = self.pipeline.encode_prompt(**common)
        size = torch.tensor([[height, width, 0, 0, height, width]], device=self.device, dtype=positive.dtype)
        if not guided:
            return TextConditions(positive, {"text_embeds": pooled, "time_ids": size})
        return TextConditions(torch.cat([unconditional, positive]),
                              {"text_embeds": torch.cat([no_pooled, pooled]), "time_ids": size.repeat(2, 1)})

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, H, W) pictures around [-1, 1]; differentiable."""
        vae = self.pipeline.vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample


def load(name: str, device: torch.device | None = None) -> ImageModel:
    """Load a model; half precision on CUDA, float32 elsewhere. ``ShotError`` when it is missing or incomplete."""
    device = device or best_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    source = find(name)
    try:
        pipeline = _pipeline(source.base, source.control, dtype)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ShotError("model", f"The model '{name}' cannot be loaded: {first}") from error
    if getattr(pipeline, "controlnet", None) is None:
        raise ShotError("model", f"The model '{name}' has no ControlNet; name one as BASE|CONTROLNET.")
    # SDXL's auto-encoder overflows in half precision
    if dtype == torch.float16 and getattr(pipeline.vae.config, "force_upcast", False):
        pipeline.vae.to(torch.float32)
    pipeline.to(device)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return ImageModel(name, pipeline, device, dtype)


def _pipeline(base: str, control: str | None, dtype: torch.dtype) -> DiffusionPipeline:
    options: dict[str, Any] = {"dtype": dtype}
    if control is None:
        return DiffusionPipeline.from_pretrained(base, **options)
    network = (ControlNetModel.from_single_file if control.endswith(".safetensors")
               else ControlNetModel.from_pretrained)(control, **options)
    options["controlnet"] = network
    xl = network.config.get("addition_embed_type") == "text_time"
    cls = StableDiffusionXLControlNetPipeline if xl else StableDiffusionControlNetPipeline
    if not xl:
        options["safety_checker"] = None
    if Path(base).suffix == ".safetensors":
        return cls.from_single_file(base, **options)
    return cls.from_pretrained(base, **options)
