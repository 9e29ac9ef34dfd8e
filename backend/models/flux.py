"""FLUX.1 with its ControlNets: a transformer of two streams, then of one, which most of its models tell the guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline, FluxControlNetModel, FluxControlNetPipeline, FluxControlPipeline

from ...shared.shot import ShotError
from .adapter import NetworkInput
from .family_layouts import BY_NAME, sees_picture
from .flow_family import (
    META,
    FlowFamily,
    count_patches,
    lend_to_unconditional,
    pack,
    repeat_runs,
    shape_strength,
    unpack,
)
from .shared_keys import share_all

if TYPE_CHECKING:
    from .image_model import ImageModel

#: tokens that T5 gives, and those for models that were distilled to few steps and are not told the guidance
_MOST_TOKENS, _MOST_FOR_FEW_STEPS = 512, 256
#: the numbers that the published union ControlNets give to the kinds of pictures
_MODES = {"depth": 2, "openpose": 4}


class Flux(FlowFamily):
    """See the module. ControlNets see the prompt alone; what they add counts for the unconditional pass as well."""

    layout = BY_NAME["flux"]
    title = layout.title
    pipeline_class = FluxControlNetPipeline
    controlnet_class = FluxControlNetModel
    fitting = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "pooled_projection_dim")

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """Also one whose transformer sees the picture itself."""
        if super().has_pipeline(pipeline):
            return True
        return self.has_networks(pipeline.components) and self.sees_controls(pipeline.transformer.config)

    def sees_controls(self, config: Mapping[str, Any]) -> bool:
        """See ``Family``."""
        return sees_picture(self.layout, config)

    def find_pipeline_class(self, config: Mapping[str, Any]) -> Any:
        """See ``Family``."""
        return FluxControlPipeline if self.sees_controls(config) else self.pipeline_class

    def check_fit(self, base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """See ``Family``."""
        if self.sees_controls(base):
            if controls:
                raise ShotError(
                    "model", f"The {self.title} sees the picture for depth itself; leave the ControlNet out of its name."
                )
            return
        if base.get("in_channels", 64) != 4 * self.layout.channels:
            raise ShotError(
                "model",
                f"The base is a {self.title} that wants a picture beside the noise; choose the plain one with a ControlNet.",
            )
        super().check_fit(base, controls)
        for kind, config in controls:
            if config.get("conditioning_embedding_channels") is not None:
                raise ShotError(
                    "model", f"The ControlNet for {kind} reads pictures by layers of its own; choose one that reads latents."
                )

    def takes_guidance_scale(self, config: Mapping[str, Any]) -> bool:
        """Those that were distilled with it."""
        return bool(config["guidance_embeds"])

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return _MOST_FOR_FEW_STEPS if model.distilled and not model.takes_guidance_scale else _MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """Those of the second text encoder; the first one sees the whole only as one vector."""
        return len(model.pipeline.tokenizer_2(text).input_ids)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``."""
        most = self.get_most_tokens(model)
        embeddings, pooled, _ = model.pipeline.encode_prompt(text, None, device=model.device, max_sequence_length=most)
        return embeddings[0], {"pooled": pooled[0]}

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``."""
        size, count = (int(given.latents.shape[2]), int(given.latents.shape[3])), len(given.latents)
        batch = pack(given.latents)
        time = given.timestep.to(batch.device, batch.dtype).expand(count) / 1000
        scale = batch.new_full((count,), given.guidance_scale, dtype=torch.float32)
        places: dict[str, Any] = dict(img_ids=_list_places(size, batch), txt_ids=batch.new_zeros(given.embeddings.shape[1], 3))
        added: tuple[Any, Any] = (None, None)
        if self.sees_controls(model.denoiser.config):
            batch = torch.cat([batch, self._show(given, batch)], 2)
        elif given.controls:
            first = len(given.controls[0]) if given.is_guided else 0
            control = model.controlnet
            # most are made for the model that is told the guidance, and serve others, too
            told = scale if model.takes_guidance_scale else torch.full_like(scale, self.layout.usual[1])
            mode = None
            if control.union:
                mode = torch.full((count - first, 1), _MODES[model.controls[0]], device=batch.device)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not given.hold_controls):
                made = control(
                    hidden_states=batch[first:],
                    controlnet_cond=pack(repeat_runs(given.controls[0], count - first)),
                    controlnet_mode=mode,
                    conditioning_scale=shape_strength(given.strengths[0], first),
                    timestep=time[first:],
                    guidance=told[first:] if control.config.guidance_embeds else None,
                    pooled_projections=given.added["pooled"][first:],
                    encoder_hidden_states=given.embeddings[first:],
                    return_dict=False,
                    **places,
                )
            added = lend_to_unconditional(made[0], first), lend_to_unconditional(made[1], first)
        output = model.denoiser(
            hidden_states=batch,
            timestep=time,
            guidance=scale if model.takes_guidance_scale else None,
            pooled_projections=given.added["pooled"],
            encoder_hidden_states=given.embeddings,
            controlnet_block_samples=added[0],
            controlnet_single_block_samples=added[1],
            return_dict=False,
            **places,
        )[0]
        return unpack(output, size)

    def _show(self, given: NetworkInput, batch: torch.Tensor) -> torch.Tensor:
        """What the transformer sees of the pictures: all of it, or nothing where their strength is 0."""
        if not given.controls:
            return torch.zeros_like(batch)
        seen = pack(repeat_runs(given.controls[0], len(batch))).to(batch.dtype)
        strength = shape_strength(given.strengths[0])
        return torch.where(torch.as_tensor(strength, device=seen.device) != 0, seen, 0)

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """See ``Family``: the stream of the picture has keys and values of its own; where there is one stream, the picture is its
        end."""
        end = slice(-count_patches(size), None)
        layers = [
            [
                *((block.attn, slice(None)) for block in network.transformer_blocks),
                *((block.attn, end) for block in network.single_transformer_blocks),
            ]
            for network in networks
        ]
        return share_all([(each, groups - int(guided and n > 0)) for n, each in enumerate(layers)], held=held)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        batch = pack(latents)
        if self.sees_controls(transformer.config):
            batch = torch.cat([batch, batch], 2)
        text = batch.new_empty(1, _MOST_TOKENS, transformer.config.joint_attention_dim)
        options: dict[str, Any] = dict(
            hidden_states=batch,
            encoder_hidden_states=text,
            pooled_projections=batch.new_empty(1, transformer.config.pooled_projection_dim),
            timestep=torch.empty(1, device=META),
            img_ids=batch.new_empty(batch.shape[1], 3),
            txt_ids=batch.new_empty(_MOST_TOKENS, 3),
            return_dict=False,
        )
        added: tuple[Any, Any] = (None, None)
        for control in controls:
            mode = torch.zeros(1, 1, dtype=torch.long, device=META) if control.union else None
            told = torch.empty(1, device=META) if control.config.guidance_embeds else None
            added = control(controlnet_cond=batch, controlnet_mode=mode, guidance=told, **options)
        told = torch.empty(1, device=META) if transformer.config.guidance_embeds else None
        transformer(guidance=told, controlnet_block_samples=added[0], controlnet_single_block_samples=added[1], **options)


def _list_places(size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """(patches, 3) the row and the column of each patch of latents of a size (h, w), behind a 0."""
    rows, columns = size[0] // 2, size[1] // 2
    places = like.new_zeros(rows, columns, 3)
    places[..., 1] = torch.arange(rows, device=like.device)[:, None].to(like.dtype)
    places[..., 2] = torch.arange(columns, device=like.device)[None].to(like.dtype)
    return places.flatten(0, 1)
