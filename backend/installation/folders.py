"""Folders with very many files: measured, renamed and deleted, also where something stands in the way."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath

from ...shared.backend_environment import GONE

#: how often, and after how many seconds, it is tried again to rename what a virus scanner may be looking at
_ATTEMPTS, _PAUSE = 40, 0.25


def measure_folder(folder: Path) -> int:
    """The bytes of the files in a folder."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(inner, name)).st_size
    return total


class Watch:
    """Tells, now and then, how much of an environment is there."""

    def __init__(self, folder: Path, report: Callable[[int], None], seconds: float = 1.0) -> None:
        self._folder, self._report, self._seconds = folder, report, seconds
        self._start, self._told = measure_folder(folder), 0.0

    def __call__(self) -> None:
        if time.monotonic() > self._told + self._seconds:
            self._report(max(0, measure_folder(self._folder) - self._start))
            self._told = time.monotonic()


def extend(path: PurePath, platform: str = sys.platform) -> str:
    """A path as Windows takes it when it is longer than 260 characters."""
    text = str(path)
    if platform != "win32" or text.startswith("\\\\?\\") or not path.is_absolute():
        return text
    text = text.replace("/", "\\")
    return f"\\\\?\\UNC\\{text[2:]}" if text.startswith("\\\\") else f"\\\\?\\{text}"


def delete_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, also what must not be written. Raises ``OSError`` where something stays."""

    tried: set[str] = set()

    def make_writable(function: Callable[[str], object], path: str, error: object) -> None:
        failed = error[1] if isinstance(error, tuple) else error
        if isinstance(failed, FileNotFoundError):
            return
        if path in tried and isinstance(failed, OSError):
            raise failed
        tried.add(path)
        for name in (os.path.dirname(path), path):
            if not os.path.islink(name):
                with suppress(OSError):
                    os.chmod(name, os.stat(name).st_mode | stat.S_IRWXU)
        if function in (os.unlink, os.rmdir, os.remove):
            function(path)
        else:
            # its names could not be read
            remove(path)

    def remove(path: str) -> None:
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=make_writable)
        else:
            shutil.rmtree(path, onerror=make_writable)

    if folder.is_symlink():
        folder.unlink()
    elif os.path.lexists(folder):
        remove(extend(folder))


def rename(source: Path, target: Path) -> None:
    """Rename a folder; on Windows as soon as nobody looks into it any more. Raises ``OSError``."""
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE)


def remove_folder(folder: Path) -> None:
    """Delete a folder; raises ``OSError`` where something of it stays."""
    if folder.suffix == GONE:
        delete_tree(folder)
    elif os.path.lexists(folder):
        # first out of the way, so that nobody takes a half of it for a whole
        gone = folder.with_name(folder.name + GONE)
        delete_tree(gone)
        rename(folder, gone)
        delete_tree(gone)
