"""The depth ControlNet for a model that comes without one: beside it on the disk, else its family's usual one of the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import time_ns

from ...shared.shot import ShotError
from .family_layouts import sees_picture
from .folder_reading import find_layout_of_folder, read_transformer_config
from .model_file import FAMILIES
from .recognition import inspect_model_file

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
    """The family of a diffusers folder by its list of parts and its UNet's configuration, empty for one that is not known."""
    try:
        layout = find_layout_of_folder(folder)
    except (ShotError, OSError):
        layout = None
    if layout is not None:
        return layout.name
    try:
        config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        width = config.get("cross_attention_dim")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return _CONTEXTS.get(width, "") if isinstance(width, int) else ""


def sees_depth(folder: Path) -> bool:
    """Whether the model in a diffusers folder sees the picture for depth itself, and takes no ControlNet."""
    try:
        return sees_picture(find_layout_of_folder(folder), read_transformer_config(folder))
    except (ShotError, OSError):
        return False


#: (base, family) -> the folders and files that were looked at with their times, and what was found: a path, or empty
_kept: dict[tuple[str, str], tuple[dict[Path, int], str]] = {}
_MOST_KEPT = 64
#: nanoseconds for which a folder must have been left alone, since clocks of file systems are coarse
_QUIET = 2 * 10**9


def find_usual_control(base: Path, family: str) -> str:
    """The path or hub id of a depth ControlNet for a base at a path. What was found is kept while nothing is written to the folders
    that were looked into. Raises ``ShotError`` where none is known."""
    times, found = _kept.get((str(base), family), ({}, ""))
    if not times or any(_read_time(path) != time for path, time in times.items()):
        times = {}
        found = _find_beside(base, family, times)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        if all(time < time_ns() - _QUIET for time in times.values()):
            _kept[str(base), family] = (times, found)
    if found:
        return found
    if family not in USUAL:
        raise ShotError(
            "model",
            f"Name a depth ControlNet for {FAMILIES.get(family, 'this kind of model')} as well: {base.name}|depth=CONTROLNET.",
        )
    return USUAL[family]


def _read_time(path: Path) -> int:
    """When something was last written to a file or a folder, in nanoseconds; 0 where there is nothing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _find_beside(base: Path, family: str, times: dict[Path, int]) -> str:
    """The path of a fitting ControlNet on the disk, empty without one. ``times`` gets the folders and files that were looked at."""
    for file in _list_candidates(base, times):
        try:
            found = inspect_model_file(file)
        except (ShotError, OSError):
            continue
        if found.kind == "controlnet" and found.family == family and not found.problem and found.control == "depth":
            return str(file)
    return ""


def _list_candidates(base: Path, times: dict[Path, int]) -> Iterator[Path]:
    """Files whose names speak of depth: beside the base, and where web UIs keep ControlNets. Their times, and those of the folders,
    are put into ``times`` before the folders are read."""
    folders = [base.parent]
    for above in (base.parent, base.parent.parent):
        times[above] = _read_time(above)
        try:
            folders += [path for path in sorted(above.iterdir()) if path.name.lower() in _FOLDERS and path.is_dir()]
        except OSError:
            continue
    for above in list(base.parents)[:3]:
        for name in _EXTENSIONS:
            # also one that is not there yet
            times |= {path: _read_time(path) for path in (above / name, *(above / name).parents) if path.is_relative_to(above)}
            folders += [above / name] if (above / name).is_dir() else []
    count = 0
    for folder in dict.fromkeys(folders):
        # people sort their ControlNets into folders of their own
        for path in sorted(_list_depth_files(folder, folder != base.parent, times)):
            if path != base and path.is_file() and count < _MOST_FILES:
                count += 1
                times[path] = _read_time(path)
                yield path


def _list_depth_files(folder: Path, deep: bool, times: dict[Path, int]) -> list[Path]:
    found = []
    for root, below, names in os.walk(folder):
        times[Path(root)] = _read_time(Path(root))
        found += [Path(root, name) for name in names if "depth" in name.lower() and name.lower().endswith(_SUFFIXES)]
        if not deep:
            below.clear()
    return found
