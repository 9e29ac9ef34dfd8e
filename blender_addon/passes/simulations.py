"""Physics that Blender computes from frame to frame: cloth, soft bodies, particles, dynamic paint. What is only computed for the
scene that the window shows is in ``scene_bound``.

A cache that is not baked is filled as frames are evaluated, and becomes wrong when they are not evaluated in order. Such objects
are therefore copied, and their copies are simulated from the beginning, so that the user's caches stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import bpy


def iter_caches(found: bpy.types.Object) -> Iterator[Any]:
    """The point caches of an object that play a part in a render."""
    for modifier in found.modifiers:
        one: Any = modifier
        if not modifier.show_render:
            continue
        if modifier.type in ("CLOTH", "SOFT_BODY"):
            yield one.point_cache
        elif modifier.type == "DYNAMIC_PAINT" and one.canvas_settings is not None:
            yield from (surface.point_cache for surface in one.canvas_settings.canvas_surfaces)
    for system in found.particle_systems:
        if system.settings.type == "EMITTER" or system.use_hair_dynamics:
            yield system.point_cache


def is_finished(cache: Any) -> bool:
    """Whether a cache is baked or comes from files, so that any frame can be evaluated at any time."""
    return bool(cache.is_baked or cache.use_external)


def is_simulated(found: bpy.types.Object) -> bool:
    """Whether an object's form depends on the frames that were evaluated before."""
    return any(not is_finished(cache) for cache in iter_caches(found))


def is_baked(found: bpy.types.Object) -> bool:
    """Whether an object has a cache that only it has, and not a copy of it."""
    return any(is_finished(cache) for cache in iter_caches(found))


def find_first_frame(objects: Iterable[bpy.types.Object]) -> int | None:
    """The first frame of the simulations of objects; None when there are none."""
    starts = [cache.frame_start for one in objects for cache in iter_caches(one) if not is_finished(cache)]
    return min(starts, default=None)


def has_simulation_zone(tree: bpy.types.NodeTree | None, depth: int = 8) -> bool:
    """Whether a simulation zone lies in a node tree or in groups within it."""
    if tree is None or not depth:
        return False
    return any(
        node.bl_idname == "GeometryNodeSimulationOutput" or has_simulation_zone(getattr(node, "node_tree", None), depth - 1)
        for node in tree.nodes
    )


def is_fluid(found: bpy.types.Object) -> bool:
    """Whether an object is the domain of smoke, fire or a liquid."""
    return any(isinstance(m, bpy.types.FluidModifier) and m.fluid_type == "DOMAIN" for m in found.modifiers)


def is_gas(found: bpy.types.Object) -> bool:
    """Whether an object is the domain of smoke or fire, which has no surface.

    It is kept out of our scenes: evaluated there, it would simulate anew, write into the user's cache, and can crash Blender.
    """
    domains = [m.domain_settings for m in found.modifiers if isinstance(m, bpy.types.FluidModifier) and m.fluid_type == "DOMAIN"]
    return any(domain is not None and domain.domain_type == "GAS" for domain in domains)


def is_obstacle(found: bpy.types.Object) -> bool:
    """Whether simulations collide with an object or are moved by it."""
    return any(m.type == "COLLISION" for m in found.modifiers) or (found.field is not None and found.field.type != "NONE")


def iter_pointers(found: bpy.types.Object) -> Iterator[tuple[Any, str, bpy.types.Object]]:
    """(owner, property, object) of what an object's modifiers and constraints, and its place, depend on."""
    if found.parent is not None:
        yield found, "parent", found.parent
    for owner in (*found.modifiers, *found.constraints):
        for declared in owner.bl_rna.properties:
            if declared.type != "POINTER" or declared.is_readonly:
                continue
            value = getattr(owner, declared.identifier, None)
            if isinstance(value, bpy.types.Object):
                yield owner, declared.identifier, value


def find_dependencies(objects: Iterable[bpy.types.Object]) -> set[bpy.types.Object]:
    """The objects on which the form and the place of objects depend, directly or not, themselves included."""
    found: set[bpy.types.Object] = set()
    waiting = list(objects)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [target for _, _, target in iter_pointers(one)]
    return found
