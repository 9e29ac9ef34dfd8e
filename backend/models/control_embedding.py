"""What a UNet's ControlNet makes of its pictures before anything else: the same at every step, so it is made once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

#: the most frames of a clip whose embeddings are kept; those of long clips would take much memory
KEPT = 16
#: pictures that are embedded together, at least where there are as many
TOGETHER = 4


def can_embed(network: Any, pictures: torch.Tensor) -> bool:
    """Whether a ControlNet's embedding can be called by itself: one that was compiled, or whose weights come to the pictures'
    device only while it works, is called as a whole."""
    embedding = getattr(network, "controlnet_cond_embedding", None)
    if not isinstance(embedding, ControlNetConditioningEmbedding) or getattr(network, "_compiled_call_impl", None) is not None:
        return False
    return all(weights.device == pictures.device for weights in embedding.parameters())


def embed_pictures(network: Any, pictures: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) of pictures (N, 3, H, W) in [0, 1], a few at a time: what a ControlNet ``without_embedding`` takes."""
    is_turned = network.config.controlnet_conditioning_channel_order == "bgr"
    seen = pictures.flip(1) if is_turned else pictures
    made = torch.cat([network.controlnet_cond_embedding(some) for some in seen.tensor_split(max(1, len(seen) // TOGETHER))])
    # the network turns what it takes around, whatever that is
    return made.flip(1) if is_turned else made


@contextmanager
def without_embedding(networks: Sequence[Any]) -> Iterator[None]:
    """Within the block ControlNets take what ``embed_pictures`` made in place of pictures."""
    before = [network.controlnet_cond_embedding for network in networks]
    try:
        for network in networks:
            network.controlnet_cond_embedding = torch.nn.Identity()
        yield
    finally:
        for network, embedding in zip(networks, before, strict=True):
            network.controlnet_cond_embedding = embedding
