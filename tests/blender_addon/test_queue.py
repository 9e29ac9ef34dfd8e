"""The queue in Blender: shots that wait with their settings, are made one after the other, and outlive undo, failures and restarts."""

from __future__ import annotations

import os
import signal

import bpy
import msgspec
import pytest

from latentman.blender_addon import operators, properties, queue_panel, undo_steps
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.operators import generate, polls
from latentman.blender_addon.operators import queue as queue_operators
from latentman.blender_addon.panel_memory import read_memory
from latentman.blender_addon.queue import events
from latentman.blender_addon.queue.book import QueueBook
from latentman.blender_addon.queue.freezing import freeze_shot
from latentman.blender_addon.queue.marked import Span
from latentman.blender_addon.queue.row_list import find_list, update_rows
from latentman.blender_addon.queue.rows import INTERRUPTED, RowState, add_shots
from latentman.blender_addon.queue.runner import CANCELLED, STOPPED_BACKEND, QueueRunner, runner
from latentman.blender_addon.queue.store import find_path
from latentman.blender_addon.queue.text_block import NAME
from latentman.shared.shot import ShotError
from tests.blender_addon.conftest import start_backend

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
    """Three cameras that markers bind in a scene of twelve frames, and small and quick settings."""
    settings = properties.get_scene_settings(shot_scene)
    settings.character, settings.prompt, settings.width, settings.height, settings.steps = character, "a knight", 64, 64, 2
    shot_scene.frame_end = 12
    for n, name in enumerate(("Wide", "Near", "Far")):
        camera = shot_scene.camera.copy()
        camera.name = name
        shot_scene.collection.objects.link(camera)
        marker = shot_scene.timeline_markers.new(f"Shot {n + 1}", frame=1 + 4 * n)
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
        ("Shot 1", ("Wide",), (1, 2, 3, 4)),
        ("Shot 2", ("Near",), (5, 6, 7, 8)),
        ("Shot 3", ("Far",), (9, 10, 11, 12)),
    ]
    assert runner.is_going and _states() == ["waiting"] * 3
    queue = _run(connection)
    assert _states() == ["done"] * 3 and not queue.message and not queue.worker
    results = properties.get_settings(bpy.context).results
    assert [(one.start, one.count, one.camera) for one in results] == [(1, 4, "Wide"), (5, 4, "Near"), (9, 4, "Far")]
    assert read_memory(results[1].panel).frames == (5, 8, 1)
    lines = bpy.data.texts[NAME].as_string().splitlines()
    assert lines[0] == "3 of 3 done" and lines[2].split() == "Shot Scene Camera Frames New Kept Minutes Result".split()
    assert lines[4].startswith(f"Shot 2  {scene}  Near    5 to 8") and "done in " in lines[4]
