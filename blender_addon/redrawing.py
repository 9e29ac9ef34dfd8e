"""Redraws what shows the state of the work: panels, preferences and the status bar, and nothing of the viewports beside them."""

from __future__ import annotations

import time
from typing import Any

import bpy

from ..shared import logs

logger = logs.get_logger(__name__)

#: the status bar is redrawn no more often than so
STATUS_SECONDS = 0.5
_last = 0.0


def redraw_panels() -> None:
    """Redraw the panels and the preferences, but not the viewports beside them, which would take far longer."""
    for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "SEQUENCE_EDITOR"):
                for region in area.regions:
                    if region.type == "UI" or area.type == "SEQUENCE_EDITOR":
                        region.tag_redraw()
            elif area.type == "PREFERENCES":
                area.tag_redraw()


def redraw_status_bars(*, at_once: bool = False) -> None:
    """Redraw the windows' status bars, twice a second at most unless ``at_once``."""
    global _last
    if bpy.app.background or (not at_once and time.monotonic() < _last + STATUS_SECONDS):
        return
    _last = time.monotonic()
    for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
        # the bar is no area of the screen, but Blender redraws it when the text of a tool goes; that of a running tool stays
        if len(window.modal_operators):
            continue
        try:
            with bpy.context.temp_override(window=window):
                workspace: Any = window.workspace
                workspace.status_text_set_internal(None)
        except (AttributeError, RuntimeError, TypeError):
            logger.debug("the status bar could not be redrawn", exc_info=True)
