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
from .prompts.encoding import Encoder, check_clip_skip, encode_pieces, split_into_pieces
from .prompts.parsing import Prompt

if TYPE_CHECKING:
    from .image_model import ImageModel


@dataclass(frozen=True)
class TextConditions:
    """Text embeddings, unconditional first when guidance is on: ``embeddings`` (1 or 2, S, D); ``added`` are SDXL's
    pooled embeddings and time ids, empty otherwise. A background's embeddings come last. ``warnings`` are sentences for the
    user. Texts of each frame's own have the frames as a second dimension everywhere, as in (2, F, S, D)."""

    embeddings: torch.Tensor
    added: dict[str, torch.Tensor]
    warnings: tuple[str, ...] = ()

    @property
    def is_per_frame(self) -> bool:
        """Whether every frame has embeddings of its own."""
        return self.embeddings.ndim == 4


class Family:
    """One family; others override what is different with them."""

    #: what the base model and its ControlNets are loaded as
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    controlnet_class: ClassVar[type[Any]] = ControlNetModel
    #: keyword arguments of the pipeline, made of the parts of a single file
    single_file_options: ClassVar[Mapping[str, Any]] = {}

    #: the text encoders' layer that is taken, counted from the last, which is 1
    own_layer: ClassVar[int] = 1

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """Whether a ControlNet with this configuration (diffusers' ``config.json``) is made for the family's base models."""
        raise NotImplementedError

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Whether a loaded pipeline is one of the family's."""
        return isinstance(pipeline, self.pipeline_class)

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """The text encoders of a model, whose hidden states lie side by side in what the UNet is given."""
        raise NotImplementedError

    def encode_text(self, model: ImageModel, prompts: Sequence[Prompt], width: int, height: int, clip_skip: int) -> TextConditions:
        """Embeddings of prompts, all of them as long as the longest: a shorter one is filled up with empty pieces.

        ``clip_skip`` says from which layer of the text encoders, 0 for the model's own. Raises ``ShotError`` where they have not
        as many.
        """
        encoders = self.list_encoders(model)
        check_clip_skip(clip_skip, encoders)
        pieces = [[split_into_pieces(encoder, prompt) for prompt in prompts] for encoder in encoders]
        count = max(len(found) for row in pieces for found in row)
        warnings = []
        if count > max(len(prompt.sections) for prompt in prompts):
            warnings.append(f"The prompt is longer than the text encoder takes at once; it was read in {count} pieces.")
        columns: list[torch.Tensor] = []
        pooled: list[torch.Tensor] = []
        for encoder, row in zip(encoders, pieces, strict=True):
            empty = split_into_pieces(encoder, Prompt(((),)))
            found = [encode_pieces(encoder, text + empty * (count - len(text)), clip_skip, model.device) for text in row]
            columns.append(torch.cat([text.states for text in found]))
            pooled = [text.pooled for text in found if text.pooled is not None] or pooled
            if not all(text.restored for text in found):
                warnings.append(
                    "The weights in the prompt turn its meaning around; they count more than they say, so use smaller ones."
                )
        return self.add_conditions(model, torch.cat(columns, -1), pooled, width, height, tuple(dict.fromkeys(warnings)))

    def add_conditions(
        self,
        model: ImageModel,
        states: torch.Tensor,
        pooled: list[torch.Tensor],
        width: int,
        height: int,
        warnings: tuple[str, ...],
    ) -> TextConditions:
        """What the UNet is given for (N, S, D) hidden states and (1, P) ``pooled`` ones of each text, none without a projection."""
        return TextConditions(states.to(model.dtype), {}, warnings)

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
    single_file_options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A plain ControlNet without further conditions."""
        return config.get("_class_name") == "ControlNetModel" and not config.get("addition_embed_type")

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Also diffusers' other pipelines of the same parts, such as the one that begins with a picture."""
        parts = set(pipeline.components)
        return {"unet", "controlnet", "text_encoder", "tokenizer"} <= parts and "text_encoder_2" not in parts

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """See ``Family``."""
        return [Encoder(model.pipeline, model.pipeline.text_encoder, model.pipeline.tokenizer)]


class StableDiffusionXL(Family):
    """SDXL: two text encoders, pooled embeddings, and the picture's size as a condition."""

    pipeline_class = StableDiffusionXLControlNetPipeline
    own_layer = 2

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """A ControlNet that takes the pooled text and the time ids."""
        return config.get("_class_name") == "ControlNetModel" and config.get("addition_embed_type") == "text_time"

    def list_encoders(self, model: ImageModel) -> list[Encoder]:
        """See ``Family``."""
        pipeline = model.pipeline
        pairs = ((pipeline.text_encoder, pipeline.tokenizer), (pipeline.text_encoder_2, pipeline.tokenizer_2))
        return [Encoder(pipeline, network, tokenizer, penultimate=True) for network, tokenizer in pairs if network is not None]

    def add_conditions(
        self,
        model: ImageModel,
        states: torch.Tensor,
        pooled: list[torch.Tensor],
        width: int,
        height: int,
        warnings: tuple[str, ...],
    ) -> TextConditions:
        """See ``Family``. The pooled embeddings are those of a text's first piece without weights: what diffusers gives for a text
        that it does not cut."""
        states = states.to(model.pipeline.text_encoder_2.dtype)
        size = torch.tensor([[height, width, 0, 0, height, width]], device=model.device, dtype=states.dtype)
        return TextConditions(states, {"text_embeds": torch.cat(pooled), "time_ids": size.repeat(len(states), 1)}, warnings)


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
