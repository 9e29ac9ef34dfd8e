"""What the buttons do, one file per box of the panel.

``polls`` says what a button needs and why it is grey; ``dialogs`` are those before it runs. Every operator has a tooltip
(``bl_description``) and reports what went wrong in one sentence.
"""

from __future__ import annotations

import bpy

from . import backend, bones, character, generate, motion, motion_edit, motion_text, results, set_up

CLASSES = (
    *backend.CLASSES,
    *set_up.CLASSES,
    *character.CLASSES,
    *bones.CLASSES,
    *motion.CLASSES,
    *motion_text.CLASSES,
    *motion_edit.CLASSES,
    *generate.CLASSES,
    *results.CLASSES,
)

# its stub says that it returns nothing
register, unregister = bpy.utils.register_classes_factory(CLASSES)  # type: ignore[func-returns-value, misc]
