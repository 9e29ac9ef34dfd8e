"""The depth range of previews is kept from one to the next, and only what has changed is measured again."""

from __future__ import annotations

import bpy
import pytest

from latentman.blender_addon import compat
from latentman.blender_addon.passes import kept_extents
from latentman.blender_addon.passes.captured_scene import CapturedScene
from latentman.blender_addon.passes.render import PassRender
from tests.blender_addon.any_scene import add_box, add_camera, add_character

FRAMES = tuple(range(1, 21))


@pytest.fixture
def measured(monkeypatch):
    """The frames that have been evaluated, in a scene with a character."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.camera = add_camera()
    found = []
    evaluate = CapturedScene.evaluate

    def watch(self, frame, *values, **named):
        found.append(frame)
        return evaluate(self, frame, *values, **named)

    monkeypatch.setattr(CapturedScene, "evaluate", watch)
    kept_extents.register()
    yield found
    kept_extents.unregister()


def _preview(rig, measured, frame=5, **options):
    """What has been measured anew for a preview; its range is that of a shot that is measured from the beginning."""
    bpy.context.view_layer.update()
    measured.clear()
    job = PassRender(bpy.context, rig, (frame,), 64, 64, range_frames=FRAMES, keep_extents=True, **options)
    list(job.measure())
    job.close()
    again = list(measured)
    fresh = PassRender(bpy.context, rig, FRAMES, 64, 64, **options)
    list(fresh.measure())
    fresh.close()
    assert (job.near, job.far) == (fresh.near, fresh.far)
    return again


def test_what_has_not_changed_is_not_measured_again(measured):
    rig, _body = add_character()
    assert sorted(_preview(rig, measured)) == list(FRAMES)
    assert _preview(rig, measured) == [5]
    assert _preview(rig, measured, 9) == [9]
    bpy.context.scene.frame_set(13)
    bpy.context.scene["mine"] = 3
    bpy.context.scene.render.filepath = "//elsewhere"
    bpy.context.scene.update_tag()
    assert _preview(rig, measured) == [5]
    # another question about the same scene
    assert sorted(_preview(rig, measured, scope="SCENE")) == list(FRAMES)


def test_a_key_that_moves_changes_the_frames_around_it(measured):
    rig, _body = add_character()
    _preview(rig, measured)
    (curve,) = (c for c in compat.get_used_fcurves(rig) if "Head" in c.data_path and c.array_index == 1)
    for key in curve.keyframe_points:
        key.interpolation = "LINEAR"
    rig.animation_data.action.update_tag()
    _preview(rig, measured)
    curve.keyframe_points.insert(3, 0.9).interpolation = "LINEAR"
    curve.update()
    rig.animation_data.action.update_tag()
    assert sorted(_preview(rig, measured, 15)) == [2, 3, 4, 5, 6, 7, 8, 9, 15]


@pytest.mark.parametrize("what", ["mesh", "object", "camera", "modifier", "hidden", "lens", "map", "undo", "strip"])
def test_what_has_changed_is_measured_again(measured, what):
    rig, body = add_character()
    crate = add_box("Crate", (0.5, -0.6, 0.4), (0.4, 0.4, 0.4))
    _preview(rig, measured, scope="SCENE")
    scene = bpy.context.scene
    if what == "mesh":
        body.data.vertices[3].co.y -= 0.8
        body.data.update()
        body.data.update_tag()
    elif what == "object":
        crate.location.y -= 1.0
    elif what == "camera":
        scene.camera = add_camera("Other", (3, -3, 1))
    elif what == "modifier":
        body.modifiers.new("Puff", "DISPLACE").strength = 0.3
    elif what == "hidden":
        crate.hide_render = True
    elif what == "lens":
        scene.camera.data.lens = 20.0
    elif what == "map":
        scene.render.frame_map_new = 150
        scene.update_tag()
    elif what == "undo":
        kept_extents.forget()
    else:
        track = rig.animation_data.nla_tracks.new()
        track.strips.new("More", 3, rig.animation_data.action)
        rig.update_tag()
    assert sorted(_preview(rig, measured, scope="SCENE")) == list(FRAMES)


def test_frames_that_depend_on_those_before(measured):
    """A cloth: a key that moves changes all that follows, too."""
    rig, body = add_character()
    body.modifiers.new("Cloth", "CLOTH").point_cache.frame_end = 20
    _preview(rig, measured)
    assert measured
    curve = compat.get_used_fcurves(rig)[0]
    curve.keyframe_points.insert(3, 0.9)
    rig.animation_data.action.update_tag()
    assert {*FRAMES} <= {*_preview(rig, measured)}
