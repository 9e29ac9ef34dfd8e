"""The depth ControlNet for a model that comes without one: beside it on the disk, else its family's usual one of the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ...shared.shot import ShotError
from .recognition import FAMILIES, inspect_model_file

#: family -> the hub's ControlNet that people use with it
USUAL = {
    "sd1": "lllyasviel/control_v11f1p_sd15_depth",
    "sd2": "thibaud/controlnet-sd21-depth-diffusers",
    "sdxl": "diffusers/controlnet-depth-sdxl-1.0",
}
#: width of what the text gives a UNet -> family
_CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
#: folders of ControlNets beside a folder of checkpoints, and beside the folder above it, as web UIs lay them out
_FOLDERS = ("controlnet", "control_net", "controlnets")
_EXTENSIONS = ("extensions/sd-webui-controlnet/models",)
#: files with fitting names that are looked into
_MOST_FILES = 24
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def find_family_of_folder(folder: Path) -> str:
    """The family of a diffusers folder by its UNet's configuration, empty for one that is not known."""
    try:
        config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        width = config.get("cross_attention_dim")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return _CONTEXTS.get(width, "") if isinstance(width, int) else ""


def find_usual_control(base: Path, family: str) -> str:
    """The path or hub id of a depth ControlNet for a base at a path. Raises ``ShotError`` where none is known."""
    for file in _list_candidates(base):
        try:
            found = inspect_model_file(file)
        except (ShotError, OSError):
            continue
        if found.kind == "controlnet" and found.family == family and not found.problem and found.control == "depth":
            return str(file)
    if family not in USUAL:
        raise ShotError(
            "model",
            f"Name a depth ControlNet for {FAMILIES.get(family, 'this kind of model')} as well: {base.name}|depth=CONTROLNET.",
        )
    return USUAL[family]


def _list_candidates(base: Path) -> Iterator[Path]:
    """Files whose names speak of depth: beside the base, and where web UIs keep ControlNets."""
    folders = [base.parent]
    for above in (base.parent, base.parent.parent):
        try:
            folders += [path for path in sorted(above.iterdir()) if path.name.lower() in _FOLDERS and path.is_dir()]
        except OSError:
            continue
    for above in list(base.parents)[:3]:
        folders += [above / name for name in _EXTENSIONS if (above / name).is_dir()]
    count = 0
    for folder in dict.fromkeys(folders):
        # people sort their ControlNets into folders of their own
        listed = folder.iterdir() if folder == base.parent else folder.rglob("*")
        try:
            names = sorted(path for path in listed if path.suffix.lower() in _SUFFIXES and "depth" in path.name.lower())
        except OSError:
            continue
        for path in names:
            if path != base and path.is_file() and count < _MOST_FILES:
                count += 1
                yield path
