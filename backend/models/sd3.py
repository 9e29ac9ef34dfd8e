"""Stable Diffusion 3 and 3.5 with their ControlNets: a transformer of two streams, picture and text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline

from .adapter import NetworkInput
from .family_layouts import BY_NAME
from .flow_family import META, FlowFamily, repeat_runs, shape_strength
from .shared_keys import share_keys

if TYPE_CHECKING:
    from .image_model import ImageModel

#: tokens of T5, and of CLIP where a model comes without T5
_MOST_TOKENS, _MOST_WITHOUT_T5 = 256, 77


class StableDiffusion3(FlowFamily):
    """See the module. Some ControlNets want no pooled text, and pictures whose latents are not shifted."""

    layout = BY_NAME["sd3"]
    title = layout.title
    pipeline_class = StableDiffusion3ControlNetPipeline
    controlnet_class = SD3ControlNetModel
    fitting = ("in_channels", "attention_head_dim", "num_attention_heads", "pooled_projection_dim")
    mask_channels = "extra_conditioning_channels"

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return _MOST_WITHOUT_T5 if model.pipeline.text_encoder_3 is None else _MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """Those of the last text encoder; the others see the beginning."""
        pipeline = model.pipeline
        tokenizer = pipeline.tokenizer if pipeline.text_encoder_3 is None else pipeline.tokenizer_3
        return len(tokenizer(text).input_ids)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``."""
        embeddings, _, pooled, _ = model.pipeline.encode_prompt(
            text, None, None, device=model.device, do_classifier_free_guidance=False, max_sequence_length=_MOST_TOKENS
        )
        return embeddings[0], {"pooled": pooled[0]}

    def list_sigmas(self, steps: int) -> Sequence[float] | int:
        """The scheduler's own."""
        return steps

    def prepare_control(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """See ``FlowFamily``."""
        latents = super().prepare_control(model, pictures)
        config = model.pipeline.vae.config
        if model.controlnet.config.force_zeros_for_pooled_projection:
            return latents + (config.shift_factor or 0.0) * config.scaling_factor
        return latents

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``."""
        batch, pooled = given.latents, given.added["pooled"]
        time = given.timestep.to(batch.device).expand(len(batch))
        added = None
        if given.controls:
            control = model.controlnet
            with torch.set_grad_enabled(torch.is_grad_enabled() and not given.hold_controls):
                added = control(
                    hidden_states=batch,
                    timestep=time,
                    encoder_hidden_states=None if control.config.joint_attention_dim is None else given.embeddings,
                    pooled_projections=torch.zeros_like(pooled) if control.config.force_zeros_for_pooled_projection else pooled,
                    controlnet_cond=repeat_runs(given.controls[0], len(batch)),
                    conditioning_scale=shape_strength(given.strengths[0]),
                    return_dict=False,
                )[0]
        output: torch.Tensor = model.denoiser(
            hidden_states=batch,
            timestep=time,
            encoder_hidden_states=given.embeddings,
            pooled_projections=pooled,
            block_controlnet_hidden_states=added,
            return_dict=False,
        )[0]
        return output

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """See ``Family``: the stream of the picture has keys and values of its own, in some layers twice."""
        blocks = [block for network in networks for block in network.transformer_blocks]
        layers = [layer for block in blocks for layer in (block.attn, getattr(block, "attn2", None)) if layer is not None]
        return share_keys([(layer, slice(None)) for layer in layers], groups, held=held)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        text = latents.new_empty(1, _MOST_TOKENS + _MOST_WITHOUT_T5, transformer.config.joint_attention_dim)
        options: dict[str, Any] = dict(
            hidden_states=latents,
            pooled_projections=latents.new_empty(1, transformer.config.pooled_projection_dim),
            timestep=torch.empty(1, device=META),
            return_dict=False,
        )
        added = None
        for control in controls:
            if control.pos_embed is None:
                control.pos_embed = transformer.pos_embed
            seen = None if control.config.joint_attention_dim is None else text
            (added,) = control(encoder_hidden_states=seen, controlnet_cond=latents, **options)
        transformer(encoder_hidden_states=text, block_controlnet_hidden_states=added, **options)
