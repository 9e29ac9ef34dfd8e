"""Keeps the queue going: the window's timer, and the opening and saving of files."""

from __future__ import annotations

from typing import Any

import bpy

from ...shared import logs
from ..connection import connection
from ..event_handlers import EventHandlers
from .book import book
from .row_list import update_rows
from .runner import runner

logger = logs.get_logger(__name__)

#: how often the queue is looked at; the tasks themselves have the connection's timer
SECONDS = 0.25


def step() -> None:
    """Do what is to be done next, and have the list show it."""
    before = (book.queue, runner.is_going, book.error)
    runner.advance()
    update_rows()
    if (book.queue, runner.is_going, book.error) != before:
        connection.redraw()


def on_timer() -> float:
    """The window's timer. No exception may leave it, as Blender would remove the timer."""
    try:
        step()
    except Exception:
        logger.exception("the queue met an unexpected error")
    return SECONDS


def _on_load(*_: object) -> None:
    runner.open(bpy.data.filepath)
    update_rows()


def _on_save(path: str = "", *_: object) -> None:
    if path and path != bpy.data.filepath:  # a copy
        return
    runner.follow_save(bpy.data.filepath)


_handlers = EventHandlers(load_post=_on_load, save_post=_on_save)


def register() -> None:
    """Listen to files, have the queue of the open one, and start the timer, which background Blender does without."""
    _handlers.register()
    # while Blender starts there is no file yet, and the handler has it
    data: Any = bpy.data
    if hasattr(data, "filepath"):
        runner.open(data.filepath)
    if not bpy.app.background and not bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.register(on_timer, first_interval=SECONDS, persistent=True)


def unregister() -> None:
    """Stop listening; what is being made ends with the connection, and waits again then."""
    if bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.unregister(on_timer)
    _handlers.unregister()
    runner.is_going = False
