"""The table of what has become of the shots as a text data-block, which the Text editor shows."""

from __future__ import annotations

import bpy

from .. import undo_steps
from .rows import Queue, summarise
from .table import format_table

NAME = "LatentMan Queue"


def show_table(queue: Queue) -> None:
    """Write the table into the text, with an undo step of its own."""
    content = f"{summarise(queue)}\n\n{format_table(queue.rows)}"
    _write(content)
    undo_steps.record("Queue's Table", lambda: _has(content), lambda: _write(content))


def _find() -> bpy.types.Text | None:
    return next((text for text in bpy.data.texts if text.name == NAME and text.library is None), None)


def _has(content: str) -> bool:
    text = _find()
    # Blender's texts need not end with a line's end
    return text is not None and text.as_string().rstrip() == content.rstrip()


def _write(content: str) -> None:
    text = _find() or bpy.data.texts.new(NAME)
    text.clear()
    text.write(content)
    # an editor shows where the cursor is, which is behind what was written
    text.cursor_set(0)
