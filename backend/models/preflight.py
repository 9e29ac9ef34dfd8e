"""What can be told of a model before it is loaded: whether its parts are there and fit each other, and the sizes it can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import transformers

from ...shared.shot import Sampling, ShotError
from .added_files import find_added_files_here
from .context_loras import check_context_lora
from .families import Family, family_of_controlnet, family_of_layout, find_motion_family
from .family_layouts import TRANSFORMER, FamilyLayout, check_extras, check_same_kind, find_layout
from .fitting import explain_unloadable
from .flow_profiles import fit_schedule
from .folder_reading import (
    INDEX,
    TITLES,
    check_base_config,
    check_index,
    check_pipeline_folder,
    check_vae_config,
    doubt_transformer,
    find_vae_folder,
    read_config,
    read_index,
    read_scheduler_config,
    read_transformer_config,
)
from .hub import HubError, fetch_file
from .hub_cache import find_in_cache
from .image_model import check_multiple
from .ip_adapters import check_reference_source, explain_no_adapter
from .loading import is_path
from .loras import find_lora_here, open_lora
from .ltx2 import DOWNSCALE
from .motion_adapters import check_motion_config, check_motion_fit, check_motion_module, read_motion_schedule
from .plans import open_model_file, plan_checkpoint, plan_controlnet_file, plan_vae_file
from .profiles import find_profile, list_scheduler_changes
from .registry import ModelSource, add_usual_control, find_model, is_hub_id, is_weight_file, split_revision
from .schedulers import make_own_scheduler
from .transformer_files import check_library, plan_control_file, plan_transformer_file
from .transformer_loras import check_transformer_lora
from .transformer_parts import find_layout_of_file
from .weight_files import GGUF, read_weight_file


def check_model(name: str, width: int, height: int, sampling: Sampling | None = None) -> tuple[Family, int]:
    """Raise ``ShotError`` for a model that cannot be loaded, cannot make a size or cannot be sampled in a way, as far as its
    configuration tells, or the shapes of the weights in a single file. Its family, and how many frames share a row of its
    latents."""
    source = find_model(name)
    if Path(source.base).is_dir():
        source = add_usual_control(source, Path(source.base))
    added = (*(lora for lora, _ in source.loras), *source.embeddings, source.vae, source.motion)
    for part in (source.base, *(control for _, control in source.controls), *added):
        if is_path(part) and not Path(part).exists():
            raise ShotError("model", f"The model '{name}' cannot be loaded: there is no file or folder {part}.")
    try:
        base = _read_base(source)
        layout = base.layout
        if layout is None:
            check_base_config(base.denoiser, Path(source.base).name)
        controls, denoiser = [], base.denoiser
        if layout is not None and layout.is_taught:
            denoiser = _check_lora(source.controls[0][1], layout, denoiser)
        else:
            controls = [(kind, _read_control(control, layout, denoiser)) for kind, control in source.controls]
    except (OSError, ValueError) as error:
        raise explain_unloadable(name, source, error) from error
    unet, vae = denoiser, base.vae
    check_same_kind(layout, controls)
    family = family_of_layout(layout)
    family.check_fit(unet, controls)
    if source.motion:
        try:
            _check_motion(name, source.motion, unet)
        except (OSError, ValueError) as error:
            raise explain_unloadable(name, source, error) from error
    try:
        for lora, _ in source.loras:
            if layout is not None:
                _check_transformer_lora(source, layout, unet, lora)
            elif (found := find_lora_here(lora)) is not None:
                open_lora(found, unet)
        for embedding in source.embeddings:
            files = find_added_files_here(embedding, "embedding")
            # of a folder of many, those for other models are left where they are
            if len(files) == 1:
                open_model_file(files[0], "embedding")
    except (OSError, ValueError) as error:
        raise explain_unloadable(name, source, error) from error
    if source.reference is not None:
        try:
            check_reference_source(source.reference, unet)
        except (OSError, ValueError) as error:
            raise explain_unloadable(name, source, error) from error
    factor = family.read_vae_factor(vae)
    check_multiple(name, factor * family.read_patch(unet), width, height)
    if sampling is not None:
        config = _read_scheduler(source)
        if config is not None:
            config = {**config, **_read_schedule(source.motion), **list_scheduler_changes(find_profile(name))}
            family.make_scheduler(
                *(config, str(config.get("_class_name", "")), sampling.steps, sampling.scheduler, sampling.spacing),
                (height // factor, width // factor),
            )
    return (find_motion_family() if source.motion else family), family.read_row_frames(vae)


def _check_lora(lora: str, layout: FamilyLayout, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a transformer once a LoRA has taught it; as it is where the hub has the LoRA. Raises ``ShotError`` for
    one that does not fit it."""
    path = find_lora_here(lora)
    if path is None and not is_hub_id(lora):
        raise ShotError("model", f"There is no LoRA {lora}; give its file, its folder or its hub id behind depth=.")
    if path is None:
        return config
    make = partial(getattr(diffusers, layout.denoiser).from_config, config)
    try:
        return {**config, DOWNSCALE: check_context_lora(make, path, layout.title)}
    except (TypeError, LookupError, RuntimeError, AttributeError) as error:
        # a transformer that cannot be made of its configuration
        raise ValueError(str(error)) from error


def _check_transformer_lora(source: ModelSource, layout: FamilyLayout, config: Mapping[str, Any], lora: str) -> None:
    """Raise ``ShotError`` for a LoRA that cannot be added to a transformer with a configuration."""
    if source.parts and read_weight_file(Path(source.base)).format == GGUF:
        raise ShotError(
            "model",
            f"To the weights in {Path(source.base).name}, which are held in fewer bits, no LoRA can be added; choose the "
            ".safetensors file, or leave the LoRA out.",
        )
    try:
        make = partial(getattr(diffusers, layout.denoiser).from_config, config)
        check_transformer_lora(make, partial(_make_texts, source), layout, lora)
    except (TypeError, LookupError, RuntimeError, AttributeError) as error:
        # a transformer that cannot be made of its configuration is told of elsewhere
        raise ValueError(str(error)) from error


def _make_texts(source: ModelSource) -> dict[str, Any]:
    """The text encoders of a source by its folder's configurations; none where the folder is not on this machine. Raises what
    their classes do for configurations that are damaged."""
    folder = _find_folder(source.parts or source.base)
    index = read_index(folder) if folder is not None else {}
    found = dict[str, Any]()
    for part, entry in index.items():
        kind = getattr(transformers, str(entry[1]), None) if part.startswith("text_encoder") and isinstance(entry, list) else None
        if folder is not None and kind is not None:
            found[part] = kind(kind.config_class.from_pretrained(folder / part))
    return found


def _check_motion(name: str, motion: str, unet: Mapping[str, Any]) -> None:
    """Raise ``ShotError`` for a motion module that cannot be used, or is not for the base model with a UNet of a configuration."""
    folder = Path(motion) if Path(motion).exists() else _find_folder(motion)
    if folder is not None:
        config: Mapping[str, Any] = check_motion_module(folder)
    else:
        config = _read_config(motion, "motion module")
        check_motion_config(Path(motion), config)
    check_motion_fit(Path(motion), config, unet, name)


def _read_schedule(motion: str) -> dict[str, Any]:
    """What a motion module, if there is one, changes in the scheduler's configuration. Raises ``ShotError``."""
    if not motion:
        return {}
    return read_motion_schedule((Path(motion) if Path(motion).exists() else _find_folder(motion)) or Path(motion))


def _read_scheduler(source: ModelSource) -> Mapping[str, Any] | None:
    """The configuration of a base's scheduler with the name of its class; None where it cannot be had without loading."""
    if source.parts:
        parts = _find_folder(source.parts)
        if parts is None:
            return None
        _, file, inner, plan = plan_transformer_file(Path(source.base), parts)
        return read_scheduler_config(parts) | fit_schedule(inner.layout, plan.config, read_transformer_config(parts), file.file)[0]
    if is_weight_file(source.base):
        own = make_own_scheduler(open_model_file(Path(source.base), "checkpoint")[1])
        return {**own.config, "_class_name": type(own).__name__}
    name, revision = split_revision(source.base)
    found = Path(name) if Path(name).exists() else find_in_cache(name, revision)
    try:
        return read_scheduler_config(found if found else fetch_file(name, revision, "scheduler/scheduler_config.json").parents[1])
    except (OSError, ValueError, ShotError):
        # what is missing is said when it is loaded
        return None


def check_reference_use(name: str) -> None:
    """Raise ``ShotError`` for a model that cannot look at a reference picture."""
    if find_model(name).reference is None:
        raise explain_no_adapter(name)


@dataclass(frozen=True)
class _Base:
    """A base's kind, None for one with a UNet, and the configurations of what predicts and of the auto-encoder."""

    layout: FamilyLayout | None
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]


def _read_base(source: ModelSource) -> _Base:
    """What a base's configurations say. Raises ``OSError``, ``ValueError`` and ``ShotError``."""
    vae = _read_vae(source.vae) if source.vae else None
    if source.parts:
        return _read_transformer(source)
    if is_weight_file(source.base):
        check_extras(None, source)
        opened = open_model_file(Path(source.base), "checkpoint")
        plans = plan_checkpoint(*opened, has_other_vae=vae is not None)
        return _Base(None, plans["unet"].config, vae if vae is not None else plans["vae"].config)
    name, revision = split_revision(source.base)
    folder = Path(name) if Path(name).is_dir() else find_in_cache(name, revision)
    layout = None
    if folder is not None:
        layout = find_layout(read_index(folder))
        check_extras(layout, source)
        # either form has the same faults as a rule, and none has been chosen yet
        check_pipeline_folder(folder, half=False, has_other_control=bool(source.controls), has_other_vae=vae is not None)
    try:
        part = "unet" if layout is None else TRANSFORMER
        denoiser = _read_config(source.base, TITLES[part], part)
    except HubError:
        if folder is not None:
            raise
        folder = fetch_file(name, revision, INDEX).parent
        index = read_index(folder)
        check_index(index, name)
        layout = find_layout(index)
        if layout is None:
            raise
        check_extras(layout, source)
        denoiser = _read_config(source.base, TITLES[TRANSFORMER], TRANSFORMER)
        # before tens of gigabytes are downloaded
        doubt_transformer(layout, denoiser, index, folder)
    check_extras(layout, source)
    return _Base(layout, denoiser, vae if vae is not None else _read_config(source.base, "auto-encoder", "vae"))


def _find_folder(part: str) -> Path | None:
    """The folder of a path or a hub id, None where it is not on this machine."""
    name, revision = split_revision(part)
    return Path(name) if Path(name).is_dir() else find_in_cache(name, revision)


def _read_transformer(source: ModelSource) -> _Base:
    """What a file with a transformer alone and the folder of its other parts say. Raises ``OSError`` and ``ShotError``."""
    layout, parts = find_layout_of_file(Path(source.base)), _find_folder(source.parts)
    assert layout is not None
    check_extras(layout, source)
    if parts is None:
        if is_path(source.parts):
            raise ShotError("model", f"There is no folder {source.parts}; check the path behind parts=, or name a hub id.")
        index = read_index(fetch_file(*split_revision(source.parts), INDEX).parent)
    else:
        index = read_index(parts)
    other = find_layout(index)
    if other is not layout:
        title = "another kind of model" if other is None else other.title
        raise ShotError(
            "model", f"The parts in {source.parts} are of {title}, and the file is {layout.title}; name a folder of that."
        )
    if parts is None:
        # the rest is found out when it is here
        return _Base(
            layout, _read_config(source.parts, TITLES[TRANSFORMER], TRANSFORMER), _read_config(source.parts, "auto-encoder", "vae")
        )
    check_pipeline_folder(parts, half=False, has_other_control=True, has_other_denoiser=True)
    file, *_, plan = plan_transformer_file(Path(source.base), parts)
    check_library(file)
    return _Base(layout, plan.config, read_config(parts / "vae", "auto-encoder"))


def _read_vae(vae: str) -> Mapping[str, Any]:
    """The configuration of an auto-encoder that takes the place of the base's."""
    if is_weight_file(vae):
        file, found = open_model_file(Path(vae), "vae", "checkpoint")
        return plan_vae_file(file, found.family if found.family in ("sd1", "sd2", "sdxl") else "sd1").config
    if Path(vae).is_dir():
        folder = find_vae_folder(Path(vae))
        config = read_config(folder, "auto-encoder")
        check_vae_config(config, folder)
        return config
    return _read_config(vae, "auto-encoder")


def _read_control(control: str, layout: FamilyLayout | None, base: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a ControlNet for a base of a layout. Raises ``ShotError`` for one of an unknown kind."""
    if is_weight_file(control) and layout is not None:
        return plan_control_file(Path(control), layout, base)[2].config
    if is_weight_file(control):
        return plan_controlnet_file(*open_model_file(Path(control), "controlnet")).config
    config = _read_config(control, "ControlNet")
    family_of_controlnet(config)
    return config


def _read_config(source: str, title: str, folder: str = "") -> Mapping[str, Any]:
    """A network's ``config.json``: of this machine if it is here, else from the hub. Raises ``OSError`` and ``ShotError``."""
    name, revision = split_revision(source)
    found = Path(name) if Path(name).exists() else find_in_cache(name, revision)
    if found is None:
        found, folder = fetch_file(name, revision, f"{folder}/config.json" if folder else "config.json").parent, ""
    return read_config(found / folder, title)
