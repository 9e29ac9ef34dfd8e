"""Evaluates a scene at any frame as a render would: keyed visibility, modifiers for the render, instances.

Blender shows its evaluated data for renders to render engines only. This engine draws nothing; it hands the data on. The render's
context is a scene with nothing in it, because Blender writes what Actions and drivers give back to the data of the context's
scene: so nothing of the user's moves, not even for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import bpy

from ...shared import shot
from ..render_gate import override_context
from .engine import SharedRegistration
from .quiet import silence_stdout

NAME = "LATENTMAN_CAPTURE"
T = TypeVar("T")


class CaptureEngine(bpy.types.RenderEngine):
    """Hands a render's evaluated data to the function that waits for it."""

    bl_idname = NAME
    bl_label = "LatentMan (internal)"
    bl_use_preview = False

    #: takes the evaluated data of the render that is under way
    receive: Callable[[bpy.types.Depsgraph], None] | None = None

    def update(self, data: bpy.types.BlendData | None = None, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """Nothing has to be exported."""

    def render(self, depsgraph: bpy.types.Depsgraph | None) -> None:  # type: ignore[override]  # the stubs let it return settings
        """Hand on what was evaluated."""
        if CaptureEngine.receive is not None and depsgraph is not None:
            CaptureEngine.receive(depsgraph)


#: makes the engine known to Blender while somebody needs it
_registration = SharedRegistration(CaptureEngine)
register, unregister = _registration.register, _registration.unregister


#: scripts of others run when these happen; none of it is theirs to see while a scene of our own is rendered
_EVENTS = tuple(
    name
    for name in dir(bpy.app.handlers)
    if name.startswith(("frame_change_", "render_", "depsgraph_update_", "object_bake_", "composite_"))
)


@contextmanager
def silence_handlers(*kept: str) -> Iterator[None]:
    """Within the block no script of the file or of an add-on runs when frames change or are rendered, but for those of the lists
    ``kept``."""
    lists: list[tuple[list[Any], list[Any]]] = []
    try:
        for name in _EVENTS:
            if name not in kept:
                handlers: Any = getattr(bpy.app.handlers, name)
                lists.append((handlers, list(handlers)))
                handlers.clear()
        yield
    finally:
        for handlers, functions in lists:
            handlers[:] = functions


def run_render(stage: bpy.types.Scene, scene: bpy.types.Scene, frame: int, **options: Any) -> None:
    """Render a frame of ``scene`` in the context of ``stage``, a scene without objects."""
    # Blender renders the frame of the context's scene
    stage.frame_current = scene.frame_current = frame
    if stage.frame_current != frame:
        # the property takes no negative frames where the preferences do not
        stage.frame_set(frame)
    context = override_context(bpy.context, scene=stage, view_layer=stage.view_layers[0])
    with silence_handlers(), silence_stdout(), context:
        bpy.ops.render.render(scene=scene.name, **options)


def capture(stage: bpy.types.Scene, scene: bpy.types.Scene, frame: int, read: Callable[[bpy.types.Depsgraph], T]) -> T:
    """What ``read`` finds in the evaluated data of a frame of ``scene``, whose engine is ``CaptureEngine``.

    Raises what ``read`` raises, and ``ShotError`` when Blender renders something else at the moment.
    """
    return receive_from(lambda: run_render(stage, scene, frame), read)


def receive_from(render: Callable[[], None], read: Callable[[bpy.types.Depsgraph], T]) -> T:
    """What ``read`` finds in the evaluated data of what ``render`` renders with ``CaptureEngine``; raises as ``capture`` does."""
    found: list[T] = []
    errors: list[BaseException] = []

    def receive(graph: bpy.types.Depsgraph) -> None:
        # Blender would swallow the error
        try:
            found.append(read(graph))
        except BaseException as error:
            errors.append(error)

    CaptureEngine.receive = receive
    try:
        render()
    finally:
        CaptureEngine.receive = None
    if errors:
        raise errors[0]
    if not found:
        raise shot.ShotError(
            "passes", "The passes could not be made because Blender renders something else; generate the shot again."
        )
    return found[0]
