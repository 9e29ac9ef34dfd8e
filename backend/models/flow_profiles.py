"""How models that are trained by flow matching like to be run, and what says that one of them was distilled to few steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .family_layouts import FamilyLayout
from .names import find_distillation, find_steps
from .origins import CONFIGURATION, NAME
from .recognition import recommend


def find_flow_distillation(
    layout: FamilyLayout, denoiser: Mapping[str, Any], scheduler: Mapping[str, Any], name: str
) -> tuple[str, str]:
    """(how a model was distilled, a key of ``names.DISTILLED``, and what says so), by its name, and by the configurations of its
    network and scheduler, which may be empty. Both are empty where nothing says it."""
    named = find_distillation(name)
    if named:
        return named, NAME
    is_shifted_by_size = scheduler.get("use_dynamic_shifting")
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
    advice = recommend(layout.name, "flow", False, distilled, find_steps(name) if distilled else 0, 0)
    guidance = advice.guidance_scale
    if denoiser.get("guidance_embeds"):
        # it is told the guidance, whatever its steps are
        guidance = layout.usual[1]
    return {
        "width": advice.size,
        "height": advice.size,
        "steps": advice.steps,
        "guidance_scale": guidance,
        "scheduler": advice.scheduler,
        "spacing": advice.spacing,
        "family": layout.name,
        "prediction": "flow",
        "zero_terminal_snr": False,
        "distilled": distilled,
    }, place
