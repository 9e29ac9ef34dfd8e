"""The panel's settings as a text that a result keeps, and the way back: *Restore Settings* and *Make Again*.

Properties are found as Blender knows them, so that new ones are kept without being named here; choices are kept by their names.
What another version of the extension does not know any more is told instead of guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bpy
import msgspec

from ..shared import shot
from ..shared.schedule import Schedule
from ..shared.settings import list_parts, list_settings
from .compat import get_stored_values
from .declared_properties import UNNAMED
from .prompt_keys import list_prompt_keys, write_prompt_keys
from .prompt_texts import PROMPTS, link_texts, list_texts, read_prompt, unlink_texts
from .properties import FROM_SCENE, LatentManSettings, get_kept_look, get_scene_settings, set_kept_look
from .technique_properties import CUSTOM, OFF, PRESET, LatentManTechniques

#: what is no setting of a shot, or only another view of one
_LEFT_OUT = {"name", "results", "active_result", "output", "clip", "motion", "keying", "plants", "parts", "source", "character"}
_LEFT_OUT_STARTS = ("follow_", "own_", "show_", "use_scene_aspect")
_LEFT_OUT_ENDS = ("_text_was",)
_TECHNIQUES = "techniques"
_SIMPLE = ("BOOLEAN", "INT", "FLOAT", "STRING", "ENUM")

#: a property's value as JSON has it
Value = bool | int | float | str | list[Any]
_CHOICES = {declared.name: declared for declared in list_settings(shot.ShotRequest) if declared.setting.choices}


class PanelMemory(msgspec.Struct, frozen=True):
    """The panel's settings by name; techniques that are as the preset has them are left out.

    ``frames`` are the first, the last and the step that were generated, ``look`` and ``look_prompt`` the look that the character
    kept. ``prompts`` hold from a frame on.
    """

    values: dict[str, Value]
    techniques: dict[str, dict[str, Value]] = {}
    plugins: str = ""
    character: str = ""
    frames: tuple[int, int, int] = (0, 0, 1)
    look: str = ""
    look_prompt: str = ""
    prompts: tuple[tuple[int, str], ...] = ()


def _iter_values(group: Any) -> Iterator[tuple[str, Value]]:
    for found in group.bl_rna.properties:
        name = found.identifier
        if (
            name in _LEFT_OUT
            or name.startswith(_LEFT_OUT_STARTS)
            or name.endswith(_LEFT_OUT_ENDS)
            or found.is_readonly
            or found.type not in _SIMPLE
        ):
            continue
        value = getattr(group, name)
        if name in _CHOICES and value == "":
            # Blender says nothing of a choice that this version does not offer; what is used in its place counts
            value = _CHOICES[name].default or UNNAMED
        if getattr(found, "is_enum_flag", False):
            yield name, sorted(value)
        elif getattr(found, "is_array", False):
            yield name, list(value)
        else:
            yield name, value


def read_group_values(group: Any) -> dict[str, Value]:
    """The values of a group of properties by name, choices by theirs, without what is no setting."""
    return dict(_iter_values(group))


def make_memory(scene: bpy.types.Scene) -> PanelMemory:
    """The settings of a scene's panel as they are now."""
    settings = get_scene_settings(scene)
    techniques: LatentManTechniques = settings.techniques
    character = settings.character
    look, look_prompt = get_kept_look(character) if character is not None else ("", "")
    frames = settings.get_frames(scene)
    values = read_group_values(settings)
    # what is written in a text is kept by its words: the text may say something else later
    values |= {name: read_prompt(settings, name) for name in PROMPTS}
    return PanelMemory(
        values,
        read_technique_values(techniques),
        techniques.plugins,
        character.name if character is not None else "",
        (frames[0], frames[-1], settings.get_frame_step(scene)) if frames else (0, 0, 1),
        look,
        look_prompt,
        tuple(list_prompt_keys(settings)),
    )


def capture_panel(scene: bpy.types.Scene) -> str:
    """The settings of a scene's panel as JSON."""
    return write_memory(make_memory(scene))


def write_memory(memory: PanelMemory) -> str:
    """A memory as JSON."""
    return _write_json(memory)


def read_memory(text: str) -> PanelMemory | None:
    """What was captured; None where there is nothing that can be read."""
    try:
        return msgspec.json.decode(text, type=PanelMemory)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def list_former_choices(values: Mapping[str, Value]) -> list[str]:
    """Sentences about the choices of a shot's settings that are offered no more, in whose place others are set."""
    notes = []
    for name, value in values.items():
        declared = _CHOICES.get(name)
        if declared is not None and isinstance(value, str) and declared.setting.find_successor(value) != value:
            new = declared.find_label(declared.setting.find_successor(value))
            notes.append(f"{declared.setting.label}: '{declared.find_label(value)}' is no longer offered; '{new}' takes its place.")
    return notes


def write_group_values(group: Any, values: Mapping[str, Value]) -> list[str]:
    """Set those values of a group of properties that fit, with successors in place of choices that are offered no more; returns the
    names of the others."""
    unknown = []
    for name, value in values.items():
        if name not in group.bl_rna.properties or name in _LEFT_OUT:
            unknown.append(name)
            continue
        if name in _CHOICES and isinstance(value, str):
            value = _CHOICES[name].setting.find_successor(value)
        try:
            setattr(group, name, set(value) if getattr(group.bl_rna.properties[name], "is_enum_flag", False) else value)  # type: ignore[arg-type]
        except (TypeError, ValueError, AttributeError):
            unknown.append(name)
    return unknown


def read_technique_values(techniques: LatentManTechniques) -> dict[str, dict[str, Value]]:
    """The settings of the techniques that are not as the preset has them, by the techniques' names."""
    return {one.name: read_group_values(one.group) for one in techniques.iter_techniques() if one.group.use != PRESET}


def write_technique_values(techniques: LatentManTechniques, values: Mapping[str, Mapping[str, Value]], plugins: str) -> list[str]:
    """Set what ``read_technique_values`` has read, and those of other packages; other techniques are as the preset has them then.
    Returns the names of what does not fit."""
    known = {one.name: one.group for one in techniques.iter_techniques()}
    for name, group in known.items():
        if name not in values:
            group.use = PRESET
    unknown = []
    for name, own in values.items():
        if name not in known:
            unknown.append(name)
            continue
        # choosing Set Here writes the preset's values, so that it comes first
        use, rest = own.get("use", CUSTOM), {key: value for key, value in own.items() if key != "use"}
        unknown += write_group_values(known[name], {"use": use}) + write_group_values(known[name], rest)
    techniques.plugins = plugins
    return unknown


def join_settings(names: Iterable[str]) -> str:
    """The names of settings as people read them, each once."""
    return ", ".join(name.replace("_", " ") for name in dict.fromkeys(names))


def apply_memory(scene: bpy.types.Scene, memory: PanelMemory) -> list[str]:
    """Give a scene's panel the settings of a memory, and its character the look that was kept. The character is picked again where
    it is in the scene, the range where it is another one than now. Returns sentences about what could not be restored."""
    settings, notes = get_scene_settings(scene), list_former_choices(memory.values)
    unlink_texts(settings)
    unknown = write_group_values(settings, memory.values)
    write_prompt_keys(settings, memory.prompts)
    unknown += write_technique_values(settings.techniques, memory.techniques, memory.plugins)
    _apply_range(scene, settings, memory.frames)
    if memory.character:
        notes += _apply_character(scene, settings, memory)
    if unknown:
        words = join_settings(unknown)
        notes.append(f"This version does not know these settings as they were, and leaves them as they are: {words}.")
    return notes


def _apply_range(scene: bpy.types.Scene, settings: LatentManSettings, frames: tuple[int, int, int]) -> None:
    first, last, step = frames
    if last < first or (first, last, step) == (0, 0, 1):
        return
    now = settings.get_frames(scene)
    if now == tuple(range(first, last + 1, max(step, 1))):
        return
    # the scene's own range is the user's
    settings.use_scene_range = False
    settings.frame_start, settings.frame_end, settings.frame_step = first, last, max(step, 1)


def _apply_character(scene: bpy.types.Scene, settings: LatentManSettings, memory: PanelMemory) -> list[str]:
    found = scene.objects.get(memory.character)
    if found is None or found.type not in ("ARMATURE", "MESH"):
        return [f"There is no '{memory.character}' in the scene any more; the character stays as it is picked."]
    settings.character = found
    if get_kept_look(found)[0] != memory.look:
        try:
            set_kept_look(found, memory.look, memory.look_prompt)
        except (AttributeError, TypeError):
            return [f"'{found.name}' is linked, so that the look that it keeps stays as it is."]
    return []


def make_memory_of_request(scene: bpy.types.Scene, request: shot.ShotRequest, character: str) -> PanelMemory:
    """A memory of what a request says, for results that an earlier version of the extension has made: the rest stays as the panel
    has it now."""
    settings = get_scene_settings(scene)
    values: dict[str, Any] = {}
    for declared in list_settings(shot.ShotRequest):
        if declared.name in FROM_SCENE:
            continue
        value: Any = request
        for name in declared.path:
            value = getattr(value, name)
        values[declared.name] = value or UNNAMED if declared.setting.choices else value
    techniques: dict[str, dict[str, Value]] = {}
    method, own = request.get_method(), shot.METHODS.get(request.preset)
    if own is None:
        values.pop("preset", None)
    values["matching"] = PRESET if own is None or method.matching == own.matching else method.matching
    values["keep_background"] = False
    for name in list_parts(shot.Method):
        part = getattr(method, name)
        if own is None or part != getattr(own, name):
            techniques[name] = {"use": OFF} if part is None else {"use": CUSTOM, **msgspec.structs.asdict(part)}
    common = {declared.name: getattr(method, declared.name) for declared in list_settings(shot.Method) if len(declared.path) == 1}
    common.pop("matching", None)
    if own is None or any(getattr(own, name) != value for name, value in common.items()):
        techniques["common"] = {"use": CUSTOM, **common}
    values["size_from"] = settings.size_from
    plugins = "; ".join(
        f"{name}:{','.join(f'{key}={_write_json(one)}' for key, one in inner.items())}" for name, inner in method.plugins.items()
    )
    frames = request.frames
    step = frames[1] - frames[0] if len(frames) > 1 else 1
    schedule = request.get_schedule() or Schedule()
    values |= {one.name: getattr(schedule, one.name) for one in list_settings(Schedule)}
    prompts = tuple((key.frame, key.prompt) for key in schedule.prompts)
    span = (frames[0], frames[-1], step) if frames else (0, 0, 1)
    return PanelMemory(values, techniques, plugins, character, span, prompts=prompts)


def _write_json(value: Value | PanelMemory) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def use_memory(scene: bpy.types.Scene, memory: PanelMemory) -> Iterator[list[str]]:
    """Within the block the panel has the settings of a memory; afterwards those that it had, and the same character and range."""
    settings = get_scene_settings(scene)
    before, character = make_memory(scene), settings.character
    lines, texts = {name: getattr(settings, name) for name in PROMPTS}, list_texts(settings)
    looks = {one.name: get_kept_look(one) for one in (character, scene.objects.get(memory.character)) if one is not None}
    span = (settings.use_scene_range, settings.frame_start, settings.frame_end, settings.frame_step)
    # choices that this version does not offer stay in the file
    strange = {name: get_stored_values(settings)[name] for name in _CHOICES if getattr(settings, name) == ""}
    try:
        yield apply_memory(scene, memory)
    finally:
        apply_memory(scene, before)
        write_group_values(settings, lines)
        link_texts(settings, texts)
        settings.character = character
        settings.use_scene_range, settings.frame_start, settings.frame_end, settings.frame_step = span
        for name, number in strange.items():
            get_stored_values(settings)[name] = number
        for name, look in looks.items():
            found = scene.objects.get(name)
            if found is not None and get_kept_look(found) != look:
                set_kept_look(found, *look)
