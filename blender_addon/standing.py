"""Puts a new character where the 3D cursor is, or beside what stands there."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
import numpy as np
from mathutils import Vector

from .free_place import Obstacle, explain_place, find_free_place
from .passes.render_set import BODIES
from .rigging.characters import find_character_meshes
from .typed_access import evaluate, get_scene, get_view_layer
from .units import get_metres_per_unit


def _measure(found: bpy.types.Object, metres: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest and the highest corner (3,) of an evaluated object's box in metres; None for one without a surface."""
    corners = np.array([found.matrix_world @ Vector(corner) for corner in found.bound_box]) * metres
    low, high = corners.min(0), corners.max(0)
    return (low, high) if np.isfinite(corners).all() and (high > low).any() else None


def _iter_obstacles(
    layer: bpy.types.ViewLayer, graph: bpy.types.Depsgraph, own: set[bpy.types.Object], metres: float
) -> Iterator[Obstacle]:
    for one in layer.objects:
        # what is not rendered, or shown as a frame only, is a helper: a cutter, the bounds of a simulation
        if (
            one in own
            or one.type not in BODIES
            or one.hide_render
            or one.display_type in ("WIRE", "BOUNDS")
            or not one.visible_get()
        ):
            continue
        box = _measure(one.evaluated_get(graph), metres)
        if box is not None:
            yield Obstacle(one.name, tuple(box[0].tolist()), tuple(box[1].tolist()))


def stand_at_cursor(context: bpy.types.Context, armature: bpy.types.Object) -> str:
    """Move a character that was built at the origin to the 3D cursor, its soles at the cursor's height, and from there as little
    as it takes to be free of visible objects. Returns a sentence about where it stands, empty where nothing is in the way."""
    scene, layer = get_scene(context), get_view_layer(context)
    metres = get_metres_per_unit(scene)
    armature.location += scene.cursor.location
    graph = evaluate(layer)
    meshes = find_character_meshes(armature)
    boxes = [box for mesh in meshes if (box := _measure(mesh.evaluated_get(graph), metres)) is not None]
    if not boxes:
        return ""
    low, high = np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)
    place = find_free_place(low.tolist(), high.tolist(), list(_iter_obstacles(layer, graph, {armature, *meshes}, metres)))
    armature.location.x += place.shift[0] / metres
    armature.location.y += place.shift[1] / metres
    layer.update()
    return explain_place(place)
