"""Strips: order, place, fit, colours under every view transform, names, metadata, refreshing, full channels, movies."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.backend.pictures import encode_png
from latentman.blender_addon.compat import get_strip_range, get_strips
from latentman.blender_addon.movie import encode_movie
from latentman.blender_addon.sequencer import (
    CHANNELS,
    add_image_strip,
    add_movie_strip,
    find_free_channel,
    find_strips,
    make_strip_name,
    refresh_strip,
)
from latentman.blender_addon.strip_timing import find_missing, spread_frames
from latentman.blender_addon.tasks.frames_folder import list_frames
from latentman.blender_addon.view_colours import INVERSES, choose_colour_space, list_colour_spaces
from latentman.shared.shot import ShotError
from tests.pictures import make_photo, render_picture

VIEWS = [name for name, spaces in INVERSES.items() if set(spaces) & set(list_colour_spaces())]


def _write(folder, frames, size=(16, 16), shade=lambda n, frame: n * 9 + 5):
    folder.mkdir(exist_ok=True)
    for n, frame in enumerate(frames):
        grey = np.full((size[1], size[0], 3), shade(n, frame), np.uint8)
        (folder / f"{frame:04d}.png").write_bytes(encode_png(grey))
    return list_frames(folder)


@pytest.fixture
def scene(empty_scene):
    empty_scene.render.resolution_x = empty_scene.render.resolution_y = 16
    empty_scene.view_settings.view_transform = "Standard"
    return empty_scene


def _shade(scene, frame):
    return int(render_picture(scene, frame)[8, 8, 0])


@pytest.mark.parametrize(
    ("frames", "step"),
    [(range(-3, 3), 1), (range(9998, 10003), 1), (range(-12, -9), 1), (range(-5, 6, 5), 5), (range(99999, 100002), 1)],
)
def test_frames_are_seen_at_the_scene_frames_they_are_named_after(scene, tmp_path, frames, step):
    images = _write(tmp_path, frames)
    assert [int(image.stem) for image in images] == list(frames)
    strip = add_image_strip(scene, images, frames[0], "x", step)
    assert get_strip_range(strip) == (frames[0], frames[-1] + step)
    for n, frame in enumerate(frames):
        assert {_shade(scene, at) for at in (frame, frame + step - 1)} == {n * 9 + 5}


def test_files_that_are_no_frames_are_left_out(tmp_path):
    _write(tmp_path, (1, 2))
    for name in ("--5.png", "².png", "3_.png", "12-3.png", "texture_1.png", "-.png"):
        (tmp_path / name).write_bytes(b"")
    assert [image.name for image in list_frames(tmp_path)] == ["0001.png", "0002.png"]


def test_a_gap_holds_the_frame_before_and_is_known():
    assert spread_frames((2, 3, 6), 1) == (0, 1, 1, 1, 2)
    assert spread_frames((2, 6), 2, first=-2) == (0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
    assert find_missing((2, 3, 6)) == (4, 5)
    assert find_missing((2, 6), 2, first=-2, count=6) == (-2, 0, 4, 8)
    assert find_missing((1, 2, 3), 1, 1, 3) == ()


@pytest.mark.parametrize(
    ("size", "canvas", "pixel_aspect", "box"),
    [
        ((16, 16), (64, 32), (1, 1), (16, 0, 48, 32)),
        ((32, 8), (32, 32), (1, 1), (0, 12, 32, 20)),
        ((64, 64), (16, 16), (1, 1), (0, 0, 16, 16)),
        ((16, 8), (32, 32), (1, 2), (0, 12, 32, 20)),
        ((16, 16), (16, 32), (2, 1), (0, 0, 16, 32)),
    ],
)
def test_a_strip_fills_the_picture_without_being_cut_or_distorted(scene, tmp_path, size, canvas, pixel_aspect, box):
    scene.render.resolution_x, scene.render.resolution_y = canvas
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = pixel_aspect
    images = _write(tmp_path, (1,), size, lambda n, frame: 200)
    add_image_strip(scene, images, 1, "x")
    picture = render_picture(scene, 1)[..., 0]
    left, top, right, bottom = box
    wanted = np.zeros_like(picture)
    wanted[top:bottom, left:right] = 200
    # half a pixel of filter at the edges
    inside = np.ones(picture.shape, bool)
    for edge in (top, bottom):
        inside[max(edge - 1, 0) : edge + 1] = edge in (0, canvas[1])
    for edge in (left, right):
        inside[:, max(edge - 1, 0) : edge + 1] &= edge in (0, canvas[0])
    assert inside.mean() > 0.5 and np.abs(picture.astype(int) - wanted)[inside].max() <= 1


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("transparent", [False, True])
def test_colours_are_those_of_the_frame_under_every_view_transform(scene, tmp_path, view, transparent):
    scene.view_settings.view_transform = view
    photo = make_photo(16, 16)
    data = photo
    if transparent:
        (tmp_path / "below").mkdir()
        below = tmp_path / "below" / "0001.png"
        below.write_bytes(encode_png(np.full((16, 16, 3), 90, np.uint8)))
        add_image_strip(scene, [below], 1, "below")
        data = np.concatenate([photo, np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None, :, None].repeat(16, 0)], -1)
    (tmp_path / "0001.png").write_bytes(encode_png(data))
    strip = add_image_strip(scene, [tmp_path / "0001.png"], 1, "x")
    choice = choose_colour_space(scene)
    assert choice.warning == "" and (choice.note == "") == (view in ("Standard", "Raw", "ACES 1.3", "ACES 2.0"))
    found = render_picture(scene, 1).astype(int)
    seen = slice(0, 8) if transparent else slice(None)
    error = np.abs(found - photo)[:, seen]
    # the inverse that Blender ships is coarse where it is dark
    error = error[6:] if view == "Khronos PBR Neutral" else error
    assert error.max() <= 2
    if transparent:
        assert strip.blend_type == "ALPHA_OVER" and np.abs(found[:, 9:] - 90).max() <= 1


def test_colours_that_cannot_be_kept_are_told(scene):
    scene.view_settings.view_transform = "False Color"
    assert choose_colour_space(scene).space == "sRGB" and "False Color" in choose_colour_space(scene).warning
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.exposure = 1
    assert "exposure" in choose_colour_space(scene).warning


def test_full_channels_are_a_sentence_and_locked_or_muted_ones_stay_free(scene, tmp_path):
    images = _write(tmp_path, range(1, 5))
    scene.sequence_editor_create()
    scene.sequence_editor.channels[1].lock = True
    scene.sequence_editor.channels[3].mute = True
    assert [add_image_strip(scene, images, 1, "x").channel for _ in range(2)] == [2, 4]
    strips = get_strips(scene)
    for channel in range(1, CHANNELS + 1):
        if channel not in (2, 4):
            strips.new_effect("c", "COLOR", channel, **_effect_range(strips, 3, 8))
    before = [(strip.name, strip.channel) for strip in strips]
    with pytest.raises(ShotError, match=r"All 128 channels .* from frame 1 to 4; free one"):
        add_image_strip(scene, images, 1, "x")
    assert [(strip.name, strip.channel) for strip in strips] == before
    assert find_free_channel(scene, 8, 12) == 2


def _effect_range(strips, start, end):
    names = strips.bl_rna.functions["new_effect"].parameters.keys()
    return {"frame_start": start, "length": end - start} if "length" in names else {"frame_start": start, "frame_end": end}


def test_names_and_metadata_hold_prompt_and_seed(scene, tmp_path):
    images = _write(tmp_path, (1,))
    name = make_strip_name("a man\nin a red  shirt, on a beach with many more words behind", 7)
    assert name == "a man in a red shirt, on a beach with ma · 7" and make_strip_name("", 3) == "Seed 3"
    strip = add_image_strip(scene, images, 1, name, properties={"latentman_prompt": "a man", "latentman_seed": 7})
    assert strip.name == name and strip["latentman_seed"] == 7 and strip["latentman_prompt"] == "a man"
    long = add_image_strip(scene, images, 1, make_strip_name("騎士" * 40, 2**31 - 1))
    assert long.name.startswith("騎士騎士")


def test_frames_made_again_are_shown_by_the_strip_that_is_there(scene, tmp_path):
    images = _write(tmp_path / "a", range(1, 5))
    strip = add_image_strip(scene, images, 11, "x")
    strip.channel = 5
    _set_left(strip, 12)
    assert [_shade(scene, frame) for frame in (12, 14)] == [14, 32]
    images = _write(tmp_path / "a", range(1, 5), shade=lambda n, frame: 100 + n)
    refresh_strip(strip, images)
    assert [_shade(scene, frame) for frame in (12, 14)] == [101, 103]
    other = _write(tmp_path / "b", range(1, 7), shade=lambda n, frame: 200 + n)
    refresh_strip(strip, other)
    assert [_shade(scene, frame) for frame in (12, 14)] == [201, 203] and strip.channel == 5
    assert find_strips(scene, tmp_path / "b") == [strip] and not find_strips(scene, tmp_path / "a")
    assert get_strip_range(strip)[0] == 12
    with pytest.raises(ShotError, match="Fetch Again"):
        refresh_strip(strip, [])


def _set_left(strip, frame):
    setattr(strip, "left_handle" if hasattr(strip, "left_handle") else "frame_final_start", frame)


@pytest.mark.parametrize("view", ["Standard", "AgX"])
def test_a_movie_shows_the_same_as_the_images_and_leaves_the_file_alone(scene, tmp_path, view):
    scene.view_settings.view_transform = view
    # blocks: H.264 has half the resolution in colour
    photo = np.kron(make_photo(8, 6), np.ones((16, 16, 1), np.uint8))
    tmp_path.joinpath("0005.png").write_bytes(encode_png(photo))
    tmp_path.joinpath("0007.png").write_bytes(encode_png(photo[::-1].copy()))
    scenes = len(bpy.data.scenes)
    scene.render.resolution_x, scene.render.resolution_y = 128, 96
    movie = encode_movie(scene, list_frames(tmp_path), 2)
    assert movie.suffix == ".mp4" and len(bpy.data.scenes) == scenes and scene.view_settings.view_transform == view
    strip = add_movie_strip(scene, movie, 5, 4, "x")
    assert get_strip_range(strip) == (5, 9) and find_strips(scene, tmp_path) == [strip]
    for frame, wanted in ((5, photo), (6, photo), (7, photo[::-1]), (8, photo[::-1])):
        assert np.abs(render_picture(scene, frame).astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("transparent", [False, True])
def test_a_movie_of_odd_size_or_with_transparency_is_lossless(scene, tmp_path, transparent):
    photo = make_photo(129, 95)
    data = np.concatenate([photo, np.where(np.arange(129) < 9, 255, 0).astype(np.uint8)[None, :, None].repeat(95, 0)], -1)
    tmp_path.joinpath("0001.png").write_bytes(encode_png(data if transparent else photo))
    scene.render.resolution_x, scene.render.resolution_y = 129, 95
    movie = encode_movie(scene, list_frames(tmp_path), transparent=transparent)
    assert movie.suffix == ".mov"
    add_movie_strip(scene, movie, 1, 1, "x")
    found = render_picture(scene, 1, alpha=True).astype(int)
    seen = slice(0, 9) if transparent else slice(None)
    assert np.abs(found[:, seen, :3] - photo[:, seen]).max() <= 2
    if transparent:
        assert found[:, 10:, 3].max() == 0
