"""How large a character is in the picture, what is said of it, and the cameras that *Frame Character* moves or leaves alone."""

from __future__ import annotations

import math
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

from latentman.blender_addon import properties
from latentman.blender_addon.framing import Framing, explain_framing, keeps_direction, measure_framing
from latentman.blender_addon.kept_framing import FramingBook
from latentman.blender_addon.passes.camera import find_marker_camera

pytestmark = pytest.mark.usefixtures("registered_operators")


def _look_along_y(distance: float) -> np.ndarray:
    """World to camera of a camera at (0, -distance, 0.9) that looks along +Y."""
    return np.array([[1, 0, 0, 0], [0, 0, 1, -0.9], [0, -1, 0, -distance], [0, 0, 0, 1]], float)


#: a picture whose height is 2 at the distance 1; and one of 4 units' height without perspective
PERSPECTIVE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -0.2], [0, 0, -1, 0]], float)
ORTHOGRAPHIC = np.diag([0.5, 0.5, -0.01, 1.0])


def _body(x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """The corners of a flat figure, 1.8 high and 0.6 wide."""
    return np.array([[x + a, y, z] for a in (-0.3, 0.3) for z in (0, 1.8)])


@pytest.mark.parametrize(
    ("points", "distance", "projection", "height", "partly", "wholly", "words"),
    [
        (_body(), 1.2, PERSPECTIVE, 0.75, False, False, ""),
        (_body(), 10.0, PERSPECTIVE, 0.09, False, False, "takes 9 % of the picture's height"),
        (_body(), 0.7, PERSPECTIVE, 1.286, True, False, "partly outside"),
        (_body(x=1.2), 1.2, PERSPECTIVE, 0.75, True, False, "partly outside"),
        (_body(x=30), 1.2, PERSPECTIVE, 0.75, True, True, "does not see"),
        (_body(y=-9), 1.2, PERSPECTIVE, 0.0, True, True, "does not see"),
        (np.concatenate([_body(), _body(y=-9)]), 1.2, PERSPECTIVE, 0.75, True, False, "partly outside"),
        (_body(), 5.0, ORTHOGRAPHIC, 0.45, False, False, "takes 45 %"),
        (_body(y=-9), 5.0, ORTHOGRAPHIC, 0.0, True, True, "does not see"),
        (np.empty((0, 3)), 5.0, PERSPECTIVE, 0.0, True, True, "does not see"),
    ],
)
def test_a_character_is_measured_and_described(points, distance, projection, height, partly, wholly, words):
    found = measure_framing(points, _look_along_y(distance), projection)
    assert (found.partly, found.wholly) == (partly, wholly) and found.height == pytest.approx(height, abs=2e-3)
    sentence = explain_framing(found)
    assert words in sentence and bool(sentence) == bool(words)


def test_one_that_lies_across_the_picture_or_travels_is_not_called_small():
    assert not explain_framing(Framing(0.3, 0.95, False, False)) and explain_framing(Framing(0.3, 0.4, False, False))
    assert not explain_framing(Framing(0.3, 0.4, False, False), is_framed=True)
    assert explain_framing(Framing(0.3, 0.4, True, False), is_framed=True)


@pytest.mark.parametrize(
    ("angles", "kept"),
    [
        ((90, 0, 0), True),
        ((63.6, 0, 46.7), True),
        ((100, 0, 180), True),
        ((0, 0, 0), False),
        ((170, 0, 0), False),
        ((90, 40, 0), False),
    ],
)
def test_a_direction_that_suits_a_character_is_kept(angles, kept):
    assert keeps_direction(np.array(Euler(map(math.radians, angles)).to_matrix())) is kept


# -- in Blender


@pytest.fixture
def scene(empty_scene, character):
    """A mannequin, picked."""
    properties.get_settings(bpy.context).character = character
    return empty_scene


def _add_camera(scene, location=(20.0, -30.0, 12.0), angles=(75, 0, 33), kind="PERSP") -> bpy.types.Object:
    camera = bpy.data.objects.new("Old", bpy.data.cameras.new("Old"))
    camera.data.type = kind
    camera.location, camera.rotation_euler = location, [math.radians(angle) for angle in angles]
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.context.view_layer.update()
    return camera


def _measure(scene, camera) -> Framing:
    """The framing of the mannequin's vertices by Blender's own projection."""
    from bpy_extras.object_utils import world_to_camera_view

    body = next(one for one in scene.objects if one.type == "MESH")
    graph = bpy.context.evaluated_depsgraph_get()
    one = body.evaluated_get(graph)
    seen = np.array([world_to_camera_view(scene, camera, one.matrix_world @ vertex.co) for vertex in list(one.data.vertices)[::40]])
    low, high = seen.min(0), seen.max(0)
    return Framing(high[1] - low[1], high[0] - low[0], (low[:2] < 0).any() or (high[:2] > 1).any() or low[2] <= 0, False)


def _explain(scene, book=None):
    context = SimpleNamespace(screen=None, evaluated_depsgraph_get=bpy.context.evaluated_depsgraph_get)
    return (book or FramingBook()).explain(context, scene, properties.get_settings(bpy.context).character, None)


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("angles", [(75, 0, 33), (0, 0, 0), (90, 0, 200)])
def test_a_free_camera_is_moved_and_keeps_its_side(scene, kind, angles):
    camera = _add_camera(scene, angles=angles, kind=kind)
    lens = camera.data.lens
    assert _explain(scene)
    assert bpy.ops.latentman.frame_character() == {"FINISHED"}
    assert scene.camera == camera and len(bpy.data.cameras) == 1 and camera.data.lens == lens
    found = _measure(scene, camera)
    assert not found.partly and max(found.height, found.width) > 0.6 and not _explain(scene)
    if angles != (0, 0, 0):
        assert np.abs(np.array(camera.rotation_euler) - np.radians(angles)).max() < 1e-4


@pytest.mark.parametrize(
    "how", ["action", "driver", "constraint", "parent", "panoramic", "lock", "other scene", "marker", "light", "lens"]
)
def test_a_camera_that_is_held_stays_and_another_is_made(scene, how, capfd):
    camera = _add_camera(scene)
    before = camera.matrix_world.copy()
    if how == "action":
        camera.keyframe_insert("location", frame=1)
    elif how == "lens":
        camera.data.keyframe_insert("lens", frame=1)
    elif how == "driver":
        camera.driver_add("location", 0).driver.expression = "20"
    elif how == "constraint":
        camera.constraints.new("TRACK_TO")
    elif how == "parent":
        dolly = bpy.data.objects.new("Dolly", None)
        scene.collection.objects.link(dolly)
        camera.parent = dolly
    elif how == "panoramic":
        camera.data.type = "PANO"
    elif how == "lock":
        camera.lock_location[0] = True
    elif how == "other scene":
        bpy.data.scenes.new("Other").collection.objects.link(camera)
    elif how == "marker":
        camera.constraints.new("TRACK_TO")
        scene.timeline_markers.new("Shot", frame=1).camera = camera
    else:
        lamp = bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "SPOT"))
        scene.collection.objects.link(lamp)
        scene.camera = camera = lamp
        before = lamp.matrix_world.copy()
    assert bpy.ops.latentman.frame_character() == {"FINISHED"}
    assert scene.camera != camera and scene.camera.type == "CAMERA" and camera.matrix_world == before
    used = find_marker_camera(scene) or scene.camera
    assert used == scene.camera and not _measure(scene, used).partly
    said = capfd.readouterr().out
    assert f"'{camera.name}'" in said and "stays as it is" in said


def test_without_a_camera_one_is_added_and_said(scene, capfd):
    assert bpy.ops.latentman.frame_character() == {"FINISHED"}
    assert scene.camera is not None and "Added 'Camera'" in capfd.readouterr().out


def test_the_hint_is_measured_once_and_again_when_something_changes(scene, monkeypatch):
    from latentman.blender_addon import kept_framing

    camera, book, calls = _add_camera(scene), FramingBook(), []
    measure = kept_framing._measure
    monkeypatch.setattr(kept_framing, "_measure", lambda *values: calls.append(1) or measure(*values))
    assert "%" in _explain(scene, book) or "outside" in _explain(scene, book) or _explain(scene, book)
    assert _explain(scene, book) and len(calls) == 1
    camera.matrix_world = Matrix.LocRotScale((0.3, -5, 1), Euler((math.pi / 2, 0, 0)), None)
    bpy.context.view_layer.update()
    book.forget()
    assert not _explain(scene, book) and len(calls) == 2
    scene.frame_set(5)
    assert not _explain(scene, book) and len(calls) == 3


def test_a_figure_that_travels_is_not_called_small_once_it_is_framed(scene):
    character = properties.get_settings(bpy.context).character
    for frame, x in ((1, -20.0), (24, 20.0)):
        character.location.x = x
        character.keyframe_insert("location", frame=frame)
    _add_camera(scene, (0, -90, 1), (90, 0, 0))
    scene.frame_set(12)
    from latentman.blender_addon.kept_framing import book

    assert "height" in _explain(scene, book)
    assert bpy.ops.latentman.frame_character() == {"FINISHED"}
    assert not _explain(scene, book) and _explain(scene)
