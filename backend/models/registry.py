"""Names of image models and where their parts come from.

A model is named by a preset, a diffusers pipeline folder, or ``BASE|CONTROLNET`` where each side is a folder, a hub id or
a single ``.safetensors`` file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.shot import ShotError

STARTER = Path(__file__).resolve().parent / "starter"


@dataclass(frozen=True)
class ModelSource:
    """Where a base model and its depth ControlNet are; ``control`` None means it lies in the base's folder."""

    base: str
    control: str | None


PRESETS: dict[str, ModelSource] = {
    "starter": ModelSource(str(STARTER), None),
    "sd15": ModelSource("stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/control_v11f1p_sd15_depth"),
    "sdxl": ModelSource("stabilityai/stable-diffusion-xl-base-1.0", "diffusers/controlnet-depth-sdxl-1.0"),
}


def find(name: str) -> ModelSource:
    """The source of a model name; ``ShotError`` when it cannot be one."""
    if name in PRESETS:
        return PRESETS[name]
    base, bar, control = name.partition("|")
    if bar:
        return ModelSource(base.strip(), control.strip())
    if (Path(name) / "model_index.json").exists():
        return ModelSource(name, None)
    raise ShotError("model", f"There is no model '{name}'; use {', '.join(PRESETS)}, a diffusers folder with a ControlNet, "
                             "or BASE|CONTROLNET.")
