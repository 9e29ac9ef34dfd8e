"""The forms in which a diffusers folder holds a network's weights: safetensors or pickle, which precision, whole or in shards.

Works on names only, so that it is the same for a folder and for what a hub lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...shared.shot import ShotError

_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<before>[A-Za-z0-9_]+))?(?:-(?P<shard>\d{5})-of-(?P<count>\d{5}))?(?:\.(?P<after>[A-Za-z0-9_]+))?"
    r"\.(?P<end>safetensors|bin)"
)
#: variants in the order in which they are taken; others come last
_FULL = ("", "ema", "bf16", "fp16", "non_ema")
_HALF = ("fp16", "bf16", "", "ema", "non_ema")


@dataclass(frozen=True)
class WeightForm:
    """One form of a network's weights. ``variant`` is fp16, ema and the like, empty for the plain one; ``files`` are the names of
    all its files, ``missing`` the numbers of shards that are not among them."""

    variant: str
    safe: bool
    files: tuple[str, ...]
    missing: tuple[int, ...] = ()


def list_forms(names: Iterable[str]) -> list[WeightForm]:
    """Every form that some file names of one folder make up."""
    found: dict[tuple[str, bool, int], dict[int, str]] = {}
    for name in sorted(names):
        parts = _WEIGHTS.fullmatch(name)
        if parts is not None:
            variant = parts["before"] or parts["after"] or ""
            key = (variant, parts["end"] == "safetensors", int(parts["count"] or 0))
            # transformers' own name and diffusers' may lie beside each other; the first will do
            found.setdefault(key, {}).setdefault(int(parts["shard"] or 0), name)
    forms = []
    for (variant, safe, count), files in found.items():
        missing = tuple(n for n in range(1, count + 1) if n not in files) if count else ()
        forms.append(WeightForm(variant, safe, tuple(files.values()), missing))
    return forms


def choose_form(names: Iterable[str], *, half: bool) -> WeightForm | None:
    """The form to load, None where there is none. Safetensors come before pickles; with ``half`` those in half precision come
    first, otherwise the plain ones. Raises ``ShotError`` where all of them lack shards."""
    order = _HALF if half else _FULL

    def rank(form: WeightForm) -> tuple[bool, bool, int]:
        return bool(form.missing), not form.safe, order.index(form.variant) if form.variant in order else len(order)

    forms = sorted(list_forms(names), key=rank)
    if not forms:
        return None
    best = forms[0]
    if best.missing:
        raise ShotError(
            "model",
            f"Of the weights '{best.files[0]}' and others, {len(best.missing)} of {len(best.files) + len(best.missing)} files are "
            f"missing, such as number {best.missing[0]}; download the model again.",
        )
    return best
