"""Which result a button is about: that of the sequencer's active strip where it is pressed there, else the list's active one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy

from .compat import find_active_strip, get_sequencer_scene
from .paths import get_result_folder
from .properties import get_scene_settings
from .references import Reference, refer_to
from .result_properties import LatentManResult, get_scene_of, make_shot_key
from .sequencer import get_strip_folder

#: the editor whose active strip counts
SEQUENCER = "SEQUENCE_EDITOR"


@dataclass(frozen=True)
class ResultReference:
    """A result by its scene, its folder and its task, which survive undo, renaming and what is done to the list."""

    scene: Reference
    ticket: str
    stored_folder: str

    def find(self) -> LatentManResult | None:
        """The result as it is now; None where it is not in the list any more."""
        scene = self.scene.find()
        results = get_scene_settings(scene).results if scene is not None else ()
        found = [one for one in results if one.ticket == self.ticket and (self.ticket or one.folder == self.stored_folder)]
        return found[0] if found else None


def refer_to_result(result: LatentManResult) -> ResultReference:
    """A reference that can be kept from one event to the next."""
    return ResultReference(refer_to(get_scene_of(result)), result.ticket, result.folder)


def iter_results() -> Iterator[LatentManResult]:
    """The results of every scene."""
    for scene in bpy.data.scenes:
        yield from get_scene_settings(scene).results


def find_strip_result(strip: Any) -> LatentManResult | None:
    """The result that a strip shows, of whichever scene; None for other strips, and where the result was removed."""
    folder = get_strip_folder(strip)
    if folder is None:
        return None
    job = str(strip.get("latentman_job", ""))
    # comparing names is quick, finding folders out is not
    named = [result for result in iter_results() if job and result.job == job]
    return next((result for result in (named or iter_results()) if get_result_folder(result) == folder), None)


def is_our_strip(strip: Any) -> bool:
    """Whether a strip was made from a result, be it in the list or not."""
    return strip is not None and (strip.get("latentman_job") is not None or strip.get("latentman_prompt") is not None)


def is_in_sequencer(context: bpy.types.Context) -> bool:
    """Whether a button is pressed in the sequencer."""
    area: Any = getattr(context, "area", None)
    return area is not None and area.type == SEQUENCER


def find_context_strip(context: bpy.types.Context) -> Any:
    """The sequencer's active strip, wherever the context is."""
    return find_active_strip(get_sequencer_scene(context))


def find_chosen_result(context: bpy.types.Context) -> LatentManResult | None:
    """The result that a button is about; None where there is none."""
    if is_in_sequencer(context):
        strip = find_context_strip(context)
        found = find_strip_result(strip) if strip is not None else None
        if found is not None:
            return found
    scene = context.scene
    return get_scene_settings(scene).find_active_result() if scene is not None else None


def get_result_list(result: LatentManResult) -> Any:
    """The list of its scene that a result stands in."""
    return get_scene_settings(get_scene_of(result)).results


def find_index(result: LatentManResult) -> int:
    """A result's place in its scene's list."""
    return next(n for n, one in enumerate(get_result_list(result)) if one == result)


def list_versions(result: LatentManResult) -> list[LatentManResult]:
    """The results of the same shot, this one among them, in the order in which they were made."""
    key = make_shot_key(result)
    return [one for one in get_result_list(result) if make_shot_key(one) == key]
