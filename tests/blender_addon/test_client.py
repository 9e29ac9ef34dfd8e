"""The connection to the backend, whatever is at its other end; and that nothing waits for it."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import threading
import time

import bpy
import numpy as np
import pytest

from latentman.blender_addon import connection as connection_module
from latentman.blender_addon import windows_job
from latentman.blender_addon.client import BackendClient, Event
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import Connection, ConnectionState
from latentman.blender_addon.tasks import shot as shot_module
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages, running
from latentman.shared.endpoint import free_port
from tests import samples
from tools.fuzz.client import FalseBackend, fuzz_client
from tools.fuzz.messages import make_backend_message, spoil

from .conftest import BACKEND_PYTHON

# the same every time; `make torture` draws others
SEED = int(os.environ.get("LATENTMAN_FUZZ_SEED") or 961414026)


class _SilentClient:
    """Takes messages and never answers."""

    waiting_bytes = 0

    def send(self, message, arrays=None):
        """Nothing."""


def test_the_connection_outlives_thousands_of_spoiled_messages(caplog):
    print(f"seed {SEED}")
    counts = fuzz_client(3000, SEED)
    print(sorted(counts.items()))
    assert counts["event Unreadable"] > 100 and "connection to the backend broke" not in caplog.text


@pytest.mark.slow
def test_a_shot_ends_with_a_sentence_whatever_the_backend_answers(shot_scene, character, tmp_path, caplog):
    """Its files stay in its folder, and the timer goes on."""
    print(f"seed {SEED}")
    rng, connection = random.Random(SEED), Connection()
    out, ends = tmp_path / "out", set()
    for n in range(60):
        task = connection.add(
            ShotTask(bpy.context, character, samples.request(4), _SilentClient(), out / f"{n}", folder_per_job=True)
        )
        while not task._submitted:
            task.step()
        for _ in range(200):
            try:
                message, arrays = messages.decode(spoil(rng, make_backend_message(rng, [task.ticket])))
            except messages.WireError:
                continue
            connection._dispatch_event(Event(message, arrays))
            with caplog.at_level(logging.CRITICAL):
                connection.process_events()
            if task.done:
                break
        task.fail("It took too long.")
        ends.add(task.state)
        assert task.error or task.cancelled or task.succeeded
    assert len(ends) > 1
    assert not connection.busy
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    connection.stop()


@pytest.mark.parametrize("ticket", ["", "mine"])
def test_what_cannot_be_read_ends_what_it_is_about(ticket):
    backend, connection = FalseBackend(), Connection()
    try:
        connection.connect(backend.endpoint)
        backend.wait_for_client()
        body = {"type": "Progress", "ticket": ticket or 5, "state": "nothing"}
        backend.send([messages.msgspec.msgpack.encode({"protocol": messages.PROTOCOL, "body": body})])
        event = connection.client.events.get(timeout=20)
        if ticket:
            assert isinstance(event.message, messages.Failed) and event.message.ticket == ticket
        else:
            assert "cannot be read" in event.reason
        assert connection.client._thread.is_alive()
    finally:
        connection.stop()
        backend.close()


@pytest.mark.slow
def test_stopping_waits_for_nothing(tmp_path):
    """A process that does not react, and a backend that does not answer: the window goes on, and the process is killed."""
    stubborn = tmp_path / "python"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM INT HUP\nwhile true; do sleep 0.2; done\n")
    stubborn.chmod(0o755)
    connection = Connection()
    connection.start(str(stubborn), f"127.0.0.1:{free_port()}", tmp_path / "jobs")
    time.sleep(0.5)
    process, backend = connection.process, FalseBackend()
    connection.connect(backend.endpoint)
    backend.wait_for_client()
    began = time.perf_counter()
    connection.stop()
    assert time.perf_counter() - began < 0.5 and not connection.running
    # the next one begins after its end, and nothing waits for that either
    began = time.perf_counter()
    connection.start(BACKEND_PYTHON, f"127.0.0.1:{free_port()}", tmp_path / "jobs")
    assert time.perf_counter() - began < 0.5
    assert connection.state is ConnectionState.STARTING and connection.process is None and process.running
    assert wait_until(connection, lambda: connection.connected or bool(connection.error), 150) and connection.connected
    assert not process.running
    connection.stop(30)
    backend.close()


def test_a_start_finds_the_backend_that_runs(tmp_path, monkeypatch):
    """One for two Blenders; the second one's *Stop* leaves it to the first."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    endpoint, first, second = f"127.0.0.1:{free_port()}", Connection(), Connection()
    try:
        first.start(BACKEND_PYTHON, endpoint)
        assert wait_until(first, lambda: first.connected or bool(first.error), 120) and first.connected, first.error
        second.start(BACKEND_PYTHON, endpoint)
        assert second.process is None and second.state is ConnectionState.CONNECTING
        assert wait_until(second, lambda: second.connected or bool(second.error), 30) and second.connected, second.error
        second.stop()
        assert first.process.running
        # told to end, it is not taken for one that runs
        process = first.process
        first.stop()
        first.start(BACKEND_PYTHON, endpoint)
        assert first.state is ConnectionState.STARTING
        assert wait_until(first, lambda: first.connected or bool(first.error), 120) and first.connected, first.error
        assert first.process is not process
    finally:
        first.stop(30)
        second.stop()
    assert not list((tmp_path / "data" / running.FOLDER).iterdir())


def test_of_two_that_start_at_once_both_are_connected(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    endpoint, both = f"127.0.0.1:{free_port()}", (Connection(), Connection())
    try:
        for connection in both:
            connection.start(BACKEND_PYTHON, endpoint)
        assert all(connection.process for connection in both)
        end = time.monotonic() + 150
        while not all(connection.connected for connection in both) and time.monotonic() < end:
            for connection in both:
                connection.process_events()
            time.sleep(0.02)
        assert all(connection.connected for connection in both), [connection.error for connection in both]
        assert sum(connection.process is not None for connection in both) == 1
    finally:
        for connection in both:
            connection.stop(30)


def test_closing_leaves_no_thread():
    before = threading.active_count()
    backend = FalseBackend()
    for _ in range(5):
        connection = Connection()
        connection.connect(backend.endpoint)
        connection.stop()
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before
    backend.close()


class _Kernel:
    """Notes what is asked of Windows; ``refused`` is the function that fails."""

    def __init__(self, refused=""):
        self.calls, self._refused = [], refused

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, arguments))
            return 0 if name == self._refused else {"CreateJobObjectW": 11, "OpenProcess": 22}.get(name, 1)

        return call


def test_windows_is_asked_to_end_the_process_with_blender():
    assert ctypes.sizeof(windows_job._ExtendedLimits) == (144 if ctypes.sizeof(ctypes.c_void_p) == 8 else 112)
    kernel = _Kernel()
    job = windows_job.KillOnClose(77, kernel)
    names = [name for name, _ in kernel.calls]
    assert names == ["CreateJobObjectW", "SetInformationJobObject", "OpenProcess", "AssignProcessToJobObject", "CloseHandle"]
    _, (handle, kind, limits, size) = kernel.calls[1]
    assert (handle, kind, size) == (11, 9, ctypes.sizeof(windows_job._ExtendedLimits))
    assert limits._obj.basic.flags == 0x2000
    assert kernel.calls[2][1] == (0x0101, 0, 77) and kernel.calls[3][1] == (11, 22) and kernel.calls[4][1] == (22,)
    job.close()
    job.close()
    assert kernel.calls[5:] == [("CloseHandle", (11,))]


@pytest.mark.parametrize("refused", ["CreateJobObjectW", "SetInformationJobObject", "OpenProcess", "AssignProcessToJobObject"])
def test_where_windows_refuses_nothing_stays_open(refused):
    kernel = _Kernel(refused)
    with pytest.raises(OSError):
        windows_job.KillOnClose(77, kernel)
    opened = {11: refused != "CreateJobObjectW", 22: refused == "AssignProcessToJobObject"}
    closed = [arguments[0] for name, arguments in kernel.calls if name == "CloseHandle"]
    assert sorted(closed) == sorted(handle for handle, was in opened.items() if was)
    assert os.name == "nt" or windows_job.tie_to_this_process(os.getpid()) is None


def test_the_timer_and_the_exit_wait_for_nothing():
    began = time.perf_counter()
    connection_module.connection.stop()
    assert time.perf_counter() - began < 0.5


def test_passes_are_rendered_once_those_before_them_have_left(shot_scene, character, tmp_path, monkeypatch):
    """A backend that takes nothing for a while does not fill Blender's memory."""
    monkeypatch.setattr(shot_module, "MOST_WAITING_BYTES", 1)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    client = BackendClient(endpoint)
    try:
        task = ShotTask(bpy.context, character, samples.request(3), client, tmp_path, folder_per_job=False)
        for index in range(3):
            task.receive(Event(messages.PassesWanted(ticket=task.ticket, index=index), {}))
        while not task._submitted or task.busy:
            task.step()
        assert task._sent_count == 1 and client.waiting_bytes > 64 * 64
        task.step()
        assert task._sent_count == 1 and not task.done, "what comes in between renders nothing"
        backend = FalseBackend(endpoint)
        try:
            sent = task._sent_count
            while sent < 3:
                # the backend may take a frame while the next is being chosen: one step then sends several
                assert _wait(lambda: client.waiting_bytes == 0) and task.busy
                task.step()
                assert sent < task._sent_count <= 3
                sent = task._sent_count
            assert _wait(lambda: client.waiting_bytes == 0) and not task.busy
        finally:
            backend.close()
    finally:
        client.close()


@pytest.mark.parametrize("size", [messages.PART_BYTES - 1, messages.PART_BYTES, 2 * messages.PART_BYTES + 5])
def test_an_array_as_large_as_a_part_and_larger_arrives(size):
    """A part may be as large as any, and encryption makes it larger still."""
    backend = FalseBackend()
    client = BackendClient(backend.endpoint)
    try:
        backend.wait_for_client()
        pixels = np.zeros(size, np.uint8)
        pixels[-1] = 7
        result = messages.FrameResult(ticket="a", index=0, frame=1)
        backend.send([bytes(part) for part in messages.encode(result, {"png": pixels})])
        event = client.events.get(timeout=30)
        assert isinstance(event, Event) and np.array_equal(event.arrays["png"], pixels)
    finally:
        client.close()
        backend.close()


def _wait(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
