"""Sentences in panels, wrapped to the width that there is."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: average width of a character in pixels
CHARACTER_WIDTH = 7.5


def draw_sentence(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: IconItems = "INFO") -> None:
    """Draw a sentence, wrapped to the width of the region."""
    region_width = context.region.width if context.region else 0
    scale = context.preferences.system.ui_scale if context.preferences else 1.0
    width = max(20, int(region_width / scale / CHARACTER_WIDTH) - 6)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for n, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if n == 0 else "BLANK1")
