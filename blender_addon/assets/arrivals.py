"""What comes out of the library becomes a character of its own.

An armature that is dropped into the viewport brings only what it names: ours names its body until it has arrived. It then has a
body and bones of its own, also where the browser is set to share data between what is appended twice, and is picked where no
character is.
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
#: custom property of an armature in the library: its body, which would stay in the file as long as it is named
BODY = "latentman_body"


def finish_arrivals(*_: Any) -> None:
    """Make characters of what has been appended from the library."""
    if bpy.data.filepath and Path(bpy.data.filepath).name == FILE:
        # the library itself, opened by its owner
        return
    for armature in [found for found in bpy.data.objects if found.type == "ARMATURE" and found.get(BODY) is not None]:
        if armature.library is not None or not armature.is_editable:
            continue
        body: Any = armature[BODY]
        del armature[BODY]
        if armature.asset_data is not None:
            # File > Append keeps the mark, but what no longer names its body would be dragged without it
            armature.asset_clear()
        for found in (armature, body):
            if isinstance(found, bpy.types.Object) and found.data is not None and found.data.users > 1:
                found.data = found.data.copy()
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
