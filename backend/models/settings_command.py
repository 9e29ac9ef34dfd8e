"""``latentman models settings``: a model's own settings, where each comes from, and the small file that holds those of the user."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from ...shared.console import Console
from ...shared.model_profile import OWN_SETTINGS, ModelProfile
from ...shared.pasted_paths import read_pasted_path
from ...shared.settings import SettingError
from ...shared.shot import ShotError
from .profiles import find_base_profile
from .recognition import inspect_model_file
from .registry import PRESETS, ModelSource, get_preset_name, is_weight_file
from .settings_files import (
    check_values,
    find_place_beside,
    find_place_of_user,
    find_settings,
    list_keys,
    read_settings_file,
    write_settings_file,
)

_NUMBERS: dict[str, type] = {"width": int, "height": int, "steps": int, "clip_skip": int, "guidance_scale": float}
_SWITCHES = ("zero_terminal_snr",)


def add_command(commands: Any) -> None:
    """Add ``settings`` beneath ``models``."""
    command = commands.add_parser(
        "settings",
        help="show a model's own settings and where they come from; with --write, keep others in a file beside it",
        examples=(
            ("latentman models settings model.safetensors", "what it is run with"),
            ("latentman models settings model.safetensors --steps 8 --write", "and from now on with eight steps"),
        ),
        allow_abbrev=False,
    )
    command.add_argument("model", metavar="MODEL", help="a file, a diffusers folder, a hub id, or a name such as sd15")
    for key, meaning in list_keys().items():
        option = "--" + key.replace("_", "-")
        if key in _SWITCHES:
            command.add_argument(option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=meaning)
        else:
            command.add_argument(option, type=_NUMBERS.get(key, str), default=argparse.SUPPRESS, help=meaning)
    command.add_argument(
        "--unset", action="append", default=[], metavar="KEY", help="leave it to the model; may be given several times"
    )
    command.add_argument("--write", action="store_true", help="write the settings file; without, it is only shown")
    command.add_argument(
        "--user", action="store_true", help="the file in the user's folder, which wins, not the one beside the model"
    )
    command.add_argument("--json", action="store_true", help="one line of JSON")
    command.set_defaults(run=edit_settings)


def edit_settings(args: argparse.Namespace) -> int:
    """Show, and with ``--write`` change, a model's settings file; 2 when that is not possible."""
    try:
        return _edit_settings(args)
    except ShotError as error:
        code, sentence = error.code, str(error)
    except SettingError as error:
        said = str(error)
        code, sentence = error.name, f"{said[:1].upper()}{said[1:]}."
    except OSError as error:
        code = "disk"
        sentence = f"The settings file cannot be written ({error}); use --user for the one in your own folder."
    if args.json:
        Console(True).emit("failed", code=code, message=sentence)
    else:
        print(sentence, file=sys.stderr)
    return 2


def _edit_settings(args: argparse.Namespace) -> int:
    part = args.model if args.model in PRESETS else read_pasted_path(args.model)
    if is_weight_file(part) and not Path(part).is_file():
        raise ShotError("model", f"There is no file {part}.")
    source = PRESETS.get(part) or ModelSource(part)
    preset = get_preset_name(source)
    place = find_place_of_user(source.base, preset) if args.user or preset else find_place_beside(source.base)
    place = place or find_place_of_user(source.base, preset)
    given = {key: value for key, value in vars(args).items() if key in list_keys()}
    values = read_settings_file(place) if place.is_file() else {}
    unknown = [key for key in args.unset if key not in list_keys()]
    if unknown:
        raise ShotError("model", f"There is no key '{unknown[0]}' to unset; use one of {', '.join(list_keys())}.")
    new = {key: value for key, value in (values | given).items() if key not in args.unset}
    changed = bool(given or args.unset)
    check_values(new)
    if args.write:
        write_settings_file(place, new)
    profile = find_part_profile(source.base)
    if args.json:
        told = msgspec.to_builtins(profile) if profile else None
        print(json.dumps({"model": part, "file": str(place), "written": args.write, "settings": new, "profile": told}))
        return 0
    if changed and not args.write:
        print(f"With --write, {place} will hold:")
        print(msgspec.json.format(msgspec.json.encode(new), indent=2).decode())
        return 0
    for line in write_profile(profile) if profile else write_settings(part):
        print(line)
    print(f"  settings file: {place}{'' if place.is_file() else ' (not there; --steps 30 --write makes one, for example)'}")
    return 0


def find_part_profile(part: str) -> ModelProfile | None:
    """The profile of a base model alone; None for a LoRA, a ControlNet and what else cannot make pictures. Raises ``ShotError``."""
    if is_weight_file(part) and inspect_model_file(Path(part)).kind not in ("checkpoint", "transformer"):
        return None
    return find_base_profile(part)


def write_profile(profile: ModelProfile) -> list[str]:
    """A profile for people: a line for each value, with where it comes from."""
    told = profile.origins
    lines = [f"  own size: {profile.width}x{profile.height} ({told.get('width', '')})"]
    named = [(f"own {key.replace('_', ' ')}", key) for key in (*OWN_SETTINGS, "spacing")]
    named += [(key.replace("_", " "), key) for key in ("prediction", "zero_terminal_snr", "distilled")]
    lines += [f"  {title}: {_write(getattr(profile, key))} ({told[key]})" for title, key in named if key in told]
    return lines


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def write_settings(part: str) -> list[str]:
    """What the settings files of a LoRA or a ControlNet say, a line for each key."""
    found = find_settings(part)
    return [f"  {key.replace('_', ' ')}: {_write(value)} ({found.places[key]})" for key, value in found.values.items()]
