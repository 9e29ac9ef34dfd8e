"""The box *Results*: into the sequencer, as a material, kept as the character's look, or opened as a folder."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...shared import shot
from .. import properties
from ..look import apply_look
from ..passes.render_set import get_bodies
from ..sequencer import add_image_strip
from ..tasks.shot import LOOK_FOLDER
from ..typed_access import OperatorResult, get_scene
from .polls import NeedsResult, Poll


def _get_result(context: bpy.types.Context) -> properties.LatentManResult:
    """The active result, which ``poll`` has checked."""
    result = properties.get_settings(context).find_active_result()
    assert result is not None
    return result


def _get_matching_character(operator: bpy.types.Operator, context: bpy.types.Context) -> bpy.types.Object | None:
    """The picked character if the active result shows it; otherwise None, and the operator reports that."""
    result = _get_result(context)
    character: bpy.types.Object | None = properties.get_settings(context).character
    if character is None or character.name != result.character:
        operator.report(
            {"ERROR"}, f"This look belongs to '{result.character}', whose surface it follows; pick that character first."
        )
        return None
    return character


class ResultToSequencer(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.to_sequencer"
    bl_label = "To Sequencer"
    bl_description = "Add the result's frames to the sequencer as an image strip, where the shot begins"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the strip on the first free channel."""
        result = _get_result(context)
        images = sorted(p for p in Path(result.folder).glob("*.png") if p.stem.lstrip("-").isdigit())
        try:
            add_image_strip(get_scene(context), images, result.start, result.prompt[:60], result.step)
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class ResultAsMaterial(Poll, bpy.types.Operator):
    bl_idname = "latentman.as_material"
    bl_label = "As Material"
    bl_description = "Put the look of the result on its character as a material, for the viewport and for renders"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a result of one character."""
        result = properties.get_settings(context).find_active_result()
        has_look = result is not None and bool(result.character)
        return has_look or cls.refuse("Generate a shot of one character first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Load the texture and make the material."""
        result, character = _get_result(context), _get_matching_character(self, context)
        if character is None:
            return {"CANCELLED"}
        path = Path(result.folder) / LOOK_FOLDER / "texture_1.png"
        try:
            if not path.is_file():
                raise shot.ShotError("texture", f"{path} is missing; generate the shot again.")
            apply_look(get_bodies(character), path, f"Look: {result.prompt[:50]}")
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class KeepLook(Poll, bpy.types.Operator):
    bl_idname = "latentman.keep_look"
    bl_label = "Keep Look"
    bl_description = "Give the character the look of this result from now on: in other shots, with other motions and other cameras"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a finished result of one character."""
        result = properties.get_settings(context).find_active_result()
        has_look = result is not None and bool(result.job and result.character)
        return has_look or cls.refuse("Generate a shot of one character with the preset Surface first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Store it on the character, so that it follows the character into other scenes and files."""
        result, character = _get_result(context), _get_matching_character(self, context)
        if character is None:
            return {"CANCELLED"}
        properties.set_kept_look(character, result.job, result.prompt)
        return {"FINISHED"}


class NewLook(Poll, bpy.types.Operator):
    bl_idname = "latentman.new_look"
    bl_label = "New Look"
    bl_description = "Let the prompt decide again how the character looks"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where no look is kept."""
        character = properties.get_settings(context).character
        has_look = character is not None and bool(properties.get_kept_look(character)[0])
        return has_look or cls.refuse("The character keeps no look")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Remove the look from the character."""
        properties.set_kept_look(properties.get_settings(context).character, "", "")
        return {"FINISHED"}


class OpenResultFolder(NeedsResult, bpy.types.Operator):
    bl_idname = "latentman.open_folder"
    bl_label = "Open Folder"
    bl_description = "Open the folder of the result's frames"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open the folder in the system's file browser."""
        folder = _get_result(context).folder
        if not Path(folder).is_dir():
            self.report({"ERROR"}, f"The folder {folder} is gone; generate the shot again.")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=folder)
        return {"FINISHED"}


CLASSES = (ResultToSequencer, ResultAsMaterial, KeepLook, NewLook, OpenResultFolder)
