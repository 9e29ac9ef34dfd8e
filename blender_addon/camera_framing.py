"""A camera that sees the character: a new one, or the scene's own, moved."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

from .framing import keeps_direction
from .passes.camera import find_marker_camera
from .passes.own_data import make_scene, own_data
from .typed_access import get_camera, get_view_layer

#: the direction of a new camera: a little from the side
DIRECTION = (1.50, 0.0, 0.45)
#: how much further away it stands, or how much more it shows, than what just fits
MARGIN = 0.06


def find_used_camera(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The camera at the scene's current frame: that of a marker, else the scene's own; None where there is none."""
    return find_marker_camera(scene) or scene.camera


def _is_animated(owner: bpy.types.ID | None) -> bool:
    data = getattr(owner, "animation_data", None)
    return data is not None and (data.action is not None or bool(data.nla_tracks) or bool(data.drivers))


def explain_fixed(camera: bpy.types.Object, scene: bpy.types.Scene) -> str:
    """Why a camera must not be moved, as the beginning of a sentence; empty for one that may be."""
    if camera.type != "CAMERA":
        return f"'{camera.name}' is not a camera"
    data = get_camera(camera)
    reasons = (
        (not camera.is_editable, "is linked from another file"),
        (camera.override_library is not None, "is an override of a linked one"),
        (_is_animated(camera) or _is_animated(data), "is animated"),
        (bool(camera.constraints), "has constraints"),
        (camera.parent is not None, "has a parent"),
        (camera.rigid_body is not None, "is moved by physics"),
        (any(camera.lock_location), "has a locked location"),
        (data.type not in ("PERSP", "ORTHO"), "is panoramic"),
        (data.type == "ORTHO" and (data.users > 1 or not data.is_editable), "shares its scale with other cameras"),
        (any(other != scene for other in camera.users_scene), "is used by another scene"),
    )
    return next((f"'{camera.name}' {words}" for holds, words in reasons if holds), "")


def _collect_points(scene: bpy.types.Scene, bodies: list[bpy.types.Object]) -> list[Vector]:
    """The corners of the bodies' boxes over the scene's range."""
    points: list[Vector] = []
    # frames of another scene with the same objects are evaluated without moving the user's
    with own_data() as data:
        other = make_scene(data, "Framing")
        for body in bodies:
            other.collection.objects.link(body)
        for frame in range(scene.frame_start, scene.frame_end + 1, max(1, (scene.frame_end - scene.frame_start) // 12)):
            other.frame_set(frame)
            # not updated by hand: that would make it the one that moves the user's objects
            graph = other.view_layers[0].depsgraph
            for body in bodies:
                evaluated = body.evaluated_get(graph)
                points += [evaluated.matrix_world @ Vector(corner) for corner in evaluated.bound_box]
    return points


def _bind_marker(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """Where markers choose the cameras, have one do so from the current frame on: else theirs would be used."""
    if find_marker_camera(scene) is None:
        return
    here = [marker for marker in scene.timeline_markers if marker.frame == scene.frame_current and marker.camera is not None]
    for marker in here or [scene.timeline_markers.new(camera.name, frame=scene.frame_current)]:
        marker.camera = camera


def frame_character(
    context: bpy.types.Context, scene: bpy.types.Scene, bodies: list[bpy.types.Object], camera: bpy.types.Object | None = None
) -> bpy.types.Object:
    """Make a camera see ``bodies`` during the whole range: ``camera``, from the side that it looks from where that suits a
    character, else a new one, which becomes the scene's. Returns the camera."""
    points = _collect_points(scene, bodies)
    if camera is None:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(camera)
        camera.rotation_euler = DIRECTION
        _bind_marker(scene, camera)
        scene.camera = camera
    else:
        location, rotation, scale = camera.matrix_world.decompose()
        if not keeps_direction(np.array(rotation.to_matrix())):
            rotation = Euler(DIRECTION).to_quaternion()
            camera.matrix_world = Matrix.LocRotScale(location, rotation, scale)
    get_view_layer(context).update()
    flat = [component for point in points for component in point.to_tuple()]
    location, width = camera.camera_fit_coords(context.evaluated_depsgraph_get(), flat)
    centre = sum(points, Vector()) / len(points)
    data = get_camera(camera)
    if data.type == "ORTHO":
        data.ortho_scale = width * (1 + 2 * MARGIN)
    else:
        location = location + MARGIN * (location - centre)
    # without a parent the world's way is the camera's own; its rotation stays to the last digit
    camera.location += location - camera.matrix_world.translation
    get_view_layer(context).update()
    return camera
