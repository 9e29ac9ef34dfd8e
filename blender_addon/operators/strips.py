"""The sequencer's side: another version of the shot in the strip's place, and the shot made again."""

from __future__ import annotations

import random
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ...shared import shot
from ..chosen_result import find_context_strip, find_index, find_strip_result, is_our_strip, iter_results
from ..compat import get_sequencer_scene
from ..panel_memory import use_memory
from ..passes.camera import find_camera
from ..properties import get_scene_settings
from ..result_places import show_version
from ..result_properties import LatentManResult, get_scene_of
from ..typed_access import OperatorResult
from .generate import start_task
from .polls import NeedsIdleConnection, NeedsResult, Poll
from .reports import report, report_with_warnings
from .result_list import find_memory
from .results import get_result


class NeedsStrip(Poll):
    """The sequencer's active strip shows a result."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without such a strip."""
        if not is_our_strip(find_context_strip(context)):
            return cls.refuse("Select a strip of a generated shot first")
        return super().poll(context)


class StripVersion(NeedsStrip, bpy.types.Operator):
    bl_idname = "latentman.strip_version"
    bl_label = "Show Version"
    bl_description = "Have the strip show this version of its shot, where it is and as it is cut"
    bl_options = {"REGISTER", "UNDO"}

    ticket: StringProperty(name="Task", description="The task that made the version", options={"SKIP_SAVE"})
    folder: StringProperty(name="Folder", description="The version's folder as it is stored", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Change what the strip shows."""
        strip, scene = find_context_strip(context), get_sequencer_scene(context)
        found = next(
            (one for one in iter_results() if one.ticket == self.ticket and (not self.folder or one.folder == self.folder)), None
        )
        if found is None or scene is None:
            report(self, {"ERROR"}, "This version is not in the list any more; choose another one.")
            return {"CANCELLED"}
        try:
            notes = show_version(scene, strip, found)
        except (shot.ShotError, OSError) as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        report_with_warnings(self, f"The strip shows '{found.name}'", notes)
        return {"FINISHED"}


class ChooseStripResult(NeedsStrip, bpy.types.Operator):
    bl_idname = "latentman.choose_strip_result"
    bl_label = "Choose in Results"
    bl_description = "Choose the strip's result in the list of the panel's box Results"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Make it the list's active one."""
        result = find_strip_result(find_context_strip(context))
        if result is None:
            report(self, {"ERROR"}, "The result of this strip was removed from the list.")
            return {"CANCELLED"}
        scene = get_scene_of(result)
        get_scene_settings(scene).active_result = find_index(result)
        report(self, {"INFO"}, f"'{result.name}' is chosen in the scene '{scene.name}'.")
        return {"FINISHED"}


def find_obstacle(result: LatentManResult) -> str:
    """Why a result cannot be made again as it was; empty where it can."""
    scene = get_scene_of(result)
    if result.character and scene.objects.get(result.character) is None:
        return (
            f"There is no '{result.character}' in the scene '{scene.name}' any more; press Restore Settings, and pick another one."
        )
    if result.camera:
        try:
            camera = find_camera(scene, result.start).name
        except shot.ShotError as error:
            return str(error)
        if camera != result.camera:
            return (
                f"The shot was seen by '{result.camera}', and the scene's camera is '{camera}'; make that one active, or press "
                "Restore Settings and Generate for a new shot."
            )
    return ""


class MakeAgain(NeedsIdleConnection, NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.make_again"
    bl_label = "Make Again"
    bl_description = (
        "Generate this shot again from the scene as it is now, with the settings that the result was made with; the panel's stay. "
        "Strips that show the shot show the new frames"
    )

    new_seed: BoolProperty(
        name="New Seed",
        description="Use another seed, for another version of the shot; strips stay as they are",
        options={"SKIP_SAVE"},
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task with the result's settings; the timer does the rest."""
        result = get_result(context)
        scene = get_scene_of(result)
        memory, obstacle = find_memory(result), find_obstacle(result)
        if memory is None:
            obstacle = "This result does not say what it was made with; press Restore Settings, and generate it from the panel."
        if obstacle or memory is None:
            report(self, {"ERROR"}, obstacle)
            return {"CANCELLED"}
        override: dict[str, Any] = {"scene": scene}
        if scene != context.scene:
            override["view_layer"] = scene.view_layers[0]
        with use_memory(scene, memory) as notes, bpy.context.temp_override(**override):
            settings: Any = get_scene_settings(scene)
            if self.new_seed:
                used = {one.seed for one in settings.results}
                settings.seed = next(seed for _ in range(1000) if (seed := random.randrange(2**31)) not in used)
            done = start_task(self, bpy.context, settings.get_frames(scene), False)
        if done == {"FINISHED"} and notes:
            report(self, {"WARNING"}, " ".join(notes))
        return done


CLASSES = (StripVersion, ChooseStripResult, MakeAgain)
