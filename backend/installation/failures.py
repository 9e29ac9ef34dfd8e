"""What can go wrong: one sentence, and which of the panel's buttons helps."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Remedy(StrEnum):
    """What the user can do about it; the panel has a button for each."""

    RETRY = "retry"
    DEVICE = "device"
    NETWORK = "network"
    SPACE = "space"
    FILES = "files"
    REPORT = "report"


@dataclass
class InstallationError(Exception):
    """Something cannot be done; ``code`` is for programs, ``sentence`` for people."""

    code: str
    sentence: str
    remedy: Remedy = Remedy.RETRY

    def __str__(self) -> str:
        return self.sentence


def write_size(count: int) -> str:
    """Bytes as people read them: ``2.84 GB``."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def explain_os_error(error: OSError, what: str, root: Path) -> InstallationError:
    """What an error of the file system means for *Set Up*; ``what`` is what was being done, as in "unpacking torch"."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InstallationError(
            "space",
            f"The disk became full while {what}; free some space, or choose another folder. What has come is kept.",
            Remedy.SPACE,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InstallationError(
            "permission",
            f"{error.filename or root} cannot be written ({error.strerror}) while {what}; choose a folder that is yours.",
            Remedy.SPACE,
        )
    where = f" ({error.filename})" if error.filename else ""
    return InstallationError("system", f"{what[:1].upper()}{what[1:]} failed: {error.strerror or error}{where}.", Remedy.REPORT)
