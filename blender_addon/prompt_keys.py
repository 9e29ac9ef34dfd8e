"""What of the look changes from frame to frame: prompts with their frames, and the keyframes of the control strength."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import bpy
from bpy.props import IntProperty, StringProperty

from ..shared.schedule import Schedule, make_schedule, mix_prompts
from ..shared.settings import SettingError, list_settings
from ..shared.shot import Sampling, ShotError
from .compat import get_used_fcurves
from .declared_properties import read_values, shorten_float

#: where a scene has its settings, and the one of them that is read in each frame
_PLACE = "latentman."
_CONTROL = "control_scale"


class LatentManPromptKey(bpy.types.PropertyGroup):
    """A prompt that holds from a frame on."""

    frame: IntProperty(
        name="Frame", description="The first frame that is wholly under this prompt", options=set(), soft_min=0, soft_max=10_000
    )
    prompt: StringProperty(name="Prompt", description="What character and place look like from this frame on", options=set())


def list_prompt_keys(settings: Any) -> list[tuple[int, str]]:
    """(frame, prompt) of the panel's list, in the order of their frames; those without words are left out."""
    return sorted((key.frame, key.prompt.strip()) for key in settings.prompt_keys if key.prompt.strip())


def write_prompt_keys(settings: Any, keys: Iterable[tuple[int, str]]) -> None:
    """Make the panel's list say just this."""
    settings.prompt_keys.clear()
    for frame, prompt in keys:
        key = settings.prompt_keys.add()
        key.frame, key.prompt = frame, prompt


def _find_control_curve(scene: bpy.types.Scene) -> Any:
    """The keyframes of the control strength that count; None without any."""
    curves = (curve for curve in get_used_fcurves(scene) if curve.data_path == _PLACE + _CONTROL and not curve.mute)
    return next(curves, None)


def read_control_scales(scene: bpy.types.Scene, frames: Sequence[int]) -> tuple[float, ...]:
    """The control strength of each frame as it is keyframed; empty where it is not."""
    curve = _find_control_curve(scene)
    if curve is None:
        return ()
    # the curve may leave the range
    limits = next(declared.setting for declared in list_settings(Sampling) if declared.name == _CONTROL)
    low, high = limits.ge or 0.0, limits.le or math.inf
    return tuple(shorten_float(min(max(curve.evaluate(frame), low), high)) for frame in frames)


def read_schedule(scene: bpy.types.Scene, settings: Any, frames: Sequence[int]) -> Schedule | None:
    """What changes from frame to frame; None where nothing does. Raises ``ShotError`` for two prompts at one frame."""
    try:
        return make_schedule(list_prompt_keys(settings), read_control_scales(scene, frames), **read_values(settings, Schedule))
    except SettingError as error:
        raise ShotError(error.name, str(error)) from error


def explain_frame(scene: bpy.types.Scene, settings: Any, own: str) -> str:
    """What is said at the current frame, where the list has prompts; ``own`` is the shot's prompt."""
    frame = scene.frame_current
    try:
        schedule = make_schedule(list_prompt_keys(settings), **read_values(settings, Schedule))
    except SettingError as error:
        return str(error)
    if schedule is None:
        return ""
    mix = mix_prompts(own, schedule, frame)
    if mix.is_pure:
        return f"Frame {frame}: {shorten(mix.first)}"
    return f"Frame {frame}: {1 - mix.share:.0%} {shorten(mix.first, 60)}, {mix.share:.0%} {shorten(mix.second, 60)}"


def shorten(text: str, most: int = 200) -> str:
    """The beginning of a long text, and how long it is."""
    return text if len(text) <= most else f"{text[:most].rstrip()}… ({len(text)} characters)"


def explain_curves(scene: bpy.types.Scene) -> list[str]:
    """Sentences about settings with keyframes or drivers that do not count from frame to frame."""
    data = scene.animation_data
    if data is None:
        return []
    keyed = [curve.data_path for curve in get_used_fcurves(scene) if not curve.mute]
    frame, sentences = scene.frame_current, []
    names = _list_names(scene, [path for path in keyed if path != _PLACE + _CONTROL])
    if len(names) == 1:
        sentences.append(f"{names[0]} is keyframed; the value at frame {frame} is used for all frames.")
    elif names:
        sentences.append(f"{_join(names)} are keyframed; the values at frame {frame} are used for all frames.")
    names = _list_names(scene, [curve.data_path for curve in data.drivers])
    if len(names) == 1:
        sentences.append(f"{names[0]} is driven; the value at frame {frame} is used for all frames.")
    elif names:
        sentences.append(f"{_join(names)} are driven; the values at frame {frame} are used for all frames.")
    return sentences


def _list_names(scene: bpy.types.Scene, paths: Iterable[str]) -> list[str]:
    """The labels of those of the add-on's settings that have these data paths."""
    return list(dict.fromkeys(name for path in paths if (name := _name_setting(scene, path))))


def _name_setting(scene: bpy.types.Scene, path: str) -> str:
    """The label of one of the add-on's settings by its data path; empty for anything else."""
    if not path.startswith(_PLACE):
        return ""
    owner, _, name = path.rpartition(".")
    try:
        group: Any = scene.path_resolve(owner)
        label: str = group.bl_rna.properties[name].name
    except (ValueError, KeyError, AttributeError):
        return ""
    return label


def _join(names: Sequence[str]) -> str:
    """Two labels or more."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
