"""A model's settings in a small file beside it, or in the user's folder: JSON with a few keys, which anybody can edit and share.

Beside ``dream.safetensors`` it is ``dream.latentman.json``, in a diffusers folder ``latentman.json``; in the user's folder it is
``models/NAME.latentman.json`` with the name of the file, of the folder, of the preset, or of the hub id with ``--`` for its
slash. Values of the user's folder win over those beside the model. Nothing in it is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ...shared.files import read_file, write_atomically
from ...shared.folders import config_folder
from ...shared.model_name import WEIGHTS as WEIGHTS
from ...shared.model_name import is_weight_file as is_weight_file
from ...shared.settings import Declared, SettingError, list_settings
from ...shared.shot import MAX_SIDE, MAX_STEPS, Sampling, ShotError, ShotRequest
from ..maps import FOR_NO_CONTROLNET, MAPS
from .names import DISTILLED

ENDING, IN_FOLDER = ".latentman.json", "latentman.json"
#: bytes of a settings file
MAX_FILE = 64 << 10
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
#: ``distilled`` of a model that was not, whatever its name says
NOT_DISTILLED = "none"
MOST_CLIP_SKIP = 32
#: keys that say how pictures are made unless a request says otherwise
OWN_KEYS = ("width", "height", "steps", "guidance_scale", "scheduler", "spacing", "negative_prompt", "clip_skip")
#: keys that overrule what was recognised
RECOGNISED_KEYS = ("prediction", "zero_terminal_snr", "distilled", "control")
#: for people
NOTE = "note"
_MEANINGS: dict[str, str] = {
    "width": "own width in pixels",
    "height": "own height in pixels",
    "steps": "denoising steps",
    "guidance_scale": "scale of classifier-free guidance; 1 is none",
    "scheduler": "how the steps are taken",
    "spacing": "which of the training's steps are taken",
    "negative_prompt": "what should not be seen, unless a shot says so itself",
    "clip_skip": "the layer of the text encoder that is taken, counted from its end",
    "prediction": "what the network predicts",
    "zero_terminal_snr": "whether no signal is left in the last noise level",
    "distilled": "how the model was distilled to few steps; none for one that was not",
    "control": "what a ControlNet is for",
    "note": "anything, for people",
}
_RANGES = {
    "width": f"from 8 to {MAX_SIDE}",
    "height": f"from 8 to {MAX_SIDE}",
    "steps": f"from 1 to {MAX_STEPS}",
    "guidance_scale": "above 0 and up to 1000",
}


def _list_choices() -> dict[str, tuple[str, ...]]:
    schedulers = next(declared for declared in list_settings(Sampling) if declared.name == "scheduler").setting.offered
    return {
        "scheduler": tuple(choice.value for choice in schedulers if choice.value),
        "spacing": SPACINGS,
        "prediction": PREDICTIONS,
        "distilled": (NOT_DISTILLED, *DISTILLED),
        "control": tuple(kind for kind in MAPS if kind not in FOR_NO_CONTROLNET),
    }


def list_keys() -> dict[str, str]:
    """Every key of a settings file, with what it means and may be."""
    choices = _list_choices()
    return {key: meaning + (f": {', '.join(choices[key])}" if key in choices else "") for key, meaning in _MEANINGS.items()}


def _find_declared(key: str) -> Declared | None:
    return next((declared for declared in list_settings(ShotRequest) if declared.name == key), None)


def check_value(key: str, value: Any) -> None:
    """Raise ``SettingError`` for a key that is unknown, or a value that it cannot have."""
    choices = _list_choices()
    if key not in _MEANINGS:
        raise SettingError(key, f"the key {_show(key)} is unknown; use {', '.join(_MEANINGS)}")
    if key in choices:
        if value not in choices[key]:
            raise SettingError(key, f"the value of '{key}' cannot be {_show(value)}; use {', '.join(choices[key])}")
    elif key == "zero_terminal_snr":
        if not isinstance(value, bool):
            raise SettingError(key, f"the value of '{key}' cannot be {_show(value)}; use true or false")
    elif key == "clip_skip":
        if type(value) is not int or not 0 <= value <= MOST_CLIP_SKIP:
            raise SettingError(key, f"the value of '{key}' cannot be {_show(value)}; use a whole number from 0 to {MOST_CLIP_SKIP}")
    elif key in ("width", "height", "steps", "guidance_scale"):
        declared = _find_declared(key)
        assert declared is not None
        given = value
        try:
            declared.check(value)
        except SettingError:
            value = None
        if not value:
            raise SettingError(key, f"the value of '{key}' cannot be {_show(given)}; use a number {_RANGES[key]}")
    else:
        declared = _find_declared("prompt")
        assert declared is not None
        if not isinstance(value, str):
            raise SettingError(key, f"the value of '{key}' cannot be {_show(value)}; use a text in quotes")
        try:
            declared.check(value)
        except SettingError as error:
            raise SettingError(key, f"the value of '{key}' cannot be used: {str(error).rstrip('.')}") from error


def _show(value: Any) -> str:
    return str(value) if isinstance(value, float) else msgspec.json.encode(value).decode()[:60]


def read_settings_file(path: Path) -> dict[str, Any]:
    """The keys of a settings file with their values. Raises ``ShotError`` for one that cannot be used, naming file and key."""
    try:
        text = read_file(path, MAX_FILE).decode("utf-8-sig")
        values = msgspec.json.decode(text.encode(), type=dict[str, Any])
    except OSError as error:
        raise _refuse(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _refuse(path, "it is not a text in UTF-8") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _refuse(path, f"it is not JSON with keys in braces ({str(error).rstrip('.')})") from error
    for key, value in values.items():
        try:
            check_value(key, value)
        except SettingError as error:
            raise _refuse(path, str(error)) from error
    return values


def _refuse(path: Path, reason: str) -> ShotError:
    return ShotError("model", f"The settings file {path} cannot be used: {reason}. Correct it, or remove it.")


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ``SettingError`` for what no settings file may hold."""
    for key, value in values.items():
        check_value(key, value)


def write_settings_file(path: Path, values: Mapping[str, Any]) -> None:
    """Write a settings file; without keys, remove it. Raises ``SettingError`` for what none may hold, and ``OSError``."""
    check_values(values)
    if not values:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = {key: values[key] for key in _MEANINGS if key in values}
    write_atomically(path, msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")


def find_place_beside(part: str) -> Path | None:
    """Where the settings file beside a part of a model is, or would be; None for what is not on this machine."""
    path = Path(part)
    # the functions of ``os`` answer for whatever text, too long ones for one
    if os.path.isdir(path):
        return path / IN_FOLDER
    if is_weight_file(part) and os.path.isdir(path.parent):
        return path.with_name(path.stem + ENDING)
    return None


def find_place_of_user(part: str, preset: str = "") -> Path:
    """Where the settings file of a part of a model is, or would be, in the user's folder."""
    if preset:
        name = preset
    elif is_weight_file(part):
        name = Path(part).stem
    elif os.path.isdir(part):
        name = Path(part).resolve().name
    else:
        name = part.replace("/", "--").replace("\\", "--").replace(":", "-")
    return config_folder() / "models" / (name[:200] + ENDING)


class FoundSettings(msgspec.Struct, frozen=True):
    """What the settings files of a part say: values by key, the file that each is from, and the files."""

    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    files: tuple[str, ...] = ()


def find_settings(part: str, preset: str = "") -> FoundSettings:
    """What the settings files of a base, LoRA or ControlNet say: the one beside it, and over it the one in the user's folder.

    ``preset`` is the name of the base, if it has one. Raises ``ShotError`` as ``read_settings_file``.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    files: list[str] = []
    for path in (find_place_beside(part), find_place_of_user(part, preset)):
        if path is None or not os.path.isfile(path):
            continue
        found = read_settings_file(path)
        # a size is one value in two keys
        if "width" in found or "height" in found:
            sides = [found.get("width"), found.get("height")]
            found["width"], found["height"] = sides[0] or sides[1], sides[1] or sides[0]
        found.pop(NOTE, None)
        values |= found
        places |= dict.fromkeys(found, str(path))
        files.append(str(path))
    return FoundSettings(values, places, tuple(files))
