"""The queue in Blender: shots wait with their settings, are made one after the other, and outlive undo, failures and restarts."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import properties, queue_panel
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.compat import get_strips
from latentman.blender_addon.operators import generate, polls
from latentman.blender_addon.operators import queue as queue_operators
from latentman.blender_addon.panel_memory import read_memory
from latentman.blender_addon.queue import events
from latentman.blender_addon.queue.freezing import choose_layer, freeze_shot
from latentman.blender_addon.queue.marked import Span
from latentman.blender_addon.queue.row_list import find_list, update_rows
from latentman.blender_addon.queue.rows import INTERRUPTED, RowState, add_shots, change_row, summarise
from latentman.blender_addon.queue.runner import CANCELLED, STOPPED_BACKEND, runner
from latentman.blender_addon.queue.store import find_path, read_queue
from latentman.blender_addon.queue.table import HEAD
from latentman.blender_addon.queue.text_block import NAME
from latentman.shared.endpoint import free_port
from latentman.shared.shot import ShotError
from tests.blender_addon.conftest import BACKEND_PYTHON

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """The queue of a file that was never saved, empty."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    runner.open("")
    yield runner.book
    runner.is_going = False
    runner.open("")


@pytest.fixture
def film(book, shot_scene, character):
    """Three cameras that markers bind in a scene of six frames, and small and quick settings."""
    settings = properties.get_scene_settings(shot_scene)
    settings.character, settings.prompt, settings.width, settings.height, settings.steps = character, "a knight", 64, 64, 2
    shot_scene.frame_end = 6
    for n, name in enumerate(("Wide", "Near", "Far")):
        camera = shot_scene.camera.copy()
        camera.name = name
        shot_scene.collection.objects.link(camera)
        marker = shot_scene.timeline_markers.new(f"Shot {n + 1}", frame=1 + 2 * n)
        marker.camera = camera
    return shot_scene


@pytest.fixture
def window(film, connection, monkeypatch):
    """The film with a connected backend behind the queue and its buttons."""
    for module in (generate, polls, queue_operators):
        monkeypatch.setattr(module, "connection", connection)
    monkeypatch.setattr(runner, "connection", connection)
    bpy.ops.ed.undo_push(message="before")
    return film


def _queue(scene, first=1, last=1, name="Shot", **values):
    """Queue a shot of a few frames; returns its row's id."""
    settings = properties.get_scene_settings(scene)
    for key, value in values.items():
        setattr(settings, key, value)
    queued, _ = freeze_shot(scene, name, Span(first, last))
    runner.book.change(lambda queue: add_shots(queue, [queued]))
    runner.follow_names()
    update_rows()
    return runner.book.queue.rows[-1].id


def _states():
    return [row.state.value for row in runner.book.queue.rows]


def _row(row_id):
    return runner.book.queue.find(row_id)


def _run(connection, until=None, seconds=120):
    """Work as the window's timers do until the queue has ended."""

    def is_over():
        events.step()
        return until() if until else not runner.is_going and not runner.current_id

    assert wait_until(connection, is_over, seconds), runner.book.queue
    return runner.book.queue


def test_marked_shots_are_made_one_after_the_other_and_a_table_says_so(window, connection):
    scene = bpy.context.scene.name
    assert bpy.ops.latentman.queue_marked() == {"FINISHED"}
    assert [(row.shot.name, row.shot.cameras, row.shot.frames) for row in runner.book.queue.rows] == [
        ("Shot 1", ("Wide",), (1, 2)),
        ("Shot 2", ("Near",), (3, 4)),
        ("Shot 3", ("Far",), (5, 6)),
    ]
    assert runner.is_going and _states() == ["waiting"] * 3
    queue = _run(connection)
    assert _states() == ["done"] * 3 and not queue.message and not queue.worker
    results = properties.get_settings(bpy.context).results
    assert [(one.start, one.count, one.camera) for one in results] == [(1, 2, "Wide"), (3, 2, "Near"), (5, 2, "Far")]
    assert read_memory(results[1].panel).frames == (3, 4, 1)
    text = bpy.data.texts[NAME]
    assert text.current_line_index == 0, "an editor shows where the cursor is"
    lines = text.as_string().splitlines()
    assert lines[0] == "3 of 3 done" and lines[2].split() == list(HEAD)
    assert lines[4].startswith(f"Shot 2  {scene}  Near    3 to 4") and "done in " in lines[4]
    assert bpy.ops.ed.undo() == {"FINISHED"} and _states() == ["done"] * 3, "no undo brings rows back"
    assert bpy.ops.latentman.queue_clear() == {"FINISHED"} and not runner.book.queue.rows and not find_list().rows


def test_settings_stay_as_queued_and_the_scene_is_as_it_is_then(window, connection):
    row_id = _queue(window, prompt="a knight", seed=5)
    settings = properties.get_settings(bpy.context)
    settings.prompt, settings.seed, settings.steps = "a robot", 6, 3
    window.name, window.objects["Wide"].name, settings.character.name = "Beach", "Crane", "Hero"
    runner.start()
    _run(connection)
    row = _row(row_id)
    assert row.state is RowState.DONE and (row.count, row.made, row.kept) == (1, 1, 0) and row.folder
    assert (row.shot.scene, row.shot.cameras, row.shot.character) == ("Beach", ("Crane",), "Hero")
    settings = properties.get_settings(bpy.context)
    assert (settings.prompt, settings.seed, settings.steps) == ("a robot", 6, 3)
    result = settings.results[0]
    assert (result.prompt, result.seed, result.character, result.camera) == ("a knight", 5, "Hero", "Crane")
    assert read_memory(result.panel).values["prompt"] == "a knight"


def _add_scene(name, *objects):
    """Another scene that shows some objects, and its settings, which are those of the film."""
    scene = bpy.data.scenes.new(name)
    scene.frame_end = 3
    for one in objects:
        scene.collection.objects.link(one)
    settings = properties.get_scene_settings(scene)
    settings.width, settings.height, settings.steps, settings.prompt = 64, 64, 2, "a knight"
    return scene


def test_what_is_gone_fails_in_a_sentence_and_the_others_are_made(window, connection):
    character = properties.get_settings(bpy.context).character
    bodies = [one for one in window.objects if one.parent == character]
    gone, other = (_add_scene(name, character, *bodies, window.objects["Wide"]) for name in ("Gone", "Other"))
    for scene in (gone, other):
        scene.camera = window.objects["Wide"]
    ids = [_queue(gone), _queue(other), _queue(window, 3, 3), _queue(window, 5, 5)]
    assert runner.book.queue.rows[1].shot.character == character.name, "the only armature of the scene"
    bpy.data.scenes.remove(gone)
    for one in (character, *bodies):
        other.collection.objects.unlink(one)
    bpy.data.objects.remove(window.objects["Near"])
    runner.start()
    _run(connection)
    assert _states() == ["failed", "failed", "failed", "done"]
    sentences = [_row(row_id).message for row_id in ids]
    assert sentences[0].startswith("There is no scene 'Gone' in the file any more;")
    assert sentences[1].startswith(f"There is no '{character.name}' in the scene 'Other' any more;")
    assert sentences[2].startswith("The frames were queued to be seen through 'Near', and") and "through 'Wide' now" in sentences[2]
    assert "2 failed" not in summarise(runner.book.queue) and "3 failed" in summarise(runner.book.queue)


def test_scene_strips_are_made_in_their_own_scenes(window, connection, monkeypatch):
    character = properties.get_settings(bpy.context).character
    bodies = [one for one in window.objects if one.parent == character]
    first, second = (_add_scene(name, character, *bodies, window.objects["Wide"]) for name in ("First", "Second"))
    first.camera = window.objects["Wide"]
    edit = bpy.data.scenes.new("Edit")
    strips = get_strips(edit)
    strips.new_scene("Opening", first, 1, 10).frame_final_end = 11
    named = strips.new_scene("Ending", second, 2, 11)
    named.scene_camera, named.frame_final_end = window.objects["Far"], 12
    monkeypatch.setattr(queue_operators, "get_sequencer_scene", lambda context: edit)
    for marker in list(window.timeline_markers):
        window.timeline_markers.remove(marker)
    assert bpy.ops.latentman.queue_marked() == {"FINISHED"}
    shown = bpy.context.window.scene if bpy.context.window else bpy.context.scene
    _run(connection)
    assert _states() == ["done", "done"], runner.book.queue
    assert (bpy.context.window.scene if bpy.context.window else bpy.context.scene) == shown
    found = [
        (one.camera, one.start, one.count) for scene in (first, second) for one in properties.get_scene_settings(scene).results
    ]
    assert found == [("Wide", 1, 1), ("Far", 1, 1)] and second.camera is None
    assert not properties.get_settings(bpy.context).results and not edit.latentman.results


def _is_denoising():
    task = runner.current_task
    return task is not None and task.stage == "denoising"


def test_cancelling_a_row_goes_on_and_cancelling_the_shot_pauses(window, connection):
    long, short = _queue(window, 1, 1, steps=400), _queue(window, 2, 2, steps=2)
    bpy.ops.ed.undo_push(message="queued")
    runner.start()
    _run(connection, _is_denoising)
    assert bpy.ops.ed.undo() == {"FINISHED"} and _states() == ["running", "waiting"], "an undo in the middle changes no row"
    find_list().active = 0
    with pytest.raises(RuntimeError, match="This shot is being made; cancel it first"):
        bpy.ops.latentman.queue_remove()
    assert bpy.ops.latentman.queue_cancel() == {"FINISHED"}
    _run(connection)
    assert _states() == ["cancelled", "done"] and not runner.book.queue.message
    assert bpy.ops.latentman.queue_repeat() == {"FINISHED"} and _states() == ["waiting", "done"]
    # the undo has replaced the scene
    last = _queue(bpy.context.scene, 3, 3)
    runner.start()
    _run(connection, _is_denoising)
    assert bpy.ops.latentman.cancel() == {"FINISHED"}
    _run(connection)
    assert _states() == ["cancelled", "done", "waiting"] and runner.book.queue.message == CANCELLED
    runner.start()
    _run(connection, _is_denoising)
    assert bpy.ops.latentman.queue_pause() == {"FINISHED"}
    _run(connection)
    assert [_row(one).state for one in (long, short, last)] == [RowState.CANCELLED, RowState.DONE, RowState.DONE]


def test_a_stopped_backend_pauses_the_queue_and_its_shot_waits_again(window, connection):
    _queue(window, 1, 1, steps=400)
    runner.start()
    _run(connection, _is_denoising)
    connection.stop()
    _run(connection)
    row = runner.book.queue.rows[0]
    assert row.state is RowState.WAITING and row.message == INTERRUPTED
    assert runner.book.queue.message == STOPPED_BACKEND and not runner.book.queue.worker


def test_a_lost_backend_costs_one_shot_and_is_reached_again(window, connection, shared_backend, monkeypatch):
    reached = []

    def start(endpoint):
        reached.append(endpoint)
        connection.connect(shared_backend.endpoint)

    monkeypatch.setattr(runner, "_start_backend", start)
    lost, other = _queue(window, 1, 1, steps=400), _queue(window, 2, 2, steps=2)
    runner.start()
    _run(connection, _is_denoising)
    connection._on_connection_lost("The backend went away.")
    _run(connection)
    assert (_row(lost).state, _row(lost).message) == (RowState.FAILED, "The backend went away.")
    assert _row(other).state is RowState.DONE and reached == [shared_backend.endpoint]
    # one that does not come back is no reason to fail every shot
    monkeypatch.setattr(runner, "_start_backend", lambda endpoint: connection._on_connection_lost("The backend did not start."))
    connection._on_connection_lost("The backend went away.")
    _queue(window, 3, 3)
    runner.start()
    _run(connection)
    assert _states() == ["failed", "done", "waiting"]
    assert runner.book.queue.message == "The queue has paused: The backend did not start."


@pytest.mark.slow
def test_a_killed_backend_costs_one_shot_and_is_started_again(film, own_connection, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "connection", own_connection)
    starts = []

    def start(endpoint):
        starts.append(endpoint)
        own_connection.start(BACKEND_PYTHON, f"127.0.0.1:{free_port()}", tmp_path / "jobs")

    monkeypatch.setattr(runner, "_start_backend", start)
    killed, other = _queue(film, 1, 1, steps=400), _queue(film, 2, 2, steps=2)
    runner.start()
    _run(own_connection, _is_denoising)
    os.kill(own_connection.process.pid, signal.SIGKILL)
    _run(own_connection)
    assert _row(killed).state is RowState.FAILED and "The backend stopped" in _row(killed).message
    assert _row(other).state is RowState.DONE and len(starts) == 1


def test_it_is_kept_with_the_file_and_not_in_it(window, connection, tmp_path):
    first, second = _queue(window, 1, 1), _queue(window, 2, 2)
    assert not list((tmp_path / "data").glob("queues/*")), "a file without a name has nothing to come back to"
    events._handlers.register()
    try:
        path, later = tmp_path / "film.blend", tmp_path / "film 2.blend"
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
        assert find_path(str(path)).exists() and runner.book.blend == str(path)
        window.name = "Beach"
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
        events.step()
        assert runner.book.blend == str(path) and read_queue(find_path(str(path))).rows[0].shot.scene != "Beach"
        bpy.ops.wm.save_mainfile()
        assert read_queue(find_path(str(path))).rows[0].shot.scene == "Beach"
        bpy.ops.wm.save_as_mainfile(filepath=str(later))
        assert find_path(str(later)).exists() and not find_path(str(path)).exists(), "it goes with the file that is open"
        # the next one is made while its file is closed
        runner.start()
        _run(connection, _is_denoising)
        bpy.ops.wm.read_factory_settings(use_empty=True)
        assert not runner.book.queue.rows and not runner.is_going and not find_list().rows
        _run(connection)
        bpy.ops.wm.open_mainfile(filepath=str(later))
        assert [(row.id, row.state) for row in runner.book.queue.rows] == [(first, RowState.DONE), (second, RowState.WAITING)]
        assert "was closed before its shot ended" in _row(first).message
        assert not runner.is_going and len(find_list().rows) == 2
        runner.start()
        _run(connection)
        assert _states() == ["done", "done"] and not _row(second).message
    finally:
        events._handlers.unregister()


def test_rows_are_ordered_paused_and_removed(window):
    names = [_queue(window, n, n, f"{n}") for n in (1, 2, 3)]

    def order():
        assert [item.row for item in find_list().rows] == [row.id for row in runner.book.queue.rows]
        return [row.shot.name for row in runner.book.queue.rows]

    find_list().active = 2
    assert bpy.ops.latentman.queue_move(direction="UP") == {"FINISHED"} and order() == ["1", "3", "2"]
    assert find_list().active == 1, "the row stays chosen"
    assert bpy.ops.latentman.queue_move(direction="TOP") == {"FINISHED"} and order() == ["3", "1", "2"]
    assert bpy.ops.latentman.queue_move(direction="UP") == {"FINISHED"} and order() == ["3", "1", "2"]
    assert bpy.ops.latentman.queue_move(direction="BOTTOM") == {"FINISHED"} and order() == ["1", "2", "3"]
    assert bpy.ops.latentman.queue_pause_row() == {"FINISHED"} and _row(names[2]).state is RowState.PAUSED
    assert bpy.ops.latentman.queue_pause_row() == {"FINISHED"} and _row(names[2]).state is RowState.WAITING
    assert bpy.ops.latentman.queue_remove() == {"FINISHED"} and order() == ["1", "2"] and find_list().active == 1
    bpy.ops.ed.undo_push(message="after")
    assert bpy.ops.ed.undo() == {"FINISHED"} and order() == ["1", "2"]
    for reason, name in (("has not ended yet", "repeat"), ("is not being made", "cancel"), ("has ended yet", "clear")):
        with pytest.raises(RuntimeError, match=reason):
            getattr(bpy.ops.latentman, f"queue_{name}")()


def test_the_panels_shot_is_added(window):
    settings = properties.get_settings(bpy.context)
    settings.use_scene_range, settings.frame_start, settings.frame_end, settings.frame_step = False, 2, 7, 2
    assert bpy.ops.latentman.queue_add() == {"FINISHED"}
    shot = runner.book.queue.rows[0].shot
    assert (shot.name, shot.frames, shot.cameras) == ("a knight", (2, 4, 6), ("Wide", "Near", "Far"))
    assert find_list().active == 0 and not runner.is_going


def test_what_cannot_be_queued_is_refused_in_a_sentence(window):
    settings = properties.get_settings(bpy.context)
    settings.prompt = " "
    with pytest.raises(RuntimeError, match="The prompt is empty"):
        bpy.ops.latentman.queue_add()
    settings.prompt, settings.use_scene_range, settings.frame_start, settings.frame_end = "a knight", False, 5, 4
    with pytest.raises(RuntimeError, match="The range has no frames"):
        bpy.ops.latentman.queue_add()
    settings.use_scene_range, settings.output = True, "/tmp/\udcff"
    with pytest.raises(RuntimeError, match="choose another Output folder"):
        bpy.ops.latentman.queue_add()
    settings.output, settings.reference = "//latentman", "/tmp/\udcff.png"
    with pytest.raises(RuntimeError, match="The reference contains characters that no text has; type it again"):
        bpy.ops.latentman.queue_add()
    settings.reference, settings.character = "", None
    with pytest.raises(RuntimeError, match="Pick a character first"):
        bpy.ops.latentman.queue_add()
    lonely = _add_scene("Lonely", window.objects["Wide"])
    lonely.view_layers.new("Second")
    assert choose_layer(lonely) == (
        lonely.view_layers[0].name,
        f"No window shows 'Lonely'; its view layer '{lonely.view_layers[0].name}' is used.",
    )
    with pytest.raises(ShotError, match="No character is picked in the scene 'Lonely'"):
        freeze_shot(lonely, "Shot", Span(1, 1))
    with pytest.raises(ShotError, match="10001 frames"):
        freeze_shot(window, "Shot", Span(1, 10_001))
    for marker in list(window.timeline_markers):
        marker.camera = None
    with pytest.raises(RuntimeError, match="There are no marked shots: bind cameras to markers"):
        bpy.ops.latentman.queue_marked()
    assert not runner.book.queue.rows


def test_the_dialog_leaves_shots_out_and_takes_other_settings(window):
    character = properties.get_settings(bpy.context).character
    bodies = [one for one in window.objects if one.parent == character]
    other = _add_scene("Other", character, *bodies, window.objects["Wide"])
    other.camera, other.latentman.prompt = window.objects["Wide"], "a pirate"
    get_strips(window).new_scene("Cut", other, 1, 10)
    kept = {"use": True, "scene": "", "camera": "", "first": 1, "last": 1, "step": 1, "problem": "", "note": ""}
    left_out = [kept | {"name": "Shot 2", "use": False}]
    assert bpy.ops.latentman.queue_marked(start=False, found=left_out) == {"FINISHED"}
    assert [(row.shot.name, row.shot.request.text.prompt) for row in runner.book.queue.rows] == [
        ("Shot 1", "a knight"),
        ("Shot 3", "a knight"),
        ("Cut", "a pirate"),
    ]
    assert bpy.ops.latentman.queue_marked(start=False, settings="THIS") == {"FINISHED"} and not runner.is_going
    assert runner.book.queue.rows[-1].shot.request.text.prompt == "a knight"
    assert read_memory(runner.book.queue.rows[-1].shot.panel).values["prompt"] == "a knight"


class _Drawn:
    """Stands in for a layout and remembers the texts and the buttons."""

    def __init__(self):
        self.texts = []

    def __getattr__(self, name):
        def draw(*arguments, text="", **_):
            self.texts += [text, *(one for one in arguments if isinstance(one, str))]
            return self

        return draw


@pytest.mark.parametrize("state", RowState)
def test_every_state_is_drawn(window, state):
    row_id = _queue(window, 1, 2)
    changes = {"message": "Something went wrong.", "seconds": 90.0, "folder": "/a/long/path"}
    runner.book.change(lambda queue: change_row(queue, row_id, state=state, **changes))
    drawn = _Drawn()
    context = SimpleNamespace(region=SimpleNamespace(width=2000), preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)))
    queue_panel.QueuePanel.draw(SimpleNamespace(layout=drawn), context)
    queue_panel.LATENTMAN_UL_queue.draw_item(None, context, drawn, None, find_list().rows[0], 0, None, "")
    told = " ".join(drawn.texts)
    assert f"Shot: {state.value}" in told and "frames 1 to 2" in told
    assert ("latentman.queue_repeat" in told) == (state.ended)
    assert ("Settings are as they were when it was queued" in told) == (not state.ended)
    assert ("Something went wrong." in told) == (state not in (RowState.DONE, RowState.CANCELLED))
    assert ("1.5 min" in told) == (state in (RowState.DONE, RowState.CANCELLED))
    assert "/a/long/path" not in told, "it is cut off in a sidebar"
