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


#: what Windows says where another program has a file open, and where a path is too long
_SHARING, _TOO_LONG = (32, 33), (206,)


def explain_full_disk(what: str) -> InstallationError:
    """The disk has no space left; ``what`` is what was being done, as in "unpacking torch"."""
    return InstallationError(
        "space",
        f"The disk became full while {what}; free some space, or choose another folder, and try again: what has come is kept.",
        Remedy.SPACE,
    )


def explain_os_error(error: OSError, what: str, root: Path) -> InstallationError:
    """What an error of the file system means for *Set Up*; ``what`` is what was being done, as in "unpacking torch"."""
    path = error.filename2 or error.filename or root
    windows = getattr(error, "winerror", None)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return explain_full_disk(what)
    if windows in _SHARING or error.errno in (errno.EBUSY, errno.ETXTBSY):
        return InstallationError(
            "permission",
            f"{path} is being used by another program while {what}; close other Blenders, stop their backends, and try again.",
        )
    if windows in _TOO_LONG or error.errno == errno.ENAMETOOLONG:
        return InstallationError(
            "path", f"The path of {root} is too long for what is put there; choose a folder with a shorter one.", Remedy.SPACE
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InstallationError(
            "permission",
            f"{path} cannot be written ({error.strerror}) while {what}; choose a folder in which you may write.",
            Remedy.SPACE,
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return InstallationError("path", f"{path} is not a folder; choose another one for the backend.", Remedy.SPACE)
    if error.errno == errno.EIO:
        return InstallationError(
            "disk", f"The disk with {path} cannot be read or written as it should; choose a folder on another disk.", Remedy.SPACE
        )
    where = f" ({error.filename})" if error.filename else ""
    return InstallationError(
        "system",
        f"{what[:1].upper()}{what[1:]} failed: {error.strerror or error}{where}; try again, or choose another folder.",
        Remedy.SPACE,
    )
