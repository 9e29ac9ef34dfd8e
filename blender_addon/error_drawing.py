"""How the boxes draw what they have in common: an error that stands in one, and work that is under way."""

from __future__ import annotations

import bpy

from .connection import connection
from .error_places import Place
from .panel_base import draw_sentence, set_properties
from .task_texts import describe_task, get_task_fraction, is_cancelling
from .tasks.task import Task
from .translation import CONTEXT, tr


def draw_error(layout: bpy.types.UILayout, context: bpy.types.Context, place: Place) -> None:
    """Draw the error that stands in a box, if any, with the x that dismisses it."""
    sentence = connection.errors.find(place)
    if sentence:
        row = layout.row(align=True)
        draw_sentence(row, context, sentence, "ERROR", margin=3)
        set_properties(row.operator("latentman.dismiss_error", text="", icon="X", emboss=False), place=place.name)


def draw_task(layout: bpy.types.UILayout, context: bpy.types.Context, task: Task) -> None:
    """Draw a task's bar with what it does and what is worth knowing of it, and *Cancel*, which has no use any more once it is
    pressed."""
    cancelling = is_cancelling(task)
    layout.progress(factor=get_task_fraction(task), text=tr(describe_task(task)), translate=False)
    if task.note:
        draw_sentence(layout, context, task.note)
    row = layout.row()
    row.enabled = not cancelling
    row.operator("latentman.cancel", text="Cancelling..." if cancelling else "Cancel", text_ctxt=CONTEXT, icon="CANCEL")
