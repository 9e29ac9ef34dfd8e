"""What a diffusers folder holds, before anything of it is loaded: its list of parts, their configurations, the heads of their
weights. What is missing, damaged or of another kind is said in a sentence. Free of torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...shared.files import read_file
from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .family_layouts import (
    BOUNDARY,
    TRANSFORMER,
    FamilyLayout,
    explain_editing,
    explain_seen,
    find_layout,
    find_layout_of_control,
    list_supported,
    sees_picture,
)
from .hub_cache import DENOISERS, NETWORKS, SECOND, list_parts
from .model_file import FAMILIES, ModelFile
from .motion_kinds import CLASS as MOTION
from .motion_kinds import explain_module
from .recognition import LATENT_CHANNELS, explain_channels
from .settings_files import WEIGHTS
from .weight_files import explain_other_file, read_weight_file
from .weight_forms import WeightForm, choose_form, list_forms

#: bytes that a model_index.json, a network's config.json and an index of shards may have
_MOST_INDEX, _MOST_CONFIGURATION, _MOST_SHARDS = 2**20, 4 << 20, 16 << 20
TITLES = {
    "unet": "UNet",
    "transformer": "transformer",
    "transformer_2": "second transformer",
    "vae": "auto-encoder",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "text_encoder_3": "third text encoder",
    "connectors": "text connectors",
    "image_encoder": "picture encoder",
}
INDEX = "model_index.json"
#: files either of which a tokenizer's folder has
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
#: the same of language models, without any of which their libraries make a tokenizer that knows no word
_VOCABULARIES = (*TOKENIZER_FILES, "tokenizer.model", "spiece.model", "vocab.txt")
_UNET = "UNet2DConditionModel"
#: classes of auto-encoders whose latents these families have
VAES = ("AutoencoderKL", "AutoencoderTiny")
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
#: entries of an index that are known, used or not
_KNOWN = (*NETWORKS, *_TOKENIZERS, "scheduler", "safety_checker", "feature_extractor", "image_encoder", "image_processor")


def _read_json(path: Path, most: int) -> dict[str, Any]:
    """A JSON object. Raises ``OSError`` and ``ValueError``."""
    try:
        found = json.loads(read_file(path, most).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no list of names and values")
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """A pipeline's ``model_index.json``. Raises ``ShotError`` for a folder without a usable one."""
    path = folder / INDEX
    if not path.exists():
        raise ShotError("model", explain_folder(folder))
    try:
        return _read_json(path, _MOST_INDEX)
    except (OSError, ValueError) as error:
        raise ShotError("model", f"The model's {path} cannot be read ({error}); download the model again.") from error


def read_config(folder: Path, title: str) -> dict[str, Any]:
    """The ``config.json`` of a network that is called ``title`` in sentences. Raises ``ShotError`` where there is no usable one."""
    path = folder / "config.json"
    if not path.exists():
        if not folder.is_dir():
            raise ShotError("model", f"The model lacks the folder {folder} of its {title}; download the model again.")
        if (folder / INDEX).exists():
            raise ShotError("model", f"The folder {folder} is a whole model and no {title}; choose a {title}'s.")
        instead = "give the path of one of those files instead" if _list_weights(folder) else "download the model again"
        raise ShotError("model", f"The {title}'s folder {folder} has no config.json{_name_weights(folder)}; {instead}.")
    try:
        return _read_json(path, _MOST_CONFIGURATION)
    except (OSError, ValueError) as error:
        raise ShotError("model", f"The {title}'s {path} cannot be read ({error}); download the model again.") from error


def _list_weights(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(WEIGHTS) and path.is_file())
    except OSError:
        return []


def _name_weights(folder: Path) -> str:
    found = _list_weights(folder)
    return f", and holds {', '.join(found[:3])}{' and others' if len(found) > 3 else ''}" if found else ""


def explain_folder(folder: Path) -> str:
    """The sentence for a folder that is no diffusers folder."""
    try:
        is_empty = next(folder.iterdir(), None) is None
    except OSError as error:
        return f"The folder {folder} cannot be read ({error.strerror or error}); check who may read it."
    if is_empty:
        return f"The folder {folder} is empty; choose a diffusers folder, or a file."
    if (folder.parent / INDEX).is_file() and (folder / "config.json").is_file():
        return f"The folder {folder} is one part of a model; choose the folder above it, {folder.parent}."
    below = sorted(path.parent for path in folder.glob(f"*/{INDEX}"))
    if below:
        return f"The folder {folder} is no diffusers folder, and there is one in it; choose {below[0]}."
    if _list_weights(folder):
        return f"The folder {folder} is no diffusers folder{_name_weights(folder)}; give the path of one of those files."
    return f"The folder {folder} is no diffusers folder, since it has no {INDEX}; choose another one, or a file."


def find_model_folder(text: str) -> str:
    """The diffusers folder that a path means: itself, the one of a ``model_index.json``, or the newest snapshot in a folder of the
    hub's cache. Other texts are left as they are."""
    path = Path(text)
    try:
        if path.name == INDEX and path.is_file():
            return str(path.parent)
        if (path / INDEX).exists() or not (path / "snapshots").is_dir():
            return text
        main = path / "refs" / "main"
        named = path / "snapshots" / main.read_text(encoding="utf-8").strip() if main.is_file() else path
        found = [each for each in (path / "snapshots").iterdir() if (each / INDEX).is_file()]
    except (OSError, ValueError):
        return text
    if named in found or not found:
        return str(named) if named in found else text
    return str(max(found, key=lambda each: each.stat().st_mtime))


def check_weights(folder: Path, title: str, *, half: bool) -> WeightForm:
    """The form of a network's weights that is loaded, looked into as far as the heads of its files. Raises ``ShotError`` for what
    is missing, damaged, or no weights at all."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    # of several forms some may be pointers of Git LFS, since only one was fetched
    sound = [name for name in names if not name.lower().endswith(WEIGHTS) or not explain_other_file(folder / name)]
    form = choose_form(sound if list_forms(sound) else names, half=half)
    if form is None:
        raise ShotError("model", f"The {title}'s folder {folder} has no weights; download the model again.")
    for name in form.files:
        path = folder / name
        if form.safe:
            read_weight_file(path)
        else:
            said = explain_other_file(path)
            if said:
                raise ShotError("model", f"The file {path} {said}.")
    if len(form.files) > 1:
        _check_shards(folder, form, names, title)
    return form


def _check_shards(folder: Path, form: WeightForm, names: Collection[str], title: str) -> None:
    """``ShotError`` for shards whose index is missing, damaged, or names others."""
    end = ".safetensors" if form.safe else ".bin"
    indices = [name for name in names if name.endswith(".json") and f"{end}.index" in name]
    fitting = [name for name in indices if not form.variant or form.variant in name.split(".")]
    if not fitting:
        raise ShotError(
            "model", f"The {title} in {folder} is in {len(form.files)} files, and their index is missing; download the model again."
        )
    for name in fitting:
        path = folder / name
        try:
            listed = _read_json(path, _MOST_SHARDS).get("weight_map")
        except (OSError, ValueError) as error:
            raise ShotError("model", f"The {title}'s {path} cannot be read ({error}); download the model again.") from error
        if not isinstance(listed, dict):
            raise ShotError("model", f"The {title}'s {path} lists no weights; download the model again.")
        strange = sorted({str(file) for file in listed.values()} - set(names))
        if strange:
            raise ShotError(
                "model",
                f"The {title}'s {path} names '{shorten(strange[0])}', which is not in the folder; download the model again.",
            )


def check_index(index: Mapping[str, Any], name: str, *, has_other_vae: bool = False) -> None:
    """Raise ``ShotError`` for a pipeline of a kind that is not known, by its list of parts. ``name`` is what it is called."""
    kind = shorten(str(index.get("_class_name", "")))
    parts = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    what = f"The model {name} is a {kind}" if kind else f"The model {name} is of a kind"
    layout = find_layout(index)
    if layout is not None:
        _check_layout(layout, parts, what, index.get(BOUNDARY), has_other_vae=has_other_vae)
        return
    if "unet" not in parts or ("vae" not in parts and not has_other_vae):
        raise ShotError("model", f"{what}, which is not supported; use one of {list_supported()}.")
    if "text_encoder" not in parts and "text_encoder_2" in parts:
        raise ShotError(
            "model", f"The model {name} is SDXL's refiner, which finishes what SDXL's base began; choose the base model."
        )
    if "text_encoder" not in parts:
        raise ShotError("model", f"{what} without a text encoder, which is not supported; use one of Stable Diffusion or SDXL.")
    wanted = {"unet": (_UNET,), "vae": VAES, "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection")}
    wanted["text_encoder_2"] = wanted["text_encoder"]
    for part, classes in wanted.items():
        if part in parts and parts[part] not in classes and not (part == "vae" and has_other_vae):
            raise ShotError(
                "model",
                f"{what} whose {TITLES[part]}, {shorten(str(parts[part]))}, is not supported; use one of Stable Diffusion or SDXL.",
            )


def _check_layout(layout: FamilyLayout, parts: Mapping[str, Any], what: str, boundary: Any, *, has_other_vae: bool) -> None:
    """``ShotError`` for a model of a family's denoiser whose other parts are not that family's. ``boundary`` is what its index says
    of where a second denoiser takes over."""
    is_told = isinstance(boundary, (int, float)) and not isinstance(boundary, bool) and 0 <= boundary <= 1
    if SECOND in parts and (not layout.has_pairs or not is_told or parts[SECOND] != layout.denoiser):
        raise ShotError(
            "model", f"{what} of two transformers that take turns, which is not supported; choose a {layout.title} with one."
        )
    missing = [
        part
        for part in ("vae", *layout.encoders, *layout.tokenizers)
        if part not in parts and not (part == "vae" and has_other_vae)
    ]
    if missing:
        raise ShotError("model", f"{what} without its {TITLES.get(missing[0], missing[0])}; download the model again.")
    if parts.get("vae") not in (*layout.vaes, None):
        raise ShotError(
            "model",
            f"{what} whose auto-encoder, {shorten(str(parts['vae']))}, is not {layout.title}'s; use one with {layout.vaes[0]}.",
        )


def find_layout_of_folder(folder: Path) -> FamilyLayout | None:
    """The layout of a diffusers folder; None for Stable Diffusion, SDXL, and what is not known. Raises ``ShotError``."""
    return find_layout(read_index(folder))


def check_base_config(config: Mapping[str, Any], name: str) -> None:
    """Raise ``ShotError`` for a UNet that wants something else than noise, a time and a text, by its configuration."""
    channels = config.get("in_channels", LATENT_CHANNELS)
    problem = explain_channels(channels) if channels != LATENT_CHANNELS else ""
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        problem = "It is a model for variations of pictures or for making them larger; choose a plain one."
    elif config.get("encoder_hid_dim_type") or config.get("addition_embed_type") not in (None, "text_time"):
        problem = "Its UNet wants other things than a text, which is not supported; choose one of Stable Diffusion or SDXL."
    elif config.get("addition_embed_type") == "text_time" and config.get("cross_attention_dim") == 1280:
        problem = "It is SDXL's refiner, which finishes what SDXL's base began; choose the base model."
    if problem:
        raise ShotError("model", f"The model {name} cannot be used. {problem}")


def find_vae_folder(folder: Path) -> Path:
    """The folder of an auto-encoder: itself, or that in a whole model's."""
    return folder if (folder / "config.json").exists() or not (folder / "vae" / "config.json").exists() else folder / "vae"


def check_vae_config(
    config: Mapping[str, Any], folder: Path, layout: FamilyLayout | None = None, denoiser: Mapping[str, Any] | None = None
) -> str:
    """The class of an auto-encoder by its configuration. Raises ``ShotError`` for one with other latents than those of the
    ``layout``, and of the ``denoiser`` with a configuration, or without a layout of Stable Diffusion and SDXL."""
    kind = str(config.get("_class_name", VAES[0]))
    if layout is not None:
        # what the classes take where a configuration leaves it out
        channels = config.get("latent_channels", config.get("z_dim", LATENT_CHANNELS if kind in VAES else layout.channels))
        wanted = layout.read_channels(denoiser or {})
        if kind not in layout.vaes or channels != wanted:
            raise ShotError(
                "model",
                f"The auto-encoder in {folder} is a {shorten(kind)} with latents of {channels} channels, and {layout.title}'s is a "
                f"{layout.vaes[0]} with {wanted}; download the model again.",
            )
        return kind
    channels = config.get("latent_channels", LATENT_CHANNELS)
    if kind not in VAES:
        raise ShotError("model", f"The auto-encoder in {folder} is a {shorten(kind)}, which is not known; choose another one.")
    if channels != LATENT_CHANNELS:
        raise ShotError(
            "model",
            f"The auto-encoder in {folder} makes latents of {channels} channels; those of Stable Diffusion and SDXL have "
            f"{LATENT_CHANNELS}, so choose one of theirs.",
        )
    return kind


def check_pipeline_folder(
    folder: Path, *, half: bool, has_other_control: bool, has_other_vae: bool = False, has_other_denoiser: bool = False
) -> tuple[str, ...]:
    """Whether a folder holds a whole model of a known kind, looked at without loading it: sentences about parts that are not used.
    Raises ``ShotError`` for what is missing, damaged or of another kind."""
    index = read_index(folder)
    check_index(index, folder.name, has_other_vae=has_other_vae)
    layout = find_layout(index)
    if has_other_denoiser and (index.get(SECOND) or [None])[0]:
        raise ShotError(
            "model", f"The folder {folder.name} has two transformers, and the file is one; name a folder with one behind parts=."
        )
    listed = {part for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    said = tuple[str, ...]()
    for part in list_parts(index):
        if part not in listed or (part == "controlnet" and has_other_control) or (part == "vae" and has_other_vae):
            continue
        if part == "controlnet" and not (folder / part / "config.json").exists() and any((folder / part).glob("*/config.json")):
            # several lie in folders of their own
            continue
        title = TITLES.get(part, "ControlNet")
        config = read_config(folder / part, title)
        if part in DENOISERS and has_other_denoiser:
            # its configuration is all that is needed
            continue
        if part == "unet":
            check_base_config(config, folder.name)
        elif part == "vae":
            tells = layout is not None and layout.tells_channels
            denoiser = read_config(folder / TRANSFORMER, "transformer") if tells else None
            check_vae_config(config, folder / part, layout, denoiser)
        elif part == TRANSFORMER and layout is not None:
            said += doubt_transformer(layout, config, index, folder)
        check_weights(folder / part, title, half=half)
    wordless = [
        part for part in _TOKENIZERS if layout is not None and part in listed and not _has_any(folder / part, _VOCABULARIES)
    ]
    if wordless:
        raise ShotError(
            "model", f"The model's {folder / wordless[0]} holds no words, as in a tokenizer.json; download the model again."
        )
    for path in (folder / part / name for part in _TOKENIZERS for name in TOKENIZER_FILES):
        try:
            if path.exists():
                _read_json(path, _MOST_SHARDS)
        except (OSError, ValueError) as error:
            raise ShotError("model", f"The model's {path} cannot be read ({error}); download the model again.") from error
    read_scheduler_config(folder)
    known = {*_KNOWN, SECOND} if layout is not None and layout.has_pairs else {*_KNOWN}
    left = sorted(part for part in listed - known if (folder / part).is_dir())
    if left:
        said += (f"The model's {', '.join(left)} {'have' if len(left) > 1 else 'has'} no use here and did not count.",)
    return said


def _has_any(folder: Path, names: Collection[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def name_folder(folder: Path) -> str:
    """What people call a diffusers folder: by its own name, or by its repository's in the hub's cache."""
    return folder.parent.parent.name.rpartition("--")[2] if folder.parent.name == "snapshots" else folder.name


def doubt_transformer(layout: FamilyLayout, config: Mapping[str, Any], index: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Sentences about what a folder's transformer is by names alone. Raises ``ShotError`` for one that sees another picture."""
    name = name_folder(folder)
    said = explain_editing(layout, name, str(index.get("_class_name", "")))
    if not layout.control or not sees_picture(layout, config):
        return said
    problem, guess = explain_seen(name)
    if problem:
        raise ShotError("model", f"{name} cannot be used. {problem}")
    return (guess, *said)


def describe_folder(folder: Path, family: str) -> ModelFile:
    """What a diffusers folder, or that of a single network, is; its ``problem`` says why it cannot be used. Raises ``ShotError``
    for other folders."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    whole = (folder / INDEX).exists()
    index = read_index(folder) if whole or not (folder / "config.json").exists() else {}
    config = index or read_config(folder, "network")
    kind = str(config.get("_class_name", "network"))
    layout = find_layout(index) or find_layout_of_control(config)
    parts = tuple(part for part in list_parts(index) if (folder / part).is_dir())
    problem, warnings = "", tuple[str, ...]()
    try:
        if whole:
            warnings = check_pipeline_folder(folder, half=False, has_other_control="controlnet" not in parts)
        else:
            check_weights(folder, "network", half=False)
    except ShotError as error:
        problem = str(error)
    of_family = f" of {FAMILIES[family]}" if family in ("sd1", "sd2", "sdxl") or layout is not None else ""
    what = f"a diffusers folder{of_family}" if whole else "the folder of one network"
    if layout is not None and not whole:
        what = f"a ControlNet for {layout.title}"
    is_motion = not whole and kind == MOTION
    if is_motion:
        what = "a motion module of AnimateDiff"
        why = explain_module(config)
        problem = f"It cannot be used: {why}; choose one for Stable Diffusion 1.x." if why else problem
    sentence = f"{folder.name} is {what} ({shorten(kind)}{', with ' + ', '.join(parts) if parts else ''})."
    if is_motion and not problem:
        sentence += f" It makes a model of clips of a Stable Diffusion 1.x, as in sd15|motion={folder.name}."
    if whole and not problem and layout is not None and layout.is_taught:
        sentence += f" It learns what depth is from its in-context LoRA: {folder.name}|depth=FILE."
    elif whole and not problem and layout is not None and sees_picture(layout, read_transformer_config(folder)):
        sentence += f" It sees the picture for {layout.kinds[0]} itself, and takes no ControlNet."
    elif layout is not None and whole and "controlnet" not in parts:
        sentence += f" It takes a ControlNet for {layout.title} ({layout.control}): {folder.name}|depth=CONTROLNET."
    return ModelFile(
        folder.name,
        size,
        "diffusers folder",
        "folder" if whole else "network",
        family=family,
        layout="diffusers",
        parts=parts,
        warnings=warnings,
        problem=problem,
        sentence=f"{sentence} {problem}".strip(),
    )


def read_transformer_config(folder: Path) -> dict[str, Any]:
    """The configuration of the transformer in a diffusers folder. Raises ``ShotError`` where there is no usable one."""
    return read_config(folder / TRANSFORMER, TITLES[TRANSFORMER])


def read_scheduler_config(folder: Path) -> dict[str, Any]:
    """A pipeline's ``scheduler_config.json``. Raises ``ShotError`` where there is no usable one."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        return _read_json(path, _MOST_CONFIGURATION)
    except (OSError, ValueError) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        raise ShotError("model", f"The model's {path} cannot be read ({reason}); download the model again.") from error
