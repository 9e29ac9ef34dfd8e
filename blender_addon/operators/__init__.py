"""What the buttons do, one file for each box of the panel.

Every operator has a ``poll`` that says why not, a tooltip, and reports what went wrong in a sentence.
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

register, unregister = bpy.utils.register_classes_factory(CLASSES)
