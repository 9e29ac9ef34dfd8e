"""Registers and unregisters every part of the add-on, in order and in reverse."""

from __future__ import annotations

import bpy

from ..shared import logs
from ..shared.version import VERSION
from . import (
    closed_files,
    command_line,
    connection,
    kept_framing,
    live_preview,
    menus,
    moving,
    operators,
    panels,
    preferences,
    properties,
    removed_files,
    result_shelf,
    results,
    setting_presets,
    shortcuts,
    status_bar,
    templates,
    translation,
    undo_steps,
    viewer,
)
from .assets import arrivals, marking, shelf
from .passes import kept_extents
from .queue import events as queue_events

logger = logs.get_logger(__name__)
PARTS = (
    properties,
    undo_steps,
    closed_files,
    moving,
    removed_files,
    viewer,
    result_shelf,
    results,
    kept_extents,
    arrivals,
    marking,
    kept_framing,
    live_preview,
    preferences,
    setting_presets,
    operators,
    shelf,
    panels,
    menus,
    shortcuts,
    status_bar,
    templates,
    command_line,
    queue_events,
    connection,
    # knows the texts of all classes
    translation,
)


def register() -> None:
    """Register every part; when one fails, those before it are unregistered and its exception is raised."""
    logs.start(logs.BLENDER)
    logger.info("latentman %s in Blender %s", VERSION, bpy.app.version_string)
    done = []
    try:
        for part in PARTS:
            part.register()
            done.append(part)
    except Exception:
        logger.exception("The extension could not be switched on")
        for part in reversed(done):
            part.unregister()
        logs.stop()
        raise


def unregister() -> None:
    """Unregister every part and close the log."""
    for part in reversed(PARTS):
        part.unregister()
    logs.stop()
