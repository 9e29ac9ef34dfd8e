"""The families of image models, behind one list: loading, text, latents, steps and the networks' calls go through it.

A family is a class derived from ``Family`` (``adapter``) with an object of it in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import DiffusionPipeline

from ...shared.shot import ShotError
from .adapter import Family as Family
from .adapter import NetworkInput as NetworkInput
from .adapter import TextConditions as TextConditions
from .animate_diff import AnimateDiff as AnimateDiff
from .family_layouts import FamilyLayout, join_titles
from .flux import Flux as Flux
from .ltx2 import Ltx2 as Ltx2
from .qwen_image import QwenImage as QwenImage
from .sd3 import StableDiffusion3 as StableDiffusion3
from .stable_diffusion import StableDiffusion as StableDiffusion
from .stable_diffusion import StableDiffusionXL as StableDiffusionXL
from .stable_diffusion import UNetFamily as UNetFamily
from .wan_animate import WanAnimate as WanAnimate
from .wan_vace import WanVace as WanVace
from .z_image import ZImage as ZImage

#: every family; the first that fits is taken
FAMILIES: list[Family] = [
    StableDiffusion(),
    StableDiffusionXL(),
    ZImage(),
    QwenImage(),
    Flux(),
    StableDiffusion3(),
    AnimateDiff(),
    WanVace(),
    WanAnimate(),
    Ltx2(),
]


def list_titles() -> str:
    """The families with base models and ControlNets of their own by their titles, for a sentence."""
    return join_titles(list(dict.fromkeys(family.title for family in FAMILIES if family.kind == "frames")))


def family_of_layout(layout: FamilyLayout | None) -> Family:
    """The family whose diffusers folders have a layout; without one the first of those with a UNet."""
    return next(family for family in FAMILIES if family.layout is layout)


def find_motion_family() -> Family:
    """The family of a Stable Diffusion with a motion module."""
    return next(family for family in FAMILIES if isinstance(family, AnimateDiff))


def family_of_controlnet(config: Mapping[str, Any]) -> Family:
    """The family that a ControlNet is made for. Raises ``ShotError`` where none is known."""
    for family in FAMILIES:
        if family.has_controlnet(config):
            return family
    raise ShotError(
        "model",
        f"The ControlNet is a {config.get('_class_name', 'network')} for a kind of model that is not supported; "
        f"use one for {list_titles()}.",
    )


def family_of_pipeline(pipeline: DiffusionPipeline) -> Family:
    """The family of a loaded pipeline. Raises ``ShotError`` where none is known."""
    for family in FAMILIES:
        if family.has_pipeline(pipeline):
            return family
    raise ShotError(
        "model",
        f"The model is a {type(pipeline).__name__}, a kind that is not supported; use one of {list_titles()} with a ControlNet.",
    )


def family_of_networks(networks: Mapping[str, Any]) -> Family:
    """The family of a model's networks, by part. Raises ``ShotError`` where none is known."""
    for family in FAMILIES:
        if family.has_networks(networks):
            return family
    raise ShotError("model", f"The model's parts are of a kind that is not supported; use one of {list_titles()}.")
