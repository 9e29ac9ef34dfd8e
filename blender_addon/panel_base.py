"""What the boxes of the sidebar have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from .translation import tr
from .translation.wrapping import wrap

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: average width of a character in pixels
CHARACTER_WIDTH = 7.5
#: a region that is narrower, in pixels of small letters, shows the words of one button in a row
NARROW = 230


def draw_sentence(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: IconItems = "INFO", margin: int = 0
) -> None:
    """Draw a sentence of the extension's, wrapped to the width of the region; ``margin`` are characters that a button beside it
    takes."""
    draw_words(layout, context, tr(text), icon, margin)


def draw_words(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: IconItems = "INFO", margin: int = 0
) -> None:
    """Draw what somebody has written, such as a prompt, wrapped in the same way and as it is."""
    region_width = context.region.width if context.region else 0
    width = max(20, int(region_width / get_ui_scale(context) / CHARACTER_WIDTH) - 6 - margin)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for n, line in enumerate(wrap(text, width)):
        column.label(text=line, translate=False, icon=icon if n == 0 else "BLANK1")


def make_row(layout: bpy.types.UILayout, context: bpy.types.Context) -> bpy.types.UILayout:
    """A row for buttons with words; below each other where the region is too narrow for the words beside each other."""
    region_width = context.region.width if context.region else 0
    is_narrow = 0 < region_width < NARROW * get_ui_scale(context)
    return layout.column(align=True) if is_narrow else layout.row(align=True)


def get_ui_scale(context: bpy.types.Context) -> float:
    """How large the window's letters are; without a window Blender has no scale."""
    return (context.preferences.system.ui_scale if context.preferences else 0.0) or 1.0


def draw_text(layout: bpy.types.UILayout, text: str, icon: IconItems = "NONE") -> None:
    """Draw a line of the extension's own words, in the window's language."""
    layout.label(text=tr(text), translate=False, icon=icon)


def draw_name(layout: bpy.types.UILayout, name: str, icon: IconItems = "NONE", icon_value: int = 0) -> None:
    """Draw a name that somebody has given, as it is: an Action called "Walk" is not to be translated."""
    layout.label(text=name, translate=False, icon=icon, icon_value=icon_value)


def set_properties(operator: bpy.types.OperatorProperties, **values: object) -> None:
    """Set the properties with which a button calls its operator."""
    for name, value in values.items():
        setattr(operator, name, value)


class SidebarPanel(bpy.types.Panel):
    """A box in the tab of the extension."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "LatentMan"
