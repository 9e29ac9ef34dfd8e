"""Registers and unregisters every part of the add-on, in order and in reverse."""

from __future__ import annotations

from . import command_line, connection, operators, panels, preferences, properties

PARTS = (properties, preferences, operators, panels, command_line, connection)


def register() -> None:
    """Switch the add-on on; nothing stays behind if a part fails."""
    done = []
    try:
        for part in PARTS:
            part.register()
            done.append(part)
    except Exception:
        for part in reversed(done):
            part.unregister()
        raise


def unregister() -> None:
    """Switch it off."""
    for part in reversed(PARTS):
        part.unregister()
