"""The box *Queue*, below *Generate*: the shots that line up, and what has become of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .panel_base import SidebarPanel, draw_name, draw_sentence, draw_text, draw_words, make_row, set_properties
from .queue.book import book, works_elsewhere
from .queue.row_list import find_active_row, find_list, find_row
from .queue.rows import Row, RowState, describe_frames, summarise, write_count
from .queue.runner import runner
from .queue.table import write_minutes
from .result_words import describe_date, shorten
from .shot_notice import write_notice
from .shot_times import estimate_request
from .task_texts import describe_task, get_task_fraction
from .time_estimate import write_duration
from .translation import CONTEXT, tr
from .typed_access import get_layout

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

_ICONS: dict[RowState, IconItems] = {
    RowState.WAITING: "TIME",
    RowState.RUNNING: "PLAY",
    RowState.PAUSED: "PAUSE",
    RowState.DONE: "CHECKMARK",
    RowState.PARTIAL: "ERROR",
    RowState.FAILED: "ERROR",
    RowState.CANCELLED: "CANCEL",
}
AS_QUEUED = "Settings are as they were when it was queued ({}); the scene is rendered as it is when its turn comes."


class LATENTMAN_UL_queue(bpy.types.UIList):
    """The queue: state, name, frames, and how far it is or how long it took."""

    bl_idname = "LATENTMAN_UL_queue"

    def draw_item(  # type: ignore[override]  # the stubs know it with fewer arguments
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
        index: int = 0,
        flag: int = 0,
    ) -> None:
        """Draw a row."""
        row = find_row(item)
        if row is None:
            layout.label(text="")
            return
        line = layout.row(align=True)
        draw_name(line, row.shot.name, _ICONS[row.state])
        told = line.row(align=True)
        told.alignment = "RIGHT"
        draw_text(told, write_place(row))


def write_place(row: Row) -> str:
    """What stands at the right of a row: its frames, while it is made the share that is done, afterwards how it ended. Short, as it
    takes its room from the name."""
    if row.id == runner.current_id and runner.current_task is not None:
        return f"{100 * get_task_fraction(runner.current_task):.0f} %"
    if not row.state.ended:
        return describe_frames(row.shot)
    # two states have one icon
    if row.state in (RowState.FAILED, RowState.PARTIAL) or not row.seconds:
        return row.state.value
    return f"{write_minutes(row.seconds)} min"


def describe_end(row: Row) -> list[str]:
    """What is said of a row that has ended; where its frames are is in the table, as a sidebar is too narrow for it."""
    if row.state is RowState.FAILED:
        return [row.message]
    counted = write_notice(row.count, len(row.shot.frames), row.made, row.kept, row.seconds)
    return [counted, row.message] if row.state is RowState.PARTIAL and row.message else [counted]


def estimate_waiting() -> float | None:
    """Seconds that the shots which wait may take on the backend's device; None where nothing tells of one of them."""
    found = [estimate_request(row.shot.request, row.shot.size) for row in book.queue.waiting]
    known = [one.seconds for one in found if one is not None]
    return sum(known) if known and len(known) == len(found) else None


def _draw_row(layout: bpy.types.UILayout, context: bpy.types.Context, row: Row) -> None:
    """Draw what is known of the chosen row."""
    shot = row.shot
    box = layout.box()
    draw_name(box, f"{shot.name}: {tr(row.state.value)}", _ICONS[row.state])
    draw_sentence(box, context, f"{shot.scene} · {', '.join(shot.cameras)} · frames {describe_frames(shot)}", "BLANK1")
    character = shot.character or tr("everything in the scene")
    draw_words(box, context, f"{character} · {shorten(shot.request.text.prompt, 120)}", "BLANK1")
    if row.id == runner.current_id and runner.current_task is not None:
        box.progress(factor=get_task_fraction(runner.current_task), text=tr(describe_task(runner.current_task)), translate=False)
        box.operator("latentman.queue_cancel", icon="CANCEL")
        return
    if row.state.ended:
        first, *others = describe_end(row)
        draw_sentence(box, context, first, "BLANK1" if row.state is RowState.DONE else "ERROR")
        for sentence in others:
            draw_sentence(box, context, sentence, "BLANK1")
        if row.state is not RowState.DONE or row.message:
            box.operator("latentman.queue_repeat", icon="FILE_REFRESH")
        return
    if row.message:
        draw_sentence(box, context, row.message)
    draw_sentence(box, context, AS_QUEUED.format(describe_date(shot.queued)))


class QueuePanel(SidebarPanel):
    """The shots that line up, with what orders, starts and stops them."""

    bl_idname = "LATENTMAN_PT_queue"
    bl_label = "Queue"
    bl_parent_id = "LATENTMAN_PT_generate"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, context: bpy.types.Context) -> None:
        """How far the queue is, also where the box is closed; there is no room for more."""
        draw_text(get_layout(self), write_count(book.queue))

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the list, its buttons, and the chosen row."""
        layout, found = get_layout(self), find_list()
        # one below the other: beside each other their words are cut off
        column = layout.column(align=True)
        column.operator("latentman.queue_add", icon="ADD")
        column.operator("latentman.queue_marked", text="All Marked Shots...", text_ctxt=CONTEXT, icon="MARKER_HLT")
        if book.error:
            draw_sentence(layout, context, book.error, "ERROR")
        if found is None or not book.queue.rows:
            draw_sentence(layout, context, "Shots that are added here are made one after the other, with the settings of now.")
            return
        row = layout.row()
        row.template_list(LATENTMAN_UL_queue.bl_idname, "", found, "rows", found, "active", rows=4)
        column = row.column(align=True)
        column.operator("latentman.queue_remove", text="", icon="REMOVE")
        column.separator()
        set_properties(column.operator("latentman.queue_move", text="", icon="TRIA_UP"), direction="UP")
        set_properties(column.operator("latentman.queue_move", text="", icon="TRIA_DOWN"), direction="DOWN")
        column.separator()
        column.operator("latentman.queue_pause_row", text="", icon="PAUSE")
        row = make_row(layout, context)
        if runner.is_going:
            row.operator("latentman.queue_pause", text="Pause", text_ctxt=CONTEXT, icon="PAUSE")
        else:
            row.operator("latentman.queue_start", text="Start", text_ctxt=CONTEXT, icon="PLAY")
        row.operator("latentman.queue_clear", text="Clear", text_ctxt=CONTEXT, icon="TRASH")
        row.operator("latentman.queue_table", icon="TEXT")
        if book.queue.message:
            draw_sentence(layout, context, book.queue.message, "ERROR")
        elif works_elsewhere(book.queue):
            draw_sentence(layout, context, "Another Blender works through the queue of this file.")
        elif not runner.is_going and runner.current_id:
            draw_sentence(layout, context, "The queue pauses after this shot.")
        draw_sentence(layout, context, summarise(book.queue), "BLANK1")
        seconds = estimate_waiting()
        if seconds is not None:
            draw_text(layout, f"{len(book.queue.waiting)} waiting: about {write_duration(seconds)}", "TIME")
        active = find_active_row()
        if active is not None:
            _draw_row(layout, context, active)


LISTS = (LATENTMAN_UL_queue,)
