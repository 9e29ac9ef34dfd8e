"""Functions that Blender calls at undo, saving and the opening of files. None of them can raise, and opening a file keeps them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import bpy

from ..shared import logs

logger = logs.get_logger(__name__)

Handler = Callable[..., None]


def _guard(function: Handler) -> Handler:
    @wraps(function)
    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception:
            logger.exception("an event could not be handled")

    persistent: Any = bpy.app.handlers.persistent
    kept: Handler = persistent(call)
    return kept


class EventHandlers:
    """The functions of one module, by the names of ``bpy.app.handlers``, such as ``undo_post=function``.

    They are called with what Blender passes: a path or a scene, and more.
    """

    def __init__(self, **functions: Handler) -> None:
        self._functions = {name: _guard(function) for name, function in functions.items()}

    def register(self) -> None:
        """Begin to listen; what listens already is not added twice."""
        for name, function in self._functions.items():
            handlers = getattr(bpy.app.handlers, name)
            if function not in handlers:
                handlers.append(function)

    def unregister(self) -> None:
        """Stop listening."""
        for name, function in self._functions.items():
            handlers = getattr(bpy.app.handlers, name)
            if function in handlers:
                handlers.remove(function)
