"""Render engines: Cycles, which renders the passes and can be switched off, and our own, which Blender knows for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import addon_utils
import bpy

from ...shared import shot

MODULE = "cycles"


class SharedRegistration:
    """A render engine of ours that Blender knows as long as somebody needs it: each ``register`` needs its ``unregister``."""

    def __init__(self, engine: type[bpy.types.RenderEngine]) -> None:
        self._engine, self._users = engine, 0

    def register(self) -> None:
        """Make the engine known to Blender, if it is not yet."""
        if self._users == 0:
            bpy.utils.register_class(self._engine)
        self._users += 1

    def unregister(self) -> None:
        """Take the engine out of Blender's list once nobody needs it any more."""
        self._users -= 1
        if self._users == 0:
            bpy.utils.unregister_class(self._engine)


def has_cycles() -> bool:
    """Whether Cycles is switched on."""
    return hasattr(bpy.types.Scene, "cycles")


def check_cycles() -> None:
    """Raise ``ShotError`` while Cycles is switched off."""
    if not has_cycles():
        raise shot.ShotError(
            "engine",
            "Cycles is switched off, and it renders the passes; switch on Cycles Render Engine in Edit > Preferences > Add-ons.",
        )


@contextmanager
def switch_on_cycles(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block Cycles is switched on; ``tell`` gets a sentence where it was not. The preferences stay as they are.

    Raises ``ShotError`` where this Blender has no Cycles.
    """
    if has_cycles():
        yield
        return
    addon_utils.enable(MODULE, default_set=False)
    check_cycles()
    tell("Cycles is switched off in the preferences; it is switched on for this run, as it renders the passes.")
    try:
        yield
    finally:
        addon_utils.disable(MODULE, default_set=False)
