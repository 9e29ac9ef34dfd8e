"""What a request that can be run will not get, or will not look right with, said before anything is made."""

from __future__ import annotations

from typing import Any

import torch

from ...shared.settings import list_settings
from ...shared.shot import AsReleased, ShotRequest
from ..models.image_model import ImageModel
from ..models.prompts.parsing import split_loras
from ..models.schedulers import list_schedule_warnings
from .prediction import list_control_scales, uses_guidance
from .techniques.context import latent_size

#: the largest guidance scale that models distilled to few steps take
MOST_GUIDANCE = 2.0


def list_sampling_warnings(model: ImageModel, request: ShotRequest) -> list[str]:
    """Sentences about a request that can be run and will not look right. Raises ``ShotError`` for one that cannot be sampled."""
    sampling = request.sampling
    from_zero = request.get_method().get_released().steps_from_zero
    chosen = (sampling.steps, sampling.scheduler, sampling.spacing, latent_size(model, request))
    scheduler = model.make_scheduler(*chosen, from_zero=from_zero)
    steps = len(scheduler.timesteps)
    found = list(list_schedule_warnings(scheduler))
    scales = zip(*(list_control_scales(model, request, step, steps) for step in range(steps)), strict=True)
    for kind, use, strengths in zip(model.controls, model.control_uses, scales, strict=True):
        if use.strength and sampling.control_scale and not any(strengths):
            found.append(f"The ControlNet for {kind} works at none of the {steps} steps; let it begin earlier or end later.")
        if not model.family.scales_controls(model.denoiser.config) and any(strength not in (0, 1) for strength in strengths):
            found.append(f"The model sees the picture for {kind} itself: a strength other than 0 counts as 1.")
    found += _list_few_step_warnings(model, request)
    found += _list_released_warnings(model, request, scheduler)
    if model.distilled and not model.takes_guidance_scale and sampling.guidance_scale > MOST_GUIDANCE:
        found.append(
            f"The model was distilled to few steps ({model.distilled}) and takes little guidance: at "
            f"{sampling.guidance_scale:g} its frames become noise; use 1 to {MOST_GUIDANCE:g}."
        )
    return found


def _list_released_warnings(model: ImageModel, request: ShotRequest, scheduler: Any) -> list[str]:
    """A sentence about what is asked to be as in the authors' code and is the same in both with these settings."""
    method, sampling = request.get_method(), request.sampling
    if method.as_released is None:
        return []
    released, guidance = method.as_released, method.guidance
    full = guidance is not None and guidance.gradient == "full"
    usual = model.make_scheduler(sampling.steps, sampling.scheduler, sampling.spacing, latent_size(model, request))
    matched = bool(guidance or method.alignment) and method.matching == "hungarian"
    works = {
        "steps_from_zero": not torch.equal(scheduler.timesteps, usual.timesteps),
        "centred": matched,
        "omit_direct": full and usual.config.get("prediction_type") != "sample",
        "omit_conditional": full and uses_guidance(model, request),
        "omit_controlnet": full,
        "omit_attention": full and method.cross_frame_attention,
        "clamp": guidance is not None,
    }
    idle = [
        declared.setting.label
        for declared in list_settings(AsReleased)
        if getattr(released, declared.name) and not works[declared.name]
    ]
    if not idle:
        return []
    return [f"Of what is to be as in the authors' code, this changes nothing with these settings: {', '.join(idle)}."]


def _list_few_step_warnings(model: ImageModel, request: ShotRequest) -> list[str]:
    """A sentence about a LoRA for few steps that only the prompt names, which whoever made the request need not have known."""
    profile, sampling = model.profile, request.sampling
    origin = profile.origins.get("distilled", "") if profile is not None else ""
    if profile is None or not profile.distilled or not origin.startswith("LoRA ") or not split_loras(request.text.prompt)[1]:
        return []
    pairs = (
        (f"{profile.steps} steps", sampling.steps == profile.steps),
        (f"guidance {profile.guidance_scale:g}", sampling.guidance_scale == profile.guidance_scale),
        (f"the scheduler '{profile.scheduler}'", sampling.scheduler == profile.scheduler),
    )
    wanted = [text for text, is_so in pairs if not is_so]
    if not wanted:
        return []
    return [f"The {origin} of the prompt is for few steps and wants {', '.join(wanted)}; set them for frames as it was made for."]
