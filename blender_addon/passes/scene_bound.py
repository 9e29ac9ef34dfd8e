"""What moves with the user's scene alone, and so cannot be followed in a scene of our own: physics that Blender simulates only for
the scene that it shows, drivers that read what changes in the scene, and scripts that run on every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import bpy

from ...shared import shot
from .simulations import has_simulation_zone, is_finished, is_fluid, is_gas, iter_caches
from .visibility import iter_curves

#: the lists of ``bpy.app.handlers`` whose functions may change what a frame shows
FRAME_HANDLERS = ("frame_change_pre", "frame_change_post", "render_init", "render_pre")
#: kinds of data that lead from what is rendered to all that is in the file
_UNFOLLOWED = ("SCENE", "LIBRARY", "WINDOWMANAGER", "WORKSPACE", "SCREEN", "WORLD", "TEXT")
#: the names of all objects, tools and add-ons of ours begin so
_OWN = __name__.rpartition(".blender_addon")[0]


@dataclass(frozen=True)
class SceneBound:
    """What ties a scene's frames to the scene itself.

    ``reason`` is a sentence that says what, and what to do where it cannot be played; ``first`` is the frame from which it must be
    played, None where any frame can be evaluated at any time.
    """

    reason: str
    first: int | None


def find_used(objects: Iterable[bpy.types.Object]) -> set[bpy.types.ID]:
    """Everything on which the form and the place of objects depend, directly or not, themselves included: also through drivers,
    constraints of bones, collections and nodes."""
    uses: dict[bpy.types.ID, list[bpy.types.ID]] = {}
    user_map: Any = bpy.data.user_map
    for block, users in user_map().items():
        for user in users:
            uses.setdefault(user, []).append(block)
    found: set[bpy.types.ID] = set()
    waiting: list[bpy.types.ID] = list(objects)
    while waiting:
        one = waiting.pop()
        if one not in found and one.id_type not in _UNFOLLOWED:
            found.add(one)
            waiting += uses.get(one, [])
    return found


def find_scene_bound(used: Iterable[bpy.types.ID], scene: bpy.types.Scene) -> SceneBound | None:
    """Why frames of what is made of ``used`` must be evaluated in ``scene`` itself, None where any scene will do.

    Raises ``ShotError`` for what cannot be played either.
    """
    blocks = sorted(used, key=lambda one: (one.id_type, one.name_full))
    objects = [one for one in blocks if isinstance(one, bpy.types.Object)]
    reasons: list[tuple[str, bool]] = []
    for one in objects:
        _check_liquid(one)
        reasons += _find_physics(one, scene)
    for block in blocks:
        reasons += [
            (
                f"A driver of {block.name} reads '{path}' from the scene, which passes cannot follow; write 'frame' into its "
                "expression, or keep the property on an object.",
                True,
            )
            for path in _find_scene_drivers(block, scene)
        ]
    reasons += [
        (
            f"The script '{name}' changes the scene on every frame, which passes cannot follow; bake what it moves to keyframes.",
            True,
        )
        for _, name in list_handlers()
    ]
    if not reasons:
        return None
    is_played = any(not finished for _, finished in reasons)
    return SceneBound(reasons[0][0], _find_first_frame(scene) if is_played else None)


def list_handlers() -> list[tuple[str, str]]:
    """(list, name) of the functions that others run on every frame, or before it is rendered."""
    out = []
    for kind in FRAME_HANDLERS:
        for function in getattr(bpy.app.handlers, kind):
            module = getattr(function, "__module__", None) or ""
            if not _OWN or not f"{module}.".startswith(f"{_OWN}."):
                # a script's module is called differently when Blender runs it while it opens a file
                out.append((kind, str(getattr(function, "__qualname__", type(function).__name__))))
    return out


def _find_physics(one: bpy.types.Object, scene: bpy.types.Scene) -> Iterator[tuple[str, bool]]:
    """(what to do where it cannot be played, whether all of it is baked) of the simulations of an object."""
    world = scene.rigidbody_world
    if _is_rigid(one, scene):
        yield (
            f"{one.name} is moved by rigid body physics, which passes cannot follow; bake it with Object > Rigid Body > "
            "Bake To Keyframes.",
            world is not None and is_finished(world.point_cache),
        )
    for modifier in one.modifiers:
        found: Any = modifier
        if not modifier.show_render:
            continue
        if modifier.type == "NODES" and has_simulation_zone(found.node_group):
            # a bake is read whatever frames were evaluated before, but nothing says whether there is one
            yield (
                f"The geometry nodes of {one.name} hold a simulation zone, which passes cannot follow; export it as Alembic and "
                "import that in its place.",
                False,
            )
        elif modifier.type == "SOFT_BODY" and not is_finished(found.point_cache):
            yield f"{one.name} is a soft body that is not baked; bake it (Physics > Soft Body > Cache > Bake).", False
        elif modifier.type == "DYNAMIC_PAINT" and found.canvas_settings is not None:
            caches = [surface.point_cache for surface in found.canvas_settings.canvas_surfaces]
            yield (
                f"Dynamic paint changes {one.name}, which passes cannot follow; bake it (Physics > Dynamic Paint > Cache > Bake).",
                all(map(is_finished, caches)),
            )
    for system in one.particle_systems:
        if system.settings.type == "HAIR" and system.use_hair_dynamics:
            yield (
                f"The hair of {one.name} is simulated, which passes cannot follow; switch off Hair Dynamics.",
                is_finished(system.point_cache),
            )


def _check_liquid(one: bpy.types.Object) -> None:
    """Raise ``ShotError`` for a liquid: it comes from files that a copy of it may not find, and without them it is a box."""
    if is_fluid(one) and not is_gas(one) and any(m.type == "FLUID" and m.show_render for m in one.modifiers):
        raise shot.ShotError(
            "scene",
            f"{one.name} is a liquid, which passes cannot follow; export it with File > Export > Alembic, and import that in its "
            "place.",
        )


def _find_first_frame(scene: bpy.types.Scene) -> int:
    """The first frame of all simulations of a scene."""
    starts = [scene.frame_start]
    world = scene.rigidbody_world
    if world is not None:
        starts.append(world.point_cache.frame_start)
    starts += [cache.frame_start for one in scene.objects for cache in iter_caches(one) if not is_finished(cache)]
    return min(starts)


def _is_rigid(found: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    world, body = scene.rigidbody_world, found.rigid_body
    if world is None or not world.enabled or world.collection is None or body is None:
        return False
    is_free = body.type == "ACTIVE" and body.enabled and not body.kinematic
    return is_free and found in world.collection.all_objects.values()


def _find_scene_drivers(block: bpy.types.ID, scene: bpy.types.Scene) -> Iterator[str]:
    """The paths of the scene's changing properties that the drivers of a data-block read."""
    owner: Any = block
    animation = getattr(owner, "animation_data", None)
    if animation is None or not animation.drivers:
        return
    changing = {curve.data_path for curve in iter_curves(scene)}
    for curve in animation.drivers:
        driver = curve.driver
        if driver.type == "SCRIPTED" and "bpy." in driver.expression:
            yield driver.expression
        for variable in driver.variables:
            for target in variable.targets if variable.type in ("SINGLE_PROP", "CONTEXT_PROP") else ():
                path = target.data_path
                is_time = path.startswith(("frame_current", "frame_float", "frame_subframe"))
                if variable.type == "CONTEXT_PROP":
                    # Blender reads these from the scene that is evaluated, which has the time
                    if not is_time:
                        yield path
                elif target.id == scene and (is_time or path in changing):
                    yield path
