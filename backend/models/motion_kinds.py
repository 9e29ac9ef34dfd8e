"""What is said of motion modules by their configuration. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: the class of a motion module in diffusers
CLASS = "MotionAdapter"
#: the blocks of the UNets that modules are published for: those of SDXL have fewer
_SDXL_CHANNELS = [320, 640, 1280]


def find_module_family(config: Mapping[str, Any]) -> str:
    """The family of base models that a motion module with a configuration is for, as ``ModelFile`` names them."""
    return "sdxl" if list(config.get("block_out_channels") or ()) == _SDXL_CHANNELS else "sd1"


def explain_module(config: Mapping[str, Any]) -> str:
    """Why a motion module with a configuration cannot be used, as a part of a sentence; empty where it can."""
    if config.get("conv_in_channels"):
        return "it is one for animating pictures"
    if find_module_family(config) == "sdxl":
        return "it is for SDXL"
    return ""
