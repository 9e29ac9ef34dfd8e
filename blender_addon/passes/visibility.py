"""What a render of a view layer shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bpy

from ..compat import get_slot_fcurves, get_strip_slot, get_used_fcurves, get_used_strips

#: instances of collections within one another that Blender follows
MAX_DEPTH = 8


@dataclass(frozen=True)
class Visible:
    """``shown`` are the objects that a render shows at some frame; of them ``unseen`` are not seen by the camera itself, and
    behind ``holes`` nothing is seen."""

    shown: frozenset[bpy.types.Object] = frozenset()
    unseen: frozenset[bpy.types.Object] = frozenset()
    holes: frozenset[bpy.types.Object] = frozenset()
    #: what is shown by objects that show collections, if not itself
    instanced: frozenset[bpy.types.Object] = frozenset()
    #: what is shown, in the order of the outliner
    ordered: tuple[bpy.types.Object, ...] = field(default=())


def iter_curves(owner: bpy.types.ID) -> Iterator[Any]:
    """The F-curves and drivers that move an ID's properties, of its Action and its NLA strips."""
    animated: Any = owner
    data = animated.animation_data
    if data is None:
        return
    yield from get_used_fcurves(owner)
    for strip in get_used_strips(owner):
        yield from get_slot_fcurves(strip.action, get_strip_slot(strip))
    yield from data.drivers


def may_be_shown(found: bpy.types.Object) -> bool:
    """Whether an object is not hidden for rendering, or is keyed or driven to appear."""
    return not found.hide_render or any(curve.data_path == "hide_render" for curve in iter_curves(found))


def find_visible(view_layer: bpy.types.ViewLayer) -> Visible:
    """The objects that a render of a view layer shows.

    A collection that is excluded from the view layer may have children that are not; what is in several collections is seen as soon
    as one of them is.
    """
    seen: dict[bpy.types.Object, None] = {}
    unseen: set[bpy.types.Object] = set()
    holes: set[bpy.types.Object] = set()
    stack = [view_layer.layer_collection]
    while stack:
        layer = stack.pop()
        if layer.collection.hide_render:
            continue
        stack += reversed(layer.children)
        if layer.exclude:
            continue
        for found in layer.collection.objects:
            if may_be_shown(found):
                seen[found] = None
                if layer.indirect_only:
                    unseen.add(found)
                if layer.holdout:
                    holes.add(found)
    instanced = {inner for one in seen for inner in iter_instanced(one)}
    return Visible(frozenset(seen), frozenset(unseen), frozenset(holes), frozenset(instanced), tuple(seen))


def iter_collection(collection: bpy.types.Collection) -> Iterator[bpy.types.Object]:
    """The objects of a collection, and of those within it, that an instance of it shows in a render."""
    if collection.hide_render:
        return
    yield from (one for one in collection.objects if may_be_shown(one))
    for child in collection.children:
        yield from iter_collection(child)


def iter_instanced(found: bpy.types.Object, depth: int = 0) -> Iterator[bpy.types.Object]:
    """The objects that an object shows because it shows a collection, also those within one another."""
    if found.instance_type != "COLLECTION" or found.instance_collection is None or depth > MAX_DEPTH:
        return
    for one in iter_collection(found.instance_collection):
        yield one
        yield from iter_instanced(one, depth + 1)


def has_lights(view_layer: bpy.types.ViewLayer) -> bool:
    """Whether a render of a view layer is lit by a lamp."""
    return any(one.type == "LIGHT" for one in find_visible(view_layer).ordered)


def casts_plain_shadow(view_layer: bpy.types.ViewLayer, scope: str) -> bool:
    """Whether the frames of a shot take shadows from its passes, on a plane under the feet: where a lamp lights them, and where no
    surroundings are shown, which have a ground of their own."""
    return scope != "SCENE" and has_lights(view_layer)
