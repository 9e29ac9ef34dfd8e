"""The log of a backend's process: this package's lines, the libraries' warnings, and a trace if the interpreter crashes."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from ..shared import logs
from ..shared.folders import log_folder
from ..shared.version import VERSION

#: libraries that print their own warnings; each has a ``utils.logging`` with the same functions
CHATTY = ("transformers", "diffusers")
logger = logs.get_logger(__name__)


class CrashLog(logs.RunLog):
    """A run's file that also gets the interpreter's last words."""

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        faulthandler.enable(stream)
        return stream

    def doRollover(self) -> None:
        """Begin a new file; the closed one's number may soon be another file's."""
        faulthandler.disable()
        super().doRollover()

    def close(self) -> None:
        """End it."""
        faulthandler.disable()
        super().close()


def _goes_to_the_log_folder(stream: object) -> bool:
    """Whether Blender has led a stream into a file of the log folder."""
    try:
        state = os.fstat(stream.fileno())  # type: ignore[attr-defined]
        return any(os.path.samestat(state, path.stat()) for path in log_folder().glob(f"{logs.BACKEND_OUTPUT}-*.log"))
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def keep_log(command: str) -> Iterator[Path | None]:
    """Write this process's log while a command runs; gives the file, or None when it cannot be written.

    Warnings and errors of this package also go to the standard error; those of libraries only to the file.
    """
    kept_output = _goes_to_the_log_folder(sys.stderr)
    root, captured = logging.getLogger(logs.ROOT), logging.getLogger("py.warnings")
    # where Blender keeps the output, the trace of a crash belongs there: its sentence names that file
    log = logs.open_run_log(logs.BACKEND, logs.RunLog if kept_output else CrashLog)
    handler: logging.Handler = log or logging.NullHandler()
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    console.setFormatter(logs.LineFormatter() if kept_output else logging.Formatter("%(message)s"))
    if kept_output:
        faulthandler.enable(sys.stderr)
    root.setLevel(logs.choose_level())
    root.addHandler(handler)
    root.addHandler(console)
    captured.addHandler(handler)
    logging.captureWarnings(True)
    thread_hook = threading.excepthook
    threading.excepthook = _log_thread
    logger.info(
        "latentman %s, %s; Python %s on %s; %s", VERSION, command, platform.python_version(), platform.platform(), sys.executable
    )
    try:
        yield Path(log.baseFilename) if log else None
    finally:
        threading.excepthook = thread_hook
        logging.captureWarnings(False)
        release_libraries(handler)
        for owner, one in ((captured, handler), (root, console), (root, handler)):
            owner.removeHandler(one)
        root.setLevel(logging.NOTSET)
        if kept_output:
            faulthandler.disable()
        handler.close()


def _log_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_type is SystemExit or caught.exc_value is None:
        return
    logger.critical("The thread %s ended unexpectedly", caught.thread.name if caught.thread else "?", exc_info=caught.exc_value)


def quieten_libraries() -> None:
    """Lead the libraries' warnings into the run's file instead of the terminal, and switch off their progress bars.

    Imports them, which takes seconds. Raises ``ModuleNotFoundError`` when one is not installed.
    """
    handler = next((one for one in logging.getLogger(logs.ROOT).handlers if isinstance(one, logs.RunLog)), logging.NullHandler())
    for name in CHATTY:
        library = importlib.import_module(f"{name}.utils.logging")
        library.get_logger()  # makes the handler that is taken away next
        library.disable_default_handler()
        library.disable_progress_bar()
        logging.getLogger(name).addHandler(handler)


def release_libraries(handler: logging.Handler) -> None:
    """Take a handler away from the libraries again, where they were imported."""
    for name in CHATTY:
        logging.getLogger(name).removeHandler(handler)
