"""The history in the box *Results*: settings that come back, names, stars, texts to copy, and what is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import msgspec
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ...shared import shot
from ...shared.files import read_file
from ..chosen_result import find_index, get_result_list, iter_results
from ..connection import connection
from ..error_places import Place
from ..moving import remember_move
from ..panel_base import CHARACTER_WIDTH, draw_name, draw_text
from ..panel_memory import PanelMemory, apply_memory, make_memory_of_request, read_memory
from ..paths import get_result_folder, make_stored_path, resolve
from ..properties import get_scene_settings
from ..removed_files import remove_files
from ..result_places import count_places
from ..result_properties import LatentManResult, get_scene_of
from ..result_shelf import shelf
from ..result_words import write_removal
from ..tasks.frames_folder import MAX_REPORT, REPORT, list_frames
from ..translation import tr
from ..translation.wrapping import wrap
from ..typed_access import OperatorResult, get_layout
from ..wardrobe import list_wearers
from .dialogs import FolderDialog
from .polls import NeedsResult
from .reports import report, report_with_warnings
from .results import get_result

#: pixels of the dialog of *Remove*, at a scale of 1
DIALOG_WIDTH = 420


class _Report(msgspec.Struct):
    """As much of a report as says what a shot was made with."""

    settings: shot.ShotRequest


def find_memory(result: LatentManResult) -> PanelMemory | None:
    """The settings that a result was made with: those that it keeps, or else those of the report beside its frames. None where
    there are neither, as with results of earlier versions whose files are gone."""
    memory = read_memory(result.panel)
    if memory is not None:
        return memory
    try:
        found = msgspec.json.decode(read_file(get_result_folder(result) / REPORT, MAX_REPORT), type=_Report)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return make_memory_of_request(get_scene_of(result), found.settings, result.character)


class RestoreSettings(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.restore_settings"
    bl_label = "Restore Settings"
    bl_description = "Give the panel the settings that this result was made with: prompt, seed, preset, model, techniques, frames"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Restore them in the result's scene."""
        result = get_result(context)
        scene = get_scene_of(result)
        memory = find_memory(result)
        if memory is None:
            settings: Any = get_scene_settings(scene)
            settings.prompt, settings.seed = result.prompt, result.seed
            report(
                self,
                {"WARNING"},
                "Only prompt and seed are restored: this result is of an earlier version, and its report is gone; Fetch Again "
                "brings that back.",
            )
            return {"FINISHED"}
        notes = apply_memory(scene, memory)
        reference = get_scene_settings(scene).reference
        if reference and not Path(bpy.path.abspath(reference)).is_file():
            notes.append(f"The reference picture {reference} is not there; choose it again.")
        camera = scene.camera.name if scene.camera is not None else ""
        if result.camera and result.camera != camera:
            notes.append(
                f"It was seen by the camera '{result.camera}', and the scene's camera is {repr(camera) if camera else 'none'}."
            )
        report_with_warnings(self, f"The panel has the settings of '{result.name}'", notes)
        return {"FINISHED"}


class RenameResult(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.rename_result"
    bl_label = "Rename Result"
    bl_description = "Give the result a name of its own; an empty one is its prompt"
    bl_options = {"REGISTER", "UNDO"}

    title: StringProperty(name="Name", description="The new name", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the name."""
        if context.window_manager is None:
            return {"CANCELLED"}
        self.title = get_result(context).name
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Rename it."""
        result = get_result(context)
        result.name = self.title.strip() or result.prompt
        return {"FINISHED"}


class StarResult(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.star_result"
    bl_label = "Star"
    bl_description = "Mark the result as one of the good ones, or take the mark away"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Switch the star."""
        result = get_result(context)
        result.starred = not result.starred
        return {"FINISHED"}


class _CopyText(NeedsResult):
    """Copies one of a result's texts."""

    def _copy(self, context: bpy.types.Context, text: str) -> OperatorResult:
        if context.window_manager is None:
            return {"CANCELLED"}
        context.window_manager.clipboard = text
        return {"FINISHED"}


class CopyPrompt(_CopyText, bpy.types.Operator):
    bl_idname = "latentman.copy_prompt"
    bl_label = "Copy Prompt"
    bl_description = "Copy the result's prompt"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Put it on the clipboard."""
        return self._copy(context, get_result(context).prompt)


class CopySeed(_CopyText, bpy.types.Operator):
    bl_idname = "latentman.copy_seed"
    bl_label = "Copy Seed"
    bl_description = "Copy the result's seed"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Put it on the clipboard."""
        return self._copy(context, str(get_result(context).seed))


class RemoveResult(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.remove_result"
    bl_label = "Remove"
    bl_description = "Take the result out of the list, and its files off the disk if wanted; what is in the job store stays there"
    bl_options = {"UNDO"}

    which: EnumProperty(
        name="Which",
        description="Which results are removed",
        items=(
            ("ACTIVE", "This One", "The chosen result"),
            ("UNSTARRED", "All Without a Star", "Every result of the scene that has no star"),
        ),
        options={"SKIP_SAVE"},
    )
    files: BoolProperty(
        name="Files, Too",
        description="Remove the frames, the movie, the texture and the report from the disk, too; other files in the folder stay",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask, with what it means."""
        if context.window_manager is None:
            return {"CANCELLED"}
        self._counts: dict[str, tuple[int, int, list[str]]] = {}
        return context.window_manager.invoke_props_dialog(self, width=DIALOG_WIDTH)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the question."""
        layout = get_layout(self)
        layout.prop(self, "which", expand=True)
        layout.prop(self, "files")
        chosen = self._list_chosen(context)
        if not chosen:
            draw_text(layout, "Every result has a star.")
            return
        if self.which not in self._counts:
            # found out once: the dialog is drawn many times
            folders = {get_result_folder(result) for result in chosen}
            wearers = sorted({name for folder in folders for name in list_wearers(folder)})
            frames = sum(len(list_frames(folder)) for folder in folders)
            self._counts[self.which] = sum(map(count_places, folders)), frames, wearers
        for sentence in write_removal([result.name for result in chosen], *self._counts[self.which], files=self.files):
            for line in wrap(tr(sentence), int(DIALOG_WIDTH / CHARACTER_WIDTH)):
                draw_name(layout, line)

    def _list_chosen(self, context: bpy.types.Context) -> list[LatentManResult]:
        result = get_result(context)
        if self.which == "ACTIVE":
            return [result]
        return [one for one in get_result_list(result) if not one.starred]

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Remove the entries, and the files of those whose files nothing else needs."""
        chosen = self._list_chosen(context)
        settings = get_scene_settings(get_scene_of(get_result(context)))
        if not chosen:
            report(self, {"ERROR"}, "Every result has a star; nothing is removed.")
            return {"CANCELLED"}
        warnings: list[str] = []
        places = sorted((find_index(result) for result in chosen), reverse=True)
        removed, active = 0, settings.active_result
        for place in places:
            folder = get_result_folder(settings.results[place])
            if self.files and (sentence := _take_files(settings.results[place])):
                warnings.append(sentence)
                continue
            settings.results.remove(place)
            shelf.forget([folder])
            removed += 1
            active -= place < active
        settings.active_result = max(0, min(active, len(settings.results) - 1))
        if not removed:
            report(self, {"ERROR"}, " ".join(warnings))
            return {"CANCELLED"}
        connection.errors.dismiss(Place.RESULT)
        report_with_warnings(self, f"Removed {removed} {'result' if removed == 1 else 'results'}", warnings)
        return {"FINISHED"}


class LocateResult(FolderDialog, NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.locate_result"
    bl_label = "Locate Folder..."
    bl_description = "Choose the folder that the result's frames were moved to; strips, nodes and materials that show them follow"
    bl_options = {"UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Have the result and what shows it name the chosen folder."""
        result = get_result(context)
        old, new = get_result_folder(result), resolve(self.directory)
        if not list_frames(new):
            report(self, {"ERROR"}, f"There are no frames in {new}; choose the folder with the numbered pictures.")
            return {"CANCELLED"}
        result.folder = make_stored_path(new, get_scene_settings(get_scene_of(result)).output)
        if old != new:
            remember_move(old, new)
        shelf.forget([old, new])
        connection.errors.dismiss(Place.RESULT)
        report(self, {"INFO"}, f"'{result.name}' is in {new}.")
        return {"FINISHED"}


def _take_files(result: LatentManResult) -> str:
    """Take a result's files away; a sentence where they and the result have to stay."""
    folder, task = get_result_folder(result), connection.shot_task
    if task is not None and not task.done and task.folder == folder:
        return f"The frames in {folder} are being made; cancel that first."
    other = next((one for one in iter_results() if one != result and get_result_folder(one) == folder), None)
    if other is not None:
        return f"'{other.name}' in the scene '{get_scene_of(other).name}' has the same files; remove that first, or keep the files."
    try:
        remove_files(folder)
    except OSError as error:
        return (
            f"The files in {folder} cannot be removed ({error.strerror or error}); allow it there, or remove the result without "
            "its files."
        )
    return ""


CLASSES = (RestoreSettings, RenameResult, StarResult, CopyPrompt, CopySeed, RemoveResult, LocateResult)
