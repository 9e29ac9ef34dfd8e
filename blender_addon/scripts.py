"""Drivers that are written in Python and do not run, because the file was opened without permission for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy

#: drivers that are named in the sentence
NAMED = 3


def _iter_animated() -> Iterator[Any]:
    """Every data-block of the file that can have drivers, and the node trees inside others."""
    for collection in bpy.data.bl_rna.properties:
        if collection.type != "COLLECTION":
            continue
        for block in getattr(bpy.data, collection.identifier):
            yield block
            tree = getattr(block, "node_tree", None)
            if tree is not None and tree.is_embedded_data:
                yield tree


def list_silent_drivers() -> list[str]:
    """What the drivers move that have failed when they were evaluated last, like ``Rig: location``. Simple expressions, which
    Blender evaluates without Python, are not among them."""
    found = []
    for block in _iter_animated():
        animation = getattr(block, "animation_data", None)
        for curve in animation.drivers if animation else ():
            driver = curve.driver
            if driver and driver.type == "SCRIPTED" and not driver.is_valid and not driver.is_simple_expression:
                found.append(f"{block.name}: {curve.data_path}")
    return sorted(set(found))


def explain_silent_drivers(how: str) -> str:
    """A sentence about the file's scripted drivers that do not run, with ``how`` to make them; "" when all run. The scene must
    have been evaluated."""
    drivers = list_silent_drivers()
    if not drivers:
        return ""
    more = f" and {len(drivers) - NAMED} more" if len(drivers) > NAMED else ""
    which = f"{', '.join(drivers[:NAMED])}{more}"
    if bpy.app.autoexec_fail:
        return f"Scripts are off, so scripted drivers of this file do not run and what they move stays as it is ({which}); {how}."
    return f"Scripted drivers of this file fail, so what they move stays as it is ({which}); correct their expressions."
