"""The rows of the queue as the window's list shows them. It lives with the window, which no undo changes and no file stores; what a
row stands for is in ``book``."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import CollectionProperty, IntProperty, PointerProperty, StringProperty

from .book import book
from .rows import Row


class LatentManQueueRow(bpy.types.PropertyGroup):
    """A row of the list: the id of a row of the queue."""

    row: StringProperty(name="Row", description="The shot that the row stands for")


class LatentManQueue(bpy.types.PropertyGroup):
    """The list, and which row is chosen."""

    rows: CollectionProperty(type=LatentManQueueRow, name="Rows", description="An item for each shot of the queue")
    active: IntProperty(name="Chosen Shot", description="The shot of the queue that the buttons beside are for")


def find_list() -> Any:
    """The window's list; None where there is no window, or the extension is switched off."""
    return getattr(bpy.context.window_manager, "latentman_queue", None)


def find_row(item: Any) -> Row | None:
    """The row of the queue that an item of the list stands for."""
    return book.queue.find(str(item.row))


def find_active_row() -> Row | None:
    """The row that is chosen; without a window's list there is none."""
    found = find_list()
    return find_row(found.rows[found.active]) if found is not None and 0 <= found.active < len(found.rows) else None


def update_rows(choose: str = "") -> None:
    """Have an item for each row of the queue; what was chosen stays chosen, unless ``choose`` is another row's id. Must not be
    called while something is drawn."""
    found = find_list()
    if found is None:
        return
    ids = [row.id for row in book.queue.rows]
    if [item.row for item in found.rows] == ids and not choose:
        return
    place = found.active
    chosen = choose or (found.rows[place].row if 0 <= place < len(found.rows) else "")
    found.rows.clear()
    for one in ids:
        found.rows.add().row = one
    # of a row that was removed the next takes the place
    found.active = ids.index(chosen) if chosen in ids else max(0, min(place, len(ids) - 1))


CLASSES = (LatentManQueueRow, LatentManQueue)


def add_properties() -> None:
    """Give the window its list."""
    manager_type: Any = bpy.types.WindowManager
    make_pointer: Any = PointerProperty
    manager_type.latentman_queue = make_pointer(
        type=LatentManQueue, name="Queue", description="The shots that wait, run or have ended", options={"SKIP_SAVE"}
    )


def remove_properties() -> None:
    """Take it away again."""
    manager_type: Any = bpy.types.WindowManager
    del manager_type.latentman_queue
