"""Results: into the sequencer, or opened as a folder."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...shared import shot
from .. import properties
from ..look import put_on
from ..passes.subjects import bodies_of
from ..sequencer import add_image_strip
from ..tasks.shot import LOOK


def _active(context) -> properties.LatentManResult | None:
    settings = properties.of(context)
    if 0 <= settings.active_result < len(settings.results):
        return settings.results[settings.active_result]
    return None


def _own_character(operator: bpy.types.Operator, context) -> bpy.types.Object | None:
    """The picked character, if the active result shows it; else None, and the operator says so."""
    result, character = _active(context), properties.of(context).character
    if character is None or character.name != result.character:
        operator.report(
            {"ERROR"}, f"This look belongs to '{result.character}', whose surface it follows; pick that character first."
        )
        return None
    return character


class ResultToSequencer(bpy.types.Operator):
    """Add the result's frames to the sequencer as an image strip, where the shot begins"""

    bl_idname = "latentman.to_sequencer"
    bl_label = "To Sequencer"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs a result."""
        cls.poll_message_set("Generate a shot first")
        return _active(context) is not None

    def execute(self, context):
        """Add the strip on the first free channel."""
        result = _active(context)
        images = sorted(p for p in Path(result.folder).glob("*.png") if p.stem.lstrip("-").isdigit())
        try:
            add_image_strip(context.scene, images, result.start, result.prompt[:60], result.step)
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class ResultAsMaterial(bpy.types.Operator):
    """Put the look of the result's frames on its character as a material, to be seen in the viewport and rendered"""

    bl_idname = "latentman.as_material"
    bl_label = "As Material"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs a result of one character."""
        result = _active(context)
        cls.poll_message_set("Generate a shot of one character first")
        return result is not None and bool(result.character)

    def execute(self, context):
        """Load the texture, make the material."""
        result, character = _active(context), _own_character(self, context)
        if character is None:
            return {"CANCELLED"}
        path = Path(result.folder) / LOOK / "texture_1.png"
        try:
            if not path.is_file():
                raise shot.ShotError("texture", f"{path} is not there; generate the shot again.")
            put_on(bodies_of(character), path, f"Look: {result.prompt[:50]}")
        except shot.ShotError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class KeepLook(bpy.types.Operator):
    """Dress the character as in this result from now on: in other shots, with other motions and other cameras"""

    bl_idname = "latentman.keep_look"
    bl_label = "Keep Look"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs a finished result of one character."""
        result = _active(context)
        cls.poll_message_set("Generate a shot of one character with the preset Surface first")
        return result is not None and bool(result.job and result.character)

    def execute(self, context):
        """Write it on the character, so that it goes with it into other scenes and files."""
        result, character = _active(context), _own_character(self, context)
        if character is None:
            return {"CANCELLED"}
        character.latentman_look, character.latentman_look_prompt = result.job, result.prompt
        return {"FINISHED"}


class NewLook(bpy.types.Operator):
    """Let the prompt decide again what the character looks like"""

    bl_idname = "latentman.new_look"
    bl_label = "New Look"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Only where a look is kept."""
        character = properties.of(context).character
        cls.poll_message_set("The character keeps no look")
        return character is not None and bool(character.latentman_look)

    def execute(self, context):
        """Forget it."""
        character = properties.of(context).character
        character.latentman_look = character.latentman_look_prompt = ""
        return {"FINISHED"}


class OpenResultFolder(bpy.types.Operator):
    """Open the folder with the result's frames"""

    bl_idname = "latentman.open_folder"
    bl_label = "Open Folder"

    @classmethod
    def poll(cls, context):
        """Needs a result."""
        cls.poll_message_set("Generate a shot first")
        return _active(context) is not None

    def execute(self, context):
        """Hand the folder to the desktop."""
        folder = _active(context).folder
        if not Path(folder).is_dir():
            self.report({"ERROR"}, f"The folder {folder} is gone; generate the shot again.")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=folder)
        return {"FINISHED"}


CLASSES = (ResultToSequencer, ResultAsMaterial, KeepLook, NewLook, OpenResultFolder)
