"""Qwen-Image with its ControlNets: a transformer of two streams, picture and text, and an auto-encoder for clips, of which a
picture is the first frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from diffusers import QwenImageControlNetModel, QwenImageControlNetPipeline

from .adapter import NetworkInput
from .family_layouts import BY_NAME
from .flow_family import (
    META,
    FlowFamily,
    lend_to_unconditional,
    pack,
    read_statistics,
    repeat_runs,
    shape_strength,
    unpack,
)
from .shared_keys import share_all

if TYPE_CHECKING:
    from .image_model import ImageModel

_MOST_TOKENS = 1024


class QwenImage(FlowFamily):
    """See the module. ControlNets see the prompt alone; what they add counts for the unconditional pass as well. Guidance keeps the
    length that a patch of the conditional output has."""

    layout = BY_NAME["qwen_image"]
    title = layout.title
    pipeline_class = QwenImageControlNetPipeline
    controlnet_class = QwenImageControlNetModel
    mixes_texts = False
    fitting = ("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim")
    mask_channels = "extra_condition_channels"

    def read_vae_factor(self, config: Mapping[str, Any]) -> int:
        """See ``Family``."""
        # as diffusers has it where a configuration leaves it out
        return 2 ** len(config.get("temperal_downsample", (False, True, True)))

    def encode(self, model: ImageModel, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        latents = vae.encode(pictures.to(vae.dtype).unsqueeze(2)).latent_dist.mode()[:, :, 0]
        mean, spread = read_statistics(vae, latents)
        return (latents - mean) / spread

    def decode(self, model: ImageModel, latents: torch.Tensor) -> torch.Tensor:
        """See ``Family``."""
        vae = model.pipeline.vae
        mean, spread = read_statistics(vae, latents.to(vae.dtype))
        return vae.decode((latents.to(vae.dtype) * spread + mean).unsqueeze(2)).sample[:, :, 0]

    def decode_empty(self, vae: Any, latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        super().decode_empty(vae, latents.unsqueeze(2))

    def get_most_tokens(self, model: ImageModel) -> int:
        """See ``FlowFamily``."""
        return _MOST_TOKENS

    def count_tokens(self, model: ImageModel, text: str) -> int:
        """Those of the text alone, without what is said to the encoder around it."""
        pipeline = model.pipeline
        whole = pipeline.tokenizer(pipeline.prompt_template_encode.format(text)).input_ids
        return len(whole) - int(pipeline.prompt_template_encode_start_idx)

    def encode_one(self, model: ImageModel, text: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See ``FlowFamily``."""
        embeddings, _ = model.pipeline.encode_prompt(text, model.device, max_sequence_length=_MOST_TOKENS)
        return embeddings[0], {}

    def predict(self, model: ImageModel, given: NetworkInput) -> torch.Tensor:
        """See ``Family``."""
        size, count = (int(given.latents.shape[2]), int(given.latents.shape[3])), len(given.latents)
        own = given.added["own"]
        mask = None if bool(own.all()) else own
        batch = pack(given.latents)
        time = given.timestep.to(batch.device, batch.dtype).expand(count) / 1000
        shapes = [(1, size[0] // 2, size[1] // 2)] * count
        added = None
        if given.controls:
            first = len(given.controls[0]) if given.is_guided else 0
            with torch.set_grad_enabled(torch.is_grad_enabled() and not given.hold_controls):
                made = model.controlnet(
                    hidden_states=batch[first:],
                    controlnet_cond=pack(repeat_runs(given.controls[0], count - first)),
                    conditioning_scale=shape_strength(given.strengths[0], first),
                    timestep=time[first:],
                    encoder_hidden_states=given.embeddings[first:],
                    encoder_hidden_states_mask=None if mask is None else mask[first:],
                    img_shapes=shapes[first:],
                    return_dict=False,
                )
            added = lend_to_unconditional(made, first)
        output = model.denoiser(
            hidden_states=batch,
            timestep=time,
            encoder_hidden_states=given.embeddings,
            encoder_hidden_states_mask=mask,
            img_shapes=shapes,
            controlnet_block_samples=added,
            return_dict=False,
        )[0]
        return unpack(output, size)

    def guide(self, unconditional: torch.Tensor, wanted: torch.Tensor, scale: float) -> torch.Tensor:
        """See ``Family``."""
        guided = pack(super().guide(unconditional, wanted, scale))
        length = torch.linalg.vector_norm(pack(wanted), dim=-1, keepdim=True)
        kept = guided * (length / torch.linalg.vector_norm(guided, dim=-1, keepdim=True))
        return unpack(kept, (int(wanted.shape[2]), int(wanted.shape[3])))

    def attend_to_first_frame(
        self, model: ImageModel, networks: Sequence[Any], groups: int, size: tuple[int, int], *, guided: bool, held: bool
    ) -> AbstractContextManager[None]:
        """See ``Family``: the stream of the picture has keys and values of its own."""
        layers = [[(block.attn, slice(None)) for block in network.transformer_blocks] for network in networks]
        return share_all([(each, groups - int(guided and n > 0)) for n, each in enumerate(layers)], held=held)

    def run_empty(self, transformer: Any, controls: Sequence[Any], latents: torch.Tensor) -> None:
        """See ``FlowFamily``."""
        batch, shapes = pack(latents), [(1, latents.shape[2] // 2, latents.shape[3] // 2)]
        text = torch.empty(1, _MOST_TOKENS, transformer.config.joint_attention_dim, dtype=latents.dtype, device=META)
        options: dict[str, Any] = dict(timestep=torch.empty(1, device=META), img_shapes=shapes, return_dict=False)
        added = None
        for control in controls:
            added = control(batch, batch, encoder_hidden_states=text, **options)
        transformer(batch, text, controlnet_block_samples=added, **options)
