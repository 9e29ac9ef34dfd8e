"""One at a time: whoever changes an environment's folder holds a lock on it, which the system drops when the process ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ...shared.backend_environment import CURRENT, DOWNLOADS, ENVIRONMENTS, IN_USE, LOCK, STAMP, BackendEnvironment
from .failures import InstallationError, Remedy, explain_os_error

#: what others put into every folder or disk, and nobody misses
_CLUTTER = frozenset(("desktop.ini", "thumbs.db", "lost+found", "system volume information"))
#: what an error of locking is when somebody else holds the lock, and not that nobody can lock there
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def _lock(stream: BinaryIO, *, shared: bool = False) -> None:
    """Lock a file; raises ``OSError``."""
    if sys.platform == "win32":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _is_of(stream: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one that has the name now: another process may have deleted it in between."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except OSError:
        return False


@contextmanager
def hold(root: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where there is none. Raises ``InstallationError`` while somebody else holds it, and
    ``OSError``."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / LOCK
    while True:
        with path.open("a+b") as stream:
            try:
                _lock(stream)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise InstallationError(
                        "busy",
                        "Another Blender is setting up the backend in the same folder; wait until it has finished, then try again.",
                    ) from error
                raise InstallationError(
                    "unlockable",
                    f"{root} is on a disk where files cannot be locked ({error.strerror}); choose a folder on a disk of this "
                    "computer.",
                    Remedy.SPACE,
                ) from error
            if not _is_of(stream, path):
                continue
            yield
            return


def drop_lock(root: Path) -> None:
    """Delete the lock of a folder that is held, because nothing is left there. Windows does not delete what is open; the file stays
    there, and does no harm."""
    with suppress(OSError):
        (root / LOCK).unlink()


def find_strangers(root: Path) -> list[str]:
    """What lies in a folder that *Set Up* has never used, as far as it is not to be seen as empty. Raises ``OSError``."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    if LOCK in names:
        return []
    own = {CURRENT, ENVIRONMENTS, DOWNLOADS}
    return [name for name in names if name not in own and name[0] not in ".$" and name.lower() not in _CLUTTER]


def claim(folder: Path) -> BinaryIO | None:
    """Say that a backend runs in an environment, until what is returned is closed or the process ends. None where it cannot be
    said."""
    try:
        stream = (folder / IN_USE).open("a+b")
    except OSError:
        return None
    if sys.platform != "win32":
        # Windows lets nobody change the program that runs anyway
        with suppress(OSError):
            _lock(stream, shared=True)
    return stream


def claim_own() -> BinaryIO | None:
    """``claim`` for the environment that this very Python is of; None where *Set Up* has not made it."""
    folder = Path(sys.prefix).parent
    return claim(folder) if (folder / STAMP).is_file() else None


def is_used(folder: Path, python: Path | None = None, platform: str = sys.platform) -> bool:
    """Whether a backend runs in an environment; ``python`` is its program, as far as it is known."""
    if platform == "win32":
        return python is not None and is_running(python)
    try:
        stream = (folder / IN_USE).open("r+b")
    except OSError:
        return False
    with stream:
        try:
            _lock(stream)
        except OSError as error:
            return error.errno in _TAKEN
    return False


def is_running(program: Path) -> bool:
    """Whether a program runs: then it cannot be opened for writing."""
    try:
        with program.open("r+b"):
            return False
    except OSError as error:
        return not isinstance(error, FileNotFoundError)


@contextmanager
def hold_for(root: Path, what: str) -> Iterator[None]:
    """Hold a folder while something is changed, and put errors of the file system into words."""
    try:
        with hold(root):
            yield
    except OSError as error:
        raise explain_os_error(error, what, root) from error


def explain_nothing(what: str) -> InstallationError:
    """The sentence where there is nothing to repair or to remove."""
    return InstallationError("nothing", f"There is nothing to {what}: set up the backend first.")


def refuse_used(found: BackendEnvironment, what: str) -> None:
    """Raise ``InstallationError`` where a backend runs in an environment that is to be repaired or removed."""
    if is_used(found.folder, found.python):
        raise InstallationError("used", f"A backend is running there; stop it in every Blender, then {what} it.")
