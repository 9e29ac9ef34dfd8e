"""How long a scene's unit is: whatever is called metres here is converted from it."""

from __future__ import annotations

import bpy


def get_metres_per_unit(scene: bpy.types.Scene) -> float:
    """The scene's unit scale; 1 where it has no system of units, as Blender ignores the scale there."""
    units = scene.unit_settings
    return float(units.scale_length) if units.system != "NONE" else 1.0


def get_object_metres_per_unit(found: bpy.types.Object) -> float:
    """The same for the scene that an object is in; 1 for one that is in none."""
    scenes = found.users_scene
    return get_metres_per_unit(scenes[0]) if scenes else 1.0
