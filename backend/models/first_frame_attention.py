"""Self-attention that looks at the first frame of a run: what cross-frame attention (Text2Video-Zero) puts into UNets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F


class FirstFrameAttention:
    """A diffusers attention processor.

    The batch is ``groups`` equal runs of frames (unconditional and conditional); frame 0 of a run serves the whole run. With
    ``held`` no gradient flows through its keys and values.
    """

    def __init__(self, groups: int, *, held: bool = False) -> None:
        self.groups, self.held = groups, held

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Self-attention of (B, N, C) tokens with the keys and values of each run's first frame.

        Layers that look at the text in self-attention's place (``only_cross_attention``) do so as ever.
        """
        batch, tokens, channels = hidden_states.shape

        def spread(x: torch.Tensor) -> torch.Tensor:
            return x[:, None].expand(-1, batch // len(x), -1, -1).reshape(batch, *x.shape[1:])

        anchor = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is None:
            anchor = hidden_states.view(self.groups, -1, tokens, channels)[:, 0]
            anchor = anchor.detach() if self.held else anchor
            if anchor.requires_grad and torch.is_grad_enabled():
                # all frames' gradients are summed up where they come from
                anchor = spread(anchor)

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(batch, x.shape[1], attn.heads, -1).transpose(1, 2)

        # made once for all frames that look at it
        query, key, value = heads(attn.to_q(hidden_states)), heads(spread(attn.to_k(anchor))), heads(spread(attn.to_v(anchor)))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, tokens, -1)
        return attn.to_out[1](attn.to_out[0](mixed))


@contextmanager
def first_frame_attention(models: Sequence[Any], groups: int, *, held: bool = False) -> Iterator[None]:
    """Within the block, the self-attentions of these UNets and ControlNets look at the first frame; ``held`` as above."""
    # only these layers are touched: diffusers' own functions walk the whole network for each
    layers = [
        layer
        for model in models
        for name, layer in model.named_modules()
        if "attn1" in name and hasattr(layer, "set_processor") and hasattr(layer, "get_processor")
    ]
    before = [layer.get_processor() for layer in layers]
    try:
        for layer in layers:
            layer.set_processor(FirstFrameAttention(groups, held=held))
        yield
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)
