"""Shortcuts that are offered: rows without a key in Blender's keymap, which fire nothing until the user gives them one.

They stand among the add-ons' shortcuts, so that Blender keeps what the user sets there, lists them under *Keymap* in the
preferences, and drops them with the extension.
"""

from __future__ import annotations

from typing import Any

import bpy
import rna_keymap_ui

from .panel_base import draw_sentence, draw_text

#: the keymap that the rows are in, and where it is used
KEYMAP, SPACE = "3D View", "VIEW_3D"
#: the operators that are offered a shortcut
OFFERED = ("make_motion", "preview_frame", "generate", "cancel", "play_result", "to_sequencer")

_added: list[tuple[Any, Any]] = []


def _find_rows(configuration: Any) -> list[tuple[Any, Any]]:
    """(keymap, row) of each offered operator in a key configuration, in order."""
    keymap: Any = configuration.keymaps.get(KEYMAP) if configuration is not None else None
    rows = []
    for name in OFFERED if keymap is not None else ():
        found = next((row for row in keymap.keymap_items if row.idname == f"latentman.{name}"), None)
        if found is not None:
            rows.append((keymap, found))
    return rows


def draw_shortcuts(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw the rows, in which a key can be set."""
    manager: Any = context.window_manager
    # what the user sets is in their own configuration
    configuration = manager.keyconfigs.user if manager is not None else None
    rows = _find_rows(configuration)
    column = layout.box().column()
    draw_text(column, "Shortcuts in the 3D Viewport", "KEYINGSET")
    if not rows:
        draw_sentence(column, context, "This Blender has no window, and therefore no shortcuts.")
    for keymap, row in rows:
        column.context_pointer_set("keymap", keymap)
        rna_keymap_ui.draw_kmi([], configuration, keymap, row, column, 0)


def register() -> None:
    """Offer them."""
    manager: Any = bpy.context.window_manager
    configuration = manager.keyconfigs.addon if manager is not None else None
    if configuration is None:
        # Blender runs without a window
        return
    keymap = configuration.keymaps.new(name=KEYMAP, space_type=SPACE)
    _added.extend((keymap, keymap.keymap_items.new(f"latentman.{name}", "NONE", "PRESS")) for name in OFFERED)


def unregister() -> None:
    """Take them away."""
    for keymap, row in reversed(_added):
        keymap.keymap_items.remove(row)
    _added.clear()
