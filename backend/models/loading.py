"""Diffusers components of a named model, on a device, ready for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from ...shared.control_uses import ControlUse
from ...shared.load_options import LoadOptions
from ...shared.shot import ShotError
from .context_loras import check_context_lora, teach
from .devices import choose_device, choose_dtype, choose_family_dtype
from .embeddings import EmbeddingWord, add_embeddings
from .families import Family, StableDiffusionXL, family_of_controlnet, family_of_layout, family_of_pipeline
from .family_layouts import TRANSFORMER, FamilyLayout, check_extras, check_same_kind, find_layout, sees_picture
from .fitting import LOAD_ERRORS, check_fit, explain_unloadable
from .flow_profiles import fit_schedule
from .folder_loading import find_vae_class, load_network_folder, load_pipeline_folder, prefers_half
from .folder_reading import TITLES, find_vae_folder, read_config, read_index, read_transformer_config
from .hub import Report, fetch_repository
from .hub_cache import SECOND
from .image_model import ImageModel
from .ip_adapters import add_ip_adapter, fetch_encoder
from .loras import add_loras, find_lora_file
from .memory_plan import ROOMY
from .motion_adapters import add_motion
from .placement import make_plan, place
from .profiles import find_profile, list_scheduler_changes
from .quantization import Quantization, choose_quantization, count_bits
from .registry import ModelSource, add_usual_control, find_model, is_weight_file, split_revision
from .single_files import load_checkpoint_file, load_controlnet_file, load_vae_file
from .transformer_files import load_control_file, load_transformer_file
from .transformer_loras import add_transformer_loras, changes_texts
from .transformer_parts import find_layout_of_base
from .vae_precision import choose_vae_dtype


def load(
    name: str,
    device: torch.device | None = None,
    options: LoadOptions | None = None,
    report: Report | None = None,
    size: tuple[int, int] | None = None,
) -> ImageModel:
    """Load a model; what it lacks on this machine is downloaded, of which ``report`` is told. For frames of a ``size`` (width,
    height) its place in memory is planned before.

    Raises ``ShotError`` when it is missing, incomplete, made of parts that do not fit each other, or too large, and what ``report``
    raises.
    """
    options = options or LoadOptions()
    device = device or choose_device(options.device)
    dtype = asked = choose_dtype(options, device)
    source = find_model(name)
    try:
        source = _fetch(source, dtype, report)
        layout = find_layout_of_base(source)
        check_extras(layout, source)
        if layout is not None:
            dtype = choose_family_dtype(family_of_layout(layout), dtype, device)
        quantization = _choose_quantization(source, options, layout, device, dtype, report)
        plan = make_plan(source, device, dtype, options, size, name) if size else ROOMY
        loaded = _load_pipeline(source, layout, dtype, quantization)
        pipeline, warnings = loaded.pipeline, loaded.warnings
        if source.motion:
            # before LoRAs and the like, which change its UNet as any other
            pipeline, said = add_motion(pipeline, Path(source.motion), dtype, name)
            warnings += said
        if layout is not None and dtype != asked and options.dtype != "auto":
            precision = str(dtype).removeprefix("torch.")
            warnings += (f"{layout.title} does not keep to what float16 can hold; it computes in {precision}.",)
        if quantization is not None:
            warnings += (quantization.sentence,)
        if source.are_parts_found:
            warnings += (f"All but the transformer is from {source.parts}.",)
        if source.is_control_usual:
            warnings += (f"The model brings no ControlNet; {source.controls[0][1]} is used for depth.",)
        if source.vae:
            warnings += _exchange_vae(pipeline, source.vae, dtype)
        adapter = None
        if source.reference is not None:
            adapter, said = add_ip_adapter(pipeline, source.reference, dtype)
            warnings += said
        words, more = _add_weights(pipeline, source, layout, report)
        warnings += more
        if quantization is not None:
            for part, network in pipeline.components.items():
                if quantization.waits_for(part) and network is not None:
                    quantization.quantize(network)
    except LOAD_ERRORS as error:
        raise explain_unloadable(name, source, error) from error
    sees_controls = sees_picture(layout, getattr(getattr(pipeline, TRANSFORMER, None), "config", {}))
    if getattr(pipeline, "controlnet", None) is None and not sees_controls:
        raise ShotError("model", f"The model '{name}' has no ControlNet; name one as BASE|CONTROLNET.")
    profile = find_profile(name)
    changes = list_scheduler_changes(profile)
    if changes:
        pipeline.scheduler.register_to_config(**changes)
    family_of_pipeline(pipeline)  # a kind that is not known is refused before anything is asked of it
    model = ImageModel(
        name,
        pipeline,
        device,
        dtype,
        tuple(kind for kind, _ in source.controls) or _find_sight(source, layout),
        source,
        warnings,
        words,
        plan,
        file_distilled=loaded.distilled,
        uses=_list_uses(source, layout),
        profile=profile,
        adapter=adapter,
    )
    fitted = [(kind, net.config) for kind, net in zip(model.controls, model.controlnets, strict=not sees_controls)]
    model.family.check_fit(model.denoiser.config, fitted)
    second = getattr(pipeline, SECOND, None)
    if second is not None:
        model.family.check_fit(second.config, fitted)
    is_sdxl = isinstance(model.family, StableDiffusionXL)
    torch.nn.Module.to(pipeline.vae, choose_vae_dtype(dtype, pipeline.vae.config, sdxl=is_sdxl))
    place(pipeline, device, plan, options)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            # weights in fewer bits are tensors of other classes, which keep their layout
            if all(type(weights) is torch.nn.Parameter and weights.ndim < 5 for weights in part.parameters()):
                # convolutions are nearly twice as quick in this layout
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks it
    if options.compile:
        model.denoiser.compile()
        if second is not None:
            second.compile()
        for network in model.controlnets:
            network.compile()
    return model


def _choose_quantization(
    source: ModelSource,
    options: LoadOptions,
    layout: FamilyLayout | None,
    device: torch.device,
    dtype: torch.dtype,
    report: Report | None,
) -> Quantization | None:
    """How the weights of a source are held; None for as they are. LoRAs are only looked into where that counts."""
    is_asked = count_bits(options) is not None
    return choose_quantization(
        options,
        layout,
        device,
        dtype,
        from_file=is_weight_file(source.base),
        has_loras=bool(source.loras),
        have_texts_loras=is_asked and any(changes_texts(find_lora_file(lora, report)) for lora, _ in source.loras),
    )


def _find_sight(source: ModelSource, layout: FamilyLayout | None) -> tuple[str, ...]:
    """The kind of picture that a model sees by itself."""
    if source.sees:
        return (source.sees,)
    return ("depth",) if layout is None else layout.kinds[:1]


def _list_uses(source: ModelSource, layout: FamilyLayout | None) -> tuple[ControlUse, ...]:
    """How the ControlNets of a source are used; a strength that a LoRA has been added with is spent."""
    if layout is None or not layout.is_taught:
        return source.control_uses
    return tuple(replace(use, strength=float(use.strength > 0)) for use in source.control_uses)


def is_path(part: str) -> bool:
    """Whether a part can only be meant to lie on this machine."""
    return Path(part).is_absolute() or part.startswith((".", "~")) or is_weight_file(part) or "\\" in part


def _fetch(source: ModelSource, dtype: torch.dtype, report: Report | None) -> ModelSource:
    """A source whose networks all lie on this machine, with a ControlNet where its base brings none. Raises ``ShotError``."""

    def locate(part: str) -> str:
        name, revision = split_revision(part)
        if is_weight_file(part) or Path(name).is_dir():
            return name
        if is_path(part):
            raise ShotError("model", f"There is no folder {name}; check the path, or name a hub id.")
        return str(fetch_repository(name, revision, half=prefers_half(dtype), report=report))

    base = locate(source.base)
    source = add_usual_control(replace(source, base=base), None if is_weight_file(base) else Path(base))
    is_taught = (layout := find_layout_of_base(source)) is not None and layout.is_taught
    controls = tuple(
        (kind, str(find_lora_file(control, report)) if is_taught else locate(control)) for kind, control in source.controls
    )
    reference = source.reference
    if reference is not None:
        reference = replace(reference, encoder=fetch_encoder(reference.encoder, dtype, report))
    parts = locate(source.parts) if source.parts else ""
    vae, motion = (locate(part) if part else "" for part in (source.vae, source.motion))
    return replace(source, controls=controls, vae=vae, reference=reference, parts=parts, motion=motion)


def _add_weights(
    pipeline: DiffusionPipeline, source: ModelSource, layout: FamilyLayout | None, report: Report | None
) -> tuple[tuple[EmbeddingWord, ...], tuple[str, ...]]:
    """Put LoRAs and textual inversions into a pipeline of a layout; the words of these, and sentences about what was left out."""
    warnings = tuple[str, ...]()
    if source.loras:
        if layout is None:
            warnings = add_loras(pipeline, source.loras, report)
        else:
            warnings = add_transformer_loras(pipeline, layout, source.loras, report)
    words, more = add_embeddings(pipeline, source.embeddings, report)
    return words, warnings + more


@dataclass(frozen=True)
class _Loaded:
    """A pipeline, sentences about what was guessed or left out, and how its file was distilled."""

    pipeline: DiffusionPipeline
    warnings: tuple[str, ...] = ()
    distilled: str = ""


def _load_transformer(source: ModelSource, layout: FamilyLayout, dtype: torch.dtype, quantization: Quantization | None) -> _Loaded:
    """A file with a transformer alone, with all else from a folder."""
    parts, own = Path(source.parts), read_transformer_config(Path(source.parts))
    transformer, file, warnings = load_transformer_file(Path(source.base), parts, dtype, quantization)
    kind = family_of_layout(layout).find_pipeline_class(transformer.config)
    loaded = [_load_controlnet(kind, control, dtype, layout, transformer.config) for kind, control in source.controls]
    check_same_kind(layout, [(kind, found.config) for (kind, _), found in zip(source.controls, loaded, strict=True)])
    added = {TRANSFORMER: transformer} | ({"controlnet": loaded[0].network} if loaded else {})
    pipeline, said = load_pipeline_folder(parts, kind, dtype, added, quantization)
    changes, more = fit_schedule(layout, transformer.config, own, file.file)
    pipeline.scheduler.register_to_config(**changes)
    warnings += said + more + tuple(warning for found in loaded for warning in found.warnings)
    return _Loaded(pipeline, warnings, file.distilled)


def _load_taught(source: ModelSource, layout: FamilyLayout, dtype: torch.dtype, quantization: Quantization | None) -> _Loaded:
    """A folder and the LoRA that teaches its transformer what depth is, before its weights are held in fewer bits."""
    base, kind = Path(source.base), getattr(diffusers, layout.denoiser)
    (_, lora), (use, *_) = source.controls[0], source.control_uses or (ControlUse(),)
    # before tens of gigabytes are read
    check_context_lora(partial(kind.from_config, read_transformer_config(base)), Path(lora), layout.title)
    said, added = tuple[str, ...](), dict[str, Any]()
    if quantization is not None:
        added[TRANSFORMER], said = load_network_folder(base / TRANSFORMER, kind, TITLES[TRANSFORMER], dtype)
    pipeline, more = load_pipeline_folder(base, _find_pipeline_class(base), dtype, added, quantization)
    said += more + teach(pipeline.transformer, Path(lora), use.strength, layout.title)
    if quantization is not None:
        quantization.quantize(pipeline.transformer)
    return _Loaded(pipeline, said)


def _load_pipeline(
    source: ModelSource, layout: FamilyLayout | None, dtype: torch.dtype, quantization: Quantization | None
) -> _Loaded:
    if layout is not None and is_weight_file(source.base):
        return _load_transformer(source, layout, dtype, quantization)
    if layout is not None and layout.is_taught:
        return _load_taught(source, layout, dtype, quantization)
    if not source.controls:
        return _Loaded(*load_pipeline_folder(Path(source.base), _find_pipeline_class(Path(source.base)), dtype, {}, quantization))
    checkpoint = None
    if is_weight_file(source.base):
        checkpoint = load_checkpoint_file(Path(source.base), dtype, has_other_vae=bool(source.vae))
    base = {} if layout is None else read_transformer_config(Path(source.base))
    loaded = [_load_controlnet(kind, control, dtype, layout, base) for kind, control in source.controls]
    family, networks = loaded[0].family, [found.network for found in loaded]
    warnings = tuple(warning for found in loaded for warning in found.warnings)
    added: dict[str, Any] = {"controlnet": networks if len(networks) > 1 else networks[0]}
    configs = [(kind, found.config) for (kind, _), found in zip(source.controls, loaded, strict=True)]
    check_same_kind(layout, configs)
    if checkpoint is None:
        pipeline, said = load_pipeline_folder(Path(source.base), family.pipeline_class, dtype, added, quantization)
        return _Loaded(pipeline, said + warnings)
    fitted = [(kind, network.config) for (kind, _), network in zip(source.controls, networks, strict=True)]
    check_fit(checkpoint.parts["unet"].config, fitted)
    pipeline = family.pipeline_class(**checkpoint.parts, **added, **family.single_file_options)
    return _Loaded(pipeline, checkpoint.warnings + warnings, checkpoint.file.distilled)


def _find_pipeline_class(folder: Path) -> Any:
    """The class for a folder that brings its ControlNet: that of the ControlNet's family, whatever the folder's own is, which may
    know nothing of a ControlNet. Raises ``ShotError``."""
    layout = find_layout(read_index(folder))
    config = {} if layout is None else read_transformer_config(folder)
    if sees_picture(layout, config):
        return family_of_layout(layout).find_pipeline_class(config)
    found = sorted(path.parent for path in (folder / "controlnet").glob("*/config.json"))
    first = folder / "controlnet" if (folder / "controlnet" / "config.json").exists() or not found else found[0]
    return family_of_controlnet(read_config(first, "ControlNet")).pipeline_class


@dataclass(frozen=True)
class _Control:
    """A ControlNet, the family that it is made for, and sentences about what was guessed or left out."""

    family: Family
    config: Mapping[str, Any]
    network: Any
    warnings: tuple[str, ...] = ()


def _load_controlnet(kind: str, control: str, dtype: torch.dtype, layout: FamilyLayout | None, base: Mapping[str, Any]) -> _Control:
    """A ControlNet for a base model of a layout, None for those with a UNet, with the configuration ``base`` of its transformer."""
    if is_weight_file(control):
        if layout is None:
            network, found, warnings = load_controlnet_file(Path(control), dtype)
        else:
            network, found, warnings = load_control_file(Path(control), layout, base, dtype)
        if found.control and found.control not in (kind, "union"):
            warnings += (f"By its name, {found.file} is a ControlNet for {found.control}; it is used for {kind}.",)
        config = {**network.config, "_class_name": type(network).__name__}
        return _Control(family_of_controlnet(config), config, network, warnings)
    folder = Path(control)
    config = read_config(folder, "ControlNet")
    family = family_of_controlnet(config)
    return _Control(family, config, *load_network_folder(folder, family.controlnet_class, "ControlNet", dtype))


def _exchange_vae(pipeline: DiffusionPipeline, vae: str, dtype: torch.dtype) -> tuple[str, ...]:
    """Put another auto-encoder into a pipeline; sentences about what was left out."""
    if is_weight_file(vae):
        family = "sdxl" if "text_encoder_2" in pipeline.components else "sd1"
        network, warnings = load_vae_file(Path(vae), family, dtype)
    else:
        folder = find_vae_folder(Path(vae))
        network, warnings = load_network_folder(folder, find_vae_class(folder), "auto-encoder", dtype)
    pipeline.register_modules(vae=network)
    return warnings
