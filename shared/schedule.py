"""What of a shot's look changes from frame to frame: prompts that hold from a frame on, and the strength of the ControlNets.

A prompt holds from its frame on, as a keyframe does; a change that is blended takes the frames before it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec

from .settings import MAX_TEXT, Setting, SettingError, check_settings, is_text

#: prompts of a shot, with the one that it begins with
MAX_PROMPTS = 32
#: the strongest that ControlNets work, in one frame or in all
MAX_CONTROL = 1000
#: farther from 0 than the number of any frame
_NO_FRAME = 2**31
_MAX_BLEND = 10_000


class PromptKey(msgspec.Struct, frozen=True):
    """A prompt that holds from a scene frame on."""

    frame: int
    prompt: str


class Schedule(msgspec.Struct, frozen=True):
    """``prompts`` by their frames, in order: before the first the shot's own prompt holds. ``control_scales`` has one strength for
    each frame of the shot, or none where it is the same in all."""

    prompts: tuple[PromptKey, ...] = ()
    prompt_blend: Annotated[
        int,
        Setting(
            "Blend",
            "Frames before a prompt's own over which the prompt before it turns into it; 0 changes at once",
            ge=0,
            le=_MAX_BLEND,
            soft_max=100,
        ),
    ] = 0
    keep_place: Annotated[
        bool,
        Setting(
            "Keep Place",
            "Where frames share a texture, what is around the character stays as the first prompt has it, and the others should "
            "name the same place; off, each prompt has a place of its own, as in presets without a texture",
        ),
    ] = True
    control_scales: tuple[float, ...] = ()

    def select(self, rows: Iterable[int]) -> Schedule:
        """The schedule of the frames with these places in the shot."""
        if not self.control_scales:
            return self
        return msgspec.structs.replace(self, control_scales=tuple(self.control_scales[row] for row in rows))


class Mix(msgspec.Struct, frozen=True):
    """What is said to a frame: ``first`` alone where ``share`` is 0, and else so much of ``second``."""

    first: str
    second: str = ""
    share: float = 0.0

    @property
    def is_pure(self) -> bool:
        """Whether it is one prompt."""
        return self.share == 0

    @property
    def leading(self) -> str:
        """The prompt that there is more of."""
        return self.second if self.share >= 0.5 else self.first

    def list_prompts(self) -> tuple[str, ...]:
        """The one or two prompts of which there is something."""
        return (self.first,) if self.is_pure else (self.first, self.second)

    def get_share(self, prompt: str) -> float:
        """How much of a prompt there is, 0 to 1."""
        return (1 - self.share) * (prompt == self.first) + self.share * (prompt == self.second)


def mix_prompts(own: str, schedule: Schedule | None, frame: int) -> Mix:
    """What is said to a scene frame of a shot whose prompt is ``own``."""
    before, after = PromptKey(-_NO_FRAME, own), None
    for key in schedule.prompts if schedule is not None else ():
        if key.frame > frame:
            after = key
            break
        before = key
    if schedule is None or after is None or after.prompt == before.prompt:
        return Mix(before.prompt)
    blend = min(schedule.prompt_blend, after.frame - before.frame)
    done = frame - (after.frame - blend)
    return Mix(before.prompt, after.prompt, done / blend) if done > 0 else Mix(before.prompt)


def list_prompts(own: str, schedule: Schedule | None) -> tuple[str, ...]:
    """Every prompt of a shot once, its own first."""
    return tuple(dict.fromkeys((own, *(key.prompt for key in schedule.prompts)) if schedule is not None else (own,)))


def make_schedule(
    prompts: Iterable[tuple[int, str]] = (), control_scales: Sequence[float] = (), **settings: Any
) -> Schedule | None:
    """A schedule of (frame, prompt) in any order, with ``settings`` by name; None where nothing changes. Raises ``SettingError``
    for two prompts at a frame."""
    found: dict[int, str] = {}
    for frame, prompt in prompts:
        if frame in found:
            raise SettingError("prompt_at", f"There are two prompts from frame {frame} on; give each a frame of its own.")
        found[frame] = prompt
    keys = tuple(PromptKey(frame, found[frame]) for frame in sorted(found))
    if not keys and not control_scales:
        return None
    return Schedule(prompts=keys, control_scales=tuple(control_scales), **settings if keys else {})


def interpolate_control(keys: Iterable[tuple[int, float]], frames: Sequence[int]) -> tuple[float, ...]:
    """The control strength of each frame: evenly between keys (frame, strength), and as the nearest outside them; none without
    keys. Raises ``SettingError`` for two keys at a frame."""
    ordered = sorted(keys)
    for (frame, _), (after, _) in pairwise(ordered):
        if frame == after:
            raise SettingError("control_at", f"There are two control strengths at frame {frame}; give one.")
    if not ordered:
        return ()
    at = [frame for frame, _ in ordered]
    found = []
    for frame in frames:
        n = bisect_right(at, frame)
        (start, low), (end, high) = ordered[max(n - 1, 0)], ordered[min(n, len(at) - 1)]
        found.append(low if n == 0 or end <= start else low + (high - low) * (frame - start) / (end - start))
    return tuple(round(value, 6) for value in found)


def check_schedule(schedule: Schedule, frame_count: int) -> None:
    """Raise ``SettingError`` for a schedule that no shot of so many frames can have."""
    check_settings(schedule)
    if len(schedule.prompts) >= MAX_PROMPTS:
        raise SettingError(
            "prompt_at", f"The shot has {len(schedule.prompts) + 1} prompts; use at most {MAX_PROMPTS}, or make several shots."
        )
    for n, key in enumerate(schedule.prompts):
        if not key.prompt.strip():
            raise SettingError("prompt_at", f"The prompt from frame {key.frame} on is empty; describe the character and the place.")
        if len(key.prompt) > MAX_TEXT:
            raise SettingError(
                "prompt_at", f"The prompt from frame {key.frame} on has {len(key.prompt)} characters; use at most {MAX_TEXT}."
            )
        if not is_text(key.prompt):
            raise SettingError(
                "prompt_at", f"The prompt from frame {key.frame} on contains characters that no text has; type it again."
            )
        if abs(key.frame) >= _NO_FRAME or (n and key.frame <= schedule.prompts[n - 1].frame):
            raise SettingError("prompt_at", "The prompts are not in the order of their frames; put them into it.")
    scales = schedule.control_scales
    if scales and len(scales) != frame_count:
        raise SettingError("control_at", f"There are {len(scales)} control strengths for {frame_count} frames; give each one.")
    if any(not (math.isfinite(scale) and 0 <= scale <= MAX_CONTROL) for scale in scales):
        raise SettingError("control_at", f"A control strength is out of range; choose 0 to {MAX_CONTROL}.")
