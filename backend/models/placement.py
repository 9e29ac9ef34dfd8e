"""Where a model's networks are in memory: planned before they are loaded, and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ...shared.load_options import LoadOptions
from ...shared.machine import write_size
from ...shared.shot import ShotError
from .devices import choose_device, choose_dtype, choose_family_dtype, measure_free
from .families import family_of_layout
from .family_layouts import TRANSFORMER, FamilyLayout
from .image_model import ImageModel
from .memory_need import MemoryNeed, count_weights, estimate_need
from .memory_plan import ROOMY, MemoryPlan, plan_memory
from .network_shapes import list_networks
from .quantization import choose_quantization, count_bits
from .recognition import inspect_model_file
from .registry import ModelSource, add_parts, find_model, is_model_name, is_weight_file
from .transformer_parts import find_layout_of_base
from .usual_controls import sees_depth
from .vae_precision import choose_vae_dtype
from .weight_files import GGUF


def make_plan(
    source: ModelSource,
    device: torch.device,
    dtype: torch.dtype,
    options: LoadOptions,
    size: tuple[int, int],
    name: str,
    held: int = 0,
) -> MemoryPlan:
    """How a model whose parts lie on this machine is put into the device's memory; ``held`` bytes of that are its own already.

    Raises ``ShotError`` when a frame of the size (width, height) does not fit.
    """
    free = measure_free(device)
    if free is None:
        return ROOMY
    need = _estimate_need(source, dtype, size, count_bits(options))
    # weights in fewer bits do not always say what they take
    return plan_memory(need, free + min(held, need.resident), gpu=device.type != "cpu", offload=options.offload, name=name)


def _estimate_need(source: ModelSource, dtype: torch.dtype, size: tuple[int, int], bits: float | None = None) -> MemoryNeed:
    networks = list_networks(source)
    file_size = _measure_gguf(source.base)
    need = estimate_need(networks, *size, dtype, _choose_for_vae(networks, dtype), None if file_size else bits)
    # the weights of such a file stay as they are in it
    return replace(need, weights={**need.weights, TRANSFORMER: file_size}) if file_size else need


def _hold_in_bits(need: MemoryNeed, source: ModelSource, dtype: torch.dtype, bits: float | None) -> MemoryNeed:
    """The need of the same model with weights of so many bits: what is computed with them is the same."""
    if bits is None:
        return need
    networks = list_networks(source)
    return replace(need, weights=count_weights(networks, dtype, _choose_for_vae(networks, dtype), bits))


def _choose_for_vae(networks: Mapping[str, Any], dtype: torch.dtype) -> Callable[[Mapping[str, Any]], torch.dtype]:
    """The auto-encoder's numbers by its configuration, among networks that compute in a type."""
    return partial(choose_vae_dtype, dtype, sdxl={"unet", "text_encoder_2"} <= networks.keys())


def _measure_gguf(base: str) -> int:
    """The bytes of a GGUF file; 0 for other bases."""
    found = inspect_model_file(Path(base)) if is_weight_file(base) else None
    return found.size if found is not None and found.format == GGUF else 0


def describe_plan(name: str, options: LoadOptions, size: tuple[int, int]) -> list[str]:
    """Sentences about what a base model on this machine, with the ControlNet that it would take if that is here, or a model by its
    name, needs for frames of a size (width, height), and how it would be placed. Raises ``ShotError``, ``OSError`` and
    ``ValueError``."""
    device = choose_device(options.device)
    dtype = choose_dtype(options, device)
    named = find_model(name) if is_model_name(name) else None
    base = name if named is None else named.base
    layout = find_layout_of_base(named or ModelSource(base))
    if layout is not None:
        dtype = choose_family_dtype(family_of_layout(layout), dtype, device)
    # a kind of model without a usual ControlNet is described without one
    source = named or (add_parts(ModelSource(base)) if layout is not None else find_model(base))
    here = tuple((kind, control) for kind, control in source.controls if Path(control).exists())
    # what cannot be loaded is refused here as well
    choose_quantization(options, layout, device, dtype, from_file=is_weight_file(base), has_loras=bool(source.loras))
    source, bits = replace(source, controls=here), count_bits(options)
    need = _estimate_need(source, dtype, size, bits)
    is_whole = any(name.startswith("controlnet") for name in need.weights) or _sees_depth(Path(base))
    lacks = "" if is_whole else " without its ControlNet, which is not here yet,"
    title, precision = base.rpartition("/")[2], str(dtype).removeprefix("torch.")
    if need.together == 1:
        said = [
            f"{title}{lacks} has {write_size(need.resident)} of weights in {precision}; a frame of {size[0]}x{size[1]} takes "
            f"{write_size(need.denoising)} to denoise and {write_size(need.decoding)} to decode."
        ]
    else:
        said = [
            f"{title}{lacks} has {write_size(need.resident)} of weights in {precision}; the {need.together} frames of a clip of "
            f"{size[0]}x{size[1]} take {write_size(need.denoising)} to denoise and {write_size(need.decoding)} to decode."
        ]
    free = measure_free(device)
    if free is not None:
        plan = plan_memory(need, free, gpu=device.type != "cpu", offload=options.offload, name=title)
        said.append(plan.sentence or f"All of it fits into the {write_size(free)} that are free on {device}.")
    parts = ", ".join(f"{part} {write_size(size)}" for part, size in need.weights.items())
    return [*said, f"Its parts are {parts}.", *_describe_gpus(source, size, layout)]


#: memory of usual GPUs, in GB
_GPUS = (6, 8, 12, 16, 24)
_PLACES = {"none": "all at once", "model": "part by part", "sequential": "layer by layer, which is slow"}


def _describe_gpus(source: ModelSource, size: tuple[int, int], layout: FamilyLayout | None) -> list[str]:
    """Sentences about how a model would lie in the memory of usual GPUs, in half precision and with weights in fewer bits."""
    fits_half = layout is None or family_of_layout(layout).fits_float16
    dtype = torch.float16 if fits_half else torch.bfloat16
    said = []
    is_whole = is_weight_file(source.base) or (layout is not None and layout.is_taught)
    # nothing can be added to weights of 4 bits
    choices = ("auto", "8bit") if is_whole or source.loras else ("auto", "8bit", "4bit")
    own = _estimate_need(source, dtype, size)
    for weights in ("auto",) if layout is None or _measure_gguf(source.base) else choices:
        need = _hold_in_bits(own, source, dtype, count_bits(LoadOptions(weights=weights)))
        found: dict[str, list[int]] = {}
        for gigabytes in _GPUS:
            try:
                place = _PLACES[plan_memory(need, gigabytes * 2**30, gpu=True).offload]
            except ShotError:
                place = "not at all"
            found.setdefault(place, []).append(gigabytes)
        ways = "; ".join(f"{place} with {', '.join(map(str, sizes))} GB" for place, sizes in found.items())
        how = str(dtype).removeprefix("torch.") if weights == "auto" else f"weights of {weights.removesuffix('bit')} bits"
        said.append(f"On a GPU in {how} ({write_size(need.resident)}): {ways}.")
    return said


def _sees_depth(base: Path) -> bool:
    return sees_depth(base) if base.is_dir() else inspect_model_file(base).variant == "depth"


def plan_again(model: ImageModel, options: LoadOptions, size: tuple[int, int]) -> ImageModel:
    """A loaded model for frames of another size; it stays where it is. Raises ``ShotError`` when a frame does not fit."""
    if model.source is None:
        return model
    held = sum(
        p.numel() * p.element_size()
        for part in model.pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for p in part.parameters()
        if p.device.type == model.device.type
    )
    plan = make_plan(model.source, model.device, model.dtype, options, size, model.name, held)
    if plan.tiling and hasattr(model.pipeline.vae, "enable_tiling"):
        model.pipeline.vae.enable_tiling()
    return replace(model, plan=replace(plan, offload=model.plan.offload))


def place(pipeline: DiffusionPipeline, device: torch.device, plan: MemoryPlan, options: LoadOptions) -> None:
    """Move a pipeline to its device, or only what is at work where the plan or the user says so."""
    if plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif device.type != "cpu" and (plan.offload == "model" or options.offload == "on"):
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if plan.tiling and hasattr(pipeline.vae, "enable_tiling"):
        pipeline.vae.enable_tiling()
