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

from .families import family_of_networks
from .hub_cache import DENOISERS
from .memory_figures import MemoryNeed as MemoryNeed
from .quantization import is_quantized_part

_META = torch.device("meta")


class _FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels do it, which never hold all products of queries and keys."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            return torch.empty_like(query)
        if func is torch.Tensor.__setitem__ and args[0].device == _META:
            # which elements a mask chooses is not known without their values
            return None
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


def _count_bytes(network: torch.nn.Module, bits: float | None) -> int:
    """The bytes of a network's weights, where those of its matrices have so many ``bits``."""
    held = {id(layer.weight) for layer in network.modules() if isinstance(layer, torch.nn.Linear)} if bits else set()
    sizes = (p.numel() * (bits / 8 if bits and id(p) in held else p.element_size()) for p in network.parameters())
    return int(sum(sizes))


def _make(
    networks: Mapping[str, Callable[[], Any]],
    dtype: torch.dtype,
    choose_vae_dtype: Callable[[Mapping[str, Any]], torch.dtype] | None,
) -> tuple[dict[str, Any], Any]:
    """The networks without storage, and the auto-encoder among them."""
    with _META:
        # by its parameters, since diffusers warns of casts that matter only for values
        made = {name: torch.nn.Module.to(make(), dtype).eval() for name, make in networks.items()}
    vae = made["vae"]
    if choose_vae_dtype is not None:
        torch.nn.Module.to(vae, choose_vae_dtype(vae.config))
    return made, vae


def _count_weights(made: Mapping[str, torch.nn.Module], bits: float | None) -> dict[str, int]:
    return {name: _count_bytes(network, bits if is_quantized_part(name) else None) for name, network in made.items()}


def count_weights(
    networks: Mapping[str, Callable[[], Any]],
    dtype: torch.dtype,
    choose_vae_dtype: Callable[[Mapping[str, Any]], torch.dtype] | None = None,
    bits: float | None = None,
) -> dict[str, int]:
    """The bytes of each network's weights, as in ``estimate_need``, which also finds out how they compute and takes longer."""
    return _count_weights(_make(networks, dtype, choose_vae_dtype)[0], bits)


def estimate_need(
    networks: Mapping[str, Callable[[], Any]],
    width: int,
    height: int,
    dtype: torch.dtype,
    choose_vae_dtype: Callable[[Mapping[str, Any]], torch.dtype] | None = None,
    bits: float | None = None,
) -> MemoryNeed:
    """What the networks of a model need for frames of a size in pixels.

    ``networks`` makes each: ``unet`` or ``transformer``, ``vae``, ``text_encoder`` and so on, and ``controlnet_0``,
    ``controlnet_1``...; they are called with PyTorch's device set to one without storage. ``choose_vae_dtype`` gives the
    auto-encoder's numbers by its configuration where they are others. The transformer and the text encoders hold weights of so
    many ``bits``, None for those of ``dtype``.
    """
    made, vae = _make(networks, dtype, choose_vae_dtype)
    family = family_of_networks(made)
    denoise, decode = family.make_passes(made, width, height, dtype)
    denoiser = next(made[part] for part in DENOISERS if part in made)
    controls = [network for name, network in made.items() if name.startswith("controlnet")]
    return MemoryNeed(
        _count_weights(made, bits),
        _measure(denoise, [denoiser, *controls]),
        _measure(decode, [vae]),
        is_guided=family.runs_together and not family.takes_guidance_scale(denoiser.config),
        together=family.get_window(denoiser.config),
    )
