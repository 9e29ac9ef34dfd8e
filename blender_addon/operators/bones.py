"""Which bone is which: the character's bone map, and its body's shape."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import FloatProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS
from .. import properties
from ..character import mapping
from ..rigging.characters import JOINT_DIRECTIONS, fit_skeleton
from ..rigging.rigs import guess_mapping, read_mapping, read_rig
from .motion import has_armature


class _Map(bpy.types.Operator):
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return has_armature(cls, context)


class GuessBones(_Map):
    """Find out which bone is which, from their names or from the rig's shape"""

    bl_idname = "latentman.guess_bones"
    bl_label = "Guess Bones"

    def execute(self, context):
        """Fill the bone list."""
        armature = properties.of(context).character
        try:
            how, found = guess_mapping(armature)
        except MotionError as error:
            properties.fill_bones(armature, {})
            self.report({"ERROR"}, str(error))
            return {"FINISHED"}
        properties.fill_bones(armature, found)
        self.report({"INFO"}, f"{len(found)} of {len(SMPL_JOINTS)} joints mapped, by {how}")
        return {"FINISHED"}


class SaveBones(bpy.types.Operator, ExportHelper):
    """Save the bone map as JSON, for other characters with the same rig"""

    bl_idname = "latentman.save_bones"
    bl_label = "Save Bone Map"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return has_armature(cls, context)

    def execute(self, context):
        """Write the file."""
        try:
            text = mapping.dump(read_mapping(properties.of(context).character))
            Path(self.filepath).write_text(text, encoding="utf-8")
        except (MotionError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class LoadBones(bpy.types.Operator, ImportHelper):
    """Load a bone map that was saved as JSON"""

    bl_idname = "latentman.load_bones"
    bl_label = "Load Bone Map"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return has_armature(cls, context)

    def execute(self, context):
        """Read, check against the rig, fill the list."""
        armature = properties.of(context).character
        try:
            found = mapping.parse(Path(self.filepath).read_text(encoding="utf-8"))
            mapping.check(found, tuple(bone.name for bone in armature.data.bones))
        except (mapping.MappingError, OSError, UnicodeDecodeError) as error:
            self.report({"ERROR"}, f"{Path(self.filepath).name}: {error}")
            return {"CANCELLED"}
        properties.fill_bones(armature, found)
        return {"FINISHED"}


class FitSkeleton(_Map):
    """Move the bones to the joints of the body as its shape keys make it, and its feet to the ground"""

    bl_idname = "latentman.fit_skeleton"
    bl_label = "Fit Skeleton"

    @classmethod
    def poll(cls, context):
        """Needs a body that was built from a body model."""
        if not has_armature(cls, context):
            return False
        cls.poll_message_set("Only bodies of the SMPL family know where their joints go")
        return JOINT_DIRECTIONS in properties.of(context).character

    def execute(self, context):
        """Move the bones."""
        fit_skeleton(context, properties.of(context).character)
        return {"FINISHED"}


class SetHeight(_Map):
    """Scale the character to a height"""

    bl_idname = "latentman.set_height"
    bl_label = "Set Height"

    height: FloatProperty(name="Height", default=1.75, min=0.1, max=100.0, unit="LENGTH")

    def invoke(self, context, event):
        """Ask for the height."""
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context):
        """Scale the armature about the ground under it."""
        armature = properties.of(context).character
        try:
            rig = read_rig(armature)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        # the head joint lies about a tenth of the body below the crown
        factor = self.height / (float(rig.joints[JOINT_INDEX["head"], 1]) / 0.9)
        low = armature.location.z + rig.ground
        armature.scale = [value * factor for value in armature.scale]
        armature.location.z = low - rig.ground * factor
        context.view_layer.update()
        return {"FINISHED"}


CLASSES = (GuessBones, SaveBones, LoadBones, FitSkeleton, SetHeight)
