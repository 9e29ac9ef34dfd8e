"""What the buttons do, one file per box of the panel.

``polls`` says what a button needs and why it is grey; ``dialogs`` are those before it runs. Every operator has a tooltip
(``bl_description``) and reports what went wrong in one sentence.
"""

from __future__ import annotations

import bpy

from . import backend, bones, character, generate, motion, motion_edit, motion_text, results

CLASSES = (
    *backend.CLASSES,
    *character.CLASSES,
    *bones.CLASSES,
    *motion.CLASSES,
    *motion_text.CLASSES,
    *motion_edit.CLASSES,
    *generate.CLASSES,
    *results.CLASSES,
)


def register() -> None:
    """Register the operators."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Unregister the operators."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
