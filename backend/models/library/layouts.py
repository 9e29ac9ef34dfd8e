"""How other programs lay their models out: which folders below one that the user names are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ....shared.files import read_file
from .yaml_subset import YamlError, read_sections

#: the name of a folder in lower case -> what lies in it, of ComfyUI, and of AUTOMATIC1111's web interface and Forge
COMFYUI = (
    *("checkpoints", "loras", "controlnet", "vae", "vae_approx", "embeddings", "diffusers", "unet", "diffusion_models"),
    *("ipadapter", "clip_vision", "clip", "text_encoders", "style_models", "animatediff_models", "animatediff_motion_lora"),
)
A1111 = ("stable-diffusion", "lora", "lycoris", "controlnet", "vae", "vae-approx", "embeddings", "ipadapter", "text_encoder")
#: places of ControlNets, textual inversions and motion modules beside ``models``
A1111_BESIDE = ("embeddings", "extensions/sd-webui-controlnet/models", "extensions/sd-webui-animatediff/model")
EXTRA_PATHS = "extra_model_paths.yaml"
MAX_EXTRA = 256 << 10
#: at most so many folders are named by an ``extra_model_paths.yaml``
MAX_PLACES = 200


def find_layout(folder: Path) -> str:
    """comfyui, a1111 or plain: by the folders below, or those around it where the user has named an inner one."""
    for root in (folder, folder.parent):
        models = root / "models"
        if os.path.isdir(models / "checkpoints") or os.path.isfile(root / EXTRA_PATHS) or os.path.isdir(root / "comfy"):
            return "comfyui"
        if any(os.path.isdir(models / name) for name in ("Stable-diffusion", "Lora")):
            return "a1111"
    if os.path.isdir(folder / "checkpoints"):
        return "comfyui"
    return "a1111" if os.path.isdir(folder / "Stable-diffusion") else "plain"


def list_places(folder: Path, layout: str) -> tuple[list[Path], list[str]]:
    """(folders to read, sentences about what could not be read). Only folders that are there."""
    notices: list[str] = []
    if layout == "comfyui":
        places = list(_list_below(folder, COMFYUI))
        more, notices = _read_extra_paths(folder)
        places += more
    elif layout == "a1111":
        places = list(_list_below(folder, A1111))
        places += [folder / name for name in A1111_BESIDE if os.path.isdir(folder / name)]
    else:
        places = [folder]
    # a folder named twice is read once, and so is one that lies in another
    named = list(dict.fromkeys(places))
    unique = [place for place in named if not any(place != other and place.is_relative_to(other) for other in named)]
    return unique, notices


def _list_below(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for root in (folder / "models", folder):
        try:
            found = sorted(path for path in root.iterdir() if path.name.lower() in names and os.path.isdir(path))
        except OSError:
            continue
        yield from found


def _read_extra_paths(folder: Path) -> tuple[list[Path], list[str]]:
    """The folders that ComfyUI's own list of further folders names."""
    path = next((place / EXTRA_PATHS for place in (folder, folder.parent) if os.path.isfile(place / EXTRA_PATHS)), None)
    if path is None:
        return [], []
    try:
        sections = read_sections(read_file(path, MAX_EXTRA).decode("utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        return [], [f"{path} cannot be read ({error}); add the folders that it names one by one."]
    places: list[Path] = []
    notices: list[str] = []
    for section, values in sections.items():
        named = _find_named(path, values)
        there = [place for place in named if os.path.isdir(place)]
        if named and not there:
            # of a web interface many folders are usually not there; all of them are not where the first line leads nowhere
            notices.append(
                f"None of the folders that '{section}' in {path} names is there, such as {named[0]}; correct its base_path."
            )
        places += there
    if len(places) > MAX_PLACES:
        notices.append(f"{path} names more than {MAX_PLACES} folders, of which the first are read; add the others one by one.")
    return places[:MAX_PLACES], notices


def _find_named(path: Path, values: Mapping[str, Sequence[str]]) -> list[Path]:
    """The folders of models that a section names, whether or not they are there."""
    base = os.path.join(path.parent, _expand(next(iter(values.get("base_path", ())), "")))
    return [
        Path(os.path.normpath(os.path.join(base, _expand(one))))
        for kind, named in values.items()
        if kind.lower() in (*COMFYUI, *A1111)
        for one in named
    ]


def _expand(text: str) -> str:
    """A path as ComfyUI reads it: with the home folder for ``~``, and variables of the environment."""
    return os.path.expandvars(os.path.expanduser(text))
