"""What went wrong, as a code for programs and a sentence for people."""

from __future__ import annotations

import errno

from ..shared import logs
from ..shared.motion import MotionError
from ..shared.shot import ShotError

logger = logs.get_logger(__name__)
#: what systems say when nothing more can be written
FULL = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the process's own or the device's."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def explain_failure(error: BaseException) -> tuple[str, str]:
    """(code, sentence) for an exception that ended a piece of work. What nobody foresaw goes to the log with its traceback."""
    if isinstance(error, ShotError):
        return error.code, str(error)
    if isinstance(error, MotionError):
        return "motion", str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        logger.warning("the disk is full: %s", error)
        return (
            "disk",
            f"The disk is full ({error.filename or error.strerror}); make room there, and ask again: what is finished is kept.",
        )
    logger.exception("a piece of work failed", exc_info=error)
    if is_out_of_memory(error):
        return "memory", "There is not enough memory; use fewer frames or a smaller resolution."
    if isinstance(error, OSError):
        return "disk", f"A file or folder cannot be used: {error}."
    first = str(error).strip().splitlines()
    words = first[0].rstrip(".") if first else "no further words"
    return "internal", f"It failed unexpectedly ({type(error).__name__}: {words}); more is in the backend's log {logs.find_own()}"
