"""Scripts to begin with, in the Text editor's menu *Templates > Python*."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..typed_access import get_layout

FOLDER = Path(__file__).resolve().parent


def list_templates() -> list[Path]:
    """The scripts that there are."""
    return sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def _draw(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    for path in list_templates():
        opening: Any = layout.operator("text.open", text=f"LatentMan: {path.stem.replace('_', ' ').title()}", translate=False)
        opening.filepath = str(path)
        # a text of its own in the open file, so that the template stays as it is
        opening.internal = True


def register() -> None:
    """Add them to the menu."""
    bpy.types.TEXT_MT_templates_py.append(_draw)


def unregister() -> None:
    """Take them away."""
    bpy.types.TEXT_MT_templates_py.remove(_draw)
