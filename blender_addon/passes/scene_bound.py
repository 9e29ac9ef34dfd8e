"""What moves with the user's scene alone, and so cannot be followed in a scene of our own: it is refused, never shown wrongly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import bpy

from ...shared import shot
from .visibility import iter_curves


def check_follows(objects: Iterable[bpy.types.Object], scene: bpy.types.Scene) -> None:
    """Raise ``ShotError`` for an object that rigid body physics or simulation nodes move, or whose drivers read what changes in
    the scene itself."""
    for one in sorted(objects, key=lambda found: found.name_full):
        if _is_rigid(one, scene):
            raise shot.ShotError(
                "scene",
                f"{one.name} is moved by rigid body physics, which passes cannot follow; bake it with Object > Rigid Body > "
                "Bake To Keyframes.",
            )
        if any(m.show_render and _simulates(getattr(m, "node_group", None)) for m in one.modifiers if m.type == "NODES"):
            raise shot.ShotError(
                "scene",
                f"The geometry nodes of {one.name} hold a simulation zone, which passes cannot follow; export it as Alembic and "
                "import that in its place.",
            )
        for path in _find_scene_drivers(one, scene):
            raise shot.ShotError(
                "scene",
                f"A driver of {one.name} reads '{path}' from the scene, which passes cannot follow; write 'frame' into its "
                "expression, or keep the property on an object.",
            )


def _is_rigid(found: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    world, body = scene.rigidbody_world, found.rigid_body
    if world is None or not world.enabled or world.collection is None or body is None:
        return False
    is_free = body.type == "ACTIVE" and body.enabled and not body.kinematic
    return is_free and found in world.collection.all_objects.values()


def _simulates(tree: bpy.types.NodeTree | None, depth: int = 8) -> bool:
    """Whether a simulation zone lies in a node tree or in groups within it."""
    if tree is None or not depth:
        return False
    return any(
        node.bl_idname == "GeometryNodeSimulationOutput" or _simulates(getattr(node, "node_tree", None), depth - 1)
        for node in tree.nodes
    )


def _iter_drivers(found: bpy.types.Object) -> Iterator[Any]:
    """The drivers of an object, of its data and shape keys, and of the geometry nodes of its modifiers."""
    data: Any = found.data
    groups = [getattr(modifier, "node_group", None) for modifier in found.modifiers]
    for owner in (found, data, getattr(data, "shape_keys", None), *groups):
        if owner is not None and getattr(owner, "animation_data", None) is not None:
            yield from owner.animation_data.drivers


def _find_scene_drivers(found: bpy.types.Object, scene: bpy.types.Scene) -> Iterator[str]:
    """The paths of the scene's changing properties that an object's drivers read."""
    changing = {curve.data_path for curve in iter_curves(scene)}
    for curve in _iter_drivers(found):
        for variable in curve.driver.variables:
            for target in variable.targets if variable.type in ("SINGLE_PROP", "CONTEXT_PROP") else ():
                path = target.data_path
                if variable.type == "CONTEXT_PROP":
                    if not path.startswith("frame_current"):
                        yield path
                elif target.id == scene and (path.startswith("frame_current") or path in changing):
                    yield path
