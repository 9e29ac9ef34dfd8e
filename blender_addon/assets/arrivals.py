"""What comes out of the library becomes a character of its own.

An object that is dropped into the viewport brings only what it names: our empty names its armature, and that its body, until they
have arrived. They then have bones and a body of their own, also where the browser is set to share data between what is appended
twice, and the armature is picked where no character is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..compat import HAS_IMPORT_EVENTS
from ..event_handlers import EventHandlers
from ..properties import get_scene_settings

#: the library's file
FILE = "latentman.blend"
#: custom property of an object in the library: the one that it brings, which would stay in the file as long as it is named
BODY = "latentman_body"


def finish_arrivals(*_: Any) -> None:
    """Make characters of what has been appended from the library."""
    if bpy.data.filepath and Path(bpy.data.filepath).name == FILE:
        # the library itself, opened by its owner
        return
    for found in [found for found in bpy.data.objects if found.get(BODY) is not None]:
        if found.library is not None or not found.is_editable:
            continue
        brought: Any = found[BODY]
        del found[BODY]
        if found.asset_data is not None:
            # File > Append keeps the mark, but what no longer names its parts would be dragged without them
            found.asset_clear()
        if not isinstance(brought, bpy.types.Object):
            continue
        if brought.data is not None and brought.data.users > 1:
            brought.data = brought.data.copy()
        if brought.type == "ARMATURE":
            _pick(brought)


def _pick(armature: bpy.types.Object) -> None:
    """Make an armature the character of its scenes that have none."""
    for scene in armature.users_scene:
        settings = get_scene_settings(scene)
        if settings.character is None:
            settings.character = armature


def _look_at_updates(scene: bpy.types.Scene, graph: bpy.types.Depsgraph) -> None:
    for update in graph.updates:
        original: Any = update.id.original if isinstance(update.id, bpy.types.Object) else None
        if original is not None and original.get(BODY) is not None:
            finish_arrivals()
            return


# 4.2 tells nobody that something was appended
_handlers = (
    EventHandlers(blend_import_post=finish_arrivals) if HAS_IMPORT_EVENTS else EventHandlers(depsgraph_update_post=_look_at_updates)
)


def register() -> None:
    """Begin to look at what arrives."""
    _handlers.register()


def unregister() -> None:
    """Look no more."""
    _handlers.unregister()
