"""Zips whose bytes depend on their contents alone, not on when and where they were made."""

from __future__ import annotations

import os
import stat
import subprocess
import time
import zipfile
from pathlib import Path

#: the first moment that a zip can name
EARLIEST = 315_532_800
_FILE, _FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
#: what is compressed already
_STORED = (".whl", ".png", ".npz", ".zip", ".gz")


def find_date(root: Path) -> int:
    """Seconds since 1970 of the commit that is checked out in ``root``, or of ``SOURCE_DATE_EPOCH``; of 1980 where there is
    neither."""
    named = os.environ.get("SOURCE_DATE_EPOCH", "")
    if named.isdigit():
        return max(int(named), EARLIEST)
    try:
        found = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=True)
        return max(int(found.stdout), EARLIEST)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return EARLIEST


def rewrite_archive(path: Path, date: int) -> None:
    """Write a zip again with its files in the order of their names, all of the ``date`` (seconds since 1970) and with the same
    permissions."""
    when = time.gmtime(date)[:6]
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(part, "w") as new:
        for name in sorted(old.namelist()):
            entry = zipfile.ZipInfo(name, when)
            entry.create_system = 3  # permissions are those of Unix, wherever the zip is made
            entry.external_attr = (_FOLDER if name.endswith("/") else _FILE) << 16
            stored = name.endswith(_STORED)
            new.writestr(
                entry, old.read(name), zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED, compresslevel=None if stored else 9
            )
    part.replace(path)
