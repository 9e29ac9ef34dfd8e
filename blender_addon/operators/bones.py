"""The box *Body and Bones*: the character's bone map and its body's shape; the same list is the bone map of a motion's source."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, StringProperty

from ...shared.files import read_file
from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS
from .. import properties
from ..character import mapping
from ..rigging.armature_source import guess_source_mapping
from ..rigging.characters import JOINT_DIRECTIONS, fit_skeleton
from ..rigging.editable import check_editable
from ..rigging.rigs import (
    confirm_mapping,
    describe_doubts,
    find_doubts,
    guess_mapping,
    read_mapping,
    read_rig,
    read_saved_mapping,
)
from ..typed_access import OperatorResult, get_armature, get_scene, get_view_layer
from .dialogs import ExportDialog, ImportDialog, show_settings_dialog
from .polls import NeedsArmature
from .reports import report, report_motion_errors

#: bytes of a bone map
MAX_BONE_MAP = 1 << 20


class _UndoableOperator(bpy.types.Operator):
    bl_options = {"REGISTER", "UNDO"}


class _BoneMapOperator(bpy.types.Operator):
    """The base of what works on a bone map: the character's, or that of the armature whose motion it takes over."""

    owner: EnumProperty(
        name="Armature",
        description="Whose bones are meant",
        items=(
            ("CHARACTER", "Character", "The armature that is animated"),
            ("SOURCE", "Source", "The armature whose motion the character takes over"),
        ),
        # every button says whose; what was pressed last says nothing
        options={"HIDDEN", "SKIP_SAVE"},
    )

    def find_owner(self, context: bpy.types.Context) -> bpy.types.Object:
        """The armature whose map it is; ``MotionError`` where no source is chosen."""
        settings = properties.get_settings(context)
        armature = settings.find_source() if self.owner == "SOURCE" else settings.find_armature()
        if armature is None:
            raise MotionError("No source is chosen; pick an animated armature as Source in the box Motion first.")
        return armature

    def find_editable_owner(self, context: bpy.types.Context) -> bpy.types.Object:
        """The same; ``MotionError`` for an armature of another file, which cannot keep a map."""
        armature = self.find_owner(context)
        if not armature.is_editable:
            raise MotionError(
                f"'{armature.name}' is linked from another file and cannot keep a bone map; make a library override of it first."
            )
        return armature


class GuessBones(NeedsArmature, _BoneMapOperator):
    bl_idname = "latentman.guess_bones"
    bl_label = "Guess Bones"
    bl_description = "Map bones to joints, by their names or by the rig's shape"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Fill the bone list."""
        armature = self.find_editable_owner(context)
        try:
            if self.owner == "SOURCE":
                method, found = guess_source_mapping(get_scene(context), armature)
            else:
                method, found = guess_mapping(armature)
        except MotionError as error:
            properties.set_bone_map(armature, {})
            report(self, {"ERROR"}, str(error))
            return {"FINISHED"}
        # a source is compared with its own movement, and says what is wrong when it is used
        doubts = find_doubts(armature, found) if self.owner == "CHARACTER" else {}
        properties.set_bone_map(armature, found, doubts)
        text = f"{len(found)} of {len(SMPL_JOINTS)} joints mapped, by {method}"
        if doubts:
            what = f"{len(doubts)} bones are" if len(doubts) > 1 else "1 bone is"
            report(self, {"WARNING"}, f"{text}; {what} doubtful: {describe_doubts(found, doubts)}. Check them in the list")
        else:
            report(self, {"INFO"}, text)
        return {"FINISHED"}


class ConfirmBones(NeedsArmature, _BoneMapOperator):
    bl_idname = "latentman.confirm_bones"
    bl_label = "Confirm Bones"
    bl_description = "The bones in the list are right: key motions on them although some look doubtful"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take the bone map as the user's own."""
        armature = self.find_owner(context)
        confirm_mapping(armature)
        properties.clear_doubts(armature)
        return {"FINISHED"}


class SaveBones(NeedsArmature, _BoneMapOperator, ExportDialog):
    bl_idname = "latentman.save_bones"
    bl_label = "Save Bone Map"
    bl_description = "Save the bone map as JSON, for other characters with the same rig"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", description="Which files the dialog lists", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write the file."""
        try:
            text = mapping.dump(self._read_mapping(context))
            Path(self.filepath).write_text(text, encoding="utf-8")
        except (MotionError, OSError) as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def _read_mapping(self, context: bpy.types.Context) -> dict[str, str]:
        armature = self.find_owner(context)
        if self.owner == "SOURCE":
            return read_saved_mapping(armature) or guess_source_mapping(get_scene(context), armature)[1]
        return read_mapping(armature)


class LoadBones(NeedsArmature, _BoneMapOperator, ImportDialog):
    bl_idname = "latentman.load_bones"
    bl_label = "Load Bone Map"
    bl_description = "Load a bone map from a JSON file"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", description="Which files the dialog lists", options={"HIDDEN"})

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Read the file, check it against the rig, fill the list."""
        armature = self.find_editable_owner(context)
        try:
            found, unknown = mapping.parse(read_file(Path(self.filepath), MAX_BONE_MAP).decode("utf-8-sig"))
            mapping.check(found, tuple(bone.name for bone in get_armature(armature).bones))
        except UnicodeDecodeError:
            report(self, {"ERROR"}, f"{Path(self.filepath).name} is not a text; choose a bone map that was saved as JSON.")
            return {"CANCELLED"}
        except OSError as error:
            report(self, {"ERROR"}, f"{Path(self.filepath).name} cannot be read: {error.strerror or error}.")
            return {"CANCELLED"}
        except mapping.MappingError as error:
            report(self, {"ERROR"}, f"{Path(self.filepath).name}: {error}")
            return {"CANCELLED"}
        properties.set_bone_map(armature, found)
        if unknown:
            named = ", ".join(f"'{name[: mapping.MAX_SHOWN]}'" for name in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            lines = "1 line names no joint and is" if len(unknown) == 1 else f"{len(unknown)} lines name no joint and are"
            report(self, {"WARNING"}, f"{Path(self.filepath).name}: {lines} left out: {named}; check the bone list.")
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

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Move the bones."""
        fit_skeleton(context, properties.get_settings(context).character)
        return {"FINISHED"}


class SetHeight(NeedsArmature, _UndoableOperator):
    bl_idname = "latentman.set_height"
    bl_label = "Set Height"
    bl_description = "Scale the character to a given height"

    height: FloatProperty(
        name="Height", default=1.75, min=0.1, max=100.0, unit="LENGTH", description="How tall the character is to be"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the height."""
        return show_settings_dialog(self, context)

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Scale the armature about the ground under it."""
        armature = properties.get_settings(context).character
        check_editable(armature)
        rig = read_rig(armature, allow_doubtful=True)
        # the head joint is about a tenth of the body's height below the crown
        factor = self.height / (float(rig.joints[JOINT_INDEX["head"], 1]) / 0.9)
        ground = armature.location.z + rig.ground
        armature.scale = [value * factor for value in armature.scale]
        armature.location.z = ground - rig.ground * factor
        get_view_layer(context).update()
        return {"FINISHED"}


CLASSES = (GuessBones, ConfirmBones, SaveBones, LoadBones, FitSkeleton, SetHeight)
