"""What a model needs of a device's memory, from the configurations of its networks: nothing is loaded and nothing computed.

Networks of the real shapes are made without storage and called once, while the bytes that would be alive are counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .memory_figures import MemoryNeed as MemoryNeed

_META = torch.device("meta")
#: length of a text in tokens
_TOKENS = 77
#: SDXL's width of the pooled text and number of sizes
_POOLED, _SIZES = 1280, 6


class _FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels do it, which never hold all products of queries and keys."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            return torch.empty_like(query)
        return func(*args, **(kwargs or {}))


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at a time, apart from those that were there before."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def _measure(call: Callable[[], Any], networks: list[torch.nn.Module]) -> int:
    """The most bytes alive at a time during a call, beside the networks' weights."""
    counter = _LiveBytes()
    counter._seen |= {p.untyped_storage()._cdata for network in networks for p in (*network.parameters(), *network.buffers())}
    with torch.no_grad(), _FusedAttention(), counter:
        call()
    return counter.peak


def _count_bytes(network: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def estimate_need(
    networks: Mapping[str, Callable[[], Any]],
    width: int,
    height: int,
    dtype: torch.dtype,
    choose_vae_dtype: Callable[[Mapping[str, Any]], torch.dtype] | None = None,
) -> MemoryNeed:
    """What the networks of a model need for frames of a size in pixels.

    ``networks`` makes each: ``unet``, ``vae``, ``text_encoder`` and so on, and ``controlnet_0``, ``controlnet_1``...; they are
    called with PyTorch's device set to one without storage. ``choose_vae_dtype`` gives the auto-encoder's numbers by its
    configuration where they are others.
    """
    with _META:
        # by its parameters, since diffusers warns of casts that matter only for values
        made = {name: torch.nn.Module.to(make(), dtype).eval() for name, make in networks.items()}
    unet, vae = made["unet"], made["vae"]
    if choose_vae_dtype is not None:
        torch.nn.Module.to(vae, choose_vae_dtype(vae.config))
    controls = [network for name, network in made.items() if name.startswith("controlnet")]
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.empty(1, unet.config.in_channels, height // factor, width // factor, dtype=dtype, device=_META)
    words = torch.empty(1, _TOKENS, unet.config.cross_attention_dim, dtype=dtype, device=_META)
    options: dict[str, Any] = dict(encoder_hidden_states=words, return_dict=False)
    if unet.config.get("addition_embed_type") == "text_time":
        wide = unet.config.projection_class_embeddings_input_dim - _SIZES * unet.config.addition_time_embed_dim
        pooled = torch.empty(1, wide, dtype=dtype, device=_META)
        options["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.empty(1, _SIZES, dtype=dtype, device=_META)}
    picture = torch.empty(1, 3, height, width, dtype=dtype, device=_META)
    time = torch.empty(1, device=_META)

    def denoise() -> None:
        down: list[torch.Tensor] = []
        middle = None
        for control in controls:
            found, middle = control(latents, time, controlnet_cond=picture, **options)
            down = list(found) if not down else [a + b for a, b in zip(down, found, strict=True)]
        added = dict(down_block_additional_residuals=down, mid_block_additional_residual=middle) if controls else {}
        unet(latents, time, **options, **added)

    return MemoryNeed(
        {name: _count_bytes(network) for name, network in made.items()},
        _measure(denoise, [unet, *controls]),
        _measure(lambda: vae.decode(latents.to(vae.dtype), return_dict=False), [vae]),
    )
