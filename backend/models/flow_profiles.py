"""How models that are trained by flow matching like to be run, and what says that one of them was distilled to few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .family_layouts import FamilyLayout, sees_picture
from .names import find_distillation, find_steps, is_undistilled, says_distilled
from .origins import CONFIGURATION, NAME
from .recommendation import recommend_transformer

#: diffusers' class of steps along the straight line; named, since this module is free of torch
EULER = "FlowMatchEulerDiscreteScheduler"


def find_flow_distillation(
    layout: FamilyLayout, denoiser: Mapping[str, Any], scheduler: Mapping[str, Any], name: str
) -> tuple[str, str]:
    """(how a model was distilled, a key of ``names.DISTILLED``, and what says so), by its name, and by the configurations of its
    network and scheduler, which may be empty. Both are empty where nothing says it."""
    named = find_distillation(name)
    if named:
        return named, NAME
    is_shifted_by_size = scheduler.get("use_dynamic_shifting")
    if layout.name == "ltx2" and says_distilled(name):
        return "distilled", NAME
    # an LTX-2 whose steps nothing shifts
    if layout.name == "ltx2" and is_shifted_by_size is False and scheduler.get("shift", 1.0) == 1.0:
        return "distilled", CONFIGURATION
    # a FLUX.1 that is not told the guidance, with steps that no size shifts
    if layout.name == "flux" and denoiser.get("guidance_embeds") is False and is_shifted_by_size is False:
        return "schnell", CONFIGURATION
    shifts = {scheduler.get("base_shift"), scheduler.get("max_shift")}
    # Qwen-Image's own steps are shifted by the size and end before the picture; those of Lightning are always shifted alike
    if (
        layout.name == "qwen_image"
        and is_shifted_by_size
        and None not in shifts
        and len(shifts) == 1
        and not scheduler.get("shift_terminal")
    ):
        return "lightning", CONFIGURATION
    return "", ""


def describe_layout(
    layout: FamilyLayout, denoiser: Mapping[str, Any], scheduler: Mapping[str, Any], name: str = ""
) -> tuple[dict[str, Any], str]:
    """The values of a profile of a family of transformers by the configurations of its network and scheduler, which may be empty,
    and the model's name; and what says that it was distilled, empty where nothing does."""
    distilled, place = find_flow_distillation(layout, denoiser, scheduler, name)
    advice = recommend_transformer(
        layout,
        distilled,
        find_steps(name) if distilled else 0,
        0,
        sees_picture=sees_picture(layout, denoiser),
        is_told=bool(denoiser.get("guidance_embeds")),
    )
    return {
        "width": advice.size,
        "height": advice.size,
        "steps": advice.steps,
        "guidance_scale": advice.guidance_scale,
        "scheduler": "euler" if scheduler.get("_class_name") == EULER else advice.scheduler,
        "spacing": advice.spacing,
        "family": layout.name,
        "prediction": "flow",
        "zero_terminal_snr": False,
        "distilled": distilled,
    }, place


def fit_schedule(
    layout: FamilyLayout, denoiser: Mapping[str, Any], own: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is to be changed in the scheduler of a folder for a ``denoiser`` that is from a file of a ``name``, and a sentence that
    says so; ``own`` is the configuration of the folder's denoiser. FLUX.1's two kinds have other steps."""
    told = bool(denoiser.get("guidance_embeds"))
    if layout.name != "flux" or told == bool(own.get("guidance_embeds")) or (not told and is_undistilled(name)):
        return {}, ()
    kind = "dev" if told else "schnell"
    sentence = f"The steps are those of {layout.title}-{kind}, which the file is; those of its folder are for the other kind."
    return {"use_dynamic_shifting": told, "shift": 3.0 if told else 1.0}, (sentence,)
