"""Sizes that a model cannot make: the passes of the larger picture hold those of the camera's frame, to the pixel."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.picture_size import find_made_size, fit_aspect, make_crop


def _render(size, frame, frames=(1, 3)):
    job = PassRender(bpy.context, bpy.context.object, frames, *size, frame=frame)
    for _ in job.render_all():
        pass
    return job


@pytest.mark.parametrize(
    ("size", "multiple", "kind", "fit", "shift", "zoom"),
    [
        ((96, 54), 32, "PERSP", "AUTO", (0, 0), False),
        ((54, 96), 32, "PERSP", "AUTO", (0.1, -0.2), False),
        ((81, 61), 64, "PERSP", "VERTICAL", (0.1, 0.05), True),
        ((61, 81), 64, "PERSP", "HORIZONTAL", (0, 0.1), False),
        ((81, 75), 64, "ORTHO", "AUTO", (0.1, 0.05), False),
        ((45, 63), 64, "ORTHO", "VERTICAL", (0, 0.15), True),
    ],
)
def test_the_padded_passes_hold_those_of_the_frame(empty_scene, size, multiple, kind, fit, shift, zoom):
    bpy.ops.mesh.primitive_monkey_add()
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    empty_scene.collection.objects.link(camera)
    empty_scene.camera, own = camera, camera.data
    camera.location, camera.rotation_euler = (0.3, -4, 0.6), (1.45, 0.05, 0.07)
    own.type, own.sensor_fit, own.sensor_width, own.sensor_height = kind, fit, 30, 20
    own.shift_x, own.shift_y = shift
    own.lens, own.ortho_scale = 40, 3
    for frame, factor in ((1, 1), (5, 1.5)) if zoom else ():
        own.lens, own.ortho_scale = 40 * factor, 3 * factor
        own.keyframe_insert("lens", frame=frame)
        own.keyframe_insert("ortho_scale", frame=frame)
    plain = _render(size, None)
    made = find_made_size(*size, multiple)
    crop = make_crop(*size, *made)
    padded = _render(made, crop)
    cut = (slice(None), slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width))
    wanted, found = plain.result(), padded.result()
    assert wanted.mask.sum() > 500
    for name in ("mask", "part"):
        assert np.array_equal(getattr(wanted, name), getattr(found, name)[cut])
    for name in ("depth", "rest_position", "uv"):
        assert np.abs(getattr(wanted, name) - getattr(found, name)[cut]).max() < 1e-4
    # the camera that the manifest describes is that of the larger picture: it leads from the pixels back to the surface
    entry = padded.manifest(24.0).cameras[1]
    matrix = np.array(entry.projection).reshape(4, 4) @ np.array(entry.world_to_camera).reshape(4, 4)
    rows, cols = np.nonzero(found.mask[1])
    corners = np.concatenate([found.rest_position[1][rows, cols], np.ones((len(rows), 1))], 1) @ matrix.T
    x, y = (corners[:, 0] / corners[:, 3] + 1) / 2 * made[0], (1 - corners[:, 1] / corners[:, 3]) / 2 * made[1]
    assert max(np.abs(x - cols - 0.5).max(), np.abs(y - rows - 0.5).max()) < 0.02
    assert camera.data == own and len(bpy.data.cameras) == 1


def test_overviews_of_a_padded_picture_show_the_same(empty_scene):
    bpy.ops.mesh.primitive_monkey_add()
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    empty_scene.collection.objects.link(camera)
    empty_scene.camera = camera
    camera.location, camera.rotation_euler = (0, -5, 0.3), (1.5, 0, 0)
    made = find_made_size(150, 84, 64)
    job = PassRender(bpy.context, bpy.context.object, (1,), *made, frame=make_crop(150, 84, *made))
    for _ in job.measure():
        pass
    small = job.make_overview(made[0] // 4, made[1] // 4)
    left = [0]
    (found,) = small.render_slice(lambda: left.pop() if left else None)
    small.close()
    left = [0]
    (large,) = job.render_slice(lambda: left.pop() if left else None)
    job.close()
    rows, cols = np.nonzero(large.passes.mask[0])
    small_rows, small_cols = np.nonzero(found.passes.mask[0])
    assert abs(cols.mean() / 4 - small_cols.mean()) < 0.5 and abs(rows.mean() / 4 - small_rows.mean()) < 0.5
    assert len(rows) / 16 == pytest.approx(len(small_rows), rel=0.05)


@pytest.mark.parametrize(
    ("size", "multiple", "made"),
    [((1920, 1080), 64, (1920, 1088)), ((256, 256), 32, (256, 256)), ((8, 8), 64, (64, 64)), ((1998, 1080), 64, (2048, 1088))],
)
def test_the_size_made_is_the_nearest_that_holds_the_frame(size, multiple, made):
    assert find_made_size(*size, multiple) == made
    crop = make_crop(*size, *made)
    assert (crop is None) == (size == made)
    if crop is not None:
        assert (crop.width, crop.height) == size and crop.left + crop.width <= made[0] and crop.top + crop.height <= made[1]


def test_frames_have_the_scenes_aspect(empty_scene):
    settings, render = properties.get_scene_settings(empty_scene), empty_scene.render
    settings.prompt = "a man"
    assert settings.use_scene_aspect and settings.get_picture_size(empty_scene) == (256, 144)
    # a size of the user's own, also one from a file of an earlier version, stays as it is
    settings.width, settings.height = 512, 512
    assert not settings.use_scene_aspect and settings.get_picture_size(empty_scene) == (512, 512)
    settings.use_scene_aspect = True
    cases = (((1920, 1080), (1, 1), (512, 288)), ((1080, 1920), (1, 1), (288, 512)), ((720, 576), (16, 15), (512, 384)))
    for (render.resolution_x, render.resolution_y), (render.pixel_aspect_x, render.pixel_aspect_y), size in cases:
        assert settings.get_picture_size(empty_scene) == size and settings.shows_frame(empty_scene)
    request = settings.make_request(empty_scene, (1,))
    assert (request.width, request.height) == (512, 384) and settings.make_crop(empty_scene, request) is None
    settings.width, settings.height = 1920, 1080
    render.resolution_x, render.resolution_y, render.pixel_aspect_x, render.pixel_aspect_y = 1280, 720, 1, 1
    settings.model = "sd15"
    request = settings.make_request(empty_scene, (1,))
    assert (request.width, request.height) == (1920, 1088)
    crop = settings.make_crop(empty_scene, request)
    assert (crop.left, crop.top, crop.width, crop.height) == (0, 4, 1920, 1080)
    settings.use_scene_aspect, settings.height = False, 1000
    assert settings.get_picture_size(empty_scene) == (1920, 1000) and not settings.shows_frame(empty_scene)


def test_fitting_keeps_within_the_bounds():
    for aspect in (0.1, 0.5625, 1, 16 / 9, 40):
        width, height = fit_aspect(256, 200, aspect)
        assert width <= 256 and height <= 200 and (width == 256 or height == 200)
