"""Profiles of models: how each likes to be run and what it was recognised as, found without loading it.

What counts, the last the most: the usual of its family; its configuration, file and name; a LoRA that makes it a model of few
steps; and the settings files of either (``settings_files``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ...shared.files import read_file
from ...shared.model_profile import PRESET_PROFILES, ModelProfile, list_unset, resolve_request
from ...shared.shot import MAX_SIDE, ShotRequest
from .family_layouts import TRANSFORMER, FamilyLayout, find_layout, find_layout_of_class
from .flow_profiles import describe_layout
from .folder_reading import INDEX, name_folder
from .hub_cache import find_cached_file
from .model_file import ModelFile
from .names import find_distillation, find_steps
from .origins import CONFIGURATION, FILE, NAME, PRESET, USUAL
from .prompts.named_loras import name_model
from .recognition import inspect_model_file
from .recommendation import Recommendation, recommend
from .registry import PRESETS, ModelSource, find_model, fingerprint, get_preset_name, is_weight_file, split_revision
from .settings_files import NOT_DISTILLED, PREDICTIONS, SPACINGS, FoundSettings, find_settings

#: bytes of a network's configuration
MAX_CONFIGURATION = 4 << 20
#: classes of schedulers that few-step models are published with -> how they were distilled
_SCHEDULER_KINDS = {"LCMScheduler": "lcm", "TCDScheduler": "tcd"}
#: values that change how the network is asked, so that they take effect when it is loaded -> the scheduler's option
_SCHEDULER_OPTIONS = {
    "prediction": "prediction_type",
    "zero_terminal_snr": "rescale_betas_zero_snr",
    "spacing": "timestep_spacing",
}


@dataclass
class _Draft:
    """A profile in the making."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def set(self, origin: str, **values: Any) -> None:
        """Put in values that are from one place."""
        self.values |= values
        self.origins |= dict.fromkeys(values, origin)

    def advise(self, advice: Recommendation, origins: Mapping[str, str], *, size: bool = True) -> None:
        """Put in how a kind of model likes to be run. ``origins`` by name, with "" for all others."""
        found = {name: getattr(advice, name) for name in ("steps", "guidance_scale", "scheduler", "spacing")}
        if size and 8 <= advice.size <= MAX_SIDE:
            found |= {"width": advice.size, "height": advice.size}
        for name, value in found.items():
            self.set(origins.get(name, origins[""]), **{name: value})

    def apply(self, found: FoundSettings) -> None:
        """Put in what settings files say."""
        for key, value in found.values.items():
            if key in ModelProfile.__struct_fields__:
                value = "" if value == NOT_DISTILLED and key == "distilled" else value
                self.set(found.places[key], **{key: value})
        self.files += found.files

    def finish(self) -> ModelProfile:
        """The profile."""
        return ModelProfile(**self.values, origins=self.origins, files=tuple(self.files))


_cache: dict[tuple[str, bool], tuple[str, ModelProfile]] = {}
#: profiles that are kept
_MOST_KEPT = 64


def find_profile(name: str, *, download: bool = False) -> ModelProfile:
    """The profile of a model by its name.

    Configurations of the hub are read from its cache; where they are not there, they are got with ``download``, and what is usual
    is taken without. Raises ``ShotError`` for what cannot be a model, a damaged file, and a settings file that cannot be used.
    """
    source = find_model(name)
    state = f"{fingerprint(name)} {_read_states(source)}"
    kept = _cache.get((name, download))
    if kept is not None and kept[0] == state:
        return kept[1]
    profile = _make_profile(source, download)
    if len(_cache) >= _MOST_KEPT:
        _cache.clear()
    _cache[name, download] = (state, profile)
    return profile


def _is_same(one: str, other: str) -> bool:
    return os.path.isdir(one) and os.path.samefile(one, other)


def find_base_profile(base: str) -> ModelProfile:
    """The profile of a base model by itself: a preset's base, a file, a diffusers folder or a hub id. Raises ``ShotError``."""
    return _make_profile(ModelSource(base), False)


def _read_states(source: ModelSource) -> str:
    """Another text whenever a settings file says something else, or a configuration has come from the hub."""
    added = (*(lora for lora, _ in source.loras), *filter(None, [source.motion]))
    found = [find_settings(source.base, get_preset_name(source)), *map(find_settings, added)]
    return repr([(one.values, one.files) for one in found]) + str(_list_known(source.base))


def _make_profile(source: ModelSource, download: bool) -> ModelProfile:
    draft = _Draft()
    preset = get_preset_name(source)
    found = find_settings(source.base, preset)
    if preset:
        profile = PRESET_PROFILES[preset]
        draft.values = {name: getattr(profile, name) for name in profile.origins} | {"most_side": profile.most_side}
        draft.origins = dict(profile.origins)
        _overrule(draft, found)
    elif is_weight_file(source.base):
        _describe_file(draft, inspect_model_file(Path(source.base)), found)
    else:
        _describe_folder(draft, source.base, found, download)
    draft.apply(found)
    if source.motion:
        _describe_added(draft, "motion module", source.motion)
    for lora, _ in source.loras:
        _describe_added(draft, "LoRA", lora)
    return draft.finish()


def _overrule(draft: _Draft, found: FoundSettings) -> None:
    """Put in what follows from a settings file's word on what was recognised."""
    if "distilled" in found.values or "prediction" in found.values or "zero_terminal_snr" in found.values:
        told = found.values
        distilled = told.get("distilled", draft.values.get("distilled", ""))
        distilled = "" if distilled == NOT_DISTILLED else distilled
        zero = told.get("zero_terminal_snr", draft.values.get("zero_terminal_snr", False))
        advice = recommend(draft.values.get("family", ""), "", zero, distilled, 0, 0)
        if distilled != draft.values.get("distilled", ""):
            place = found.places["distilled"]
            draft.advise(advice, {"": f"follows from distilled in {place}"}, size=False)
        elif zero and not draft.values.get("zero_terminal_snr") and "zero_terminal_snr" in told:
            draft.set(f"follows from zero_terminal_snr in {found.places['zero_terminal_snr']}", spacing=advice.spacing)


def _describe_file(draft: _Draft, file: ModelFile, found: FoundSettings) -> None:
    """A checkpoint in a single file."""
    origins = {"": NAME if file.distilled else USUAL, "steps": NAME if file.distilled else USUAL}
    advice = file.recommended
    usual = recommend(file.family, file.prediction, file.zero_terminal_snr, file.distilled, 0, 0)
    sides = dict.fromkeys(("width", "height"), USUAL if advice.size == usual.size else FILE)
    spacing = {"spacing": FILE} if file.zero_terminal_snr else {}
    told = found.values.get("prediction", file.prediction)
    if told != file.prediction and advice.size == usual.size:
        # the size of 2.x goes with what it predicts
        size = recommend(file.family, told, file.zero_terminal_snr, file.distilled, 0, 0).size
        sides = dict.fromkeys(sides, f"follows from prediction in {found.places['prediction']}")
        advice = msgspec.structs.replace(advice, size=size)
    draft.advise(advice, origins | sides | spacing)
    draft.set(FILE, family=file.family, zero_terminal_snr=file.zero_terminal_snr)
    draft.set(file.prediction_origin, prediction=file.prediction)
    draft.set(NAME if file.distilled else FILE, distilled=file.distilled)
    _overrule(draft, found)


def _describe_folder(draft: _Draft, base: str, found: FoundSettings, download: bool) -> None:
    """A diffusers folder, or a hub id."""
    layout = find_layout(_read_configuration(base, "", download))
    if layout is not None:
        _describe_layout(draft, layout, base, download)
        _overrule(draft, found)
        return
    configs = {part: _read_configuration(base, part, download) for part in ("unet", "vae", "scheduler")}
    unet, vae, scheduler = (configs[part] for part in ("unet", "vae", "scheduler"))
    name = _get_stem(base)
    draft.values = describe_configurations(unet, vae, scheduler, name)
    known = {"width": unet, "height": unet, "family": unet, "prediction": scheduler, "zero_terminal_snr": scheduler}
    for key in draft.values:
        draft.origins[key] = CONFIGURATION if known.get(key) else USUAL
    if draft.values["distilled"]:
        by_class = _SCHEDULER_KINDS.get(str(scheduler.get("_class_name"))) or _is_trailing_ancestral(scheduler)
        place = CONFIGURATION if by_class else NAME
        draft.origins |= dict.fromkeys(("distilled", "scheduler", "guidance_scale", "spacing"), place)
        draft.origins["steps"] = NAME if find_steps(name) else place
    if scheduler.get("timestep_spacing"):
        draft.origins["spacing"] = CONFIGURATION
    _overrule(draft, found)


def _describe_layout(draft: _Draft, layout: FamilyLayout, base: str, download: bool) -> None:
    """A diffusers folder, or a hub id, of a family of transformers."""
    denoiser, scheduler = (_read_configuration(base, part, download) for part in (TRANSFORMER, "scheduler"))
    draft.values, place = describe_layout(layout, denoiser, scheduler, _get_stem(base))
    draft.origins = dict.fromkeys(draft.values, USUAL) | dict.fromkeys(("family", "prediction", "scheduler"), CONFIGURATION)
    if draft.values["distilled"]:
        draft.origins |= dict.fromkeys(("distilled", "guidance_scale"), place)
        draft.origins["steps"] = NAME if find_steps(_get_stem(base)) else place


def _is_trailing_ancestral(scheduler: Mapping[str, Any]) -> bool:
    """Whether a model is published as Turbo is."""
    return scheduler.get("_class_name") == "EulerAncestralDiscreteScheduler" and scheduler.get("timestep_spacing") == "trailing"


def describe_configurations(
    unet: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any], name: str = ""
) -> dict[str, Any]:
    """The values of a profile by the configurations of a model's UNet, auto-encoder and scheduler, which may be empty, and its
    name."""
    family = _find_family(unet)
    told = scheduler.get("prediction_type")
    prediction = told if told in PREDICTIONS else "epsilon"
    zero = bool(scheduler.get("rescale_betas_zero_snr"))
    kind = _SCHEDULER_KINDS.get(str(scheduler.get("_class_name")), "")
    distilled = find_distillation(name) or kind or ("turbo" if _is_trailing_ancestral(scheduler) else "")
    advice = recommend(family, prediction, zero, distilled, find_steps(name) if distilled else 0, 0)
    levels = vae.get("block_out_channels")
    factor = 2 ** (len(levels) - 1) if isinstance(levels, (list, tuple)) and 0 < len(levels) < 8 else 8
    sides = unet.get("sample_size")
    height, width = sides if isinstance(sides, (list, tuple)) and len(sides) == 2 else (sides, sides)
    usual = advice.size or 512
    guidance = advice.guidance_scale
    if unet.get("time_cond_proj_dim") is not None:
        # it was taught what guidance does, and is told its scale
        guidance = recommend(family, prediction, zero, "", 0, 0).guidance_scale
    return {
        "width": _count_pixels(width, factor) or usual,
        "height": _count_pixels(height, factor) or usual,
        "steps": advice.steps,
        "guidance_scale": guidance,
        # the class tells more than the name
        "scheduler": kind or advice.scheduler,
        "spacing": spacing if (spacing := scheduler.get("timestep_spacing")) in SPACINGS else advice.spacing,
        "family": family,
        "prediction": prediction,
        "zero_terminal_snr": zero,
        "distilled": distilled,
    }


def _count_pixels(latents: Any, factor: int) -> int:
    """The pixels of a side with so many latents; 0 for what no picture has."""
    return latents * factor if isinstance(latents, int) and 8 <= latents * factor <= MAX_SIDE else 0


def _find_family(unet: Mapping[str, Any]) -> str:
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl"
    width = unet.get("cross_attention_dim")
    known = {768: "sd1", 1024: "sd2"}.get(width, "other") if isinstance(width, int) else "other"
    return known if unet else ""


def _read_configuration(base: str, part: str, download: bool) -> Mapping[str, Any]:
    """A part's configuration, without a ``part`` the list of parts; empty where there is none, or it is not here
    and ``download`` does not allow for more."""
    name = f"{part}/{'scheduler_config.json' if part == 'scheduler' else 'config.json'}" if part else INDEX
    path = Path(base) / name if os.path.isdir(base) else _find_on_hub(base, name, download)
    try:
        found = json.loads(read_file(path, MAX_CONFIGURATION)) if path is not None else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _find_on_hub(base: str, file: str, download: bool) -> Path | None:
    """A file of a hub's repository in the cache, with ``download`` also from the hub; None where it cannot be had, which is told
    when the model is loaded."""
    name, revision = split_revision(base)
    if not download:
        return find_cached_file(name, revision, file)
    # imported late: commands that need no model work without the hub's library
    from .hub import HubError, fetch_file

    try:
        return fetch_file(name, revision, file)
    except HubError:
        return None


def _list_known(base: str) -> list[bool]:
    """Which of the files that tell the kind of a base of the hub are on this machine; empty for another base."""
    if is_weight_file(base) or os.path.isdir(base):
        return []
    return [_find_on_hub(base, file, False) is not None for file in (INDEX, "unet/config.json")]


def _describe_added(draft: _Draft, title: str, part: str) -> None:
    """What a LoRA or a motion module, which ``title`` says, has to say on how the model is run with it: that of a few-step one by
    its name, and that of its settings file."""
    found, stem = find_settings(part), _get_stem(part)
    # a file that is not there, or is none, is told of when it is loaded
    distilled = found.values.get("distilled") or find_distillation(stem)
    distilled = "" if distilled == NOT_DISTILLED else distilled
    if distilled:
        advice = recommend(draft.values.get("family", ""), "", False, distilled, find_steps(stem), 0)
        draft.advise(advice, {"": f"{title} {stem}"}, size=False)
        draft.set(f"{title} {stem}", distilled=distilled)
    draft.apply(found)


def _get_stem(part: str) -> str:
    return Path(part).stem if is_weight_file(part) else name_folder(Path(split_revision(part)[0]))


def list_scheduler_changes(profile: ModelProfile) -> dict[str, Any]:
    """The options of the model's scheduler that are not as in its configuration: those that a settings file, or a LoRA for few
    steps, decides."""
    plain = (PRESET, CONFIGURATION, FILE, NAME, USUAL)
    found = {
        option: getattr(profile, name)
        for name, option in _SCHEDULER_OPTIONS.items()
        if getattr(profile, name) != "" and profile.origins.get(name, USUAL) not in plain
    }
    return found


def describe_pipeline(pipeline: Any) -> ModelProfile:
    """The profile of a pipeline of diffusers that was loaded by other means: by its parts as they are now, and the settings of
    its folder. Raises ``ShotError`` for a settings file that cannot be used."""
    layout = find_layout_of_class(type(getattr(pipeline, TRANSFORMER, None)).__name__)
    folder = str(pipeline.config.get("_name_or_path") or "")
    name = name_folder(Path(folder)) if folder else ""
    draft = _Draft()
    if layout is not None:
        denoiser = getattr(pipeline, TRANSFORMER).config
        draft.set(CONFIGURATION, **describe_layout(layout, denoiser, pipeline.scheduler.config, name)[0])
    else:
        scheduler = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
        draft.set(CONFIGURATION, **describe_configurations(pipeline.unet.config, pipeline.vae.config, scheduler, name))
    if folder:
        base = next((preset.base for preset in PRESETS.values() if _is_same(preset.base, folder)), folder)
        preset = get_preset_name(ModelSource(base))
        if preset and not draft.values["distilled"]:
            # someone who exchanged a part wants that one
            own = PRESET_PROFILES[preset]
            draft.set(PRESET, width=own.width, height=own.height, steps=own.steps, guidance_scale=own.guidance_scale)
        found = find_settings(base, preset)
        _overrule(draft, found)
        draft.apply(found)
    return draft.finish()


def complete_request(request: ShotRequest, size: tuple[int, int] | None = None) -> ShotRequest:
    """A request with what it leaves to its model put in; ``size`` as for ``resolve_request``. Raises ``ShotError``."""
    if not list_unset(request):
        return request
    # a LoRA for few steps may be named in the prompt
    name = name_model(request.sampling.model, request.text)
    return resolve_request(request, find_profile(name, download=True), size)
