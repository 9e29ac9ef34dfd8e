"""What the boxes of the sidebar have in common."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: average width of a character in pixels
CHARACTER_WIDTH = 7.5


def draw_sentence(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: IconItems = "INFO", margin: int = 0
) -> None:
    """Draw a sentence, wrapped to the width of the region; ``margin`` are characters that a button beside it takes."""
    region_width = context.region.width if context.region else 0
    scale = context.preferences.system.ui_scale if context.preferences else 1.0
    width = max(20, int(region_width / scale / CHARACTER_WIDTH) - 6 - margin)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for n, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if n == 0 else "BLANK1")


def set_properties(operator: bpy.types.OperatorProperties, **values: object) -> None:
    """Set the properties with which a button calls its operator."""
    for name, value in values.items():
        setattr(operator, name, value)


class SidebarPanel(bpy.types.Panel):
    """A box in the tab of the extension."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "LatentMan"
