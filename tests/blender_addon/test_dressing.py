"""Dress: a costume from all sides, worn in shots, painted on, and as a file; with a real backend and a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import operators, properties
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.look import find_look, find_look_image
from latentman.blender_addon.operators import dressing, generate
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.paths import get_result_folder, resolve
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.tasks.dress import DressTask
from latentman.shared.costume_files import read_charts, read_images


@pytest.fixture
def panel(connection, shot_scene, character, tmp_path, monkeypatch):
    """The panel's settings for quick shots of the mannequin, and the buttons."""
    for module in (dressing, generate):
        monkeypatch.setattr(module, "connection", connection)
    for name in ("polls", "results"):
        monkeypatch.setattr(f"latentman.blender_addon.operators.{name}.connection", connection)
    operators.register()
    settings = properties.get_settings(bpy.context)
    settings.character, settings.output = character, str(tmp_path)
    settings.width = settings.height = 64
    settings.steps = 1
    settings.use_scene_range, settings.frame_start, settings.frame_end = False, 1, 1
    yield settings
    operators.unregister()


def _wait(connection):
    task = connection.shot_task
    assert wait_until(connection, lambda: task.done, 200) and task.succeeded, task.error
    return task


def _read(path):
    image = bpy.data.images.load(str(path), check_existing=False)
    out = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(out)
    out = out.reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return out


def _paint(image, pixels):
    image.pixels.foreach_set(pixels.ravel())
    image.update()


def test_a_dressed_character_wears_its_costume_in_shots_with_what_is_painted_on_it(connection, character, panel, tmp_path):
    assert not bpy.ops.latentman.save_costume.poll()
    assert bpy.ops.latentman.dress(atlas=256) == {"FINISHED"}
    task = _wait(connection)
    assert isinstance(task, DressTask) and task.known > 0.98
    result = panel.results[panel.active_result]
    folder = get_result_folder(result)
    assert result.count == len(task.request.frames) and len(list(folder.glob("*.png"))) == result.count
    costume = folder / "look" / "character.costume"
    assert resolve(character.latentman_look) == costume and character.latentman_look_prompt == panel.prompt
    assert read_images(costume.read_bytes()) == {1: (folder / "look" / "texture_1.png").read_bytes()}
    # its image is the base colour of its material, and covers all of the map
    assert bpy.ops.latentman.as_material() == {"FINISHED"}
    (body,) = get_bodies(character)
    image = find_look_image(find_look(body))
    assert tuple(image.size) == (256, 256)
    first = _read(folder / "look" / "texture_1.png")
    charts = read_charts(costume.read_bytes())
    middles = charts.uv.mean(1)
    rows, cols = ((1 - middles[:, 1]) * 256).astype(int), (middles[:, 0] * 256).astype(int)
    assert (first[rows, cols, 3] == 1).all()

    # a shot that wears it keeps to it, and the same shot again is there already
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    plain = _wait(connection)
    assert plain.report["costume"]["painted"] == 0.0 and not plain.request.look
    assert (plain.folder / "look" / "texture_1.png").read_bytes() == (folder / "look" / "texture_1.png").read_bytes()

    # broad stripes around the body, painted on the image in memory
    stripes = np.array(image.pixels[:], np.float32).reshape(256, 256, 4)
    stripes[..., :3] = np.where((np.arange(256) // 80 % 2)[:, None, None] == 1, (0.9, 0.1, 0.1), (0.1, 0.1, 0.9))
    _paint(image, stripes)
    assert image.is_dirty
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    painted = _wait(connection)
    assert painted.job != plain.job and painted.report["costume"]["painted"] > 0.5
    # its own image is the painted one
    back = _read(painted.folder / "look" / "texture_1.png")[rows, cols, :3].ravel()
    assert np.corrcoef(back, stripes[::-1][rows, cols, :3].ravel())[0, 1] > 0.9

    # as a file it has the paint, and another character with the same surface wears it; without a window a render takes away what
    # is not packed
    _paint(image, stripes)
    image.pack()
    target = tmp_path / "knight.costume"
    assert bpy.ops.latentman.save_costume(filepath=str(target)) == {"FINISHED"}
    other = add_character(bpy.context, load(MANNEQUIN), "Other")
    panel.character = other
    assert bpy.ops.latentman.open_costume(filepath=str(target)) == {"FINISHED"}
    opened = resolve(other.latentman_look)
    assert opened.is_relative_to(tmp_path) and opened.read_bytes() == target.read_bytes()
    worn = find_look_image(find_look(get_bodies(other)[0]))
    assert np.abs(np.array(worn.pixels[:]).reshape(256, 256, 4)[..., :3] - stripes[..., :3]).max() < 0.01
    # one with another surface is refused in a sentence, and keeps what it had
    bpy.ops.mesh.primitive_cube_add(size=0.5)
    cube = bpy.context.object
    panel.character = cube
    with pytest.raises(RuntimeError, match="another surface"):
        bpy.ops.latentman.open_costume(filepath=str(target))
    assert not cube.latentman_look and not cube.material_slots
    opened.unlink()
    panel.character = other
    with pytest.raises(RuntimeError, match=r"is gone; open it"):
        bpy.ops.latentman.generate()


def test_the_command_says_what_it_does_and_what_it_cannot(shot_scene, character, tmp_path, capsys):
    from latentman.blender_addon import command_line

    def run(*arguments):
        code = command_line.main([*arguments, "--json"])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]

    code, said = run("dress", "--prompt", "a knight", "--preset", "latentman", "--out", str(tmp_path / "out"))
    assert code == 2 and "surface" in said[-1]["message"]
    code, said = run("dress", "--prompt", "a knight", "--atlas", "100", "--out", str(tmp_path / "out"))
    assert code == 2
    code, said = run("generate", "--prompt", "a knight", "--costume", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert code == 2 and "cannot be read" in said[-1]["message"]
    code, said = run("generate", "--prompt", "a knight", "--paint", str(tmp_path / "none.png"), "--out", str(tmp_path / "out"))
    assert code == 2 and "--costume" in said[-1]["message"]
    assert not Path(tmp_path / "out" / "look").exists()
