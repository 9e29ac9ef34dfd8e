"""Where frames lie: before the first save, after it, in a copy, in a project that was moved, and fetched again."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.backend.pictures import encode_png, read_png
from latentman.blender_addon import moving, properties
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.compat import get_strips
from latentman.blender_addon.connection import Connection
from latentman.blender_addon.operators import generate, polls
from latentman.blender_addon.operators import results as result_operators
from latentman.blender_addon.paths import get_result_folder, resolve
from latentman.blender_addon.tasks import frames_folder
from latentman.blender_addon.tasks.frames_folder import list_frames, store_png
from latentman.shared import messages
from latentman.shared.shot import ShotError

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The user's data folder."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def window(connection, shot_scene, character, monkeypatch, data):
    """The panel's settings with a connected backend behind the buttons, and a shot of two small frames."""
    for module in (generate, polls, result_operators):
        monkeypatch.setattr(module, "connection", connection)
    settings = _settings()
    settings.character = character
    settings.prompt, settings.width, settings.height, settings.steps = "a knight", 64, 64, 2
    settings.use_scene_range, settings.frame_start, settings.frame_end = False, 1, 2
    return settings


def _settings():
    return properties.get_settings(bpy.context)


def _generate(connection):
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    _wait(connection, lambda: connection.shot_task)


def _wait(connection, get_task):
    assert wait_until(connection, lambda: get_task().done, 300) and get_task().succeeded, get_task().error


def _read_strip(strip):
    return [Path(bpy.path.abspath(strip.directory)) / element.filename for element in strip.elements]


def _add_result(folder):
    """A result with two frames and a texture in a folder, shown by a strip and by an image."""
    (folder / "look").mkdir(parents=True)
    for name in ("0001.png", "0002.png", "look/texture_1.png"):
        (folder / name).write_bytes(encode_png(np.full((4, 4, 3), len(name), np.uint8)))
    result = _settings().results.add()
    result.folder, result.count, result.start, result.prompt = str(folder), 2, 1, "a knight"
    _settings().active_result = len(_settings().results) - 1
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    image = bpy.data.images.load(str(folder / "look" / "texture_1.png"))
    image.use_fake_user = True
    return result, image


def _check_whole(base):
    """The open file's result, strip and image are there, below ``base``, and their stored paths are relative."""
    result, strip = _settings().results[-1], list(get_strips(bpy.context.scene))[-1]
    image = next(image for image in bpy.data.images if "texture_1" in image.filepath)
    assert result.folder.startswith("//") and strip.directory.startswith("//") and image.filepath.startswith("//")
    assert len(list_frames(get_result_folder(result))) == 2 and get_result_folder(result).is_relative_to(base)
    for path in (*_read_strip(strip), Path(bpy.path.abspath(image.filepath))):
        assert path.is_file() and path.resolve().is_relative_to(base), path
    image.reload()
    assert tuple(image.size) == (4, 4)


@pytest.mark.slow
def test_a_shot_of_an_unsaved_file_lasts_and_moves_beside_the_file(window, connection, data, tmp_path):
    _generate(connection)
    folder = get_result_folder(_settings().results[0])
    assert folder.parent == data / "results" and len(list_frames(folder)) == 2
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"} and bpy.ops.latentman.as_material() == {"FINISHED"}
    project = tmp_path / "project"
    project.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(project / "shot.blend"))
    assert not folder.exists() and len(list_frames(project / "latentman" / folder.name)) == 2
    assert _settings().results[0].folder == f"//latentman/{folder.name}"
    shutil.move(project, tmp_path / "moved")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "moved" / "shot.blend"))
    assert len(list_frames(get_result_folder(_settings().results[0]))) == 2
    strip = next(iter(get_strips(bpy.context.scene)))
    assert all(path.is_file() for path in _read_strip(strip)) and len(strip.elements) == 2
    image = next(image for image in bpy.data.images if "texture_1" in image.filepath)
    assert image.filepath.startswith("//") and Path(bpy.path.abspath(image.filepath)).is_file()
    _settings().seed = 1
    _generate(connection)
    assert _settings().results[1].folder.startswith("//"), "those of a saved file are relative from the beginning"


def test_a_shot_that_runs_while_its_file_is_saved_for_the_first_time_lands_beside_it(window, connection, data, tmp_path):
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task._sent_count >= 1, 300) and not connection.shot_task.done
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    _wait(connection, lambda: connection.shot_task)
    result = _settings().results[0]
    assert result.folder.startswith("//") and get_result_folder(result).parent == tmp_path / "latentman"
    assert len(list_frames(get_result_folder(result))) == 2 and not list((data / "results").glob("*"))


@pytest.mark.parametrize("remap", [False, True], ids=["from Python", "as the window does"])
def test_saving_moving_and_saving_elsewhere(empty_scene, data, tmp_path, remap):
    _add_result(data / "results" / "job")
    for n, name in enumerate(("a", "b/c", "d")):
        (tmp_path / name).mkdir(parents=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / name / "shot.blend"), relative_remap=remap or n > 0)
        _check_whole(tmp_path / "a")
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / name / "shot.blend"))
        _check_whole(tmp_path / "a")
    assert not (data / "results" / "job").exists()


def test_a_saved_copy_has_its_own_frames_and_changes_nothing(empty_scene, data, tmp_path):
    result, _ = _add_result(data / "results" / "job")
    before = result.folder
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    assert _settings().results[0].folder == before and len(list_frames(Path(before))) == 2
    assert all(path.is_file() and path.is_relative_to(data) for path in _read_strip(next(iter(get_strips(bpy.context.scene)))))
    shutil.rmtree(data)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "copy.blend"))
    _check_whole(tmp_path)


def test_a_save_that_fails_changes_nothing(empty_scene, data, tmp_path):
    result, _ = _add_result(data / "results" / "job")
    before = result.folder
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(RuntimeError):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file" / "shot.blend"))
    assert _settings().results[0].folder == before and len(list_frames(Path(before))) == 2
    assert not (tmp_path / "latentman").exists() and not bpy.data.filepath
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "other.blend"))
    _check_whole(tmp_path)


def test_frames_that_cannot_be_moved_stay_where_they_are(empty_scene, data, tmp_path):
    result, _ = _add_result(data / "results" / "job")
    before = result.folder
    (tmp_path / "latentman").write_text("a file where the folder should be")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert _settings().results[0].folder == before and len(list_frames(Path(before))) == 2


def test_costumes_move_with_the_results_that_they_came_from(empty_scene, data, tmp_path):
    for name in ("a", "b"):
        _add_result(data / "results" / name)
    costume = data / "results" / "a" / "look" / frames_folder.COSTUME_FILE
    costume.write_bytes(b"costume")
    wearers = [bpy.data.objects.new(name, None) for name in ("Picked", "Other", "Nowhere")]
    for one in wearers:
        properties.set_kept_look(one, str(costume), "a knight")
        one.use_fake_user = True
    for one in wearers[:2]:
        empty_scene.collection.objects.link(one)
    # seen by two scenes
    bpy.data.scenes.new("Second").collection.objects.link(wearers[0])
    _settings().character = wearers[0]
    target = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(target))
    bpy.ops.wm.open_mainfile(filepath=str(target))
    for name in ("Picked", "Other", "Nowhere"):
        kept, prompt = properties.get_kept_look(bpy.data.objects[name])
        assert kept == f"//latentman/a/look/{frames_folder.COSTUME_FILE}" and prompt == "a knight", name
        assert resolve(kept).read_bytes() == b"costume"


def test_a_costume_that_was_opened_before_the_first_save_moves_beside_the_file(empty_scene, data, tmp_path):
    wearer = bpy.data.objects.new("Wearer", None)
    empty_scene.collection.objects.link(wearer)
    costume = data / "results" / "costume-1" / "look" / frames_folder.COSTUME_FILE
    costume.parent.mkdir(parents=True)
    costume.write_bytes(b"costume")
    properties.set_kept_look(wearer, str(costume), "a knight")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert properties.get_kept_look(wearer)[0] == f"//latentman/costume-1/look/{frames_folder.COSTUME_FILE}"
    assert (tmp_path / "latentman" / "costume-1" / "look" / costume.name).read_bytes() == b"costume"
    assert not costume.exists()


def test_an_undo_to_before_the_first_save_finds_the_frames(empty_scene, data, tmp_path):
    bpy.ops.ed.undo_push(message="begin")
    _add_result(data / "results" / "job")
    bpy.ops.ed.undo_push(message="result")
    empty_scene.frame_end = 50
    bpy.ops.ed.undo_push(message="change")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert bpy.ops.ed.undo() == {"FINISHED"}
    _check_whole(tmp_path)
    assert bpy.ops.ed.redo() == {"FINISHED"} and bpy.context.scene.frame_end == 50
    _check_whole(tmp_path)


def test_the_start_up_file_moves_nothing(empty_scene, data, tmp_path):
    result, _ = _add_result(data / "results" / "job")
    before = result.folder
    for path in ("", str(tmp_path / "startup.blend")):
        moving._on_save_pre(path)
        moving._on_save_post(path)
        assert result.folder == before and len(list_frames(Path(before))) == 2


def test_an_absolute_output_folder_stays_absolute(window, connection, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "project.blend"))
    _settings().output = str(tmp_path.parent / "elsewhere")
    _generate(connection)
    assert get_result_folder(_settings().results[0]) == Path(_settings().results[0].folder)
    assert Path(_settings().results[0].folder).parent == tmp_path.parent / "elsewhere"


@pytest.mark.parametrize("transparent", [False, True])
def test_a_result_whose_frames_are_gone_is_fetched_again(window, connection, data, tmp_path, transparent):
    _settings().character_only = transparent
    _generate(connection)
    result = _settings().results[0]
    assert bpy.ops.latentman.to_sequencer() == {"FINISHED"}
    folder = get_result_folder(result)
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}
    assert len(before) == 3
    shutil.rmtree(data)
    with pytest.raises(RuntimeError, match="Fetch Again"):
        bpy.ops.latentman.to_sequencer()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    _wait(connection, lambda: connection.fetch_task)
    result = _settings().results[0]
    folder = get_result_folder(result)
    assert result.folder == f"//latentman/{result.job}" and not connection.fetch_task.error
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")} == before
    assert all(path.is_file() for path in _read_strip(next(iter(get_strips(bpy.context.scene)))))
    # one damaged frame and one that is missing, where the folder is still there
    (folder / "0001.png").write_bytes(b"half")
    (folder / "0002.png").unlink()
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    _wait(connection, lambda: connection.fetch_task)
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")} == before


def test_what_the_backend_does_not_have_cannot_be_fetched(window, connection, shared_backend):
    _generate(connection)
    job = shared_backend.jobs / _settings().results[0].job
    report = bpy.context.scene.latentman.results[0]
    (job / "frames" / "00000.png").write_bytes(b"")
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    _wait(connection, lambda: connection.fetch_task)
    assert "1 of 2 frames are left" in connection.error
    for name in (report.job, "../jobs", "0" * 24, "/etc", ""):
        shutil.rmtree(job, ignore_errors=True)
        report.job = name
        if not name:
            with pytest.raises(RuntimeError, match="generate it again"):
                bpy.ops.latentman.fetch_result()
            continue
        assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
        assert wait_until(connection, lambda: connection.fetch_task.done, 60)
        assert "generate it again" in connection.fetch_task.error and not connection.busy, name


def test_an_unfinished_shot_knows_its_job_but_keeps_no_look(window, connection, tmp_path):
    _settings().frame_end, _settings().steps = 12, 20
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    task = connection.shot_task
    assert wait_until(connection, lambda: len(task.frames) >= 1 or task.done, 300) and not task.done
    task.cancel()
    assert wait_until(connection, lambda: task.done, 60)
    result = _settings().results[0]
    assert result.job == task.job and not result.settings and not bpy.ops.latentman.keep_look.poll()
    shutil.rmtree(get_result_folder(result))
    assert bpy.ops.latentman.fetch_result() == {"FINISHED"}
    _wait(connection, lambda: connection.fetch_task)
    assert len(list_frames(get_result_folder(_settings().results[0]))) >= 1


def test_a_client_that_takes_no_frames_gets_only_a_few(connection, window):
    """Four may be on their way; cancelling ends it."""
    _settings().frame_end = 6
    _generate(connection)
    client, ticket = connection.client, "slow"
    seen = []
    client.send(messages.FetchJob(ticket=ticket, job=connection.shot_task.job))

    def collect():
        while not client.events.empty():
            seen.append(client.events.get().message)
        return sum(isinstance(message, messages.FrameResult) for message in seen) >= 4

    assert wait_until(_Nothing(), collect, 60)
    assert not wait_until(_Nothing(), lambda: collect() and len(seen) > 40, 1.5)
    assert sum(isinstance(message, messages.FrameResult) for message in seen) == 4
    client.send(messages.Cancel(ticket=ticket))
    assert wait_until(_Nothing(), lambda: collect() and isinstance(seen[-1], messages.Cancelled), 30)


class _Nothing:
    """Where ``wait_until`` has nothing else to advance."""

    wait_until = Connection.wait_until

    def process_events(self):
        pass


PNG = encode_png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("data", [b"", PNG[:-1], PNG[:40], PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:], b"GIF89a"])
def test_what_is_not_a_whole_picture_is_not_stored(tmp_path, data):
    with pytest.raises(ShotError, match="generate the shot again"):
        store_png(np.frombuffer(data, np.uint8), tmp_path / "0001.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 100, len(PNG) - 1])
def test_a_file_that_cannot_be_read_back_is_removed_and_fails(tmp_path, monkeypatch, kept):
    """A full disk that reports success."""
    monkeypatch.setattr(frames_folder, "write_atomically", lambda path, data: path.write_bytes(data[:kept]))
    with pytest.raises(ShotError, match="make room"):
        store_png(np.frombuffer(PNG, np.uint8), tmp_path / "0001.png")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more_is_a_sentence(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PNG) // 2, before[1]))
    try:
        with pytest.raises(ShotError, match="make room"):
            store_png(np.frombuffer(PNG, np.uint8), tmp_path / "0001.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    store_png(np.frombuffer(PNG, np.uint8), tmp_path / "0001.png")
    assert read_png(tmp_path / "0001.png").shape == (64, 64, 3)
