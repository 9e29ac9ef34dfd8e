"""Looking at results: played beside the viewport, compared, and their strips in the sequencer."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from ..chosen_result import find_chosen_result, get_result_list, iter_results, list_versions
from ..connection import connection
from ..editors import play, show_image, show_strip
from ..paths import get_result_folder
from ..result_properties import LatentManResult, get_scene_of
from ..result_words import shorten
from ..sequencer import GONE, find_strips
from ..shot_notice import notice
from ..typed_access import OperatorResult, get_scene
from ..viewer import close_viewer, find_range, list_titles, open_viewer
from .polls import NeedsResult, Poll
from .reports import report
from .results import get_result

#: results that the menu of *Compare* offers
MOST_OFFERED = 60

_items: list[tuple[str, str, str]] = []


def _show(
    operator: bpy.types.Operator,
    context: bpy.types.Context,
    result: LatentManResult,
    other: LatentManResult | None = None,
    *,
    start: bool,
) -> OperatorResult:
    """Bring a result, or two, onto the screen, and play the scene."""
    image = open_viewer(result, other)
    if image is None:
        report(operator, {"ERROR"}, GONE)
        return {"CANCELLED"}
    window, span, scene = context.window, find_range(), get_scene_of(result)
    sentences = [show_image(window, image)] if window is not None else []
    if scene != context.scene:
        sentences.append(f"It follows the frames of the scene '{scene.name}'; choose that scene to see it move.")
    elif span is not None:
        if not span[0] <= scene.frame_current <= span[1]:
            scene.frame_set(span[0])
        first, last = scene.frame_start, scene.frame_end
        if scene.use_preview_range:
            first, last = scene.frame_preview_start, scene.frame_preview_end
        if last < span[0] or first > span[1]:
            sentences.append(f"The shot has the frames {span[0]} to {span[1]}, and the scene plays {first} to {last}.")
    if start and window is not None:
        play(window)
    if sentences:
        report(operator, {"INFO"}, " ".join(sentences))
    return {"FINISHED"}


class PlayResult(Poll, bpy.types.Operator):
    bl_idname = "latentman.play_result"
    bl_label = "Play"
    bl_description = "Play the result in an Image Editor beside the viewport, along with the scene"

    ticket: StringProperty(
        name="Task", description="The task that made it; empty is the chosen result", options={"HIDDEN", "SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where there is no result at all."""
        return next(iter_results(), None) is not None or cls.refuse("Generate a shot first")

    def _find(self, context: bpy.types.Context) -> LatentManResult | None:
        if self.ticket:
            return next((one for one in iter_results() if one.ticket == self.ticket), None)
        return find_chosen_result(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Pressed by hand the scene plays, too."""
        return self._play(context, start=True)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Show it."""
        return self._play(context, start=False)

    def _play(self, context: bpy.types.Context, *, start: bool) -> OperatorResult:
        result = self._find(context)
        if result is None:
            report(self, {"ERROR"}, "This result is not in the list any more; choose another one.")
            return {"CANCELLED"}
        if result.ticket == notice.ticket:
            notice.dismiss()
            connection.redraw(at_once=True)
        return _show(self, context, result, start=start)


def _list_others(self: Any, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    """The results to compare with, other versions of the shot first."""
    result = find_chosen_result(context) if context is not None else None
    _items.clear()
    if result is not None:
        results, versions = get_result_list(result), list_versions(result)
        places = [(one not in versions, -n, n) for n, one in enumerate(results) if one != result]
        for _, _, n in sorted(places)[:MOST_OFFERED]:
            one = results[n]
            star = "★ " if one.starred else ""
            _items.append((str(n), f"{star}{shorten(one.name, 50)} · {one.seed}", shorten(one.prompt)))
    # Blender keeps no reference to the strings, so the module's list does
    return _items or [("NONE", "There is no other result", "")]


class CompareResults(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.compare_results"
    bl_label = "Compare With"
    bl_description = "Show the result and another one by a wipe or next to each other, in an Image Editor beside the viewport"
    bl_property = "other"

    other: EnumProperty(name="Other", description="The result to compare with", items=_list_others)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse with one result alone."""
        if not super().poll(context):
            return False
        result = find_chosen_result(context)
        return (result is not None and len(get_result_list(result)) > 1) or cls.refuse("There is no other result to compare with")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Show both."""
        result = get_result(context)
        results = get_result_list(result)
        if not self.other.isdigit() or int(self.other) >= len(results):
            report(self, {"ERROR"}, "There is no such result; choose another one.")
            return {"CANCELLED"}
        return _show(self, context, result, results[int(self.other)], start=False)


class CloseViewer(Poll, bpy.types.Operator):
    bl_idname = "latentman.close_viewer"
    bl_label = "Close"
    bl_description = "Show no result in the Image Editor any more"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where nothing is shown."""
        return bool(list_titles()) or cls.refuse("No result is shown")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take the image away."""
        close_viewer()
        return {"FINISHED"}


class ShowInSequencer(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.show_in_sequencer"
    bl_label = "Show in Sequencer"
    bl_description = "Select the strip that shows this result, in a workspace with a sequencer"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Select and show it, wherever it is."""
        result = get_result(context)
        folder, here = get_result_folder(result), get_scene(context)
        scenes = [here, *(one for one in bpy.data.scenes if one != here)]
        found = next(((scene, strips[0]) for scene in scenes if (strips := find_strips(scene, folder))), None)
        if found is None:
            report(self, {"ERROR"}, "No strip shows this result; press To Sequencer.")
            return {"CANCELLED"}
        scene, strip = found
        if scene != here:
            report(self, {"INFO"}, f"The strip '{strip.name}' is in the scene '{scene.name}'; choose that scene to see it.")
        hint = show_strip(context.window, scene, strip, switch=True)
        if hint:
            report(self, {"WARNING"}, hint)
        return {"FINISHED"}


class DismissNotice(bpy.types.Operator):
    bl_idname = "latentman.dismiss_notice"
    bl_label = "Dismiss"
    bl_description = "Take the line about the finished shot away"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take it away."""
        notice.dismiss()
        connection.redraw(at_once=True)
        return {"FINISHED"}


CLASSES = (PlayResult, CompareResults, CloseViewer, ShowInSequencer, DismissNotice)
