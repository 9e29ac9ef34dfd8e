"""One at a time: whoever changes an environment's folder holds a lock on it, which the system drops when the process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ...shared.backend_environment import IN_USE, LOCK
from .failures import InstallationError


def _try_lock(stream: BinaryIO, *, shared: bool = False) -> bool:
    """Whether the file could be locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def hold(root: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises ``InstallationError`` while somebody else does."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a+b") as stream:
        if not _try_lock(stream):
            raise InstallationError(
                "busy", "Another Blender is setting up the backend in the same folder; wait until it has finished, then try again."
            )
        yield


def claim(folder: Path) -> BinaryIO | None:
    """Say that a backend runs in an environment, until what is returned is closed or the process ends. None where it cannot be
    said."""
    try:
        stream = (folder / IN_USE).open("a+b")
    except OSError:
        return None
    if sys.platform != "win32":
        # Windows lets nobody delete the Python that runs anyway
        _try_lock(stream, shared=True)
    return stream


def is_used(folder: Path) -> bool:
    """Whether a backend runs in an environment."""
    if sys.platform == "win32":
        # what runs cannot be renamed there
        other = folder.with_name(folder.name + ".old")
        try:
            os.rename(folder, other)
            os.rename(other, folder)
        except OSError:
            return True
        return False
    with suppress(OSError), (folder / IN_USE).open("a+b") as stream:
        return not _try_lock(stream)
    return False
