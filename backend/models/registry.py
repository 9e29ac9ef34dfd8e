"""Names of image models and where their parts come from.

A model is named by parts between bars: ``BASE|PART|...``. The base is a preset, a diffusers folder, a hub id or a single file of
weights, which may stand alone. A part is ``depth=``, ``normal=`` or another of ``CONTROLS`` with a ControlNet (a plain name is one
for depth), ``lora=PATH`` or ``lora=PATH@0.8``, ``embedding=PATH`` for a textual inversion, ``vae=PATH`` for another auto-encoder,
``ip=PATH`` or ``ip=PATH@0.6`` for an IP-Adapter, and ``encoder=PATH`` for its picture encoder where that is not found. Behind a
file with a transformer alone, ``parts=FOLDER`` is the diffusers folder with all else of such a model, where none lies near.
``motion=PATH`` is a motion module of AnimateDiff, a file, a diffusers folder or a hub id: with it a Stable Diffusion 1.x is a model
of clips. ``sees=KIND`` is the picture that a model sees which needs no ControlNet, where it was trained with several.
Behind a ControlNet, ``@0.8`` is its strength, and ``@0-0.6``, behind that or alone, the fractions of the steps between which it
works: ``depth=PATH@0.8@0-0.6``. A path that exists with an @ in it is a path.
Behind the hub id of a base, a ControlNet, a LoRA, a textual inversion or a motion module, ``@COMMIT`` names the revision that is
loaded; those in ``HUB_REVISIONS`` have one anyway. Paths are taken as people paste them (``shared.pasted_paths``).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...shared.control_uses import ControlUse, read_control_use
from ...shared.model_name import is_weight_file as is_weight_file
from ...shared.model_name import read_adapter_strength, read_lora_strength, split_name, split_part
from ...shared.pasted_paths import is_relative_to_blend_file, read_pasted_path, unquote_text
from ...shared.shot import ShotError
from ..maps import FOR_NO_CONTROLNET, MAPS
from .folder_reading import INDEX, explain_folder, find_model_folder
from .hub_cache import find_in_cache
from .lora_kinds import find_scaling_file
from .picture_encoders import ReferenceSource, find_reference_source
from .recognition import inspect_model_file
from .settings_files import IN_FOLDER, RECOGNISED_KEYS, find_settings
from .settings_files import WEIGHTS as WEIGHTS
from .transformer_parts import find_layout_of_file, find_parts
from .usual_controls import find_family_of_folder, find_usual_control, sees_depth

STARTER = Path(__file__).resolve().parent / "starter"
#: the flow-matching one, which the extension's zip leaves out, and its name
FLOW_STARTER, FLOW_NAME = STARTER.with_name("flow_starter"), "starter_flow"
#: the motion module for measuring models of clips, which the extension's zip leaves out, and the name of the starter with it
CLIP_STARTER, CLIP_NAME = STARTER.with_name("clip_starter"), "starter_clip"
#: the models with a name that the extension's zip leaves out
LEFT_OUT = (FLOW_NAME, CLIP_NAME)
#: the kinds of ControlNets: one for each picture that can be made of the passes
CONTROLS = tuple(kind for kind in MAPS if kind not in FOR_NO_CONTROLNET)


@dataclass(frozen=True)
class ModelSource:
    """Where a base model and what is added to it are.

    ``controls`` are (kind, source) of the ControlNets; empty means that a depth ControlNet lies in the base's folder.
    ``loras`` are (source, strength), ``vae`` is an auto-encoder in place of the base's own, empty for that. ``reference`` is an
    IP-Adapter with its picture encoder.
    """

    base: str
    controls: tuple[tuple[str, str], ...] = ()
    loras: tuple[tuple[str, float], ...] = ()
    embeddings: tuple[str, ...] = ()
    vae: str = ""
    #: one for each of ``controls``, or empty where all are as they come
    control_uses: tuple[ControlUse, ...] = ()
    #: whether nobody named the ControlNet, so that the usual one was taken
    is_control_usual: bool = False
    # not in its text: a name without it stands for what it always did
    reference: ReferenceSource | None = field(default=None, repr=False)
    #: of a file with a transformer alone, the folder with all else; empty for other bases
    parts: str = field(default="", repr=False)
    #: whether nobody named that folder
    are_parts_found: bool = field(default=False, repr=False)
    #: the folder or hub id of a motion module; empty for models whose frames are independent
    motion: str = field(default="", repr=False)
    #: the kind of picture that it sees by itself; empty for its usual one
    sees: str = field(default="", repr=False)


PRESETS: dict[str, ModelSource] = {
    "starter": ModelSource(str(STARTER)),
    **({FLOW_NAME: ModelSource(str(FLOW_STARTER))} if (FLOW_STARTER / INDEX).is_file() else {}),
    **({CLIP_NAME: ModelSource(str(STARTER), motion=str(CLIP_STARTER))} if (CLIP_STARTER / "config.json").is_file() else {}),
    "sd15": ModelSource("stable-diffusion-v1-5/stable-diffusion-v1-5", (("depth", "lllyasviel/control_v11f1p_sd15_depth"),)),
    "sdxl": ModelSource("stabilityai/stable-diffusion-xl-base-1.0", (("depth", "diffusers/controlnet-depth-sdxl-1.0"),)),
}

#: the presets whose weights come with the package
BUNDLED = tuple(name for name in ("starter", *LEFT_OUT) if name in PRESETS)

#: hub id -> the commit that is loaded, whatever its owner puts there later
HUB_REVISIONS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "lllyasviel/control_v11f1p_sd15_depth": "539f99181d33db39cf1af2e517cd8056785f0a87",
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "diffusers/controlnet-depth-sdxl-1.0": "17bb97973f29801224cd66f192c5ffacf82648b4",
    "h94/IP-Adapter": "018e402774aeeddd60609b4ecdb7e298259dc729",
    "openai/clip-vit-base-patch32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "distilbert/distilbert-base-uncased": "12040accade4e8a0f71eabdb258fecc2e7e948be",
}


def is_model_name(text: str) -> bool:
    """Whether a text is the name of a model, a preset's or one with parts, and not of a file or folder alone."""
    first, parts = split_name(text)
    return first in PRESETS or (bool(first and parts) and not os.path.exists(text))


def split_revision(source: str) -> tuple[str, str | None]:
    """A folder, file or hub id, and the commit to load it at: the one behind its ``@``, else that of ``HUB_REVISIONS``; None for
    what lies on this machine, and for a hub id without either, of which the newest is loaded."""
    if os.path.exists(source):
        return source, None
    name, at, commit = source.rpartition("@")
    if at and re.fullmatch(r"[0-9a-f]{40}", commit):
        return name, commit
    return source, HUB_REVISIONS.get(source)


def _read_path(text: str) -> str:
    """The path or the hub id that a part means. Raises ``ShotError`` for one that only Blender can complete."""
    path = read_pasted_path(text)
    if re.match(r"(https?|ftp|hf)://", unquote_text(text), re.IGNORECASE):
        raise ShotError("model", _explain_address(unquote_text(text)))
    if is_relative_to_blend_file(path):
        raise ShotError(
            "model", f"'{path}' begins at the .blend file, which is not known here; give the whole path, or save the file first."
        )
    return path


def _read_strength(text: str) -> tuple[str, float]:
    path, strength = read_lora_strength(text)
    return _read_path(path if strength is not None else text), 1.0 if strength is None else strength


def _read_adapter(text: str) -> tuple[str, float | None]:
    """(path, strength) of an IP-Adapter, None for no strength. Raises ``ShotError``."""
    path, strength = read_adapter_strength(text)
    return _read_path(path if strength is not None else text), strength


def _find_reference(adapters: list[str], encoders: list[str], base: str) -> ReferenceSource | None:
    if len(adapters) > 1 or len(encoders) > 1:
        raise ShotError("model", "The model names several IP-Adapters or picture encoders; use one of each.")
    if not adapters:
        if encoders:
            raise ShotError("model", "The model names a picture encoder and no IP-Adapter; add ip=FILE, or leave encoder= out.")
        return None
    path, strength = _read_adapter(adapters[0])
    encoder = _read_path(encoders[0]) if encoders else ""
    return find_reference_source(path, strength, encoder, Path(base))


def find_model(name: str) -> ModelSource:
    """The source of a model name; ``ShotError`` when it cannot be one."""
    first, parts = split_name(name)
    if first in LEFT_OUT and first not in PRESETS and not os.path.exists(first):
        raise ShotError(
            "model", f"'{first}' does not come with the extension; use starter, or a backend from the repository or the wheel."
        )
    path = first if first in PRESETS else find_model_folder(_read_path(first))
    if first in PRESETS:
        source = PRESETS[first]
    elif parts or is_weight_file(path) or os.path.exists(os.path.join(path, "model_index.json")) or is_hub_id(path):
        # a preset by its folder is that preset
        source = next((preset for preset in PRESETS.values() if Path(preset.base) == Path(path).resolve()), ModelSource(path))
    else:
        raise ShotError("model", _explain_no_model(name, path))
    if first not in PRESETS and os.path.isdir(path) and not os.path.exists(os.path.join(path, INDEX)):
        raise ShotError("model", explain_folder(Path(path)))
    controls, uses, loras, embeddings, vae, others, motion, sees = [], [], [], [], "", "", "", ""
    adapters: list[str] = []
    encoders: list[str] = []
    for part in parts:
        kind, value = split_part(part)
        if kind and not unquote_text(value):
            if kind == "sees":
                raise ShotError("model", "'sees=' names nothing; give a kind of picture behind it, or leave it out.")
            raise ShotError("model", f"'{kind}=' names nothing; give a path behind it, or leave it out.")
        if not kind or kind in CONTROLS:
            text, use = read_control_use(value, is_weight_file)
            path = _read_path(text)
            controls.append((kind or _find_own_control(path), path))
            uses.append(use)
        elif kind == "lora":
            loras.append(_read_strength(value))
        elif kind == "embedding":
            embeddings.append(_read_path(value))
        elif kind == "vae":
            if vae:
                raise ShotError("model", "The model names several auto-encoders; leave one vae=.")
            vae = _read_path(value)
        elif kind == "parts":
            if others:
                raise ShotError("model", "The model names several folders of parts; leave one parts=.")
            others = find_model_folder(_read_path(value))
        elif kind == "motion":
            if source.motion:
                raise ShotError("model", f"'{first}' brings a motion module; leave motion= out, or choose another base.")
            if motion:
                raise ShotError("model", "The model names several motion modules; leave one motion=.")
            motion = _read_path(value)
        elif kind == "sees":
            if sees:
                raise ShotError("model", "The model names several pictures that it sees; leave one sees=.")
            sees = unquote_text(value).strip().lower()
        elif kind == "ip":
            adapters.append(value)
        elif kind == "encoder":
            encoders.append(value)
        else:
            known = "=, ".join((*CONTROLS, "lora", "vae", "ip", "encoder", "parts", "motion", "sees"))
            raise ShotError("model", f"'{kind}=' is not a part of a model; use {known}= or embedding=.")
    if controls:
        uses = uses if any(use != ControlUse() for use in uses) else []
        source = replace(source, controls=tuple(controls), control_uses=tuple(uses))
    added = replace(source, loras=tuple(loras), embeddings=tuple(embeddings), vae=vae, motion=motion or source.motion, sees=sees)
    found = add_parts(added, others)
    return add_usual_control(replace(found, reference=_find_reference(adapters, encoders, source.base)))


def add_parts(source: ModelSource, named: str = "") -> ModelSource:
    """A source with the folder that holds all else where its base is a file with a transformer alone: the ``named`` one, or one
    that lies near. Raises ``ShotError`` where there is none, and for one that nothing needs."""
    layout = find_layout_of_file(Path(source.base)) if is_weight_file(source.base) else None
    if layout is None:
        if named and (not is_weight_file(source.base) or Path(source.base).exists()):
            # what is wrong with the file itself comes first
            found = inspect_model_file(Path(source.base)) if is_weight_file(source.base) else None
            if found is not None and found.problem:
                raise ShotError("model", f"The file {found.file} cannot be used. {found.problem}")
            raise ShotError("model", "Only a file with a transformer alone takes parts=; leave it out of the model's name.")
        return source
    return replace(source, parts=named or str(find_parts(Path(source.base), layout)), are_parts_found=not named)


def _explain_address(text: str) -> str:
    return f"'{text}' is an address; download the model and give its file or folder, or the hub's name, as in OWNER/NAME."


def _explain_no_model(name: str, path: str) -> str:
    usual = f"{', '.join(PRESETS)}, a diffusers folder, a file, a hub id, or BASE|CONTROLNET"
    if os.path.isdir(path):
        return explain_folder(Path(path))
    if path.count("/") > 1 or "\\" in path or path.startswith((".", "~")):
        return f"There is no model '{name}': no file or folder {path} is there; check the path, or use {usual}."
    return f"There is no model '{name}'; use {usual}."


def is_hub_id(text: str) -> bool:
    """Whether a text can be the name of a repository of the hub, with or without a commit behind it, and is no path here."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[0-9a-f]{40})?", text)) and not os.path.exists(text)


def add_usual_control(source: ModelSource, folder: Path | None = None) -> ModelSource:
    """A source with its family's usual depth ControlNet where it has none; as it is where the base brings one, or is not on this
    machine yet. ``folder`` is where the base lies, by default where it is found. Raises ``ShotError`` where none is known."""
    if source.controls:
        return source
    if is_weight_file(source.base):
        file = inspect_model_file(Path(source.base))
        if file.kind == "transformer" and file.variant == "depth":
            return source
        if file.kind not in ("checkpoint", "transformer") or file.problem:
            raise ShotError("model", f"The file is not a model to make pictures with. {file.sentence}")
        return _put_usual(source, find_usual_control(Path(source.base), file.family))
    if folder is None:
        name, revision = split_revision(source.base)
        folder = Path(name) if os.path.isdir(name) else find_in_cache(name, revision)
        # whoever loads it finds out what it is
        if folder is None or not find_family_of_folder(folder):
            return source
    if (folder / "controlnet").is_dir() or sees_depth(folder):
        return source
    return _put_usual(source, find_usual_control(folder, find_family_of_folder(folder)))


def _put_usual(source: ModelSource, control: str) -> ModelSource:
    return replace(source, controls=(("depth", control),), is_control_usual=True)


def _find_own_control(path: str) -> str:
    """What a ControlNet whose kind is not given is for: what its settings file says, else depth."""
    return str(find_settings(path).values.get("control", "depth"))


def get_preset_name(source: ModelSource) -> str:
    """The preset whose base a model has; empty where there is none."""
    return next((name for name, preset in PRESETS.items() if preset.base == source.base), "")


def fingerprint(name: str) -> str:
    """Another text whenever what a model name stands for has changed: its parts, the path, size or time of writing of one of
    their files on this machine, or what a settings file says of what was recognised; what it says of other settings is part of a
    request. ``ShotError`` when it cannot be a model."""
    source = find_model(name)
    digest = hashlib.blake2b(repr(source).encode(), digest_size=12)
    networks = (source.base, *(control for _, control in source.controls))
    for commit in (split_revision(network)[1] for network in networks):
        digest.update((commit or "").encode())
    loras = [lora for lora, _ in source.loras]
    parts = (*networks, *loras, *source.embeddings, *filter(None, [source.vae]))
    if source.reference is not None:
        digest.update(repr(source.reference).encode())
        parts = (*parts, source.reference.adapter, source.reference.encoder)
    if source.parts:
        digest.update(repr((source.parts, split_revision(source.parts)[1])).encode())
        parts = (*parts, source.parts)
    if source.motion:
        digest.update(repr(("motion", source.motion, split_revision(source.motion)[1])).encode())
        parts = (*parts, source.motion)
    if source.sees:
        digest.update(repr(("sees", source.sees)).encode())
    added = (*loras, *filter(None, [source.motion]))
    for part, preset in ((source.base, get_preset_name(source)), *((one, "") for one in added)):
        values = find_settings(part, preset).values
        overruled = {key: values[key] for key in (*RECOGNISED_KEYS, "spacing") if key in values}
        if overruled:
            digest.update(repr((part, sorted(overruled.items()))).encode())
    beside = [found for lora in loras if (found := find_scaling_file(Path(lora))) is not None]
    for path in (*map(Path, parts), *beside):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            # what a settings file changes is found above
            if file.is_file() and file.name != IN_FOLDER:
                state = file.stat()
                digest.update(repr((str(file), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()
