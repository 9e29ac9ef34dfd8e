"""Which folders of a job store somebody works in, across processes: those are not to be removed.

Whoever works in the folder NAME holds a lock on a file of its own, ``<root>/in_use/NAME.<token>.lock``. The system lets go of it
when its process dies, whatever the clock says.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from ...shared.files import make_private_folder

# filelock is imported where it is needed, so that the commands that lock nothing work without it

#: below the store
IN_USE = "in_use"


class Claim:
    """Says that a folder of the store is in use until ``release``."""

    def __init__(self, root: Path, name: str) -> None:
        """Raises ``OSError`` when the store cannot be written."""
        make_private_folder(root / IN_USE)
        self._path = root / IN_USE / f"{name}.{secrets.token_hex(4)}.lock"
        from filelock import FileLock

        self._lock = FileLock(self._path, mode=0o600, thread_local=False)
        self._lock.acquire(timeout=0)

    def release(self) -> None:
        """The folder is no longer in use; calling it twice does no harm."""
        self._lock.release()
        with suppress(OSError):
            self._path.unlink()


def is_in_use(root: Path, name: str) -> bool:
    """Whether somebody works in a folder of the store; what dead processes left behind is removed."""
    from filelock import FileLock, Timeout

    in_use = False
    for path in (root / IN_USE).glob(f"{name}.*.lock"):
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            in_use = True
            continue
        except OSError:  # on a file system without locks nobody can say
            in_use = True
            continue
        lock.release()
        with suppress(OSError):
            path.unlink()
    return in_use
