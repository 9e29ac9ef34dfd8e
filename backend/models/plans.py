"""The networks in a model's file, planned without loading them. Free of torch."""

from __future__ import annotations

from pathlib import Path

from ...shared.shot import ShotError
from .family_layouts import BY_NAME
from .model_file import FAMILIES, ModelFile
from .network_parts import plan_clip, plan_open_clip, plan_vae
from .networks import NetworkPlan, plan_controlnet, plan_unet
from .recognition import recognise
from .unet_shape import Shapes, strip_prefix
from .weight_files import WeightFile, read_weight_file

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
#: how the names of the networks begin where one file has them all as diffusers names them
DIFFUSERS = {"unet": "unet.", "vae": "vae.", "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2."}
SDXL_CLIP, SDXL_OPEN_CLIP = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
#: diffusers' name of a part -> what it is called in a sentence
TITLES = {"unet": "UNet", "vae": "auto-encoder", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}


def open_model_file(path: Path, *kinds: str) -> tuple[WeightFile, ModelFile]:
    """A file of one of some kinds, as ``ModelFile`` names them. Raises ``ShotError`` for others, and for what cannot be used."""
    file = read_weight_file(path)
    found = recognise(file)
    if found.kind not in kinds:
        titles = {"controlnet": "ControlNet", "vae": "auto-encoder", "embedding": "textual inversion", "lora": "LoRA"}
        titles |= {"ip_adapter": "IP-Adapter", "picture_encoder": "picture encoder", "motion_module": "motion module"}
        title = titles.get(kinds[0], kinds[0])
        instead = "" if found.problem else f" Choose a {title}'s file."
        raise ShotError("model", f"The file is no {title}. {found.sentence}{instead}")
    if found.problem:
        raise ShotError("model", f"The file {path.name} cannot be used. {found.problem}")
    return file, found


def list_shapes(file: WeightFile) -> Shapes:
    """The shapes of a file's tensors by their names."""
    return {name: raw.shape for name, raw in file.tensors.items()}


def plan_checkpoint(file: WeightFile, found: ModelFile, *, has_other_vae: bool = False) -> dict[str, NetworkPlan]:
    """The plans of a checkpoint's networks by diffusers' names for them. It may lack an auto-encoder where it ``has_other_vae``.
    Raises ``ShotError`` for one that lacks others."""
    shapes = list_shapes(file)
    below = {prefix: strip_prefix(shapes, prefix) for prefix in (UNET, VAE, CLIP, OPEN_CLIP, SDXL_CLIP, SDXL_OPEN_CLIP)}
    wanted = ["unet", "vae", "text_encoder"] + ["text_encoder_2"] * (found.family == "sdxl")
    missing = [part for part in wanted if part not in found.parts and not (part == "vae" and has_other_vae)]
    if missing:
        lacks = " and no ".join(TITLES[part] for part in missing)
        instead = ", or add vae=FILE" if missing == ["vae"] else ""
        raise ShotError("model", f"The checkpoint {file.path.name} holds no {lacks}; choose the whole checkpoint{instead}.")
    if found.layout != "original":
        return _plan_by_diffusers_names(shapes, found)
    plans = {"unet": plan_unet(below[UNET], UNET)}
    if below[VAE] or not has_other_vae:
        plans["vae"] = plan_vae(below[VAE], VAE, found.family)
    if found.family == "sdxl":
        plans["text_encoder"] = plan_clip(below[SDXL_CLIP], SDXL_CLIP)
        plans["text_encoder_2"] = plan_open_clip(below[SDXL_OPEN_CLIP], SDXL_OPEN_CLIP, penultimate=False)
    elif below[OPEN_CLIP]:
        plans["text_encoder"] = plan_open_clip(below[OPEN_CLIP], OPEN_CLIP, penultimate=found.family == "sd2")
    else:
        plans["text_encoder"] = plan_clip(below[CLIP], CLIP)
    return plans


def _plan_by_diffusers_names(shapes: Shapes, found: ModelFile) -> dict[str, NetworkPlan]:
    below = {part: strip_prefix(shapes, prefix) for part, prefix in DIFFUSERS.items()}
    plans = {"unet": plan_unet(below["unet"], DIFFUSERS["unet"])}
    if below["vae"]:
        plans["vae"] = plan_vae(below["vae"], DIFFUSERS["vae"], found.family)
    for part in ("text_encoder", "text_encoder_2"):
        if below[part]:
            first = part == "text_encoder" and found.family != "sd2"
            plans[part] = plan_clip(below[part], DIFFUSERS[part], "quick_gelu" if first else "gelu")
    return plans


def plan_vae_file(file: WeightFile, family: str) -> NetworkPlan:
    """The plan of an auto-encoder for a family, in its own file or in a checkpoint. Raises ``ShotError``."""
    shapes = list_shapes(file)
    prefix = next((start for start in (VAE, DIFFUSERS["vae"]) if strip_prefix(shapes, start)), "")
    return plan_vae(strip_prefix(shapes, prefix) if prefix else shapes, prefix, family)


def plan_controlnet_file(file: WeightFile, found: ModelFile) -> NetworkPlan:
    """The plan of a ControlNet's file. Raises ``ShotError``."""
    if found.family in BY_NAME:
        raise ShotError(
            "model", f"{file.path.name} is a ControlNet for {FAMILIES[found.family]}; name a model of that kind before it."
        )
    if found.control == "union":
        raise ShotError("model", f"{file.path.name} is a ControlNet for several kinds at once, which is not supported as a file.")
    shapes = list_shapes(file)
    inner = strip_prefix(shapes, "control_model.")
    return plan_controlnet(inner or shapes, "control_model." if inner else "")


def find_building_problem(file: WeightFile, found: ModelFile) -> str:
    """Why a checkpoint's or ControlNet's networks cannot be made, empty when they can, as far as names and shapes tell."""
    try:
        if found.kind == "checkpoint":
            plan_checkpoint(file, found)
        elif found.kind == "controlnet" and found.family not in BY_NAME:
            plan_controlnet_file(file, found)
    except ShotError as error:
        return str(error)
    return ""
