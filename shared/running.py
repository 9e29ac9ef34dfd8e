"""Which backends of this user are running on this machine: a small file for each, which the next *Start* finds.

``<data folder>/backends/<port>.json``; what its process left behind when it was killed is ignored, and written over by the next.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from .endpoint import DEFAULT_ENDPOINT, DEFAULT_HOST, is_loopback
from .files import make_private_folder, read_file, write_atomically
from .folders import data_folder
from .version import VERSION

FOLDER = "backends"
_MOST_BYTES = 4096
_PROBE_SECONDS = 0.3
#: how long a backend may take from taking its address to saying so, and how often that is looked for
_ANNOUNCE_SECONDS, _LOOK_SECONDS = 2.0, 0.05
_ANY_ADDRESS = ("0.0.0.0", "*", "[::]")


class RunningBackend(msgspec.Struct, frozen=True):
    """A backend that said where it listens. ``owned`` ones end with the Blender that started them."""

    endpoint: str
    pid: int
    version: str
    owned: bool = False


def _split(endpoint: str) -> tuple[str, str]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return (DEFAULT_HOST if host in _ANY_ADDRESS or host == "localhost" else host), port


def _path(endpoint: str) -> Path:
    return data_folder() / FOLDER / f"{_split(endpoint)[1]}.json"


def announce(endpoint: str, *, owned: bool) -> Path | None:
    """Say that this process listens at ``endpoint``; returns the file, None where it cannot be written."""
    host, port = _split(endpoint)
    path = _path(endpoint)
    record = RunningBackend(f"tcp://{host}:{port}", os.getpid(), VERSION, owned)
    try:
        make_private_folder(path.parent)
        write_atomically(path, msgspec.json.encode(record), private=True)
    except OSError:
        return None
    return path


def withdraw(path: Path | None) -> None:
    """Take back what ``announce`` said, unless another process has said something since."""
    record = _read(path) if path else None
    if path and record and record.pid == os.getpid():
        with suppress(OSError):
            path.unlink()


def _read(path: Path) -> RunningBackend | None:
    try:
        return msgspec.json.decode(read_file(path, _MOST_BYTES), type=RunningBackend)
    except (OSError, ValueError, RecursionError):
        return None


def _is_alive(record: RunningBackend) -> bool:
    if not 0 < record.pid < 2**31:
        return False
    if os.name != "nt":  # on Windows a signal would end the process
        try:
            os.kill(record.pid, 0)
        except OSError:
            return False
    host, port = _split(record.endpoint)
    if not is_loopback(record.endpoint) or not port.isdigit() or not 0 < int(port) < 65536:
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def find_running(endpoint: str, *, ending: int | None = None) -> RunningBackend | None:
    """The backend of this user and version that listens at ``endpoint``. At the usual address it may also be one that was
    started by hand at another. ``ending`` is the process id of one that has been told to end."""
    own = _path(endpoint)
    paths = [own]
    if endpoint == DEFAULT_ENDPOINT:
        paths += sorted(path for path in own.parent.glob("*.json") if path != own)
    for path in paths:
        record = _read(path)
        if record is None or record.version != VERSION or record.pid == ending or (path != own and record.owned):
            continue
        if path == own and _split(record.endpoint) != _split(endpoint):
            continue
        if _is_alive(record):
            return record
    return None


def wait_for_other(endpoint: str, seconds: float = _ANNOUNCE_SECONDS) -> RunningBackend | None:
    """As ``find_running``, for an address that is taken: a backend that was a moment quicker has perhaps not said so yet."""
    end = time.monotonic() + seconds
    while (found := find_running(endpoint)) is None and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    return found
