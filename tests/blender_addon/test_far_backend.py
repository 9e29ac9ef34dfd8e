"""A Blender and a backend on another machine: what the panel says while the connection breaks, and what is sent."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

pytest.importorskip("torch")

from latentman.blender_addon.client import BackendClient
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.commands.backend import wait_for_task
from latentman.blender_addon.connection import Connection
from latentman.blender_addon.tasks.shot import ShotTask
from tests import samples
from tests.blender_addon.far_studio import FarStudio


@pytest.fixture
def studio(tmp_path, monkeypatch):
    made = FarStudio(tmp_path / "studio", monkeypatch)
    yield made
    made.close()


@pytest.fixture
def connection():
    made = Connection()
    yield made
    made.stop()


def _make(connection, character, folder, count=4):
    request = samples.request(count, preset="per_frame", steps=1)
    return connection.add(ShotTask(bpy.context, character, request, connection.client, folder, folder_per_job=False))


def test_a_shot_goes_on_after_each_break(studio, connection, shot_scene, character, tmp_path):
    proxy = studio.open_way(300, -1500, 9001, 20_003, -9001, -6007, -5003)
    connection.connect(proxy.endpoint)
    said = []
    out = SimpleNamespace(warn=lambda sentence, code: said.append((code, connection.status)))
    watch = SimpleNamespace(requested=False, check=lambda: None)
    assert wait_until(connection, lambda: connection.connected, 30)
    task = _make(connection, character, tmp_path / "out")
    wait_for_task(connection, task, watch, out)
    assert task.succeeded, task.error
    assert proxy.broken >= 5 and said[0] == ("connection", "connecting again") and not connection.error
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"{n:04d}.png" for n in range(1, 5)]
    assert wait_until(connection, lambda: not connection.interrupted, 30) and connection.status.startswith("running")


def test_a_machine_that_is_forgotten_meanwhile_is_told(studio, connection, shot_scene, character, tmp_path):
    connection.connect(studio.open_way().endpoint)
    assert wait_until(connection, lambda: connection.connected, 30)
    studio.forget_clients()
    task = _make(connection, character, tmp_path / "out")
    assert wait_until(connection, lambda: task.done, 30) and "pair again" in task.error
    assert not connection.connected and "pair again" in connection.error


def test_passes_that_are_there_are_not_sent_again(studio, connection, shot_scene, character, tmp_path):
    """The backend ends in the middle of a shot; *Generate* again sends what is missing, and what has changed."""
    proxy = studio.open_way()
    connection.connect(proxy.endpoint)
    assert wait_until(connection, lambda: connection.connected, 30)
    task = _make(connection, character, tmp_path / "out")
    assert wait_until(connection, lambda: task._sent_count >= 3 and connection.client.waiting_bytes == 0, 60)
    first = connection.client.link.sent_bytes
    # what it says at its end does not arrive, as if it was killed
    proxy.cut_off()
    studio.start_again()
    proxy.lead_back()
    assert wait_until(connection, lambda: task.done, 30) and "Generate again to continue" in task.error
    connection.connect(studio.open_way().endpoint)
    assert wait_until(connection, lambda: connection.connected, 30)
    again = _make(connection, character, tmp_path / "out")
    assert wait_until(connection, lambda: again.done, 120) and again.succeeded, again.error
    assert connection.client.link.sent_bytes < 0.6 * first, "one frame's passes of four at most, and questions"
    # nothing of the kind where it is this user's own, on this machine
    studio.become("studio")
    near = BackendClient(studio.endpoint)
    assert near.link is None
    near.close()
