"""Backends whose owner dies end; those that were started by hand stay. Real processes, killed for real."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentman.shared import running
from latentman.shared.endpoint import free_port
from tests.checkout import ROOT, clean_environment

# real processes that start, are killed and are waited for: minutes
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
LAUNCHER = str(ROOT / "backend" / "launch.py")
#: a stand-in for Blender: starts a backend as the add-on does, says its number, and lives until it is killed
OWNER = """
import runpy, signal, subprocess, sys, threading, time
# what a script starts in the background ignores interrupts, unlike what a user starts
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv[1])["load_package"]()
from latentman.blender_addon.backend_process import BackendProcess
process = BackendProcess(sys.executable, sys.argv[2])
print(process.pid, flush=True)
how = sys.argv[3]
if how == "while it starts":
    time.sleep(600)
while process.running and not process.poll_endpoint():
    time.sleep(0.05)
print("listening", flush=True)
if how == "quits":
    sys.exit(0)
if how == "crashes":
    import ctypes
    ctypes.string_at(0)
if how == "with a fork":
    import os
    # a copy of Blender's process that keeps the pipe open
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("forked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def environment(tmp_path):
    """The user's folders are the test's own."""
    pytest.importorskip("torch")
    # bpy, where a test before has imported it, puts folders with a bpy of their own in front
    found = os.pathsep.join(path for path in sys.path if path and "bpy" not in Path(path).parts)
    return clean_environment(tmp_path) | {"PYTHONPATH": found}


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(pid, seconds):
    end = time.monotonic() + seconds
    while _lives(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not _lives(pid)


@pytest.mark.parametrize(
    "how", ["is killed", "while it starts", "quits", "crashes", "is interrupted", "is stopped first", "with a fork"]
)
def test_a_backend_ends_with_its_owner(environment, how):
    if how == "with a fork" and sys.platform != "linux":
        pytest.skip("only Linux tells of the parent's death")
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, LAUNCHER, endpoint, how], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    backend = int(owner.stdout.readline())
    try:
        if how != "while it starts":
            assert owner.stdout.readline() == b"listening\n"
        if how == "with a fork":
            owner.stdout.readline()
        if how == "is stopped first":
            owner.send_signal(signal.SIGSTOP)
        if how not in ("quits", "crashes"):
            assert _lives(backend)
            owner.send_signal(signal.SIGINT if how == "is interrupted" else signal.SIGKILL)
        owner.wait(30)
        assert _wait_for_end(backend, 30), f"the backend has outlived an owner that {how}"
    finally:
        for pid in (backend, owner.pid):
            if _lives(pid):
                os.kill(pid, signal.SIGKILL)
        owner.wait(10)
        if how == "with a fork":
            os.killpg(owner.pid, signal.SIGKILL)
        owner.stdout.close()


def test_a_backend_that_is_busy_ends_with_its_owner(environment, tmp_path):
    """One that does not react within the time that it is given ends at once."""
    program = (
        "import runpy, sys, time\n"
        f"runpy.run_path({LAUNCHER!r})['load_package']()\n"
        "from latentman.backend import owner\n"
        "owner.GRACE_SECONDS = 1.0\n"
        "watch = owner.OwnerWatch()\n"
        "watch.start()\n"
        "watch.end_with(lambda: print('told', flush=True))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()
    assert process.stdout.readline() == b"told\n"
    assert process.wait(20) == 3
    process.stdout.close()


@pytest.mark.parametrize("how", ["from /dev/null", "from a closed pipe", "without any input", "as nohup"])
def test_a_backend_that_was_started_by_hand_stays(environment, tmp_path, how):
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, LAUNCHER, "serve", "--endpoint", endpoint]
    inputs = {"from a closed pipe": subprocess.PIPE, "without any input": None}.get(how, subprocess.DEVNULL)
    if how == "as nohup":
        command = ["nohup", *command]
    # a shell that starts it and ends
    program = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=open('out', 'w')).pid, flush=True)"
    shell = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        env=environment,
        stdin=inputs,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
        close_fds=True,
    )
    backend = int(shell.stdout.readline())
    try:
        if shell.stdin:
            shell.stdin.close()
        shell.wait(30)
        end = time.monotonic() + 60
        while not (tmp_path / "out").read_text() and time.monotonic() < end:
            time.sleep(0.1)
        assert json.loads((tmp_path / "out").read_text())["endpoint"] == endpoint
        time.sleep(1.0)
        assert _lives(backend)
        # it can be found, and by nobody else
        (record,) = (tmp_path / "data" / running.FOLDER).iterdir()
        assert stat.S_IMODE(record.stat().st_mode) == 0o600 and json.loads(record.read_text())["pid"] == backend
    finally:
        os.kill(backend, signal.SIGTERM)
    assert _wait_for_end(backend, 60) and not record.exists()
    shell.stdout.close()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of the test's own."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_running_backend_is_found_and_a_stale_record_is_not(data):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        assert running.find_running(endpoint) is None
        path = running.announce(endpoint, owned=False)
        found = running.find_running(endpoint)
        assert found and (found.endpoint, found.pid) == (endpoint, os.getpid())
        assert running.find_running(running.DEFAULT_ENDPOINT) == found, "at the usual address one that was started by hand is found"
        assert running.find_running("tcp://127.0.0.1:9") is None and running.find_running(endpoint, ending=os.getpid()) is None
        running.announce(endpoint, owned=True)
        assert running.find_running(endpoint) and not running.find_running(running.DEFAULT_ENDPOINT)
        whole = path.read_bytes()
        for spoiled in (b"", b"\xff", whole[:20], b"[" * 100_000, whole.replace(b'"version":"', b'"version":"9'), b"{}"):
            path.write_bytes(spoiled)
            assert running.find_running(endpoint) is None
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        path.write_bytes(whole.replace(f"{os.getpid()}".encode(), f"{dead.pid}".encode()))
        assert running.find_running(endpoint) is None
        running.withdraw(path)
        assert path.exists(), "another process's record is its own"
        path.write_bytes(whole)
    assert running.find_running(endpoint) is None, "nobody listens any more"
    running.withdraw(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_stops_no_backend(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "file" / "data"))
    assert running.announce("tcp://127.0.0.1:5", owned=False) is None
    running.withdraw(None)


def test_two_backends_at_one_address(environment, tmp_path):
    """The second says so and leaves the first one's record as it is; what both say of the keys is a sentence."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, LAUNCHER, "serve", "--endpoint", endpoint]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    try:
        first.stdout.readline()
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 2 and "connect to the backend that is running there" in second.stderr
        (record,) = (tmp_path / "data" / running.FOLDER).iterdir()
        assert json.loads(record.read_text())["pid"] == first.pid
        (tmp_path / "config" / "keys" / "curve.txt").chmod(0o644)
        third = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert third.returncode == 2 and "chmod 600" in third.stderr and "Traceback" not in third.stderr
        # its logs are its user's alone
        assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "logs").iterdir()} == {0o600}
        assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        first.stdout.close()
