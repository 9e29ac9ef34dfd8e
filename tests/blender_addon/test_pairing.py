"""*Pair...* in Blender, with a real backend of another user."""

from __future__ import annotations

import json
import os
import subprocess

import bpy
import pytest
import zmq

from latentman.blender_addon.backend_process import LAUNCHER
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import connection
from latentman.blender_addon.operators import pairing
from latentman.shared import key_entries
from latentman.shared.folders import CONFIG_ENVIRONMENT
from latentman.shared.invitation import read_invitation, write_invitation

from .conftest import BACKEND_PYTHON

pytestmark = pytest.mark.usefixtures("registered_operators")


@pytest.fixture
def studio(tmp_path):
    """(endpoint, text) of a backend of another user on another machine."""
    process = subprocess.Popen(
        [BACKEND_PYTHON, str(LAUNCHER), "serve", "--pair", "--endpoint", "tcp://127.0.0.2:0", "--end-with-stdin"],
        env={**os.environ, **{f"LATENTMAN_{name}": str(tmp_path / "studio" / name) for name in ("CONFIG", "DATA", "LOGS")}},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    endpoint = json.loads(process.stdout.readline())["endpoint"]
    yield endpoint, process.stdout.readline().strip()
    process.communicate("", timeout=60)


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """Keys of the test's own."""
    monkeypatch.setenv(CONFIG_ENVIRONMENT, str(tmp_path / "user"))
    yield
    pairing.stop_attempt()
    connection.stop()
    connection.error = ""


def _finish():
    """What the window's timer does, once the backend has answered."""
    assert pairing.look_after_attempt() is not None or pairing.attempt is None
    if pairing.attempt is not None:
        pairing.attempt.wait()
        assert pairing.look_after_attempt() is None


def test_a_pasted_line_connects(studio):
    endpoint, text = studio
    assert bpy.ops.latentman.pair_backend(text=f" {text}\n") == {"FINISHED"}
    assert not bpy.ops.latentman.pair_backend.poll() or pairing.attempt is None
    _finish()
    assert wait_until(connection, lambda: connection.connected or bool(connection.error), 30)
    assert connection.connected and not connection.error and connection.client.endpoint == endpoint
    assert not bpy.ops.latentman.pair_backend.poll()
    # another time the address is enough
    connection.stop()
    connection.connect(endpoint)
    assert wait_until(connection, lambda: connection.connected or bool(connection.error), 30) and connection.connected
    # the text is used up
    connection.stop()
    bpy.ops.latentman.pair_backend(text=text)
    _finish()
    assert "used already" in connection.error and not connection.running


def test_a_backend_of_ones_own_at_the_end_of_a_tunnel_keeps_its_key(tmp_path):
    """Another time a tunnel to a backend of somebody else ended at this address."""
    process = subprocess.Popen(
        [BACKEND_PYTHON, str(LAUNCHER), "serve", "--endpoint", "tcp://127.0.0.1:0", "--jobs", str(tmp_path), "--end-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        key_entries.add_entry(key_entries.BACKENDS, endpoint, zmq.curve_keypair()[0])
        connection.connect(endpoint)
        assert wait_until(connection, lambda: connection.connected or bool(connection.error), 30)
        assert connection.connected, connection.error
    finally:
        process.communicate("", timeout=60)


def test_a_wrong_line_is_a_sentence(studio):
    _, text = studio
    for wrong in ("", "http://box", text[:-3]):
        with pytest.raises(RuntimeError, match="copy the whole line that latentman serve --pair prints"):
            bpy.ops.latentman.pair_backend(text=wrong)
        assert pairing.attempt is None
    assert key_entries.list_entries(key_entries.BACKENDS) == ([], [])


def test_switching_off_ends_an_attempt_that_waits(studio):
    _, text = studio
    nowhere = write_invitation(type(read_invitation(text))("tcp://127.0.0.9:9", *_parts(text)))
    bpy.ops.latentman.pair_backend(text=nowhere)
    assert pairing.attempt is not None and not pairing.attempt.done
    assert not bpy.ops.latentman.pair_backend.poll()
    waiting = pairing.attempt
    pairing.stop_attempt()
    assert waiting.done and "was stopped" in waiting.error and pairing.attempt is None
    assert pairing.look_after_attempt() is None


def _parts(text):
    found = read_invitation(text)
    return found.server_public, found.secret
