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
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, LCMScheduler, TCDScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ...shared.shot import ShotError
from .network_loading import load_network, name_left_over
from .network_parts import SCALING, plan_clip, plan_open_clip, plan_vae
from .networks import NetworkPlan, plan_controlnet, plan_unet
from .recognition import FAMILIES, ModelFile, recognise
from .tokenizers import END, make_clip_tokenizer
from .unet_shape import Shapes, strip_prefix
from .weight_files import WeightFile, read_weight_file

CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
SDXL_CLIP, SDXL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
#: diffusers' name of a part -> what it is called in a sentence
TITLES = {"unet": "UNet", "vae": "auto-encoder", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint's networks, tokenizers and scheduler by the names that diffusers' pipelines have for them, and sentences about
    what was guessed or left out."""

    file: ModelFile
    parts: Mapping[str, Any]
    warnings: tuple[str, ...]


def open_model_file(path: Path, *kinds: str) -> tuple[WeightFile, ModelFile]:
    """A file of one of some kinds, as ``ModelFile`` names them. Raises ``ShotError`` for others, and for what cannot be used."""
    file = read_weight_file(path)
    found = recognise(file)
    if found.kind not in kinds:
        wanted = {"checkpoint": "a checkpoint", "controlnet": "a ControlNet", "vae": "an auto-encoder"}[kinds[0]]
        raise ShotError("model", f"The file is no {wanted.split(' ', 1)[1]}. {found.sentence}")
    if found.problem:
        raise ShotError("model", f"The file {path.name} cannot be used. {found.problem}")
    return file, found


def _shapes(file: WeightFile) -> Shapes:
    return {name: raw.shape for name, raw in file.tensors.items()}


def plan_checkpoint(file: WeightFile, found: ModelFile) -> dict[str, NetworkPlan]:
    """The plans of a checkpoint's networks by diffusers' names for them. Raises ``ShotError`` for one that lacks some."""
    shapes = _shapes(file)
    below = {prefix: strip_prefix(shapes, prefix) for prefix in (UNET, VAE, CLIP, OPEN_CLIP, SDXL_CLIP, SDXL_OPEN_CLIP)}
    wanted = ["unet", "vae", "text_encoder"] + ["text_encoder_2"] * (found.family == "sdxl")
    missing = [part for part in wanted if part not in found.parts]
    if missing or found.layout != "original":
        lacks = " and no ".join(TITLES[part] for part in missing) or "names in the original layout"
        raise ShotError("model", f"The checkpoint {file.path.name} holds no {lacks}; choose the whole checkpoint.")
    plans = {"unet": plan_unet(below[UNET], UNET), "vae": plan_vae(below[VAE], VAE, found.family)}
    if found.family == "sdxl":
        plans["text_encoder"] = plan_clip(below[SDXL_CLIP], SDXL_CLIP)
        plans["text_encoder_2"] = plan_open_clip(below[SDXL_OPEN_CLIP], SDXL_OPEN_CLIP, penultimate=False)
    elif below[OPEN_CLIP]:
        plans["text_encoder"] = plan_open_clip(below[OPEN_CLIP], OPEN_CLIP, penultimate=found.family == "sd2")
    else:
        plans["text_encoder"] = plan_clip(below[CLIP], CLIP)
    return plans


def load_checkpoint_file(path: Path, dtype: torch.dtype) -> LoadedCheckpoint:
    """A checkpoint in the original layout. Raises ``ShotError`` for what is no checkpoint, lacks weights or has others."""
    file, found = open_model_file(path, "checkpoint")
    parts: dict[str, Any] = {}
    used: set[str] = set()
    for name, plan in plan_checkpoint(file, found).items():
        parts[name], taken = load_network(CLASSES[name], plan, file, TITLES[name], dtype)
        used |= taken
    # both have the same words, and fill up short prompts differently
    parts["tokenizer"] = make_clip_tokenizer("!" if found.family == "sd2" else END)
    if found.family == "sdxl":
        parts["tokenizer_2"] = make_clip_tokenizer("!")
    else:
        # the last layer of 2.x's text encoder, which it does not use
        used |= {name for name in file.tensors if name.startswith(OPEN_CLIP) and _is_behind(name, parts["text_encoder"])}
    parts["scheduler"] = make_scheduler(found)
    return LoadedCheckpoint(found, parts, (*found.guesses, *found.warnings, *name_left_over(file, used)))


def _is_behind(name: str, encoder: Any) -> bool:
    """Whether a tensor of OpenCLIP's belongs to the one layer behind an encoder's last, or to the projection behind that."""
    last = encoder.config.num_hidden_layers
    return name.removeprefix(OPEN_CLIP).startswith((f"transformer.resblocks.{last}.", "text_projection"))


def make_scheduler(found: ModelFile) -> Any:
    """The scheduler of a model by what its file says: its betas are those of all families, its prediction type its own."""
    kinds = {"lcm": LCMScheduler, "tcd": TCDScheduler}
    options: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": found.prediction,
        "timestep_spacing": found.recommended.spacing,
        "rescale_betas_zero_snr": found.zero_terminal_snr,
    }
    return kinds.get(found.recommended.scheduler, DDIMScheduler)(**options)


def load_controlnet_file(path: Path, dtype: torch.dtype) -> tuple[ControlNetModel, ModelFile, tuple[str, ...]]:
    """A ControlNet in either layout, what its file is, and sentences about what was left out. Raises ``ShotError``."""
    file, found = open_model_file(path, "controlnet")
    plan = plan_controlnet_file(file, found)
    network, used = load_network(ControlNetModel, plan, file, "ControlNet", dtype)
    if strip_prefix(_shapes(file), "control_model."):
        # the first ControlNets were published with the whole model around them
        used |= {name for name in file.tensors if name.startswith(("model.", "first_stage_model.", "cond_stage_model."))}
    return network, found, (*found.warnings, *name_left_over(file, used))


def plan_controlnet_file(file: WeightFile, found: ModelFile) -> NetworkPlan:
    """The plan of a ControlNet's file. Raises ``ShotError``."""
    if found.control == "union":
        raise ShotError("model", f"{file.path.name} is a ControlNet for several kinds at once, which is not supported as a file.")
    shapes = _shapes(file)
    inner = strip_prefix(shapes, "control_model.")
    return plan_controlnet(inner or shapes, "control_model." if inner else "")


def load_vae_file(path: Path, family: str, dtype: torch.dtype) -> tuple[AutoencoderKL, tuple[str, ...]]:
    """An auto-encoder for a family, from its own file or from a checkpoint, and sentences. Raises ``ShotError``."""
    file, found = open_model_file(path, "vae", "checkpoint")
    if found.family in SCALING and ("xl" in found.family) != (family == "sdxl"):
        raise ShotError(
            "model", f"The auto-encoder {path.name} is for {FAMILIES[found.family]} and the model is {FAMILIES[family]}."
        )
    shapes = _shapes(file)
    prefix = next((start for start in (VAE, "vae.") if strip_prefix(shapes, start)), "")
    plan = plan_vae(strip_prefix(shapes, prefix) if prefix else shapes, prefix, family)
    network, used = load_network(AutoencoderKL, plan, file, "auto-encoder", dtype)
    # the rest of a whole checkpoint was not asked for
    return network, () if found.kind == "checkpoint" else name_left_over(file, used)
