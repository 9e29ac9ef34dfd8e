"""What makes the networks of a model that lies on this machine, each without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
from diffusers import AutoencoderKL, ControlNetModel
from transformers import CLIPTextConfig

from .context_loras import read_context_lora
from .families import family_of_controlnet
from .family_layouts import TRANSFORMER
from .folder_loading import find_class, find_vae_class
from .folder_reading import find_vae_folder, read_config, read_index, read_transformer_config
from .hub_cache import list_parts
from .ip_adapters import make_encoder
from .loras import find_lora_file
from .ltx2 import DOWNSCALE
from .motion_adapters import check_motion_module, plan_motion_unet
from .plans import open_model_file, plan_checkpoint, plan_controlnet_file, plan_vae_file
from .registry import ModelSource, is_weight_file
from .single_files import CLASSES
from .transformer_files import plan_control_file, plan_transformer_file
from .transformer_parts import find_layout_of_base


def list_networks(source: ModelSource) -> dict[str, Callable[[], Any]]:
    """Part -> what makes its network: those of the base, ``vae`` in place of its own, and ``controlnet_0`` and so on. All parts
    of the source lie on this machine. Raises ``ShotError``, ``OSError`` and ``ValueError`` for what cannot be read."""
    found: dict[str, Callable[[], Any]] = {}
    layout = find_layout_of_base(source)
    base: Mapping[str, Any] = {}
    if layout is not None and is_weight_file(source.base):
        *_, planned = plan_transformer_file(Path(source.base), Path(source.parts))
        base = planned.config
        found |= _list_in_folder(Path(source.parts), has_other_control=True)
        found[TRANSFORMER] = partial(getattr(diffusers, layout.denoiser), **base)
    elif is_weight_file(source.base):
        opened = open_model_file(Path(source.base), "checkpoint")
        for name, plan in plan_checkpoint(*opened, has_other_vae=bool(source.vae)).items():
            kind, config = CLASSES[name], dict(plan.config)
            found[name] = partial(kind, CLIPTextConfig(**config)) if "text_encoder" in name else partial(kind, **config)
    else:
        found |= _list_in_folder(Path(source.base), has_other_control=bool(source.controls))
        base = {} if layout is None else read_transformer_config(Path(source.base))
    if layout is not None and layout.is_taught:
        # its LoRA is added to its weights, and says only how large a clip of depth is
        for _, control in source.controls:
            _, downscale = read_context_lora(find_lora_file(control), layout.title)
            found[TRANSFORMER] = partial(_make_taught, found[TRANSFORMER], downscale)
        return found
    for n, (_, control, *_) in enumerate(source.controls):
        if is_weight_file(control) and layout is not None:
            *_, plan = plan_control_file(Path(control), layout, base)
            kind = getattr(diffusers, layout.control)
            found[f"controlnet_{n}"] = partial(kind.from_config, dict(plan.config))
        elif is_weight_file(control):
            plan = plan_controlnet_file(*open_model_file(Path(control), "controlnet"))
            found[f"controlnet_{n}"] = partial(ControlNetModel, **plan.config)
        else:
            config = read_config(Path(control), "ControlNet")
            found[f"controlnet_{n}"] = _make_from_folder(family_of_controlnet(config).controlnet_class, Path(control))
    if source.vae and is_weight_file(source.vae):
        file, kind_of_file = open_model_file(Path(source.vae), "vae", "checkpoint")
        family = kind_of_file.family if kind_of_file.family in ("sd1", "sd2", "sdxl") else "sd1"
        found["vae"] = partial(AutoencoderKL, **plan_vae_file(file, family).config)
    elif source.vae:
        folder = find_vae_folder(Path(source.vae))
        found["vae"] = _make_from_folder(find_vae_class(folder), folder)
    if source.motion:
        unet, module = found["unet"], check_motion_module(Path(source.motion))
        found["unet"] = lambda: plan_motion_unet(unet(), module)
    if source.reference is not None:
        found["image_encoder"] = partial(make_encoder, Path(source.reference.encoder))
    return found


def _make_taught(make: Callable[[], Any], downscale: int) -> Any:
    network = make()
    network.register_to_config(**{DOWNSCALE: downscale})
    return network


def _list_in_folder(path: Path, *, has_other_control: bool) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    index = read_index(path)
    for name in list_parts(index):
        kind = find_class(index.get(name), path / name) if (path / name).is_dir() else None
        if kind is not None and (name != "controlnet" or not has_other_control):
            found["controlnet_0" if name == "controlnet" else name] = _make_from_folder(kind, path / name)
    return found


def _make_from_folder(kind: Any, folder: Path) -> Callable[[], Any]:
    config = read_config(folder, "network")
    if issubclass(kind, diffusers.ModelMixin):
        return partial(kind.from_config, config)
    return partial(kind, kind.config_class(**config))
