"""Checkpoints, ControlNets and auto-encoders in single files, loaded with nothing from a hub.

Configurations come from the shapes of the tensors, the tokenizer is shipped, and every tensor of the file has its place or is
named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ...shared.shot import ShotError
from .model_file import FAMILIES, ModelFile
from .network_loading import load_network, name_left_over
from .network_parts import SCALING
from .plans import OPEN_CLIP, TITLES, list_shapes, open_model_file, plan_checkpoint, plan_controlnet_file, plan_vae_file
from .schedulers import make_own_scheduler
from .tokenizers import END, make_clip_tokenizer
from .unet_shape import strip_prefix

CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint's networks, tokenizers and scheduler by the names that diffusers' pipelines have for them, and sentences about
    what was guessed or left out."""

    file: ModelFile
    parts: Mapping[str, Any]
    warnings: tuple[str, ...]


def load_checkpoint_file(path: Path, dtype: torch.dtype, *, has_other_vae: bool = False) -> LoadedCheckpoint:
    """A checkpoint in one file, whose part ``vae`` is None where it lacks one and ``has_other_vae``. Raises ``ShotError`` for what
    is no checkpoint, lacks weights or has others."""
    file, found = open_model_file(path, "checkpoint")
    parts: dict[str, Any] = {"vae": None}
    used: set[str] = set()
    for name, plan in plan_checkpoint(file, found, has_other_vae=has_other_vae).items():
        parts[name], taken = load_network(CLASSES[name], plan, file, TITLES[name], dtype)
        used |= taken
    # both have the same words, and fill up short prompts differently
    parts["tokenizer"] = make_clip_tokenizer("!" if found.family == "sd2" else END)
    if found.family == "sdxl":
        parts["tokenizer_2"] = make_clip_tokenizer("!")
    else:
        # the last layer of 2.x's text encoder, which it does not use
        used |= {name for name in file.tensors if name.startswith(OPEN_CLIP) and _is_behind(name, parts["text_encoder"])}
    parts["scheduler"] = make_own_scheduler(found)
    return LoadedCheckpoint(found, parts, (*found.guesses, *found.warnings, *name_left_over(file, used)))


def _is_behind(name: str, encoder: Any) -> bool:
    """Whether a tensor of OpenCLIP's belongs to the one layer behind an encoder's last, or to the projection behind that."""
    last = encoder.config.num_hidden_layers
    return name.removeprefix(OPEN_CLIP).startswith((f"transformer.resblocks.{last}.", "text_projection"))


def load_controlnet_file(path: Path, dtype: torch.dtype) -> tuple[ControlNetModel, ModelFile, tuple[str, ...]]:
    """A ControlNet in either layout, what its file is, and sentences about what was left out. Raises ``ShotError``."""
    file, found = open_model_file(path, "controlnet")
    plan = plan_controlnet_file(file, found)
    network, used = load_network(ControlNetModel, plan, file, "ControlNet", dtype)
    if strip_prefix(list_shapes(file), "control_model."):
        # the first ControlNets were published with the whole model around them
        used |= {name for name in file.tensors if name.startswith(("model.", "first_stage_model.", "cond_stage_model."))}
    return network, found, (*found.warnings, *name_left_over(file, used))


def load_vae_file(path: Path, family: str, dtype: torch.dtype) -> tuple[AutoencoderKL, tuple[str, ...]]:
    """An auto-encoder for a family, from its own file or from a checkpoint, and sentences. Raises ``ShotError``."""
    file, found = open_model_file(path, "vae", "checkpoint")
    if found.family in SCALING and ("xl" in found.family) != (family == "sdxl"):
        raise ShotError(
            "model", f"The auto-encoder {path.name} is for {FAMILIES[found.family]} and the model is {FAMILIES[family]}."
        )
    network, used = load_network(AutoencoderKL, plan_vae_file(file, family), file, "auto-encoder", dtype)
    # the rest of a whole checkpoint was not asked for
    return network, () if found.kind == "checkpoint" else name_left_over(file, used)
