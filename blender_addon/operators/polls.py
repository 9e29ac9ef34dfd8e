"""What must be true for a button to be active: mixins that give operators their ``poll``.

An operator names its needs before Blender's class: ``class GenerateShot(NeedsIdleConnection, NeedsCharacter, bpy.types.Operator)``.
They are checked in this order, and the tooltip of a grey button shows the first that is not met. A need of a single operator is
checked in its own ``poll``, after ``super().poll(context)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..chosen_result import find_chosen_result
from ..connection import connection
from ..properties import get_settings
from ..translation import tr


class Poll:
    """The end of the chain of needs; the base of the mixins."""

    if TYPE_CHECKING:

        @classmethod
        def poll_message_set(cls, message: Any, *args: Any) -> None: ...

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether the button is active."""
        return True

    @classmethod
    def refuse(cls, reason: str) -> bool:
        """Show why the button is grey, and return False."""
        cls.poll_message_set(tr(reason))
        return False


class NeedsObjectMode(Poll):
    """Nothing is being edited, so that objects can be added."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse outside of Object Mode and Pose Mode."""
        if context.mode not in ("OBJECT", "POSE"):
            return cls.refuse("Leave the current mode first (Tab)")
        return super().poll(context)


class NeedsIdleConnection(Poll):
    """A backend is connected and has nothing else to do."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a backend, and while a shot or a motion is being generated."""
        if not connection.connected:
            return cls.refuse("The backend is not running; press Start above")
        if connection.busy:
            return cls.refuse("A shot or a motion is being generated; wait or cancel it")
        return super().poll(context)


class NeedsCharacter(Poll):
    """A character is picked."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a character."""
        if get_settings(context).character is None:
            return cls.refuse("Pick a character first")
        return super().poll(context)


class NeedsArmature(Poll):
    """The character is an armature."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a character, and for a character that is a mesh."""
        if get_settings(context).find_armature() is None:
            return cls.refuse("Pick an armature as the character first, or add the mannequin")
        return super().poll(context)


class NeedsMotion(NeedsArmature):
    """The character is an armature that something moves: an Action, or a strip of the NLA."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without an armature, and for an armature that is not animated."""
        settings = get_settings(context)
        if settings.find_armature() is not None and settings.find_motion() is None:
            return cls.refuse("The character has no Action; make or import a motion first")
        return super().poll(context)


class NeedsResult(Poll):
    """A result is selected in the list, or in the sequencer a strip that shows one."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a result."""
        if find_chosen_result(context) is None:
            return cls.refuse("Generate a shot first")
        return super().poll(context)
