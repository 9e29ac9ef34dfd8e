"""Families of image models: what one kind of base model needs that another does not, behind one list.

A family is a class here with an object of it in ``FAMILIES``; loading, text and the ControlNets' call go through it. All of them
have a UNet in the pipeline's ``unet``, ControlNets for it in ``controlnet``, and predict noise, v or the clean latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import ControlNetModel, DiffusionPipeline, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline

from ...shared.shot import ShotError

if TYPE_CHECKING:
    from .loading import ImageModel


@dataclass(frozen=True)
class TextConditions:
    """Text embeddings, unconditional first when guidance is on: ``embeddings`` (1 or 2, S, D); ``added`` are SDXL's
    pooled embeddings and time ids, empty otherwise. A background's embeddings come last. ``warnings`` are sentences for the
    user."""

    embeddings: torch.Tensor
    added: dict[str, torch.Tensor]
    warnings: tuple[str, ...] = ()


class Family:
    """One family; others override what is different with them."""

    #: what the base model and its ControlNets are loaded as
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    controlnet_class: ClassVar[type[Any]] = ControlNetModel
    #: keyword arguments of the pipeline's ``from_pretrained``
    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    #: those of the pipeline itself, made of the parts of a single file
    single_file_options: ClassVar[Mapping[str, Any]] = {}

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """Whether a ControlNet with this configuration (diffusers' ``config.json``) is made for the family's base models."""
        raise NotImplementedError

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Whether a loaded pipeline is one of the family's."""
        return isinstance(pipeline, self.pipeline_class)

    def encode_text(
        self, model: ImageModel, prompt: str, negative: str, guided: bool, width: int, height: int, background: str
    ) -> TextConditions:
        """Embeddings of a prompt, with those of the negative prompt in front when ``guided``, and those of a background's own
        prompt behind when it is not empty."""
        raise NotImplementedError

    def predict_controls(
        self,
        model: ImageModel,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        pictures: Sequence[torch.Tensor],
        scales: Sequence[float],
        options: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """What the ControlNets add to the UNet: to its down blocks, and to its middle block.

        ``latents`` (N, C, h, w) as the UNet sees them; ``pictures`` (N, 3, H, W) in [0, 1] and ``scales``, how strongly each
        works, one for each of ``model.controls``; ``options`` are the keyword arguments that the UNet gets as well.
        """
        several = len(pictures) > 1
        down, middle = model.controlnet(
            latents,
            timestep,
            controlnet_cond=list(pictures) if several else pictures[0],
            conditioning_scale=list(scales) if several else scales[0],
            **options,
        )
        return down, middle


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x. Long prompts are read in pieces of the text encoder's length."""

    pipeline_class = StableDiffusionControlNetPipeline
    pipeline_options = {"safety_checker": None}
    single_file_options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A plain ControlNet without further conditions."""
        return config.get("_class_name") == "ControlNetModel" and not config.get("addition_embed_type")

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Also diffusers' other pipelines of the same parts, such as the one that begins with a picture."""
        parts = set(pipeline.components)
        return {"unet", "controlnet", "text_encoder", "tokenizer"} <= parts and "text_encoder_2" not in parts

    def encode_text(
        self, model: ImageModel, prompt: str, negative: str, guided: bool, width: int, height: int, background: str
    ) -> TextConditions:
        """See ``Family``."""
        texts = ([negative] if guided else []) + [prompt] + ([background] if background else [])
        pieces = [self._split(model, text) for text in texts]
        count = max(len(piece) for piece in pieces)
        warnings: tuple[str, ...] = ()
        if count > 1:
            warnings = (f"The prompt is longer than the text encoder takes at once; it was read in {count} pieces.",)
        empty = self._split(model, "")
        rows = []
        for piece in pieces:
            ids = torch.tensor(piece + empty * (count - len(piece)), device=model.device)
            rows.append(model.pipeline.text_encoder(ids)[0].reshape(1, -1, model.unet.config.cross_attention_dim))
        return TextConditions(torch.cat(rows).to(model.dtype), {}, warnings)

    @staticmethod
    def _split(model: ImageModel, text: str) -> list[list[int]]:
        """Token ids in runs of the text encoder's length, each with its own marks and padding."""
        tokenizer = model.pipeline.tokenizer
        convert = getattr(model.pipeline, "maybe_convert_prompt", None)
        text = convert(text, tokenizer) if convert else text
        limit = tokenizer.model_max_length - 2
        ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        runs = [ids[n : n + limit] for n in range(0, len(ids), limit)] or [[]]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        return [[tokenizer.bos_token_id, *run, tokenizer.eos_token_id, *([pad] * (limit - len(run)))] for run in runs]


class StableDiffusionXL(Family):
    """SDXL: two text encoders, pooled embeddings, and the picture's size as a condition."""

    pipeline_class = StableDiffusionXLControlNetPipeline

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A ControlNet that takes the pooled text and the time ids."""
        return config.get("_class_name") == "ControlNetModel" and config.get("addition_embed_type") == "text_time"

    def encode_text(
        self, model: ImageModel, prompt: str, negative: str, guided: bool, width: int, height: int, background: str
    ) -> TextConditions:
        """See ``Family``."""
        tokenizer = model.pipeline.tokenizer
        longest = max(len(tokenizer(text, truncation=False, verbose=False).input_ids) for text in (prompt, background))
        warnings = ("The prompt is longer than the text encoders take; its end is left out.",)
        rows, pooled = [], []
        for n, text in enumerate([prompt, background] if background else [prompt]):
            first = guided and n == 0
            positive, unconditional, pool, no_pool = model.pipeline.encode_prompt(
                prompt=text,
                negative_prompt=negative,
                device=model.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=first,
            )
            rows += [unconditional, positive] if first else [positive]
            pooled += [no_pool, pool] if first else [pool]
        embeddings = torch.cat(rows)
        size = torch.tensor([[height, width, 0, 0, height, width]], device=model.device, dtype=embeddings.dtype)
        return TextConditions(
            embeddings,
            {"text_embeds": torch.cat(pooled), "time_ids": size.repeat(len(embeddings), 1)},
            warnings if longest > tokenizer.model_max_length else (),
        )


#: every family; the first that fits is taken
FAMILIES: list[Family] = [StableDiffusion(), StableDiffusionXL()]


def family_of_controlnet(config: Mapping[str, Any]) -> Family:
    """The family that a ControlNet is made for. Raises ``ShotError`` where none is known."""
    for family in FAMILIES:
        if family.has_controlnet(config):
            return family
    raise ShotError(
        "model",
        f"The ControlNet is a {config.get('_class_name', 'network')} for a kind of model that is not supported; "
        "use one for Stable Diffusion or SDXL.",
    )


def family_of_pipeline(pipeline: DiffusionPipeline) -> Family:
    """The family of a loaded pipeline. Raises ``ShotError`` where none is known."""
    for family in FAMILIES:
        if family.has_pipeline(pipeline):
            return family
    raise ShotError(
        "model",
        f"The model is a {type(pipeline).__name__}, a kind that is not supported; use one of Stable Diffusion or SDXL with a "
        "ControlNet.",
    )
