"""Errors of the file system in words: what is wrong, and what helps against it."""

from __future__ import annotations

import errno
import os

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_BUSY = (errno.EBUSY, errno.ETXTBSY)


def is_full(error: OSError) -> bool:
    """Whether a disk, or what a user may have of it, is used up."""
    return error.errno in _FULL


def explain_disk_error(error: OSError, path: str | os.PathLike[str], what: str, elsewhere: str = "choose another folder") -> str:
    """The sentence for a file or folder that cannot be ``what``, as in "written"; ``elsewhere`` is what there is to do where it
    cannot be there at all, as in "name another one in LATENTMAN_MODELS"."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fspath(path)} cannot be {what} ({reason.rstrip('.')}); {_advise(error, elsewhere)}."


def _advise(error: OSError, elsewhere: str) -> str:
    if is_full(error):
        return "make space there"
    if error.errno in _FORBIDDEN:
        return f"change its permissions, or {elsewhere}"
    if error.errno in _BUSY or getattr(error, "winerror", None) in (32, 33):
        return "close what uses it, and try again"
    if error.errno == errno.ENAMETOOLONG:
        return "its path is too long: use a shorter one"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return f"look whether its folder and its disk are there, or {elsewhere}"
    return f"look whether its disk works, or {elsewhere}"


def find_path(error: OSError, instead: str | os.PathLike[str]) -> str:
    """The path that an error is about, ``instead`` where it does not say."""
    found = error.filename2 or error.filename
    return os.fsdecode(found) if isinstance(found, (str, bytes)) else os.fspath(instead)
