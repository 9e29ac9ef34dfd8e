"""What the buttons do, one file per box of the panel.

``polls`` says what a button needs and why it is grey; ``dialogs`` are those before it runs. Every operator has a tooltip
(``bl_description``) and reports what went wrong in one sentence.
"""

from __future__ import annotations

import bpy

from ..translation import register_class
from . import (
    assets,
    backend,
    bones,
    character,
    dressing,
    dropping,
    generate,
    library,
    motion,
    motion_edit,
    motion_text,
    pairing,
    prompts,
    queue,
    result_list,
    results,
    set_up,
    setting_presets,
    strips,
    viewing,
)

CLASSES = (
    *backend.CLASSES,
    *set_up.CLASSES,
    *pairing.CLASSES,
    *character.CLASSES,
    *bones.CLASSES,
    *motion.CLASSES,
    *motion_text.CLASSES,
    *motion_edit.CLASSES,
    *prompts.CLASSES,
    *setting_presets.CLASSES,
    *dressing.CLASSES,
    *generate.CLASSES,
    *queue.CLASSES,
    *library.CLASSES,
    *results.CLASSES,
    *result_list.CLASSES,
    *viewing.CLASSES,
    *strips.CLASSES,
    *assets.CLASSES,
    *dropping.CLASSES,
)


def register() -> None:
    """Register the operators."""
    for kind in CLASSES:
        register_class(kind)


def unregister() -> None:
    """End what is under way, and unregister the operators."""
    pairing.stop_attempt()
    assets.stop_build()
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
