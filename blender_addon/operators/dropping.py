"""Files that are dropped into the 3D viewport: motions onto the character, and models into the library.

Where Blender's own importers, or those of another add-on, take a file, too, Blender asks which one is meant. It hands over files
only: a folder that is dropped reaches no add-on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import CollectionProperty, EnumProperty, StringProperty

from ...shared import messages
from ...shared.library import PARTS
from ...shared.model_name import WEIGHTS, add_part, set_base
from .. import properties
from ..connection import connection
from ..model_file_kind import guess_kind
from ..motion.readers import SUFFIXES
from ..panel_base import draw_name
from ..rigging import scene_files
from ..typed_access import OperatorResult, get_layout
from .dialogs import show_settings_dialog
from .library import start_task
from .reports import report

NO_CHARACTER = "Pick a character first, or add the mannequin, and drop the file again."


def is_viewport(context: bpy.types.Context) -> bool:
    """Whether the mouse is over a 3D viewport."""
    return context.area is not None and context.area.type == "VIEW_3D"


class _TakesFiles:
    """The files that Blender hands to an operator."""

    filepath: StringProperty(
        name="File", subtype="FILE_PATH", description="The file that was dropped", options={"HIDDEN", "SKIP_SAVE"}
    )
    directory: StringProperty(
        name="Folder", subtype="DIR_PATH", description="The folder of the files that were dropped", options={"HIDDEN", "SKIP_SAVE"}
    )
    files: CollectionProperty(
        type=bpy.types.OperatorFileListElement,
        name="Files",
        description="The names of the files that were dropped",
        options={"HIDDEN", "SKIP_SAVE"},
    )

    def list_paths(self) -> list[Path]:
        """The files as whole paths."""
        names = [file.name for file in self.files if file.name]
        if names and self.directory:
            return [Path(bpy.path.abspath(self.directory)) / name for name in names]
        return [Path(bpy.path.abspath(self.filepath))] if self.filepath else []


class DropMotion(_TakesFiles, bpy.types.Operator):
    bl_idname = "latentman.drop_motion"
    bl_label = "Drop Motion"
    bl_description = "Import the motion files that were dropped, as keyframes on the character"
    bl_options = {"INTERNAL"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Show the settings of the import, or say what is missing."""
        return self._import(context, "INVOKE_DEFAULT")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Import them with the usual settings."""
        return self._import(context, "EXEC_DEFAULT")

    def _import(self, context: bpy.types.Context, call: str) -> OperatorResult:
        paths = self.list_paths()
        if not paths:
            return {"CANCELLED"}
        if properties.get_settings(context).find_armature() is None:
            report(self, {"ERROR"}, NO_CHARACTER)
            return {"CANCELLED"}
        operators: Any = bpy.ops
        several: dict[str, Any] = {}
        if len(paths) > 1:
            several = {"directory": str(paths[0].parent), "files": [{"name": path.name} for path in paths]}
        operators.latentman.import_motion(call, filepath=str(paths[0]), **several)
        return {"FINISHED"}


class MotionFileHandler(bpy.types.FileHandler):
    """Imports motion files that are dropped into the 3D viewport."""

    bl_idname = "LATENTMAN_FH_motion"
    bl_label = "LatentMan motion"
    bl_import_operator = "latentman.drop_motion"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept files also without a character, to say that one is missing."""
        return is_viewport(context)


class SceneFileHandler(bpy.types.FileHandler):
    """Imports the motion of files that other importers take, too; without a character it does not take part."""

    bl_idname = "LATENTMAN_FH_scene_motion"
    bl_label = "LatentMan motion onto character"
    bl_import_operator = "latentman.drop_motion"
    bl_file_extensions = ";".join((*scene_files.SUFFIXES, ".vmd"))

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept files only where the character can be animated."""
        return is_viewport(context) and properties.get_settings(context).find_armature() is not None


#: what a dropped file of weights can be used as; the library, which looks closer, is for all others
_USES = (
    ("LIBRARY", "Add Its Folder to the Library", "Read the folder that it is in, with all other models there, where it is"),
    ("CHECKPOINT", "Use as Model", "Make it the model; its LoRAs and ControlNets stay"),
    ("LORA", "Add as LoRA", "Add it to the model, with a strength in the box Models"),
    ("VAE", "Use as Decoder (VAE)", "Have the model's pictures decoded by it"),
    ("MOTION_MODULE", "Add as Motion Module", "Have the frames of a Stable Diffusion 1.x see each other, by AnimateDiff"),
    ("EMBEDDING", "Add as Textual Inversion", "Add its words to those that the prompt can use"),
)


class DropModel(_TakesFiles, bpy.types.Operator):
    bl_idname = "latentman.drop_model"
    bl_label = "Drop Model"
    bl_description = (
        "Use model files that were dropped in the model, or read their folder into the library; for a folder, use Add Folder"
    )
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    use: EnumProperty(name="Use", items=_USES, description="What the file is used as", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask what they are for; by the file's own names where it tells."""
        paths = self.list_paths()
        kinds = {guess_kind(path).upper() for path in paths}
        if len(kinds) == 1 and (kind := kinds.pop()) in {use for use, *_ in _USES}:
            self.use = kind
        return show_settings_dialog(self, context)

    def draw(self, context: bpy.types.Context) -> None:
        """Name the files, and ask."""
        column = get_layout(self).column()
        for path in self.list_paths()[:8]:
            draw_name(column, path.name, "FILE")
        column.prop(self, "use", text="")
        if self.use == "LIBRARY" and (paths := self.list_paths()):
            draw_name(column, str(paths[0].parent), "FILE_FOLDER")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write them into the model's name, or ask the backend to read their folder."""
        paths = self.list_paths()
        if not paths:
            return {"CANCELLED"}
        if self.use == "LIBRARY":
            return self._add_folder(paths[0])
        if odd := next((path for path in paths if "|" in str(path)), None):
            report(self, {"ERROR"}, f"The path {odd} has a bar (|) in it, which parts a model's name; rename it.")
            return {"CANCELLED"}
        if self.use == "CHECKPOINT" and len(paths) > 1:
            report(self, {"ERROR"}, "Only one file can be the model; drop that alone.")
            return {"CANCELLED"}
        settings: Any = properties.get_settings(context)
        for path in paths:
            if self.use == "CHECKPOINT":
                settings.model = set_base(settings.model, str(path))
            else:
                strength = 1.0 if self.use == "LORA" else None
                settings.model = add_part(settings.model, PARTS[self.use.lower()], str(path), strength)
        report(self, {"INFO"}, f"The model is {settings.model} now")
        return {"FINISHED"}

    def _add_folder(self, path: Path) -> OperatorResult:
        if not connection.connected:
            report(self, {"ERROR"}, "The backend, which keeps the library, is not running; press Start and drop the file again.")
            return {"CANCELLED"}
        if connection.library_task is not None and not connection.library_task.done:
            report(self, {"ERROR"}, "The library is at work; wait or cancel it, and drop the file again.")
            return {"CANCELLED"}
        folder = str(path.parent)
        start_task(lambda ticket: messages.ChangeLibrary(ticket=ticket, action="add", name=folder), "reading the folder")
        report(self, {"INFO"}, f"Reading {folder} into the library")
        return {"FINISHED"}


class ModelFileHandler(bpy.types.FileHandler):
    """Takes model files that are dropped into the 3D viewport."""

    bl_idname = "LATENTMAN_FH_model"
    bl_label = "LatentMan model"
    bl_import_operator = "latentman.drop_model"
    bl_file_extensions = ";".join(WEIGHTS)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept files over a viewport."""
        return is_viewport(context)


CLASSES = (DropMotion, MotionFileHandler, SceneFileHandler, DropModel, ModelFileHandler)
