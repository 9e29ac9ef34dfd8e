"""Redraws what shows the state of the work: panels, preferences, the status bar and the editors of our images, and nothing of the
viewports beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import bpy

from ..shared import logs

logger = logs.get_logger(__name__)

#: the status bar is redrawn no more often than so
STATUS_SECONDS = 0.5
_last = 0.0


def iter_windows() -> Iterator[Any]:
    """The open windows; none where Blender runs without any."""
    yield from bpy.context.window_manager.windows if bpy.context.window_manager else ()


def iter_areas(kind: str) -> Iterator[tuple[Any, Any]]:
    """Every window with each of its areas of a kind."""
    for window in iter_windows():
        yield from ((window, area) for area in window.screen.areas if area.type == kind)


def redraw_panels() -> None:
    """Redraw the panels and the preferences, but not the viewports beside them, which would take far longer."""
    for _, view in iter_areas("VIEW_3D"):
        for region in view.regions:
            if region.type == "UI":
                region.tag_redraw()
    for kind in ("SEQUENCE_EDITOR", "PREFERENCES"):
        for _, area in iter_areas(kind):
            area.tag_redraw()


def redraw_image(image: bpy.types.Image) -> None:
    """Redraw the image editors that show an image."""
    for _, area in iter_areas("IMAGE_EDITOR"):
        if area.spaces.active.image == image:
            area.tag_redraw()


def redraw_status_bars(*, at_once: bool = False) -> None:
    """Redraw the windows' status bars, twice a second at most unless ``at_once``."""
    global _last
    if bpy.app.background or (not at_once and time.monotonic() < _last + STATUS_SECONDS):
        return
    _last = time.monotonic()
    for window in iter_windows():
        # the bar is no area of the screen, but Blender redraws it when the text of a tool goes; that of a running tool stays
        if len(window.modal_operators):
            continue
        try:
            with bpy.context.temp_override(window=window):
                workspace: Any = window.workspace
                workspace.status_text_set_internal(None)
        except (AttributeError, RuntimeError, TypeError):
            logger.debug("the status bar could not be redrawn", exc_info=True)
