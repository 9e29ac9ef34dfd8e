"""The work in Blender's status bar, which every workspace shows: stage, overall bar, time left, and *Cancel*;
then the line that a shot is done, with *Play*."""

from __future__ import annotations

from typing import Any

import bpy

from .connection import connection
from .panel_base import draw_text
from .redrawing import redraw_status_bars
from .shot_notice import notice
from .task_texts import describe_task, get_task_fraction, is_cancelling
from .tasks.shot import ShotTask
from .translation import CONTEXT, tr


def _draw(self: Any, context: bpy.types.Context) -> None:
    task = connection.find_working_task()
    if task is None or task.done:
        _draw_notice(self.layout)
        return
    row = self.layout.row()
    row.separator()
    shown = row.row()
    shown.ui_units_x = 14
    kind = "LatentMan" if isinstance(task, ShotTask) else "LatentMan motion"
    shown.progress(factor=get_task_fraction(task), text=tr(f"{kind}: {describe_task(task)}"), translate=False)
    button = row.row()
    button.enabled = not is_cancelling(task)
    button.operator("latentman.cancel", text="", icon="CANCEL")


def _draw_notice(layout: Any) -> None:
    """The line about a shot that is done, until it is played or dismissed."""
    if not notice.text:
        return
    row = layout.row(align=True)
    row.separator()
    draw_text(row, f"LatentMan: {notice.text}", "CHECKMARK")
    row.operator("latentman.play_result", text="Play", text_ctxt=CONTEXT, icon="PLAY").ticket = notice.ticket
    row.operator("latentman.dismiss_notice", text="", icon="X", emboss=False)


def register() -> None:
    """Add the work to the status bar."""
    bpy.types.STATUSBAR_HT_header.append(_draw)


def unregister() -> None:
    """Take it away."""
    bpy.types.STATUSBAR_HT_header.remove(_draw)
    redraw_status_bars(at_once=True)
