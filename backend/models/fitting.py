"""Whether the parts of a model fit each other, and the sentence for one that cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError

from ...shared.shot import ShotError
from .hub import HubError
from .registry import ModelSource, is_hub_id

#: what the libraries raise where files are not as they expect
LOAD_ERRORS = (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, SafetensorError)


def explain_unloadable(name: str, source: ModelSource, error: Exception) -> ShotError:
    """The error with the sentence for a model that cannot be loaded."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # what comes from the hub says itself what to do
    parts = () if isinstance(error, HubError) else (source.base, *(c for _, c in source.controls))
    wanted = [part for part in parts if is_hub_id(part)]
    hint = f" Looked for on the model hub: {', '.join(wanted)}; without a connection, give folders instead." if wanted else ""
    return ShotError("model", f"The model '{name}' cannot be loaded: {first.rstrip('.')}.{hint}")


def check_fit(base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """``ShotError`` for a ControlNet that was made for another kind of base model, by the configurations of its UNet and of each
    kind of ControlNet."""
    check_same(base, controls, ("cross_attention_dim", "in_channels", "block_out_channels", "addition_embed_type"))


def check_same(base: Mapping[str, Any], controls: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str]) -> None:
    """``ShotError`` for a ControlNet whose configuration has another value than the base model's for one of ``names``."""
    needed = [_get_plain(base, name) for name in names]
    for kind, config in controls:
        given = [_get_plain(config, name) for name in names]
        if given != needed:
            name, has, needs = next((n, g, b) for n, g, b in zip(names, given, needed, strict=True) if g != b)
            raise ShotError(
                "model",
                f"The ControlNet for {kind} does not fit the base model: its {name} is {has}, the model's "
                f"{needs}. Use one made for this kind of model.",
            )


def _get_plain(config: Mapping[str, Any], name: str) -> Any:
    """A value as JSON has it: the same list may be a tuple once it is loaded."""
    value = config.get(name)
    return list(value) if isinstance(value, tuple) else value
