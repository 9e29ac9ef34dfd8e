"""What a LoRA adds to the weights of a module, as one tensor: each method's formula, in float32.

The methods are those of kohya's scripts, PEFT and LyCORIS. ``W`` are the module's own weights (out, in) or (out, in, k, k).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

Tensors = Mapping[str, torch.Tensor]

#: (what a method cannot do without, what it may have besides), by what its tensors are
_METHODS: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(needed.split()), frozenset(more.split()))
    for needed, more in (
        ("down up", "mid up_bias"),
        ("hada_w1_a hada_w1_b hada_w2_a hada_w2_b", ""),
        ("hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2", ""),
        ("lokr_w1 lokr_w2", ""),
        ("lokr_w1 lokr_w2_a lokr_w2_b", "lokr_t2"),
        ("lokr_w1_a lokr_w1_b lokr_w2", ""),
        ("lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b", "lokr_t2"),
        ("a1 a2 b1 b2", "bm"),
        ("on_input weight", ""),
        ("diff", ""),
        ("set", ""),
    )
)
#: what goes with any method, and does nothing alone
_MODIFIERS = frozenset({"alpha", "scalar", "dora", "magnitude", "size"})
#: what goes with any method, and does something alone
_BIAS = "diff_b"


class MisfitError(ValueError):
    """Tensors that do not fit the module or each other; the message is a part of a sentence."""


@dataclass(frozen=True)
class Difference:
    """What is added to a module's weights, None for nothing, and to its bias."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None = None


def is_complete(roles: Collection[str]) -> bool:
    """Whether tensors, by what they are, make one method and nothing is left over."""
    own = frozenset(roles) - _MODIFIERS - {_BIAS}
    return (not own and _BIAS in roles) or any(needed <= own <= needed | more for needed, more in _METHODS)


def is_idle(roles: Collection[str]) -> bool:
    """Whether tensors, by what they are, change nothing without others."""
    return _MODIFIERS.issuperset(roles)


def compute_difference(own: torch.Tensor, tensors: Tensors, alpha: float | None, root_rank: bool = False) -> Difference:
    """The difference from weights ``own`` that a method's ``tensors`` make, by what they are (see ``lora_layout``).

    ``alpha`` over the rank scales it, or over its root with ``root_rank``; None scales nothing. Raises ``MisfitError``.
    """
    try:
        difference, rank = _compute(own, tensors)
    except (RuntimeError, IndexError) as error:
        raise MisfitError(f"its tensors {_describe(tensors)} do not fit each other") from error
    scale = float(tensors["scalar"]) if "scalar" in tensors else 1.0
    if alpha is not None and rank:
        scale *= alpha / (math.sqrt(rank) if root_rank else rank)
    bias = tensors.get(_BIAS)
    if "up_bias" in tensors:
        up_bias = tensors["up_bias"].flatten() * scale
        if bias is not None and len(up_bias) != bias.numel():
            raise MisfitError(f"it has biases of {len(up_bias)} and {bias.numel()} numbers")
        bias = up_bias if bias is None else bias.flatten() + up_bias
    if difference is None:
        return Difference(None, bias)
    if difference.numel() != own.numel() or difference.shape[0] != own.shape[0]:
        raise MisfitError(f"it changes weights of {_size(difference)}, and the model's are {_size(own)}")
    difference = difference.reshape(own.shape) * scale
    magnitude = _find_magnitude(own, tensors)
    if magnitude is not None:
        difference = _decompose(own + difference, magnitude) - own
    return Difference(difference, bias)


def _compute(own: torch.Tensor, tensors: Tensors) -> tuple[torch.Tensor | None, int]:
    """The difference without its scale, and the rank, 0 where the method has none."""
    if "down" in tensors:
        up, down = tensors["up"], tensors["down"]
        rank = down.shape[0]
        if "mid" in tensors:
            return _rebuild(tensors["mid"], up.reshape(up.shape[0], -1).T, down.reshape(rank, -1)), rank
        return up.reshape(up.shape[0], -1) @ down.reshape(rank, -1), rank
    if "hada_w1_a" in tensors:
        rank = tensors["hada_w1_b"].shape[0]
        if "hada_t1" in tensors:
            halves = [_rebuild(tensors[f"hada_t{n}"], tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"]) for n in (1, 2)]
        else:
            halves = [tensors[f"hada_w{n}_a"] @ tensors[f"hada_w{n}_b"] for n in (1, 2)]
        return halves[0] * halves[1], rank
    if "lokr_w1" in tensors or "lokr_w1_a" in tensors:
        return _multiply_kronecker(own, tensors)
    if "a1" in tensors:
        return _generalise(own, tensors)
    if "on_input" in tensors:
        factor = tensors["weight"].flatten()
        axis = 1 if bool(tensors["on_input"]) else 0
        if factor.numel() != own.shape[axis]:
            raise MisfitError(f"it scales {factor.numel()} rows, and the model has {own.shape[axis]}")
        return own * factor.reshape([-1 if n == axis else 1 for n in range(own.ndim)]), 0
    if "set" in tensors:
        # weights that take the place of the model's
        return (tensors["set"].reshape(own.shape) - own if tensors["set"].numel() == own.numel() else tensors["set"]), 0
    return tensors.get("diff"), 0


def _rebuild(core: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """(out, in, k, k) of Tucker's decomposition: ``core`` (r, r, k, k), ``outer`` (r, out), ``inner`` (r, in)."""
    return torch.einsum("rskl,ro,si->oikl", core, outer, inner)


def _multiply_kronecker(own: torch.Tensor, tensors: Tensors) -> tuple[torch.Tensor, int]:
    rank = 0
    first, second = tensors.get("lokr_w1"), tensors.get("lokr_w2")
    if first is None:
        first, rank = tensors["lokr_w1_a"] @ tensors["lokr_w1_b"], tensors["lokr_w1_b"].shape[0]
    if second is None:
        left, right = tensors["lokr_w2_a"], tensors["lokr_w2_b"]
        rank = right.shape[0]
        second = _rebuild(tensors["lokr_t2"], left, right) if "lokr_t2" in tensors else left @ right
    if own.shape[0] % first.shape[0] or own.shape[1] % first.shape[1]:
        raise MisfitError(f"its factor of {_size(first)} does not divide the model's weights of {_size(own)}")
    # the second factor has the kernel, which may lie in one row with its inputs
    shape = (own.shape[0] // first.shape[0], own.shape[1] // first.shape[1], *own.shape[2:])
    if second.numel() != math.prod(shape):
        sides = (first.shape[0] * second.shape[0], first.shape[1] * second.shape[1])
        raise MisfitError(f"it changes weights of {sides[0]}x{sides[1]}, and the model's are {_size(own)}")
    second = second.reshape(shape).contiguous()
    return torch.kron(first.reshape(*first.shape, *[1] * (own.ndim - 2)), second), rank


def _generalise(own: torch.Tensor, tensors: Tensors) -> tuple[torch.Tensor, int]:
    """GLoRA: W A + B, both of low rank."""
    a1, a2, b1, b2 = (tensors[name] for name in ("a1", "a2", "b1", "b2"))
    flat = [each.reshape(each.shape[0], -1) for each in (a1, a2, b1, b2)]
    if b1.shape[0] != own.shape[0] or b1.shape[1] != b2.shape[0]:
        # early versions of LyCORIS name both pairs the other way round
        a1, a2, b1, b2 = flat[1], flat[0], flat[3], flat[2]
    else:
        a1, a2, b1, b2 = flat
    added = _rebuild(tensors["bm"], b1.T, b2) if "bm" in tensors else (b1 @ b2).reshape(own.shape)
    return torch.einsum("oi...,ir,rj->oj...", own, a1, a2) + added, a2.shape[0]


def _find_magnitude(own: torch.Tensor, tensors: Tensors) -> torch.Tensor | None:
    """DoRA's lengths in a shape that goes with the weights: along their outputs, or as early versions of LyCORIS along their
    inputs."""
    if "magnitude" in tensors:
        found = tensors["magnitude"].flatten()
        shape = [-1] + [1] * (own.ndim - 1)
        length = own.shape[0]
    elif "dora" in tensors:
        found = tensors["dora"]
        along_inputs = found.ndim > 1 and found.shape[0] == 1 and found.shape[1] == own.shape[1] and own.shape[0] != 1
        shape = [1, -1] + [1] * (own.ndim - 2) if along_inputs else [-1] + [1] * (own.ndim - 1)
        length = own.shape[1] if along_inputs else own.shape[0]
    else:
        return None
    if found.numel() != length:
        raise MisfitError(f"its {found.numel()} lengths do not fit the model's weights of {_size(own)}")
    return found.reshape(shape)


def _decompose(weight: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """DoRA: weights whose lengths along all other axes are ``magnitude``."""
    axes = [axis for axis in range(weight.ndim) if magnitude.shape[axis] == 1 and not _is_kept(magnitude, axis)]
    length = weight.square().sum(axes, keepdim=True).sqrt()
    return weight * magnitude / (length + torch.finfo(weight.dtype).eps)


def _is_kept(magnitude: torch.Tensor, axis: int) -> bool:
    """Whether an axis is the one that lengths are given along, also where it has one entry only."""
    return magnitude.numel() == 1 and axis == 0


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _describe(tensors: Tensors) -> str:
    return ", ".join(f"{name} {_size(tensor)}" for name, tensor in list(tensors.items())[:4])
