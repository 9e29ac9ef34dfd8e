"""Whether Blender lets extensions use the internet."""

from __future__ import annotations

import bpy


def is_online() -> bool:
    """Whether it does."""
    return bool(bpy.app.online_access)


def can_be_asked() -> bool:
    """Whether the user can change it in the preferences: not where Blender was started offline."""
    # the property lost a letter in 4.x, and got it back later
    return not (getattr(bpy.app, "online_access_overriden", False) or getattr(bpy.app, "online_access_override", False))


def allow_online(context: bpy.types.Context) -> None:
    """Switch it on, as the preferences' own button does."""
    if context.preferences is not None:
        context.preferences.system.use_online_access = True
