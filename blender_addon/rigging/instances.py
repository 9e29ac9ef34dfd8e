"""Characters that a scene shows only as an instance of their collection: those can be neither keyed nor rendered."""

from __future__ import annotations

from collections.abc import Iterable

import bpy


def _get_character_collection(found: bpy.types.Object) -> bpy.types.Collection | None:
    """The collection with an armature that an object is an instance of."""
    if found.instance_type != "COLLECTION" or found.instance_collection is None:
        return None
    collection = found.instance_collection
    return collection if any(inner.type == "ARMATURE" for inner in collection.all_objects) else None


def explain_instance(found: bpy.types.Object | None) -> str:
    """What to do with an object that is an instance of a character's collection; "" for anything else."""
    collection = _get_character_collection(found) if found else None
    if found is None or collection is None:
        return ""
    if collection.library is not None:
        return (
            f"{found.name} is an instance of the linked collection '{collection.name}', whose character is in another file; make a "
            "library override of it (Object > Library Override > Make), then pick its armature."
        )
    return (
        f"{found.name} is an instance of the collection '{collection.name}'; make it real (Object > Apply > Make Instances Real) "
        "with its hierarchy, or put the collection itself into the scene, then pick its armature."
    )


def explain_instances(objects: Iterable[bpy.types.Object]) -> str:
    """The same for the first such instance among objects; "" without any."""
    return next(filter(None, (explain_instance(found) for found in objects)), "")
