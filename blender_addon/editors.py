"""Finds or makes a place for a result on the screen: an image editor beside the viewport, a sequencer that shows its strip.

Nothing of the user's is turned into something else: a viewport is split, and a workspace is added where none has a sequencer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bpy

from ..shared import logs
from .compat import select_strip, show_in_sequencer
from .redrawing import iter_areas
from .viewer import IMAGE

logger = logs.get_logger(__name__)

#: where Blender keeps the workspace for cutting films
_TEMPLATE = ("startup", "bl_app_templates_system", "Video_Editing", "startup.blend")
_WORKSPACE = "Video Editing"
#: a viewport is split only where both halves can be used, in pixels
_LEAST_WIDTH = 300


def _iter_areas(screen: Any, kind: str) -> Iterator[Any]:
    yield from (area for area in screen.areas if area.type == kind)


def find_image_area(screen: Any) -> Any:
    """The image editor of a screen that shows our image, or else one that shows none; None where there is neither."""
    areas = list(_iter_areas(screen, "IMAGE_EDITOR"))
    ours = [area for area in areas if (shown := area.spaces.active.image) is not None and shown.name == IMAGE]
    empty = [area for area in areas if area.spaces.active.image is None and area.ui_type == "IMAGE_EDITOR"]
    return next(iter((*ours, *empty)), None)


def show_image(window: Any, image: bpy.types.Image) -> str:
    """Show an image beside the viewport, where it is shown already, or in an image editor without one; a sentence about where.

    The largest viewport is split in two where there is none; where that is too small, a sentence says what to do instead.
    """
    area = find_image_area(window.screen)
    if area is None:
        views = sorted(_iter_areas(window.screen, "VIEW_3D"), key=lambda one: one.width * one.height)
        if not views or views[-1].width < 2 * _LEAST_WIDTH:
            return f"There is no room for another editor here; open an Image Editor and choose the image '{IMAGE}' in it."
        area = _split(window, views[-1])
        if area is None:
            return f"Blender could not split the viewport; open an Image Editor and choose the image '{IMAGE}' in it."
    space = area.spaces.active
    space.image = image
    space.use_image_pin = True
    area.tag_redraw()
    return "It is shown in the Image Editor."


def _split(window: Any, view: Any) -> Any:
    """The new right half of a viewport, as an image editor; None where Blender refuses."""
    before = {area.as_pointer() for area in window.screen.areas}
    try:
        with bpy.context.temp_override(window=window, screen=window.screen, area=view, region=view.regions[-1]):
            bpy.ops.screen.area_split(direction="VERTICAL", factor=0.5)
    except RuntimeError:
        logger.exception("the viewport could not be split")
        return None
    new = next((area for area in window.screen.areas if area.as_pointer() not in before), None)
    if new is not None:
        new.type = "IMAGE_EDITOR"
        new.ui_type = "IMAGE_EDITOR"
    return new


def play(window: Any) -> None:
    """Start the animation, unless it plays."""
    if window.screen.is_animation_playing:
        return
    with bpy.context.temp_override(window=window, screen=window.screen):
        bpy.ops.screen.animation_play()


def _find_workspace() -> Any:
    """A workspace with a sequencer, Blender's own for films first; None where there is none."""
    found = [ws for ws in bpy.data.workspaces if any(next(_iter_areas(screen, "SEQUENCE_EDITOR"), None) for screen in ws.screens)]
    return next((ws for ws in found if ws.name.startswith(_WORKSPACE)), next(iter(found), None))


def _add_workspace() -> Any:
    scripts: str = bpy.utils.system_resource("SCRIPTS")  # type: ignore[attr-defined]  # the stubs lack it
    path = os.path.join(scripts, *_TEMPLATE)
    try:
        bpy.ops.workspace.append_activate(idname=_WORKSPACE, filepath=path)
    except RuntimeError:
        logger.exception("the workspace %s could not be added", _WORKSPACE)
    return _find_workspace()


def show_strip(window: Any, scene: bpy.types.Scene, strip: Any, *, switch: bool) -> str:
    """Select a strip and bring it into view: in the sequencers of the window, or, with ``switch``, in a workspace that has one,
    which is added where there is none. Returns a sentence about what to do where it is not seen; empty where it is."""
    select_strip(scene, strip)
    if window is None:
        return ""
    if not any(_iter_areas(window.screen, "SEQUENCE_EDITOR")):
        if not switch:
            return "Press Show in Sequencer to see it."
        workspace = _find_workspace() or _add_workspace()
        if workspace is None:
            return "Turn an editor into a Video Sequencer to see it."
        window.workspace = workspace
        show_in_sequencer(workspace, scene)
        # Blender shows it with the next event
        if not bpy.app.background:
            bpy.app.timers.register(_frame_later, first_interval=0.2)
        return ""
    show_in_sequencer(window.workspace, scene)
    for area in _iter_areas(window.screen, "SEQUENCE_EDITOR"):
        _frame(window, area)
    return ""


def _frame_later() -> None:
    for window, area in iter_areas("SEQUENCE_EDITOR"):
        _frame(window, area)


def _frame(window: Any, area: Any) -> None:
    region = next((one for one in area.regions if one.type == "WINDOW"), None)
    if region is None or area.spaces.active.view_type == "PREVIEW":
        area.tag_redraw()
        return
    try:
        with bpy.context.temp_override(window=window, screen=window.screen, area=area, region=region):
            if bpy.ops.sequencer.view_selected.poll():  # type: ignore[call-arg]  # the stub asks for what Blender does not
                bpy.ops.sequencer.view_selected()
    except RuntimeError:
        logger.info("the sequencer could not be framed", exc_info=True)
    area.tag_redraw()


def show_textures(screen: Any) -> bool:
    """Have the solid viewports of a screen that show materials' colours show textures; whether any did not."""
    changed = False
    for area in _iter_areas(screen, "VIEW_3D") if screen is not None else ():
        shading = area.spaces.active.shading
        if shading.type == "SOLID" and shading.color_type == "MATERIAL":
            shading.color_type = "TEXTURE"
            changed = True
    return changed
