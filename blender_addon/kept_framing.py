"""How large the character is in the camera's picture at the current frame: measured when something has changed, and kept for the
redraws between."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from ..shared.shot import ShotError
from .camera_framing import find_used_camera
from .event_handlers import EventHandlers
from .framing import Framing, explain_framing, measure_framing
from .passes.own_data import PREFIX
from .passes.render_set import get_bodies

#: a camera by what decides its picture
_Pose = tuple[Any, ...]


def _describe_camera(camera: bpy.types.Object) -> _Pose:
    return (camera.session_uid, tuple(np.array(camera.matrix_world).round(5).ravel().tolist()))


class FramingBook:
    """The framing of the last character that the panel asked for."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._kept: Framing | None = None
        self._is_old = True
        #: the cameras as *Frame Character* has put them
        self._framed: dict[int, _Pose] = {}

    def forget(self, *_: object) -> None:
        """Measure anew at the next redraw: something has changed."""
        self._is_old = True

    def remember(self, camera: bpy.types.Object) -> None:
        """The camera sees the whole range from where it stands now."""
        self._framed[camera.session_uid] = _describe_camera(camera)
        self.forget()

    def explain(self, context: bpy.types.Context, scene: bpy.types.Scene, character: bpy.types.Object | None, size: Any) -> str:
        """A sentence about a character that is small or cut off in the picture of ``size`` (width, height), None for the scene's
        own; empty where there is nothing to say. While the scene plays, what was said last."""
        camera = find_used_camera(scene)
        if camera is None or camera.type != "CAMERA" or character is None:
            return ""
        width, height = size or (scene.render.resolution_x, scene.render.resolution_y)
        key = (scene.session_uid, scene.frame_current, character.session_uid, camera.session_uid, width, height)
        playing = context.screen is not None and context.screen.is_animation_playing
        if not playing and (self._is_old or key != self._key):
            self._key, self._is_old = key, False
            self._kept = _measure(context, character, camera, width, height)
        if self._kept is None:
            return ""
        return explain_framing(self._kept, is_framed=self._framed.get(camera.session_uid) == _describe_camera(camera))


def _measure(
    context: bpy.types.Context, character: bpy.types.Object, camera: bpy.types.Object, width: int, height: int
) -> Framing | None:
    """Measure the boxes of the character's meshes; None where that cannot be done."""
    try:
        bodies = get_bodies(character)
    except ShotError:
        return None
    graph = context.evaluated_depsgraph_get()
    points = np.array(
        [
            evaluated.matrix_world @ Vector(corner)
            for evaluated in (body.evaluated_get(graph) for body in bodies)
            for corner in evaluated.bound_box
        ]
    )
    seen = camera.evaluated_get(graph)
    try:
        to_camera = np.linalg.inv(np.array(seen.matrix_world.normalized(), np.float64))
    except np.linalg.LinAlgError:
        return None
    projection = np.array(seen.calc_matrix_camera(graph, x=width, y=height))
    return measure_framing(points, to_camera, projection)


book = FramingBook()


def _on_update(scene: bpy.types.Scene, *_: object) -> None:
    # scenes of our own come and go while frames are made
    if not scene.name.startswith(PREFIX):
        book.forget()


_handlers = EventHandlers(
    depsgraph_update_post=_on_update,
    frame_change_post=_on_update,
    undo_post=book.forget,
    redo_post=book.forget,
    load_post=book.forget,
)


def register() -> None:
    """Begin to follow what changes."""
    _handlers.register()


def unregister() -> None:
    """Stop following."""
    _handlers.unregister()
    book.forget()
