"""The box *Character*: the mannequin, SMPL files, and a camera that sees the character."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from ...shared import shot
from .. import preferences, properties
from ..camera_framing import explain_fixed, find_used_camera, frame_character
from ..character.body_model import MANNEQUIN, BodyModelError, load
from ..kept_framing import book as framing_book
from ..passes.render_set import get_bodies
from ..rigging.characters import add_character
from ..standing import stand_at_cursor
from ..typed_access import OperatorResult, get_scene
from .dialogs import ImportDialog
from .polls import NeedsCharacter, NeedsObjectMode
from .reports import report


def _stand_free(operator: bpy.types.Operator, context: bpy.types.Context, armature: bpy.types.Object) -> None:
    """Put a new character at the 3D cursor, or as near as what stands there allows, and say where."""
    words = stand_at_cursor(context, armature)
    if words:
        report(operator, {"INFO"}, words)


class AddMannequin(NeedsObjectMode, bpy.types.Operator):
    bl_idname = "latentman.add_mannequin"
    bl_label = "Add Mannequin"
    bl_description = (
        "Add the built-in body at the 3D cursor, beside what stands there: an armature and a skinned mesh with UVs and shape keys"
    )
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the body and pick it as the character."""
        armature = add_character(context, load(MANNEQUIN), "Mannequin")
        _stand_free(self, context, armature)
        properties.get_settings(context).character = armature
        return {"FINISHED"}


class LoadSmpl(NeedsObjectMode, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.load_smpl"
    bl_label = "Load SMPL..."
    bl_description = "Load an SMPL body model file (.pkl or .npz) as the character"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.pkl;*.npz", description="Which files the dialog lists", options={"HIDDEN"})
    shapes: IntProperty(
        name="Shapes", default=10, min=0, max=400, description="How many of the model's shape components become sliders"
    )
    correctives: BoolProperty(
        name="Pose Correctives", description="Add the model's corrective shapes, driven by the bones; exact, but playback is slower"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Open the file dialog, with the preferences' model chosen."""
        chosen = preferences.get_smpl_file(context)
        if chosen:
            self.filepath = chosen
        return super().invoke(context, event)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the body and pick it as the character."""
        try:
            model = load(self.filepath)
        except BodyModelError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        armature = add_character(context, model, model.name, self.shapes, self.correctives)
        _stand_free(self, context, armature)
        properties.get_settings(context).character = armature
        return {"FINISHED"}


class FrameCharacter(NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.frame_character"
    bl_label = "Frame Character"
    bl_description = (
        "Move the camera so that it sees the character over the whole frame range; a camera that is animated, held by something "
        "or used elsewhere stays, and a new one is added"
    )
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Move the camera that is used at the current frame, or add one."""
        scene = get_scene(context)
        try:
            bodies = get_bodies(properties.get_settings(context).character)
        except shot.ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        camera = find_used_camera(scene)
        reason = explain_fixed(camera, scene) if camera is not None else ""
        framed = frame_character(context, scene, bodies, None if reason else camera)
        framing_book.remember(framed)
        if reason:
            report(self, {"INFO"}, f"{reason}, so that it stays as it is; '{framed.name}' is the scene's camera now")
        elif camera is None:
            report(self, {"INFO"}, f"Added '{framed.name}'")
        else:
            report(self, {"INFO"}, f"Moved '{framed.name}'")
        return {"FINISHED"}


CLASSES = (AddMannequin, LoadSmpl, FrameCharacter)
