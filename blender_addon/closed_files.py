"""Which files scenes were in that are not open any more: what ends later finds its way back, also where the file had no name or
another one when it began, and where it was closed and opened once more meanwhile."""

from __future__ import annotations

from typing import Any

import bpy

from .event_handlers import EventHandlers
from .references import Reference

#: identifier of a scene -> the path of its file and its name when the file was closed
_closed: dict[int, tuple[str, str]] = {}


def find_file(scene: Reference) -> tuple[str, str] | None:
    """The path of a closed scene's file, empty for one that was never saved, and the scene's name in it; None for a scene whose
    file has not been closed."""
    return _closed.get(scene.uid)


def find_scene(file: str, name: str) -> Any:
    """The scene of that name if this file is open, else None."""
    return bpy.data.scenes.get(name) if file and file == bpy.data.filepath else None


def _on_load(*_: object) -> None:
    _closed.update({scene.session_uid: (bpy.data.filepath, scene.name) for scene in bpy.data.scenes})


_handlers = EventHandlers(load_pre=_on_load)


def register() -> None:
    """Listen to the closing of files."""
    _handlers.register()


def unregister() -> None:
    """Stop listening."""
    _handlers.unregister()
    _closed.clear()
