"""A loaded pipeline of diffusers, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch
from diffusers import (
    DiffusionPipeline,
    MultiControlNetModel,
)

from ...shared.control_uses import ControlUse
from ...shared.model_profile import ModelProfile, resolve_request
from ...shared.shot import ShotError, ShotRequest
from .caller_options import CallerOptions
from .embeddings import EmbeddingWord, replace_words
from .families import Family, TextConditions, family_of_pipeline
from .ip_adapters import IPAdapter
from .memory_plan import ROOMY, MemoryPlan
from .names import DISTILLED, find_distillation
from .plain_texts import make_plain
from .profiles import describe_pipeline
from .prompts.named_loras import check_named_loras, refuse_negative_loras, refuse_unknown_loras
from .prompts.parsing import parse_prompt, split_loras
from .registry import ModelSource
from .schedulers import name_own_scheduler


def check_multiple(name: str, n: int, width: int, height: int) -> None:
    """``ShotError`` for a size whose sides are not multiples of ``n``, as the model of that name needs."""
    if width % n or height % n:
        near = [max(n, round(side / n) * n) for side in (width, height)]
        raise ShotError(
            "size",
            f"The model '{name}' cannot make {width}x{height}; the nearest size is {near[0]}x{near[1]} (multiples of {n}).",
        )


@dataclass(frozen=True)
class ImageModel:
    """A loaded pipeline's components and what can be asked of them."""

    name: str
    pipeline: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    controls: tuple[str, ...] = ("depth",)
    source: ModelSource | None = None
    #: sentences for the user about what was guessed or left out when it was loaded
    warnings: tuple[str, ...] = ()
    #: those of its textual inversions
    words: tuple[EmbeddingWord, ...] = ()
    #: how it is put into memory
    plan: MemoryPlan = ROOMY
    #: how its file was distilled to few steps, a key of ``names.DISTILLED``; see ``distilled``
    file_distilled: str = ""
    #: see ``control_uses``; empty where all ControlNets are as they come
    uses: tuple[ControlUse, ...] = ()
    #: how it likes to be run; None for a pipeline that was loaded by other means
    profile: ModelProfile | None = None
    #: what a caller of the diffusers pipelines asks of the scheduler and the networks
    options: CallerOptions = field(default_factory=CallerOptions)

    def complete_request(self, request: ShotRequest, size: tuple[int, int]) -> ShotRequest:
        """A request with what it leaves to the model put in; ``size`` (width, height) is that of the passes."""
        return resolve_request(request, self.profile or describe_pipeline(self.pipeline), size)

    def settle(self) -> ImageModel:
        """The model for requests that have been completed: what they leave empty is to be empty, whatever a settings file says."""
        if self.profile is None:
            return self
        return replace(self, profile=msgspec.structs.replace(self.profile, negative_prompt="", clip_skip=0))

    #: its IP-Adapter, which can look at reference pictures; None without one
    adapter: IPAdapter | None = None

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the network is told the guidance scale, as some few-step models are, and needs no second pass for it."""
        return self.family.takes_guidance_scale(self.denoiser.config)

    def uses_guidance(self, scale: float) -> bool:
        """Whether classifier-free guidance of a scale needs a second pass."""
        return scale > 1.0 and not self.takes_guidance_scale

    @property
    def distilled(self) -> str:
        """How the model was distilled to few steps, a key of ``names.DISTILLED``, by its profile, the names of its base and its
        LoRAs, or its scheduler; empty when nothing says that it was."""
        if self.profile is not None and self.profile.distilled:
            return self.profile.distilled
        names = [self.source.base, *(lora for lora, strength in self.source.loras if strength)] if self.source else []
        found = next(filter(None, (find_distillation(Path(name).name) for name in names)), "")
        own = name_own_scheduler(type(self.pipeline.scheduler).__name__)
        return self.file_distilled or found or (own if own in DISTILLED else "")

    @cached_property
    def family(self) -> Family:
        """What is special about this kind of model."""
        return family_of_pipeline(self.pipeline)

    @property
    def denoiser(self) -> Any:
        """The network that predicts."""
        return self.family.get_denoiser(self)

    @property
    def unet(self) -> Any:
        """The denoising UNet, of families that have one."""
        return self.pipeline.unet

    @property
    def controlnet(self) -> Any:
        """The ControlNet, or diffusers' wrapper of several; None where the denoiser sees the pictures itself."""
        return getattr(self.pipeline, "controlnet", None)

    @property
    def controlnets(self) -> list[Any]:
        """Every ControlNet, one for each of ``controls``; none where the denoiser sees the pictures itself."""
        if self.controlnet is None:
            return []
        return list(self.controlnet.nets) if isinstance(self.controlnet, MultiControlNetModel) else [self.controlnet]

    @property
    def control_uses(self) -> tuple[ControlUse, ...]:
        """How strongly and when each of ``controls`` works."""
        return self.uses or (ControlUse(),) * len(self.controls)

    @property
    def latent_factor(self) -> int:
        """Pixels a latent covers along each side."""
        return self.family.get_latent_factor(self)

    @property
    def latent_channels(self) -> int:
        """The channels of latents."""
        return self.family.get_latent_channels(self)

    @property
    def row_frames(self) -> int:
        """How many frames behind the first share a row of the auto-encoder's latents."""
        return self.family.read_row_frames(self.pipeline.vae.config)

    @property
    def size_multiple(self) -> int:
        """What width and height must be divisible by."""
        return self.latent_factor * self.family.read_patch(self.denoiser.config)

    def check_size(self, width: int, height: int) -> None:
        """``ShotError`` naming the nearest size that works, when this one does not."""
        check_multiple(self.name, self.size_multiple, width, height)

    def make_scheduler(
        self, steps: int, name: str = "", spacing: str = "", size: tuple[int, int] | None = None, *, from_zero: bool = False
    ) -> Any:
        """A scheduler as the model was trained for, set to a number of steps for latents of a ``size`` (h, w), by default those of
        the model's own size; see ``schedulers``. With a schedule of the caller's own the steps are those."""
        own = self.pipeline.scheduler
        # a schedule of one's own need not be one that can be counted, so that any number of steps does
        usual = 1 if self.options.has_schedule else steps
        made = None
        if self.options.scheduler is None:
            if size is None and self.family.is_flow:
                wide, tall = (self.profile or describe_pipeline(self.pipeline)).get_size()
                size = (tall // self.latent_factor, wide // self.latent_factor)
            made = self.family.make_scheduler(
                own.config, type(own).__name__, usual, name, spacing, size or (0, 0), self.device, from_zero=from_zero
            )
        return self.options.prepare(made, steps, self.device)

    @torch.no_grad()
    def encode_text(
        self,
        prompt: str,
        negative: str,
        guided: bool,
        width: int,
        height: int,
        background: str = "",
        clip_skip: int = 0,
        further: Sequence[str] = (),
    ) -> TextConditions:
        """Embeddings of a prompt and then of ``further`` ones, with those of the negative prompt in front when ``guided``, and
        those of a background's own prompt behind when there is one. ``clip_skip`` is that of ``Text``.

        Raises ``ShotError`` for a prompt that cannot be read, and for one that names a LoRA that the model was loaded without.
        """
        refuse_negative_loras(negative)
        return self.encode_texts([prompt, *further], [negative] if guided else [], width, height, background, clip_skip)

    @torch.no_grad()
    def encode_texts(
        self,
        wanted: Sequence[str],
        unwanted: Sequence[str],
        width: int,
        height: int,
        background: str = "",
        clip_skip: int = 0,
    ) -> TextConditions:
        """``encode_text`` of several prompts and negative prompts: embeddings as long as the longest of all, those of ``unwanted``
        first, then those of ``wanted``, then the background's."""
        for text in unwanted:
            refuse_negative_loras(text)
        for text in (*wanted, background):
            if self.source is None:
                refuse_unknown_loras(text)
            else:
                check_named_loras(text, self.source.base, self.source.loras)
        texts = [*unwanted, *wanted, *([background] if background else [])]
        family, plain = self.family, [split_loras(text)[0] for text in texts]
        if family.is_extensible:
            prompts = [parse_prompt(replace_words(text, self.words)) for text in plain]
        else:
            prompts = [make_plain(text, family.title) for text in plain]
        found = family.encode_text(self, prompts, width, height, clip_skip)
        said = (*(warning for each in prompts for warning in each.warnings), *found.warnings)
        return replace(found, warnings=tuple(dict.fromkeys(said)))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, H, W) pictures around [-1, 1]; differentiable."""
        return self.family.decode(self, latents)

    @property
    def decodes_in_half(self) -> bool:
        """Whether the auto-encoder computes in 16 bits."""
        return self.pipeline.vae.dtype in (torch.float16, torch.bfloat16)

    def decode_in_full(self, latents: torch.Tensor) -> torch.Tensor:
        """``decode`` in float32, whatever the auto-encoder computes in otherwise."""
        vae = self.pipeline.vae
        usual = vae.dtype
        try:
            vae.to(torch.float32)
            return self.decode(latents.float())
        finally:
            vae.to(usual)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pictures in [-1, 1] -> (N, C, h, w) latents: the middle of what the auto-encoder gives."""
        return self.family.encode(self, pictures).to(self.dtype)
