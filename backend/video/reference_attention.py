"""Attention to a reference picture, beside that to the text: what an IP-Adapter was trained for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.embeddings import MultiIPAdapterImageProjection

from ..models.ip_adapters import ReferenceConditions


class ReferenceAttention:
    """A diffusers attention processor for a UNet's attention to the text.

    The batch is ``groups`` equal runs of frames: unconditional, conditional, and the background's own prompt, as far as there are
    such. ``keys`` and ``values`` (R, T, C) are those of the picture for the first R runs; the others do not see it.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, strength: float, groups: int) -> None:
        self._keys, self._values, self._strength, self._groups = keys, values, strength, groups

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of (B, N, C) tokens to (B, S, D) of the text, and to the picture."""
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(len(x), x.shape[1], attn.heads, -1).transpose(1, 2)

        def join(x: torch.Tensor) -> torch.Tensor:
            return x.transpose(1, 2).flatten(2)

        query = heads(attn.to_q(hidden_states))
        mixed = join(F.scaled_dot_product_attention(query, heads(attn.to_k(text)), heads(attn.to_v(text))))
        frames = len(hidden_states) // self._groups
        seeing = frames * len(self._keys)
        keys, values = (heads(x.to(query.dtype).repeat_interleave(frames, 0)) for x in (self._keys, self._values))
        seen = join(F.scaled_dot_product_attention(query[:seeing], keys, values))
        mixed = torch.cat([mixed[:seeing] + self._strength * seen, mixed[seeing:]])
        return attn.to_out[1](attn.to_out[0](mixed))


@contextmanager
def attend_to_reference(unet: Any, reference: ReferenceConditions | None, groups: int) -> Iterator[None]:
    """Within the block, a UNet's attention to the text looks at the reference as well; without one it looks at the text alone,
    also where diffusers has put an IP-Adapter into the UNet."""
    # other networks than UNets take none
    built_in = isinstance(getattr(unet, "encoder_hid_proj", None), MultiIPAdapterImageProjection)
    if reference is None and not built_in:
        yield
        return
    projection = unet.encoder_hid_proj
    if built_in:
        # otherwise the UNet asks for the picture itself; it may hold attention layers of its own
        unet.encoder_hid_proj = None
    before = dict(unet.attn_processors)
    changed: dict[str, Any] = {}
    for name, processor in before.items():
        if reference is not None and name in reference.layers:
            keys, values, strength = reference.layers[name]
            changed[name] = ReferenceAttention(keys, values, strength, groups)
        else:
            changed[name] = AttnProcessor2_0() if hasattr(processor, "to_k_ip") else processor
    try:
        unet.set_attn_processor(changed)
        yield
    finally:
        unet.set_attn_processor(before)
        if built_in:
            unet.encoder_hid_proj = projection
