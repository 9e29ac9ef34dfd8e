"""Presets of the whole of a look or a method: which settings they hold, and the files that Blender's own preset menus list.

A file is a line of Python that loads the preset, as Blender's presets are, and is read here without being run. What a preset holds
comes from the settings as they are declared.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import bpy
import msgspec

from ..shared.files import read_file, write_atomically
from ..shared.pasted_paths import read_pasted_path
from ..shared.schedule import Schedule
from ..shared.settings import list_settings
from ..shared.shot import ShotError, ShotRequest, Text
from .panel_memory import (
    Value,
    join_settings,
    list_former_choices,
    read_group_values,
    read_technique_values,
    write_group_values,
    write_technique_values,
)
from .paths import get_file_folder
from .prompt_keys import list_prompt_keys, write_prompt_keys
from .prompt_texts import PROMPTS, read_prompt, unlink_texts
from .properties import FROM_SCENE, LatentManSettings, complete_model
from .technique_properties import PRESET, LatentManTechniques

#: bytes of a preset's file
_MAX_FILE = 1 << 20
#: settings of how the model is sampled that belong to a look
_LOOK_SAMPLING = ("model", "seed")
#: settings of a shot that are neither look nor method, and of the panel's own those that are of the method
_SIZE, _METHOD_OF_PANEL = ("width", "height"), ("matching", "keep_background")
#: prompts by frame that a preset has at most; a frame as Blender's properties hold it
_MOST_PROMPTS = 1000
Frame = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
#: what a preset that has no prompts by frame is older than
_PROMPTS = "prompts_by_frame"
_FOLDER = Path(__file__).resolve().parent
#: the presets that come with the extension
SHIPPED = _FOLDER / "presets"


class PresetValues(msgspec.Struct, frozen=True, omit_defaults=True):
    """A preset's settings by name. ``techniques`` are those that are not as the method's preset has them, ``plugins`` of other
    packages; a preset ``from_defaults`` leaves out what is the default. ``prompts`` are a look's *Prompts by Frame*, None in
    presets of other kinds or older than them."""

    kind: str
    values: dict[str, Value]
    techniques: dict[str, dict[str, Value]] = {}
    plugins: str = ""
    from_defaults: bool = False
    prompts: Annotated[tuple[tuple[Frame, str], ...], msgspec.Meta(max_length=_MOST_PROMPTS)] | None = None


@dataclass(frozen=True)
class PresetKind:
    """``names`` are the settings that its presets hold, ``folder`` is where Blender keeps the files."""

    name: str
    folder: str
    names: tuple[str, ...]

    @property
    def has_techniques(self) -> bool:
        """Whether its presets hold techniques, too."""
        return self is METHOD


def _list_look_names() -> tuple[str, ...]:
    return (*(one.name for struct in (Text, Schedule) for one in list_settings(struct)), *_LOOK_SAMPLING)


def _list_method_names() -> tuple[str, ...]:
    left_out = {*_list_look_names(), *_SIZE, *FROM_SCENE}
    return (*(one.name for one in list_settings(ShotRequest) if one.name not in left_out), *_METHOD_OF_PANEL)


LOOK = PresetKind("LOOK", "latentman/look", _list_look_names())
METHOD = PresetKind("METHOD", "latentman/method", _list_method_names())
KINDS = {kind.name: kind for kind in (LOOK, METHOD)}


def read_values(settings: LatentManSettings, kind: PresetKind) -> PresetValues:
    """What the panel has of a kind. Paths are whole, so that they lead to the same file from any other."""
    values = {name: value for name, value in read_group_values(settings).items() if name in kind.names}
    for prompt in PROMPTS:
        if prompt in values:
            values[prompt] = read_prompt(settings, prompt)
    if "model" in values:
        values["model"] = complete_model(str(values["model"]))
    if values.get("reference"):
        values["reference"] = read_pasted_path(str(values["reference"]), get_file_folder())
    if not kind.has_techniques:
        return PresetValues(kind.name, values, prompts=tuple(list_prompt_keys(settings)))
    techniques: LatentManTechniques = settings.techniques
    return PresetValues(kind.name, values, read_technique_values(techniques), techniques.plugins)


def load_values(settings: LatentManSettings, preset: PresetValues) -> list[str]:
    """Give the panel what a preset holds. Settings that it does not know get their defaults. Returns sentences about what this
    version knows otherwise. Raises ``ShotError`` for a preset of no known kind."""
    kind = KINDS.get(preset.kind)
    if kind is None:
        raise ShotError("preset", f"The preset is one of '{preset.kind[:40]}', which this version does not know; update it.")
    notes, had_prompts = list_former_choices(preset.values), False
    if kind is LOOK:
        unlink_texts(settings)
        had_prompts = bool(list_prompt_keys(settings))
        # those of the look before would hide this one's prompt
        write_prompt_keys(settings, preset.prompts or ())
    new = [name for name in kind.names if name not in preset.values]
    for name in new:
        settings.property_unset(name)
    if kind is LOOK and preset.prompts is None and had_prompts:
        new.append(_PROMPTS)
    known = {name: value for name, value in preset.values.items() if name in kind.names}
    unknown = [name for name in preset.values if name not in known]
    unknown += write_group_values(settings, known)
    if kind.has_techniques:
        unknown += _load_techniques(settings.techniques, preset)
    if unknown:
        notes.append(f"This version does not know these settings of the preset, and leaves them out: {join_settings(unknown)}.")
    if new and not preset.from_defaults:
        notes.append(f"The preset is older than these settings, which have their defaults now: {join_settings(new)}.")
    return notes


def _load_techniques(techniques: LatentManTechniques, preset: PresetValues) -> list[str]:
    # a use that this version does not know is left out, and not the one of before
    for one in techniques.iter_techniques():
        one.group.use = PRESET
    return write_technique_values(techniques, preset.techniques, preset.plugins)


def write_preset(path: Path, preset: PresetValues) -> None:
    """Write a preset's file. Raises ``OSError``."""
    data = msgspec.json.format(msgspec.json.encode(preset), indent=1).decode()
    # ASCII alone, with escapes, so that every value comes back as it was
    text = f"import bpy\n\nbpy.ops.latentman.load_values(values={data!a})\n"
    write_atomically(path, text.encode("ascii"))


def read_preset(path: Path) -> PresetValues:
    """The preset in a file, which is not run. Raises ``ShotError`` for anything else."""
    try:
        tree = ast.parse(read_file(path, _MAX_FILE))
        found = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and _get_called(node) == "load_values")
        return decode_values(next(ast.literal_eval(word.value) for word in found.keywords if word.arg == "values"))
    except (OSError, ValueError, SyntaxError, StopIteration, RecursionError, MemoryError) as error:
        if isinstance(error, ShotError):
            raise
        raise ShotError("preset", f"The preset {path.stem} cannot be read; remove it, and add it again.") from error


def _get_called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def decode_values(text: Any) -> PresetValues:
    """The values in a preset's file. Raises ``ShotError`` for anything else."""
    try:
        return msgspec.json.decode(text, type=PresetValues)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError) as error:
        raise ShotError("preset", "These are no values of a preset; remove it, and add it again.") from error


def register() -> None:
    """Have Blender list the presets that come with the extension."""
    bpy.utils.register_preset_path(str(_FOLDER))


def unregister() -> None:
    """The opposite."""
    bpy.utils.unregister_preset_path(str(_FOLDER))
