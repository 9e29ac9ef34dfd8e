"""What the buttons do, one file for each box of the panel.

Every operator has a ``poll`` that says why not, a tooltip, and reports what went wrong in a sentence.
"""

from __future__ import annotations

import bpy

from . import backend, character, generate, motion, results

CLASSES = (*backend.CLASSES, *character.CLASSES, *motion.CLASSES, *generate.CLASSES, *results.CLASSES)


def register() -> None:
    """Add the operators."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Take them away again."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
