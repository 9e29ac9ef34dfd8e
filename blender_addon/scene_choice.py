"""The scene and the view layer that a command works in: those that are named, or what the file was saved with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

from ..shared import shot
from .render_gate import override_context
from .typed_access import get_scene, get_view_layer


@contextmanager
def use_scene(scene_name: str | None, layer_name: str | None) -> Iterator[bpy.types.Scene]:
    """Within the block a scene and a view layer of it are the context's; what is not named is what the file was saved with.

    Raises ``ShotError``, which lists those there are, for unknown names.
    """
    scene, layer = get_scene(bpy.context), get_view_layer(bpy.context)
    if scene_name is not None and scene_name != scene.name:
        scene = _find(bpy.data.scenes, scene_name, "scene", "in this file")
        layer = scene.view_layers[0]
    if layer_name is not None:
        layer = _find(scene.view_layers, layer_name, "view layer", f"in the scene '{scene.name}'")
    with _show(scene, layer):
        _leave_edit_mode(layer)
        yield scene


@contextmanager
def _show(scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> Iterator[None]:
    """Within the block the window shows a scene and a view layer.

    Not by an override of the context: Blender crashed now and then where one lasted for a whole command. Those that last for one
    render (``passes/capture.py``) never did.
    """
    window = bpy.context.window
    if window is None:
        if (scene, layer) != (bpy.context.scene, bpy.context.view_layer):
            raise shot.ShotError("scene", "This file has no window; save it with the scene and the view layer that are wanted.")
        yield
        return
    before = window.scene, window.view_layer.name
    if (scene, layer) != (bpy.context.scene, bpy.context.view_layer):
        window.scene, window.view_layer = scene, layer
    try:
        yield
    finally:
        if (window.scene, window.view_layer.name) != before:
            window.scene = before[0]
            window.view_layer = before[0].view_layers[before[1]]


def _find(owner: Any, name: str, kind: str, where: str) -> Any:
    found = owner.get(name)
    if found is None:
        there = ", ".join(f"'{one.name}'" for one in owner)
        raise shot.ShotError("scene", f"There is no {kind} '{name}' {where}; choose one of {there}.")
    return found


def _leave_edit_mode(layer: bpy.types.ViewLayer) -> None:
    """A file may have been saved while something was edited: what was changed there counts, and can be rendered."""
    # of what was deleted a moment ago the layer still has an empty place
    for edited in [one for one in layer.objects if one is not None and one.mode == "EDIT"]:
        # several may be edited at once, and leave it together
        if edited.mode == "EDIT":
            override: dict[str, Any] = dict(active_object=edited, object=edited, edit_object=edited, selected_objects=[edited])
            with override_context(bpy.context, **override):
                bpy.ops.object.mode_set(mode="OBJECT")
