"""Dress: a costume from all sides, worn in shots, painted on, and as a file; with a real backend and a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import msgspec
import numpy as np
import pytest
from mathutils import Matrix

from latentman.blender_addon import closed_files, properties
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.look import find_look, find_look_image
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.paths import get_result_folder, resolve
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.tasks.dress import DressTask
from latentman.blender_addon.wardrobe import list_wearers
from latentman.shared.costume_files import read_charts, read_images


@pytest.fixture
def panel(dressing_panel):
    """The panel's settings."""
    dressing_panel.use_scene_range, dressing_panel.frame_start, dressing_panel.frame_end = False, 1, 1
    return dressing_panel


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


def test_a_costume_is_worn_in_a_file_that_was_opened_again_meanwhile(connection, character, panel, tmp_path):
    name, path = character.name, str(tmp_path / "film.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    closed_files.register()
    try:
        assert bpy.ops.latentman.dress(atlas=256) == {"FINISHED"}
        task = connection.shot_task
        assert wait_until(connection, lambda: task.done or task.stage == "denoising", 200) and not task.done, task.error
        bpy.ops.wm.open_mainfile(filepath=path)
        _wait(connection)
    finally:
        closed_files.unregister()
    (result,) = properties.get_settings(bpy.context).results
    assert resolve(bpy.data.objects[name].latentman_look) == get_result_folder(result) / "look" / "character.costume"


def test_a_dressed_character_wears_its_costume_in_shots_with_what_is_painted_on_it(connection, character, panel, tmp_path):
    assert not bpy.ops.latentman.save_costume.poll()
    assert bpy.ops.latentman.dress(atlas=256) == {"FINISHED"}
    task = _wait(connection)
    # a limb is a few pixels wide here: thin, and so doubtful
    assert isinstance(task, DressTask) and task.known > 0.7
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
    # a neighbour of the folder, and one that keeps the look of a job
    assert list_wearers(folder) == [character.name] and not list_wearers(folder / "look2") and not list_wearers(tmp_path / "x")
    target = tmp_path / "knight.costume"
    assert bpy.ops.latentman.save_costume(filepath=str(target)) == {"FINISHED"}
    # one with another surface is refused in a sentence, keeps what it had, and leaves nothing on the disk
    bpy.ops.mesh.primitive_cube_add(size=0.5)
    cube = bpy.context.object
    panel.character = cube
    with pytest.raises(RuntimeError, match="another surface"):
        bpy.ops.latentman.open_costume(filepath=str(target))
    assert not cube.latentman_look and not cube.material_slots and not list(tmp_path.glob("costume-*"))
    other = add_character(bpy.context, load(MANNEQUIN), "Other")
    panel.character = other
    assert bpy.ops.latentman.open_costume(filepath=str(target)) == {"FINISHED"}
    opened = resolve(other.latentman_look)
    assert opened.is_relative_to(tmp_path) and opened.read_bytes() == target.read_bytes()
    worn = find_look_image(find_look(get_bodies(other)[0]))
    assert np.abs(np.array(worn.pixels[:]).reshape(256, 256, 4)[..., :3] - stripes[..., :3]).max() < 0.01
    opened.unlink()
    panel.character = other
    with pytest.raises(RuntimeError, match=r"is gone; open it"):
        bpy.ops.latentman.generate()


@pytest.mark.slow
def test_two_shots_show_one_person_and_what_was_painted(connection, shot_scene, character, tmp_path):
    """The figures of a costume, with the starter model as it is used: the known surface, how alike two shots are that other cameras
    see and other prompts place, and how much of a painted image is in the frames."""
    from latentman.backend.metrics.frames import prepare_frame
    from latentman.backend.metrics.pairs import find_inner, find_matched_points, sum_squared_differences
    from latentman.backend.pictures import decode_rgba, encode_png, read_png
    from latentman.blender_addon.passes.staged_character import stage_character
    from latentman.blender_addon.tasks.dress import make_dress_request
    from latentman.blender_addon.tasks.shot import ShotTask
    from latentman.shared.costume_files import COSTUME, PAINT, with_files
    from latentman.shared.passes_folder import PassesFolder
    from tests import samples

    def run(make, request, out, files, **options):
        task = connection.add(
            make(
                bpy.context,
                character,
                request,
                connection.get_client(),
                out,
                folder_per_job=False,
                keep_scenes=True,
                costume=files,
                **options,
            )
        )
        assert wait_until(connection, lambda: task.done, 3000) and task.succeeded, task.error
        return task

    def read(name):
        passes = PassesFolder(tmp_path / f"{name} passes")
        return [
            prepare_frame(n, read_png(tmp_path / name / f"{frame:04d}.png"), passes.frame(n))
            for n, frame in enumerate(passes.manifest.frames)
        ]

    def compare(pairs):
        error = count = 0.0
        for now, then in pairs:
            points = find_matched_points(now, then)
            inner = points.keep(find_inner(points, now, then))
            error, count = error + sum_squared_differences(now, then, inner), count + len(inner.here)
        return error / count

    values = dict(preset="surface", steps=20, guidance_scale=0.0, size=256)
    staged = stage_character(bpy.context, character)
    request, files = make_dress_request(samples.request(1, **values), staged)
    task = run(DressTask, request, tmp_path / "dress", files, staging=staged.staging)
    assert task.known > 0.98
    costume = (tmp_path / "dress" / "look" / "character.costume").read_bytes()
    worn = {COSTUME: costume}
    # the other camera is nearer, and a third of a right angle beside the first
    shot_scene.frame_set(8)
    middle = character.matrix_world @ character.pose.bones[0].head
    away = Matrix.Rotation(np.radians(30.0), 3, "Z") @ ((shot_scene.camera.matrix_world.translation - middle) * 0.8)
    camera = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    shot_scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler = middle + away, (-away).to_track_quat("-Z", "Y").to_euler()
    camera.data.lens = shot_scene.camera.data.lens
    wanted = msgspec.structs.replace(samples.request(4, **values), frames=(1, 5, 9, 13))
    shots = {"one": (wanted, None), "other": (wanted, camera)}
    for name, (wanted, seen_by) in shots.items():
        passes = tmp_path / f"{name} passes"
        run(ShotTask, with_files(wanted, worn), tmp_path / name, worn, camera=seen_by, keep_passes=passes)
    one, other = read("one"), read("other")
    within = compare([(frames[n], frames[m]) for frames in (one, other) for n in range(4) for m in range(n)])
    across = compare([(one[n], other[m]) for n in range(4) for m in range(4) if n != m])
    print(f"known {task.known:.4f}, within {within:.1f}, across {across:.1f}")
    assert across <= 1.5 * within
    # broad bands around the map
    image = decode_rgba(read_images(costume)[1])
    bands = (np.arange(len(image)) // 64 % 3)[:, None, None]
    image[..., :3] = np.select([bands == 0, bands == 1], [(200, 60, 40), (60, 170, 70)], (60, 70, 190))
    painted = worn | {f"{PAINT}1": encode_png(image)}
    run(ShotTask, with_files(shots["one"][0], painted), tmp_path / "one", painted)
    charts = read_charts(costume)
    shown, wanted_colours = [], []
    for frame, _ in zip(read("one"), range(4), strict=True):
        uv, inside = frame.passes.uv[0], frame.inner
        rows, cols = ((1 - uv[inside][:, 1]) * charts.size).astype(int) % charts.size, (uv[inside][:, 0] * charts.size).astype(int)
        wanted_colours.append(image[rows, cols % charts.size, :3])
        shown.append(frame.image[inside])
    likeness = np.corrcoef(np.concatenate(shown).ravel(), np.concatenate(wanted_colours).ravel())[0, 1]
    print(f"painted {likeness:.3f}")
    assert likeness >= 0.9


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
