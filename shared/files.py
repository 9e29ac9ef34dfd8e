"""Writing files so that a reader sees all of a file or none of it, whatever happens in between."""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: no file that is read at once is larger
MAX_BYTES = 4 << 30
#: the end of the names of files that are being written
UNFINISHED = ".part"
#: on Windows a file that somebody reads cannot be replaced: how often, and after how many seconds, that is tried again
_ATTEMPTS, _PAUSE = 20, 0.05


def read_file(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file. Raises ``OSError``, also for pipes and devices, which would block or never end, and for files
    of more than ``most`` bytes."""
    return _read(path, most)


def read_start(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a regular file, or all of a shorter one. Raises ``OSError`` as ``read_file`` does."""
    return _read(path, None, count)


def map_file(path: Path) -> memoryview:
    """The bytes of a regular file of any size, read from the disk as they are looked at. Raises ``OSError`` as ``read_file``
    does."""
    with open_regular(path) as stream:
        # a file without bytes cannot be mapped
        empty = os.fstat(stream.fileno()).st_size == 0
        return memoryview(b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open to be read. Raises ``OSError``, also for pipes and devices."""
    # without blocking: opening a pipe would wait for its other end
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def _read(path: Path, most: int | None, count: int = -1) -> bytes:
    with open_regular(path) as stream:
        found = os.fstat(stream.fileno())
        if most is not None and found.st_size > most:
            raise OSError(
                errno.EFBIG, f"it has {found.st_size / 1e6:.0f} MB, more than the {most / 1e6:.0f} MB expected", str(path)
            )
        return stream.read(found.st_size if count < 0 else count)


def make_private_folder(folder: Path) -> None:
    """Make a folder, with those above it, that nobody but its owner can look into; one that exists keeps its permissions."""
    try:
        folder.mkdir(mode=0o700)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        # the mode that ``mkdir`` is given counts for the last folder only
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(source: Path, target: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE)


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file so that all of it is there or none, as ``open_atomically`` does."""
    with open_atomically(path, private=private) as stream:
        stream.write(data)


def replace_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """As ``write_atomically``, for folders of one's own: a link is put aside, also one to a device, which nothing is written over
    elsewhere."""
    if path.is_symlink():
        path.unlink()
    write_atomically(path, data, private=private)


@contextmanager
def open_atomically(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A stream to a file beside ``path`` under a name of its own, which at the end is written to the disk and renamed.

    ``private`` files can be read by their owner only. Nothing is left behind when it raises ``OSError``, or what was raised while
    the stream was open.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        # a device or a pipe would be gone, and a plain file in its place
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(unfinished, flags, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether a file is one that somebody is writing, or that was left behind when its writer was killed."""
    return path.name.endswith(UNFINISHED)
