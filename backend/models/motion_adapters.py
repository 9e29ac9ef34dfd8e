"""Motion modules of AnimateDiff: layers between those of a Stable Diffusion's UNet in which the frames of a clip see each other."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimateDiffControlNetPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    MotionAdapter,
    StableDiffusionControlNetPipeline,
)
from diffusers.models import UNetMotionModel

from ...shared.files import read_file
from ...shared.npy import shorten
from ...shared.shot import ShotError
from .folder_loading import load_network_folder
from .motion_files import list_places, plan_motion_module
from .motion_kinds import CLASS, explain_module
from .network_loading import load_network, name_left_over
from .networks import NetworkPlan
from .plans import list_shapes, open_model_file
from .weight_files import WeightFile

#: bytes of a motion module's configuration
MAX_CONFIG = 1 << 20
#: options of the scheduler that the published modules were trained with, whatever the base model was
SCHEDULE: Mapping[str, Any] = {"beta_schedule": "linear", "trained_betas": None}
#: the configuration of the scheduler that a module was trained with, which its folder may hold
SCHEDULE_FILE = "scheduler_config.json"
#: steps of the longest training whose noise is computed
_MOST_TIMESTEPS = 100_000
_PREDICTIONS = ("epsilon", "sample", "v_prediction")
#: numbers of a text token of Stable Diffusion 2.x, whose UNets have the shapes of 1.x otherwise
_OTHER_CONTEXT = 1024
#: options of UNets that Stable Diffusion 1.x has not, and UNets with a motion module do without
_STRANGE = ("addition_embed_type", "class_embed_type", "dual_cross_attention", "resnet_skip_time_act")


def _refuse(path: Path, why: str) -> ShotError:
    return ShotError(
        "motion_module",
        f"{path} is no motion module that can be used ({why}); give a file of one, or a diffusers folder with config.json and "
        "safetensors.",
    )


def check_motion_module(path: Path) -> dict[str, Any]:
    """The configuration of the motion module in a folder or a file, without loading it. Raises ``ShotError`` for what cannot be
    one. Pickled weights in folders are not read."""
    if path.is_file():
        return dict(_plan_file(path)[1].config)
    config = path / "config.json"
    if not config.is_file():
        raise _refuse(path, "there is no config.json")
    try:
        found = json.loads(read_file(config, MAX_CONFIG))
        kind = found["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refuse(path, "its config.json cannot be read") from error
    if kind == CLASS and not any(path.glob("*.safetensors")):
        raise _refuse(path, "it holds no safetensors")
    check_motion_config(path, found)
    read_motion_schedule(path)
    return dict(found)


def _plan_file(path: Path) -> tuple[WeightFile, NetworkPlan]:
    """A file with a motion module that can be used. Raises ``ShotError``."""
    file, _ = open_model_file(path, "motion_module")
    return file, plan_motion_module(list_shapes(file))


def read_motion_schedule(path: Path) -> dict[str, Any]:
    """The options of the base model's scheduler that are others with a motion module: those of the scheduler that it was trained
    with. Raises ``ShotError`` where its folder holds one that cannot be used."""
    file = path / SCHEDULE_FILE
    if not file.is_file():
        return dict(SCHEDULE)
    try:
        found = json.loads(read_file(file, MAX_CONFIG))
        options = {option: value for option, value in found.items() if not option.startswith("_")}
        _check_schedule(options)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise _refuse(path, f"its {SCHEDULE_FILE} cannot be used: {shorten(error)}") from error
    return options


def _check_schedule(options: Mapping[str, Any]) -> None:
    """``ValueError``, or what its class raises, for a scheduler's options that no clip can be sampled with."""
    count = options.get("num_train_timesteps", 1000)
    if not 1 <= count <= _MOST_TIMESTEPS:
        raise ValueError(f"it has {count} timesteps")
    if options.get("prediction_type", _PREDICTIONS[0]) not in _PREDICTIONS:
        raise ValueError(f"its prediction_type is none of {', '.join(_PREDICTIONS)}")
    # computes the noise of every step
    betas = DDIMScheduler.from_config(options).betas
    if len(betas) != count or not bool(((betas >= 0) & (betas <= 1)).all()):
        raise ValueError("its betas are not those of so many steps")


def check_motion_config(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ``ShotError`` for the configuration of a network that is no motion module that can be used; ``path`` is what it is
    called."""
    kind = config.get("_class_name")
    if kind != CLASS:
        raise _refuse(path, f"it is a {str(kind)[:60]}")
    why = explain_module(config)
    if why:
        raise _refuse(path, why)


def check_motion_fit(path: Path, config: Mapping[str, Any], unet: Mapping[str, Any], name: str) -> None:
    """Raise ``ShotError`` where a motion module of a configuration is not for the base model of a UNet with one; ``name`` is what
    the model is called."""
    if any(map(unet.get, _STRANGE)) or unet.get("cross_attention_dim") == _OTHER_CONTEXT:
        raise _explain_other_base(name)
    given, needed = (list(each.get("block_out_channels") or ()) for each in (config, unet))
    if given and needed and given != needed:
        raise _refuse(path, f"it is for another model: its block_out_channels are {given}, the model's {needed}")


def _explain_other_base(name: str) -> ShotError:
    return ShotError("motion_module", f"AnimateDiff is for Stable Diffusion 1.x, and the model '{name}' is another kind.")


def load_motion_module(path: Path, dtype: torch.dtype, unet: Mapping[str, Any], name: str) -> tuple[MotionAdapter, tuple[str, ...]]:
    """A motion module from its folder or file, on the CPU, and sentences about what was left out. Raises ``ShotError``, also where
    it is not for the base model called ``name``, whose UNet has the configuration ``unet``."""
    check_motion_fit(path, check_motion_module(path), unet, name)
    if path.is_file():
        file, plan = _plan_file(path)
        config = {option: value for option, value in plan.config.items() if option != "_class_name"}
        network, used = load_network(MotionAdapter, replace(plan, config=config), file, "motion module", dtype)
        return network, name_left_over(file, used | set(list_places(file.tensors)))
    return load_network_folder(path, MotionAdapter, "motion module", dtype)


def make_motion_unet(path: Path, adapter: MotionAdapter, unet: Any) -> UNetMotionModel:
    """A copy of a UNet with the layers of the motion module from ``path`` in it, where the UNet is. Raises ``ShotError`` where they
    do not fit."""
    try:
        made = _graft_motion(adapter, unet) if has_unlike_attention(unet.config) else UNetMotionModel.from_unet2d(unet, adapter)
        # by its parameters, since diffusers warns of casts that matter only for some networks
        return torch.nn.Module.to(made, unet.device, unet.dtype)
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError) as error:
        raise _refuse(path, f"it is for another model: {shorten(error)}") from error


def has_unlike_attention(unet: Mapping[str, Any]) -> bool:
    """Whether some blocks of a UNet with a configuration have cross-attention alone, which the class of UNets with motion modules
    has no option for."""
    only = unet.get("only_cross_attention") or False
    return any(only) if isinstance(only, (list, tuple)) else bool(only)


def _graft_motion(adapter: MotionAdapter, unet: Any) -> UNetMotionModel:
    """What ``UNetMotionModel.from_unet2d`` makes, with the UNet's own attention layers, whatever they are."""
    made = plan_motion_unet(unet, adapter.config)
    blocks = zip(
        (*made.down_blocks, made.mid_block, *made.up_blocks), (*unet.down_blocks, unet.mid_block, *unet.up_blocks), strict=True
    )
    for block, own in blocks:
        if hasattr(own, "attentions"):
            block.attentions = copy.deepcopy(own.attentions)
    torch.nn.Module.to(made, unet.device, unet.dtype)
    missing, unexpected = made.load_state_dict(unet.state_dict(), strict=False)
    if unexpected or any("motion_modules" not in name for name in missing):
        raise ValueError(f"the UNet has other layers: {', '.join([*unexpected, *missing][:3])}")
    made.load_motion_modules(adapter)
    return made


def plan_motion_unet(unet: Any, config: Mapping[str, Any]) -> UNetMotionModel:
    """The network that ``make_motion_unet`` would make of a UNet and a module with a configuration, without their weights."""
    return UNetMotionModel.from_unet2d(unet, MotionAdapter.from_config(dict(config)), load_weights=False)


def add_motion(pipeline: DiffusionPipeline, path: Path, dtype: torch.dtype, name: str) -> tuple[DiffusionPipeline, tuple[str, ...]]:
    """A pipeline for clips of the parts of one for pictures and the motion module from a path, and sentences about what was left
    out. ``name`` is what the model is called. Raises ``ShotError`` where they do not fit."""
    if not isinstance(pipeline, StableDiffusionControlNetPipeline):
        raise _explain_other_base(name)
    adapter, warnings = load_motion_module(path, dtype, pipeline.unet.config, name)
    scheduler = type(pipeline.scheduler).from_config({**pipeline.scheduler.config, **read_motion_schedule(path)})
    made = AnimateDiffControlNetPipeline(
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        unet=make_motion_unet(path, adapter, pipeline.unet),
        # its layers are in the UNet, and would take their memory twice
        motion_adapter=None,
        controlnet=pipeline.controlnet,
        scheduler=scheduler,
    )
    return made, warnings
