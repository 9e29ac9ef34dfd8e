"""Backends that end badly: what is left to read, and what is said."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import pytest

from latentman.blender_addon.backend_process import BackendProcess
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import Connection
from latentman.shared import logs
from latentman.shared.endpoint import free_port
from latentman.shared.folders import LOG_ENVIRONMENT

from .conftest import BACKEND_PYTHON

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log folder of the test's own."""
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "logs"))
    return tmp_path / "logs"


def _wait_for_end(process):
    end = time.monotonic() + 120
    while process.running and time.monotonic() < end:
        process.poll_endpoint()
        time.sleep(0.02)
    assert not process.running
    process.poll_endpoint()


def _wrong_python(tmp_path, body):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n" + body + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said", "traced"),
    [
        (signal.SIGKILL, "killed (signal 9), probably because memory ran out", False),
        (signal.SIGSEGV, "crashed (signal 11, SIGSEGV)", True),
    ],
)
def test_a_backend_that_dies_leaves_logs_and_a_sentence(folder, tmp_path, number, said, traced):
    connection = Connection()
    connection.start(BACKEND_PYTHON, f"127.0.0.1:{free_port()}", tmp_path / "jobs")
    process = connection.process
    try:
        wait_until(connection, lambda: bool(connection.device or connection.error), 120)
        assert connection.connected, connection.error
        log, pid = process.log, process.pid
        os.kill(pid, number)
        wait_until(connection, lambda: bool(connection.error), 30)
    finally:
        connection.stop()
    assert connection.status == "not running" and process.wait(10)
    assert (
        connection.error.startswith("The backend stopped: it ") and said in connection.error and connection.error.endswith(str(log))
    )
    (own,) = folder.glob(f"backend-*-{pid}.log")
    left = log.read_text()
    assert log.parent == folder and f"ended with code -{number.value}; its own log: {own.name}" in left
    assert ("Fatal Python error: Segmentation fault" in left and "server.py" in left) == traced
    assert "serve; Python" in own.read_text() and "Listening at tcp://127.0.0.1" in own.read_text()


def test_a_backend_that_is_stopped_leaves_no_empty_file(folder, tmp_path):
    process = BackendProcess(_wrong_python(tmp_path, "exec sleep 60"), "tcp://127.0.0.1:1")
    assert process.log.exists()
    process.stop()
    assert process.wait(10)
    assert not process.log.exists()


def test_a_python_without_the_packages_is_named(folder, tmp_path):
    process = BackendProcess(_wrong_python(tmp_path, f'exec {os.path.realpath(sys.executable)} -S "$@"'), "tcp://127.0.0.1:1")
    _wait_for_end(process)
    sentence = process.explain_failure()
    process.stop()
    assert process.wait(10)
    assert sentence.startswith("The backend did not start: its Python has no ") and "pip install 'latentman[backend]'" in sentence
    assert sentence.endswith(str(process.log)) and process.log.exists() and process.log.parent == folder


def test_a_used_address_is_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        process = BackendProcess(BACKEND_PYTHON, address)
        _wait_for_end(process)
    sentence = process.explain_failure()
    process.stop()
    assert process.wait(10)
    assert f"another program uses the address {address}" in sentence and sentence.endswith(str(process.log))


def test_what_it_writes_is_kept_and_how_it_ended_is_logged(folder, tmp_path):
    own = logs.start(logs.BLENDER)
    try:
        events = ('{"event": "listening", "endpoint": "tcp://127.0.0.1:7"}', '{"event": "ready", "device": "cpu"}')
        body = f"echo hello; echo '{events[0]}'; echo '{events[1]}'; echo 'ValueError: x' >&2; exit 3"
        process = BackendProcess(_wrong_python(tmp_path, body), "tcp://127.0.0.1:1")
        _wait_for_end(process)
        sentence = process.explain_failure()
        process.stop()
        assert process.wait(10)
    finally:
        logs.stop()
    assert sentence.startswith("The backend stopped: ValueError: x. ")
    assert process.log.read_text().startswith("ValueError: x\n") and "hello" not in process.log.read_text()
    assert f"Backend {process.pid} ended by itself with code 3" in own.read_text()


def test_one_that_listens_but_cannot_load_its_libraries_did_not_start(folder, tmp_path):
    connection = Connection()
    event = '{"event": "listening", "endpoint": "tcp://127.0.0.1:7"}'
    body = f"echo '{event}'; echo 'ImportError: libcuda: undefined symbol' >&2; exit 1"
    connection.start(_wrong_python(tmp_path, body), "127.0.0.1:7")
    wait_until(connection, lambda: bool(connection.error), 60)
    said = "The backend did not start: a library of its Python cannot be loaded (libcuda: undefined symbol); install"
    assert connection.error.startswith(said) and not connection.running


def test_a_log_folder_that_cannot_be_written_stops_no_backend(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "file" / "logs"))
    process = BackendProcess(_wrong_python(tmp_path, "echo broken >&2; exit 1"), "tcp://127.0.0.1:1")
    _wait_for_end(process)
    sentence = process.explain_failure()
    process.stop()
    assert process.wait(10)
    assert sentence.startswith("The backend did not start: broken. ") and sentence.endswith(str(process.log))
    assert process.log.read_text().startswith("broken\n") and "cannot be written" in capfd.readouterr().err
    process.log.unlink()


def test_a_python_that_does_not_exist_leaves_no_file(folder):
    with pytest.raises(OSError):
        BackendProcess("/nowhere/python", "tcp://127.0.0.1:1")
    assert not list(folder.iterdir())
