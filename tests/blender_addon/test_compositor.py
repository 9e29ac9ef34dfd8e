"""The image node: it follows the frame, is fitted, keeps its colours and its transparency, and changes nothing that was there."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.backend.pictures import encode_png
from latentman.blender_addon.compat import find_compositing_tree, make_compositing_tree, uses_compositing
from latentman.blender_addon.compositor import add_image_node, find_image_nodes, refresh_image_node
from latentman.blender_addon.numbered_links import write_numbered
from latentman.blender_addon.tasks.frames_folder import list_frames
from latentman.shared.shot import ShotError
from tests.pictures import make_photo, render_picture


@pytest.fixture
def scene(empty_scene):
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    empty_scene.collection.objects.link(camera)
    empty_scene.camera = camera
    empty_scene.render.engine = "CYCLES"
    empty_scene.cycles.samples, empty_scene.cycles.use_denoising = 1, False
    empty_scene.render.resolution_x = empty_scene.render.resolution_y = 16
    empty_scene.view_settings.view_transform = "Standard"
    return empty_scene


def _write(folder, frames, shade=lambda n: n * 9 + 5, size=(16, 16)):
    for n, frame in enumerate(frames):
        (folder / f"{frame:04d}.png").write_bytes(encode_png(np.full((size[1], size[0], 3), shade(n), np.uint8)))
    return list_frames(folder)


@pytest.mark.parametrize(("frames", "step"), [((-3, -2, -1, 0, 1), 1), ((9999, 10000, 10001), 1), ((-4, 0, 4), 4), ((1, 2, 5), 1)])
def test_it_follows_the_frame_whatever_the_numbers(scene, tmp_path, frames, step):
    images = _write(tmp_path, frames)
    assert add_image_node(scene, images, frames[0], "x", step).connected and uses_compositing(scene)
    for n, frame in enumerate(frames):
        end = frames[n + 1] if n + 1 < len(frames) else frame + step
        assert {int(render_picture(scene, at)[8, 8, 0]) for at in {frame, end - 1}} == {n * 9 + 5}
    assert list_frames(tmp_path) == images


@pytest.mark.parametrize("view", ["Standard", "AgX", "Filmic", "Raw"])
def test_colours_are_those_of_the_frame(scene, tmp_path, view):
    scene.view_settings.view_transform = view
    photo = make_photo(16, 16)
    (tmp_path / "0001.png").write_bytes(encode_png(photo))
    add_image_node(scene, list_frames(tmp_path), 1, "x")
    assert np.abs(render_picture(scene, 1).astype(int) - photo).max() <= 2


def test_it_fits_the_picture(scene, tmp_path):
    scene.render.resolution_x = 64
    add_image_node(scene, _write(tmp_path, (1,), lambda n: 200, (8, 4)), 1, "x")
    picture = render_picture(scene, 1)[..., 0]
    # the edge of an enlarged picture is filtered, by up to half of its own pixels
    assert picture[8, 20:44].min() >= 199 and picture[4:12, 32].min() >= 199 and picture[8, :14].max() == picture[8, 50:].max() == 0


def _to_linear(value):
    value = np.asarray(value, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_transparent_frames_lie_over_the_render_as_their_alpha_says(scene, tmp_path):
    world = bpy.data.worlds.new("World")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.2, 0.4, 0.1, 1)
    scene.world = world
    alpha = np.repeat(np.array([0, 64, 128, 200, 255, 255, 128, 0], np.uint8), 2)
    frame = np.zeros((16, 16, 4), np.uint8)
    frame[...] = (240, 60, 150, 0)
    frame[..., 3] = alpha
    (tmp_path / "0001.png").write_bytes(encode_png(frame))
    add_image_node(scene, list_frames(tmp_path), 1, "x", transparent=True)
    share = alpha[None, :, None] / 255
    linear = share * _to_linear(frame[..., :3]) + (1 - share) * np.array([0.2, 0.4, 0.1])
    wanted = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(render_picture(scene, 1) - wanted).max() <= 1.01


def test_nodes_that_are_there_stay_as_they_are(scene, tmp_path):
    tree, render, result = make_compositing_tree(scene)
    blur = tree.nodes.new("CompositorNodeBlur")
    tree.links.new(render, blur.inputs["Image"])
    tree.links.new(blur.outputs["Image"], result)
    before = [(link.from_node.name, link.to_node.name) for link in tree.links]
    added = add_image_node(scene, _write(tmp_path, (1, 2)), 1, "x")
    assert not added.connected and find_compositing_tree(scene) == tree
    assert [(link.from_node.name, link.to_node.name) for link in tree.links][: len(before)] == before and len(tree.links) == 3


def test_frames_made_again_are_shown(scene, tmp_path):
    images = _write(tmp_path, (3, 4))
    added = add_image_node(scene, images, 3, "x")
    assert render_picture(scene, 4)[8, 8, 0] == 14
    for image in images:
        image.unlink()
    images = _write(tmp_path, (3, 4, 5), lambda n: 100 + n)
    assert find_image_nodes(scene, tmp_path) == [added.node]
    refresh_image_node(scene, added.node, images, 3)
    assert [render_picture(scene, frame)[8, 8, 0] for frame in (3, 4, 5)] == [100, 101, 102]
    with pytest.raises(ShotError, match="Fetch Again"):
        refresh_image_node(scene, added.node, [], 3)


def test_numbered_links_replace_what_was_there(tmp_path, monkeypatch):
    images = _write(tmp_path, (1, 2))
    folder = tmp_path / "sequence"
    assert [path.name for path in write_numbered([*images, images[1]], folder)] == ["0001.png", "0002.png", "0003.png"]
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    assert [path.read_bytes() for path in write_numbered(images[::-1], folder)] == [path.read_bytes() for path in images[::-1]]
    assert len(list(folder.iterdir())) == 2
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ShotError, match="cannot be written"):
        write_numbered(images, tmp_path / "file")
