"""Undo steps for what arrives from the timer, outside of any operator: without one, the next Ctrl+Z would take it away.

While objects are edited, sculpted or painted, Blender's undo steps hold only that, and right after an undo a new step would end
what can be redone. What arrives then gets its step afterwards, and is put back when an undo takes it away before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bpy

from ..shared import logs
from .event_handlers import EventHandlers

logger = logs.get_logger(__name__)

#: modes whose undo steps hold the whole file
_WHOLE_FILE_MODES = ("OBJECT", "POSE")
#: operators that move something as long as a key or a button is held; the scene must not change under them
_DRAGGING = tuple(
    f"{module}_OT_" for module in ("TRANSFORM", "SCULPT", "PAINT", "POSE", "ARMATURE", "MESH", "GRAPH", "ACTION", "NLA")
)


@dataclass(frozen=True)
class Arrival:
    """Something that has arrived and has no undo step of its own yet: how to see whether it is there, and how to put it back."""

    message: str
    is_there: Callable[[], bool]
    put_back: Callable[[], None]


_waiting: list[Arrival] = []


def _iter_windows() -> Iterator[bpy.types.Window]:
    manager = bpy.context.window_manager
    yield from manager.windows if manager is not None else ()


def is_dragging() -> bool:
    """Whether the user is in the middle of moving, sculpting or painting something."""
    return any(operator.bl_idname.startswith(_DRAGGING) for window in _iter_windows() for operator in window.modal_operators)


def can_push() -> bool:
    """Whether an undo step made now would hold the whole file, and would take away nothing that can be redone."""
    layers = [window.view_layer for window in _iter_windows()]
    active = [layer.objects.active for layer in layers if layer is not None and layer.objects.active is not None]
    return not is_dragging() and all(found.mode in _WHOLE_FILE_MODES for found in active) and not _can_redo()


def _can_redo() -> bool:
    window = next(_iter_windows(), None)
    with bpy.context.temp_override(window=window) if window is not None else bpy.context.temp_override():
        return bool(bpy.ops.ed.redo.poll())  # type: ignore[call-arg]  # the stub asks for what Blender does not


def _push(message: str) -> bool:
    window = next(_iter_windows(), None)
    try:
        # a timer has no window, without which there is no undo
        with bpy.context.temp_override(window=window) if window is not None else bpy.context.temp_override():
            return bpy.ops.ed.undo_push(message=message) == {"FINISHED"}
    except RuntimeError:  # undo is switched off, or not possible at the moment
        logger.exception("no undo step could be made")
        return False


def record(message: str, is_there: Callable[[], bool], put_back: Callable[[], None]) -> None:
    """Make an undo step for what has just arrived, now or as soon as one can hold it.

    The callables must not hold on to Blender's data; they are called in later events.
    """
    if not can_push() or not _push(message):
        _waiting.append(Arrival(message, is_there, put_back))


def push(message: str) -> None:
    """Make an undo step for a small change, where that is possible now."""
    if can_push():
        _push(message)


def push_waiting() -> None:
    """Make the undo step of what is still without one, when that is possible now."""
    if _waiting and can_push() and _push(_waiting[-1].message):
        _waiting.clear()


def _put_back_waiting() -> None:
    for arrival in _waiting:
        try:
            if not arrival.is_there():
                arrival.put_back()
        except Exception:
            logger.exception("what an undo took away could not be put back: %s", arrival.message)


def _on_undo(*_: object) -> None:
    _put_back_waiting()


def _on_load(*_: object) -> None:
    _waiting.clear()


_handlers = EventHandlers(undo_post=_on_undo, redo_post=_on_undo, load_pre=_on_load)


def register() -> None:
    """Listen to undo, redo and the opening of files."""
    _handlers.register()


def unregister() -> None:
    """Stop listening."""
    _handlers.unregister()
    _waiting.clear()
