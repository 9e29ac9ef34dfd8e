"""The files that queues are kept in, one for each .blend file, in the user's data folder. Nothing here uses bpy."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec

from ...shared import logs
from ...shared.files import make_private_folder, read_file, write_atomically
from ...shared.folders import data_folder
from .rows import Queue

logger = logs.get_logger(__name__)

FOLDER = "queues"
#: what is kept in a file of another version is not understood
VERSION = 1
#: bytes of a file; a larger one is none of ours
MAX_BYTES = 64 << 20
#: bytes of these that are left for what becomes of the shots
_ROOM = 8 << 20


class _File(msgspec.Struct):
    version: int
    blend: str
    queue: Queue


class _Version(msgspec.Struct):
    version: int


class StoreError(Exception):
    """A queue's file cannot be read; the text says why, and what to do."""


class UnreachableError(StoreError):
    """A queue's file cannot be read at the moment, which says nothing of what is in it."""


def find_path(blend: str) -> Path:
    """Where the queue of a .blend file is kept, whether or not there is one."""
    whole = os.path.normcase(os.path.realpath(blend))
    name = "".join(letter if letter.isalnum() else "_" for letter in Path(blend).stem)[:40]
    return (
        data_folder()
        / FOLDER
        / f"{name}_{hashlib.blake2b(whole.encode('utf-8', 'surrogateescape'), digest_size=8).hexdigest()}.json"
    )


def read_queue(path: Path) -> Queue:
    """The queue in a file, an empty one where there is none. Raises ``StoreError``, and where the disk does not
    answer ``UnreachableError``; the file stays as it is then."""
    try:
        data = read_file(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return Queue()
    except OSError as error:
        raise UnreachableError(f"The queue in {path} cannot be read ({error.strerror or error}); allow it there.") from error
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(data, type=_File).queue
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as error:
        logger.warning("%s: %s", path, error)
        raise StoreError(f"The queue in {path} is damaged; remove that file, and queue the shots again.") from error
    raise StoreError(
        f"The queue in {path} is of another version of the extension; finish it with that, or remove the file and queue the shots "
        "again."
    )


def is_text(value: str) -> bool:
    """Whether a text can be kept, which a path that is not valid UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_size(queue: Queue) -> None:
    """Raise ``StoreError`` for a queue that would be too large for its file when its shots have been made."""
    if len(_encode("", queue)) > MAX_BYTES - _ROOM:
        raise StoreError(
            f"The queue would have more than {(MAX_BYTES - _ROOM) >> 20} MB; clear the finished shots, or queue fewer frames."
        )


def write_queue(path: Path, blend: str, queue: Queue) -> None:
    """Keep a queue; an empty one has no file. Raises ``OSError``, also for one that could not be read again, and ``ValueError`` for
    what is no text."""
    if queue == Queue():
        path.unlink(missing_ok=True)
        return
    data = _encode(blend, queue)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it would have {len(data) / 1e6:.0f} MB; clear the finished shots", str(path))
    make_private_folder(path.parent)
    write_atomically(path, data, private=True)


def _encode(blend: str, queue: Queue) -> bytes:
    return msgspec.json.encode(_File(VERSION, ascii(blend)[1:-1], queue))
