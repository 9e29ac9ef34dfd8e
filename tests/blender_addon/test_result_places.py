"""Results in the sequencer and the compositor, through the panel's buttons: sizes, adding twice, frames that are made again."""

from __future__ import annotations

import shutil

import bpy
import pytest
from PIL import Image

from latentman.blender_addon import properties
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.compat import find_compositing_tree, get_strip_range, get_strips, select_strip
from latentman.blender_addon.operators import generate, polls
from latentman.blender_addon.operators import results as result_operators
from latentman.blender_addon.paths import get_result_folder, resolve
from latentman.blender_addon.sequencer import add_image_strip
from latentman.blender_addon.shot_notice import notice
from latentman.blender_addon.tasks.frames_folder import list_frames

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.fixture
def settings(connection, shot_scene, character, monkeypatch, tmp_path):
    """The panel with a connected backend, and a shot of three small frames in a scene of 16 to 9."""
    for module in (generate, polls, result_operators):
        monkeypatch.setattr(module, "connection", connection)
    settings = properties.get_settings(bpy.context)
    settings.character, settings.output = character, str(tmp_path / "out")
    settings.prompt, settings.steps, settings.preset, settings.seed = "a knight", 2, "cross_frame", 5
    settings.width = settings.height = 64
    settings.use_scene_aspect = True
    shot_scene.render.resolution_x, shot_scene.render.resolution_y = 1920, 1080
    settings.use_scene_range, settings.frame_start, settings.frame_end = False, 2, 4
    return settings


def _finish(connection, get_task):
    assert wait_until(connection, lambda: get_task().done, 300) and get_task().succeeded, get_task().error
    return get_task()


def _make(connection):
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    return _finish(connection, lambda: connection.shot_task)


def _get_sizes(folder):
    sizes = []
    for path in list_frames(folder):
        with Image.open(path) as picture:
            sizes.append(picture.size)
    return sizes


@pytest.mark.slow
def test_a_result_is_shown_once_and_frames_made_again_take_its_place(connection, shot_scene, character, settings):
    task = _make(connection)
    assert (task.request.width, task.request.height) == (64, 64) and _get_sizes(task.folder) == [(64, 36)] * 3
    for _ in range(2):
        assert bpy.ops.latentman.to_sequencer() == {"FINISHED"} and bpy.ops.latentman.to_compositor() == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    (node,) = [one for one in find_compositing_tree(shot_scene).nodes if one.bl_idname == "CompositorNodeImage"]
    assert strip.name == "a knight · 5" and strip["latentman_seed"] == 5 and strip["latentman_job"] == task.job
    assert strip["latentman_prompt"] == node.image["latentman_prompt"] == "a knight"
    assert strip.transform.scale_x == strip.transform.scale_y == 30 and get_strip_range(strip) == (2, 5)
    strip.channel = 7
    # a film that is cut in a scene of its own
    edit = bpy.data.scenes.new("Edit")
    add_image_strip(edit, list_frames(task.folder), 101, "in the film")

    # frames that are lost and fetched again have the same size
    result = settings.find_active_result()
    shutil.rmtree(task.folder)
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    _finish(connection, lambda: connection.fetch_task)
    assert _get_sizes(get_result_folder(result)) == [(64, 36)] * 3

    character.pose.bones["left_shoulder"].rotation_quaternion = (0.8, 0.6, 0, 0)
    for frame in range(2, 5):
        character.pose.bones["left_shoulder"].keyframe_insert("rotation_quaternion", frame=frame)
    remade = _make(connection)
    assert remade.folder != task.folder and len(settings.results) == 2
    assert [resolve(one.directory) for one in get_strips(shot_scene)] == [remade.folder] and strip.channel == 7
    assert [(one.name, resolve(one.directory)) for one in get_strips(edit)] == [("in the film", remade.folder)]
    assert strip["latentman_job"] == remade.job and resolve(node.image.filepath).is_relative_to(remade.folder)

    # the earlier one can be laid beside it
    settings.active_result = 0
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"} and len(get_strips(shot_scene)) == 2

    # another seed, and another camera, are other shots
    settings.seed = 6
    other = _make(connection)
    settings.seed = 5
    shot_scene.camera = shot_scene.camera.copy()
    shot_scene.collection.objects.link(shot_scene.camera)
    shot_scene.camera.location.x += 0.2
    _make(connection)
    assert {resolve(one.directory) for one in get_strips(shot_scene)} == {remade.folder, task.folder}
    settings.active_result = 2
    assert bpy.ops.latentman.to_sequencer(kind="MOVIE") == {"FINISHED"}
    movie = next(one for one in get_strips(shot_scene) if one.type == "MOVIE")
    assert resolve(movie.filepath).parent == other.folder and get_strip_range(movie) == (2, 5)


@pytest.mark.slow
def test_missing_frames_are_told_and_full_channels_refused(connection, shot_scene, settings):
    task = _make(connection)
    list_frames(task.folder)[1].unlink()
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    (strip,) = get_strips(shot_scene)
    assert [element.filename for element in strip.elements] == ["0002.png", "0002.png", "0004.png"]
    assert _note(shot_scene, settings) == [
        "Frame 3 is missing, and the frame before is shown instead; generate the shot again to complete it."
    ]
    get_strips(shot_scene).remove(strip)
    for channel in shot_scene.sequence_editor.channels:
        channel.lock = True
    with pytest.raises(RuntimeError, match="All 128 channels"):
        bpy.ops.latentman.to_sequencer()
    assert not get_strips(shot_scene)


def _note(scene, settings):
    from latentman.blender_addon.result_places import put_in_sequencer

    return put_in_sequencer(scene, settings.find_active_result())[1]


def test_the_scene_can_take_the_size_of_the_frames(shot_scene, settings):
    assert not bpy.ops.latentman.match_scene_size.poll()
    settings.use_scene_aspect = False
    assert not settings.shows_frame(shot_scene) and bpy.ops.latentman.match_scene_size() == {"FINISHED"}
    assert (shot_scene.render.resolution_x, shot_scene.render.resolution_y) == (64, 64) and settings.shows_frame(shot_scene)


@pytest.mark.slow
def test_a_shot_is_made_again_from_its_strip_with_its_own_settings(connection, shot_scene, character, settings):
    # frames that keep no look: the same shot is the same job
    before = _make(connection)
    assert _make(connection).folder == before.folder and len(settings.results) == 1
    settings.results.clear()
    settings.preset = "surface"
    first = _make(connection)
    result = settings.find_active_result()
    assert (result.preset, result.model, tuple(result.size), result.total) == ("surface", "starter", (64, 36), 3)
    assert result.made == 3 and result.kept == 0 and result.created and result.hmse > 0
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    (strip,) = get_strips(shot_scene)

    # asked for again it is the same entry, and the same files
    repeated = _make(connection)
    assert len(settings.results) == 1 and repeated.report["frames"] == {"made": 0, "kept": 3} and not repeated.folder.exists()
    assert notice.ticket == result.ticket
    assert notice.text.startswith("Nothing has changed") and resolve(strip.directory) == first.folder
    # unless the files were lost, and these are the only ones
    shutil.rmtree(first.folder)
    repeated = _make(connection)
    assert len(settings.results) == 2 and resolve(strip.directory) == repeated.folder
    settings.results.remove(0)
    settings.active_result = 0

    settings.prompt, settings.steps, settings.use_scene_range = "a cat", 7, True
    character.pose.bones["left_shoulder"].rotation_quaternion = (0.8, 0.6, 0, 0)
    for frame in range(2, 5):
        character.pose.bones["left_shoulder"].keyframe_insert("rotation_quaternion", frame=frame)
    assert bpy.ops.latentman.make_again() == {"FINISHED"}
    again = _finish(connection, lambda: connection.shot_task)
    assert again.request.text.prompt == "a knight" and again.request.sampling.steps == 2 and again.request.frames == (2, 3, 4)
    assert again.folder != first.folder and resolve(strip.directory) == again.folder
    assert (settings.prompt, settings.steps, settings.use_scene_range) == ("a cat", 7, True)

    # with another seed it is another version; the strip stays
    assert bpy.ops.latentman.make_again(new_seed=True) == {"FINISHED"}
    other = _finish(connection, lambda: connection.shot_task)
    assert other.request.sampling.seed != 5 and settings.seed == 5 and resolve(strip.directory) == again.folder
    assert len(settings.results) == 3 and settings.results[2].seed == other.request.sampling.seed

    # the shot of another scene than the window's, from a film that is cut there
    film = bpy.data.scenes.new("Film")
    add_image_strip(film, list_frames(again.folder), 101, "in the film", properties={"latentman_job": again.job})
    bpy.context.window.scene = film
    with bpy.context.temp_override(**_sequencer()):
        select_strip(film, get_strips(film)[0])
        assert bpy.ops.latentman.make_again(new_seed=True) == {"FINISHED"}
    last = _finish(connection, lambda: connection.shot_task)
    assert last.request.frames == (2, 3, 4) and len(settings.results) == 4 and len(properties.get_scene_settings(film).results) == 0
    bpy.context.window.scene = shot_scene


def _sequencer():
    area = bpy.context.window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    return {"window": bpy.context.window, "area": area}
