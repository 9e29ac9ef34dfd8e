"""The box *Body and Bones*: the character's bone map and its body's shape."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import FloatProperty, StringProperty

from ...shared.files import read_file
from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS
from .. import properties
from ..character import mapping
from ..rigging.characters import JOINT_DIRECTIONS, fit_skeleton
from ..rigging.editable import check_editable
from ..rigging.rigs import guess_mapping, read_mapping, read_rig
from ..typed_access import OperatorResult, get_armature, get_view_layer
from .dialogs import ExportDialog, ImportDialog, show_settings_dialog
from .polls import NeedsArmature

#: bytes of a bone map
MAX_BONE_MAP = 1 << 20


class _UndoableOperator(bpy.types.Operator):
    bl_options = {"REGISTER", "UNDO"}


class GuessBones(NeedsArmature, _UndoableOperator):
    bl_idname = "latentman.guess_bones"
    bl_label = "Guess Bones"
    bl_description = "Map bones to joints, by their names or by the rig's shape"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Fill the bone list."""
        armature = properties.get_settings(context).character
        try:
            check_editable(armature)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        try:
            method, found = guess_mapping(armature)
        except MotionError as error:
            properties.set_bone_map(armature, {})
            self.report({"ERROR"}, str(error))
            return {"FINISHED"}
        properties.set_bone_map(armature, found)
        self.report({"INFO"}, f"{len(found)} of {len(SMPL_JOINTS)} joints mapped, by {method}")
        return {"FINISHED"}


class SaveBones(NeedsArmature, bpy.types.Operator, ExportDialog):
    bl_idname = "latentman.save_bones"
    bl_label = "Save Bone Map"
    bl_description = "Save the bone map as JSON, for other characters with the same rig"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write the file."""
        try:
            text = mapping.dump(read_mapping(properties.get_settings(context).character))
            Path(self.filepath).write_text(text, encoding="utf-8")
        except (MotionError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class LoadBones(NeedsArmature, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.load_bones"
    bl_label = "Load Bone Map"
    bl_description = "Load a bone map from a JSON file"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Read the file, check it against the rig, fill the list."""
        armature = properties.get_settings(context).character
        try:
            check_editable(armature)
            found = mapping.parse(read_file(Path(self.filepath), MAX_BONE_MAP).decode("utf-8-sig"))
            mapping.check(found, tuple(bone.name for bone in get_armature(armature).bones))
        except UnicodeDecodeError:
            self.report({"ERROR"}, f"{Path(self.filepath).name} is not a text; choose a bone map that was saved as JSON.")
            return {"CANCELLED"}
        except OSError as error:
            self.report({"ERROR"}, f"{Path(self.filepath).name} cannot be read: {error.strerror or error}.")
            return {"CANCELLED"}
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except mapping.MappingError as error:
            self.report({"ERROR"}, f"{Path(self.filepath).name}: {error}")
            return {"CANCELLED"}
        properties.set_bone_map(armature, found)
        return {"FINISHED"}


class FitSkeleton(NeedsArmature, _UndoableOperator):
    bl_idname = "latentman.fit_skeleton"
    bl_label = "Fit Skeleton"
    bl_description = "Move the bones to the joints of the body with its current shape keys, and its feet to the ground"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for bodies that were not built from a body model."""
        if not super().poll(context):
            return False
        if JOINT_DIRECTIONS not in properties.get_settings(context).character:
            return cls.refuse("Only bodies of the SMPL family know where their joints belong")
        return True

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Move the bones."""
        try:
            fit_skeleton(context, properties.get_settings(context).character)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SetHeight(NeedsArmature, _UndoableOperator):
    bl_idname = "latentman.set_height"
    bl_label = "Set Height"
    bl_description = "Scale the character to a given height"

    height: FloatProperty(name="Height", default=1.75, min=0.1, max=100.0, unit="LENGTH")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the height."""
        return show_settings_dialog(self, context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Scale the armature about the ground under it."""
        armature = properties.get_settings(context).character
        try:
            check_editable(armature)
            rig = read_rig(armature)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        # the head joint is about a tenth of the body's height below the crown
        factor = self.height / (float(rig.joints[JOINT_INDEX["head"], 1]) / 0.9)
        ground = armature.location.z + rig.ground
        armature.scale = [value * factor for value in armature.scale]
        armature.location.z = ground - rig.ground * factor
        get_view_layer(context).update()
        return {"FINISHED"}


CLASSES = (GuessBones, SaveBones, LoadBones, FitSkeleton, SetHeight)
