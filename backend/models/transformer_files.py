"""Transformers and their ControlNets in single files, made with the configuration of a diffusers folder of the family."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch

from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .family_layouts import TRANSFORMER, FamilyLayout
from .folder_reading import TITLES, read_transformer_config
from .model_file import FAMILIES, ModelFile
from .network_loading import load_network, make_tensor, name_left_over
from .networks import NetworkPlan, TensorSource
from .plans import list_shapes, open_model_file
from .quantization import Quantization
from .transformer_plans import (
    BESIDE_SCALES,
    FoundTransformer,
    find_deciding,
    find_transformer,
    find_transformer_control,
    plan_transformer,
    plan_transformer_control,
)
from .weight_files import GGUF, WeightFile

#: what the weights of a file may be called that are multiplied by one number each
_FORMATS = ("float8_e4m3fn", "float8_e5m2")


def plan_transformer_file(path: Path, parts: Path) -> tuple[WeightFile, ModelFile, FoundTransformer, NetworkPlan]:
    """A file with a transformer alone, what it is, and the plan of its network, for what shapes do not tell after the diffusers
    folder ``parts``. Raises ``ShotError``."""
    file, found = open_model_file(path, "transformer")
    inner = find_transformer(list_shapes(file))
    assert inner is not None
    _check_formats(file)
    plan = plan_transformer(inner, read_transformer_config(parts))
    return file, found, inner, _keep_known(plan, getattr(diffusers, inner.layout.denoiser))


def load_transformer_file(
    path: Path, parts: Path, dtype: torch.dtype, quantization: Quantization | None = None
) -> tuple[Any, ModelFile, tuple[str, ...]]:
    """A transformer from its file, what the file is, and sentences about what was guessed or left out. Raises ``ShotError``."""
    file, found, inner, plan = plan_transformer_file(path, parts)
    if file.format == GGUF:
        return _load_gguf(file, inner, plan, parts, dtype, quantization), found, (*found.guesses, *found.warnings)
    network, used = load_network(getattr(diffusers, inner.layout.denoiser), plan, file, TITLES[TRANSFORMER], dtype)
    if quantization is not None and quantization.holds(TRANSFORMER):
        # diffusers' way from a file leaves such weights as they are, and says nothing
        quantization.quantize(network)
    # what is not the transformer's was told of when the file was recognised
    used |= {
        name for name in file.tensors if not name.startswith(inner.prefix) or name.endswith((*BESIDE_SCALES, "norm_final.weight"))
    }
    return network, found, (*found.guesses, *found.warnings, *name_left_over(file, used))


def check_library(file: WeightFile) -> None:
    """``ShotError`` for a file that a library of its own reads which is not installed."""
    if file.format == GGUF and find_spec("gguf") is None:
        raise ShotError(
            "model",
            f"To read {file.path.name}, the package gguf is needed, which is not installed; install it into the backend's "
            "environment, or choose the .safetensors file.",
        )


def _load_gguf(
    file: WeightFile,
    inner: FoundTransformer,
    plan: NetworkPlan,
    parts: Path,
    dtype: torch.dtype,
    quantization: Quantization | None,
) -> Any:
    """A transformer whose weights stay as a GGUF file has them, and are unpacked where they are at work. Raises ``ShotError``."""
    if quantization is not None:
        raise ShotError("memory", f"The weights in {file.path.name} are held in fewer bits already; leave the weights at auto.")
    check_library(file)
    kind = getattr(diffusers, inner.layout.denoiser)
    network = kind.from_single_file(
        str(file.path),
        config=str(parts),
        subfolder=TRANSFORMER,
        dtype=dtype,
        local_files_only=True,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
        **plan.config,
    )
    lacking = [name for name, weights in network.named_parameters() if weights.is_meta]
    if lacking:
        raise ShotError(
            "model",
            f"The file {file.path.name} lacks {len(lacking)} of the weights of its transformer, such as '{shorten(lacking[0])}'; "
            "download it again.",
        )
    return network


def plan_control_file(path: Path, layout: FamilyLayout, base: Mapping[str, Any]) -> tuple[WeightFile, ModelFile, NetworkPlan]:
    """A ControlNet's file for a transformer of a layout with the configuration ``base``, what it is, and the plan of its network.
    Raises ``ShotError``."""
    file, found = open_model_file(path, "controlnet")
    inner = find_transformer_control(list_shapes(file))
    if inner is None or inner.layout is not layout:
        raise ShotError(
            "model",
            f"{path.name} is a ControlNet for {FAMILIES[found.family]}, and the model is {layout.title}; use one made for it.",
        )
    plan = plan_transformer_control(inner, base, refines=_does_refine(file, inner))
    plan = replace(plan, config={**plan.config, "_class_name": layout.control})
    return file, found, plan


def load_control_file(
    path: Path, layout: FamilyLayout, base: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Any, ModelFile, tuple[str, ...]]:
    """A ControlNet from its file, what the file is, and sentences about what was left out. Raises ``ShotError``."""
    file, found, plan = plan_control_file(path, layout, base)
    kind = getattr(diffusers, layout.control)
    network, used = load_network(kind, _keep_known(plan, kind), file, "ControlNet", dtype)
    if plan.config.get("add_control_noise_refiner") == "control_layers":
        # layers that its training left untouched
        used |= {name for name in file.tensors if name.startswith("control_noise_refiner.")}
    return network, found, (*found.warnings, *name_left_over(file, used))


def _does_refine(file: WeightFile, inner: FoundTransformer) -> bool | None:
    name = find_deciding(inner)
    return bool(make_tensor(file.tensors[name], TensorSource(name), torch.float32).any()) if name else None


def _keep_known(plan: NetworkPlan, kind: Any) -> NetworkPlan:
    """A plan without what the network's class does not take: a base model's configuration says more than its ControlNet's."""
    known = inspect.signature(kind.__init__).parameters
    return replace(plan, config={name: value for name, value in plan.config.items() if name in known})


def _check_formats(file: WeightFile) -> None:
    """``ShotError`` for weights that say of themselves that they are quantized in a way that is not known."""
    for name, raw in file.tensors.items():
        if not name.endswith(".comfy_quant"):
            continue
        try:
            told = json.loads(bytes(raw.content[raw.offset : raw.offset + raw.span]))
            kind = told.get("format") if isinstance(told, dict) else None
        except (ValueError, RecursionError):
            kind = None
        if kind not in _FORMATS:
            raise ShotError(
                "model",
                f"The weights in {file.path.name} are quantized as {shorten(str(kind))}, which is not supported; choose the file "
                "in bfloat16 or float8.",
            )
