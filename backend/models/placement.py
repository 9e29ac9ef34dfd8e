"""Where a model's networks are in memory: planned before they are loaded, and carried out."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import DiffusionPipeline

from ...shared.load_options import LoadOptions
from .devices import measure_free
from .image_model import ImageModel
from .memory_need import estimate_need
from .memory_plan import ROOMY, MemoryPlan, plan_memory
from .network_shapes import list_networks
from .registry import ModelSource
from .vae_precision import choose_vae_dtype


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
    networks = list_networks(source)
    need = estimate_need(networks, *size, dtype, lambda config: choose_vae_dtype(dtype, config, sdxl="text_encoder_2" in networks))
    return plan_memory(need, free + held, gpu=device.type != "cpu", offload=options.offload, name=name)


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
