"""Blender's own preset menus for a look and for a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import bpy
from bl_operators.presets import AddPresetBase
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ...shared.shot import ShotError
from .. import properties
from ..setting_presets import (
    KINDS,
    LOOK,
    METHOD,
    SHIPPED,
    PresetKind,
    PresetValues,
    decode_values,
    load_values,
    read_preset,
    read_values,
    write_preset,
)
from ..typed_access import OperatorResult
from .reports import report


class LookPresetMenu(bpy.types.Menu):
    """The presets of looks."""

    bl_idname = "LATENTMAN_MT_look_presets"
    bl_label = "Look Presets"
    bl_description = "Looks to begin with, and your own: prompts, those by frame, too, model, seed and reference picture"
    preset_subdir = LOOK.folder
    preset_operator = "latentman.load_preset"
    preset_operator_defaults = {"kind": LOOK.name}
    draw: Any = bpy.types.Menu.draw_preset


class MethodPresetMenu(bpy.types.Menu):
    """The presets of methods."""

    bl_idname = "LATENTMAN_MT_method_presets"
    bl_label = "Method Presets"
    bl_description = "Ways of making frames, and your own: preset, techniques, steps, guidance, control and scheduler"
    preset_subdir = METHOD.folder
    preset_operator = "latentman.load_preset"
    preset_operator_defaults = {"kind": METHOD.name}
    draw: Any = bpy.types.Menu.draw_preset


MENUS = {LOOK: LookPresetMenu, METHOD: MethodPresetMenu}


#: the stubs have its methods as those of no operator
_Base: Any = AddPresetBase


class _AddPreset(_Base):
    """Writes and removes the files; Blender's own class does the rest."""

    remove_name: BoolProperty(
        name="Remove",
        description="Remove the preset of this name instead of adding one",
        default=False,
        options={"HIDDEN", "SKIP_SAVE"},
    )
    remove_active: BoolProperty(
        name="Remove Active",
        description="Remove the preset that was loaded last instead of adding one",
        default=False,
        options={"HIDDEN", "SKIP_SAVE"},
    )

    kind: ClassVar[PresetKind]

    def add(self, context: bpy.types.Context, filepath: str) -> None:
        """Write the panel's settings as a preset."""
        write_preset(Path(filepath), read_values(properties.get_settings(context), self.kind))

    def remove(self, context: bpy.types.Context, filepath: str) -> None:
        """Remove a preset's file, unless it came with the extension."""
        if Path(filepath).is_relative_to(SHIPPED):
            operator: Any = self
            report(operator, {"WARNING"}, "Presets that come with the extension stay; make one of your own.")
            return
        Path(filepath).unlink()


class AddLookPreset(_AddPreset, bpy.types.Operator):
    bl_idname = "latentman.look_preset_add"
    bl_label = "Add Look Preset"
    bl_description = (
        "Keep prompts, those by frame with their frames, model, seed and reference picture as a preset, or remove the preset that "
        "was loaded"
    )
    preset_menu = LookPresetMenu.bl_idname
    preset_subdir = LOOK.folder
    kind = LOOK


class AddMethodPreset(_AddPreset, bpy.types.Operator):
    bl_idname = "latentman.method_preset_add"
    bl_label = "Add Method Preset"
    bl_description = "Keep preset, techniques and sampling as a preset, or remove the preset that was loaded"
    preset_menu = MethodPresetMenu.bl_idname
    preset_subdir = METHOD.folder
    kind = METHOD


ADDERS = {LOOK: AddLookPreset, METHOD: AddMethodPreset}


def _load(operator: bpy.types.Operator, context: bpy.types.Context, preset: PresetValues) -> OperatorResult:
    for sentence in load_values(properties.get_settings(context), preset):
        report(operator, {"WARNING"}, sentence)
    return {"FINISHED"}


class LoadPreset(bpy.types.Operator):
    bl_idname = "latentman.load_preset"
    bl_label = "Load Preset"
    bl_description = "Give the panel the settings of this preset"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    filepath: StringProperty(name="File", description="The preset's file", subtype="FILE_PATH", options={"SKIP_SAVE"})
    kind: EnumProperty(
        name="Kind",
        description="What the preset is of",
        items=(
            ("LOOK", "Look", "Prompts, those by frame, too, model, seed and reference picture"),
            ("METHOD", "Method", "Preset, techniques and sampling"),
        ),
        options={"SKIP_SAVE"},
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Load it, and name the menu after it, as Blender does."""
        try:
            preset = read_preset(Path(self.filepath))
            done = _load(self, context, preset)
        except ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        menu: Any = MENUS[KINDS[preset.kind]]
        menu.bl_label = bpy.path.display_name(Path(self.filepath).name, title_case=False)
        return done


class LoadValues(bpy.types.Operator):
    bl_idname = "latentman.load_values"
    bl_label = "Load Preset's Values"
    bl_description = "Give the panel the values of a preset's file, which calls this"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    values: StringProperty(name="Values", description="A preset's settings as JSON", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Load them."""
        try:
            return _load(self, context, decode_values(self.values))
        except ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}


CLASSES = (LookPresetMenu, MethodPresetMenu, AddLookPreset, AddMethodPreset, LoadPreset, LoadValues)
