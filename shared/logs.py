"""What both programs write down for the day that something fails: files in the user's log folder.

Each run writes a file of its own, ``<kind>-<date>-<time>-<process id>.log``, so that two at once never share one. A file that
is full moves to ``.log.1`` and so on; the oldest runs are removed when a new one begins. A folder that cannot be written is
said once and stops nothing.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import sys
import time
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

from . import environment_variables
from .files import make_private_folder
from .folders import LOG_ENVIRONMENT, log_folder

LEVEL_ENVIRONMENT = environment_variables.LOG_LEVEL
#: the programs' own words, and what a backend's process wrote to its standard error when Blender started it
BLENDER, BACKEND, BACKEND_OUTPUT = "blender", "backend", "backend-output"
#: what *Set Up* did
SET_UP = "set-up"
KINDS = (BLENDER, BACKEND, BACKEND_OUTPUT, SET_UP)
ROOT = "latentman"
FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"
MAX_BYTES, BACKUPS = 1 << 20, 3
KEEP_RUNS, KEEP_DAYS = 20, 30.0
_NAME = re.compile(r"(?P<kind>[a-z-]+)-(?P<began>\d{8}-\d{6})-(?P<process>\d+)(?:-\d+)?\.log(?:\.\d+)?")
_PACKAGE = __package__.rpartition(".")[0]
_warned: set[str] = set()


def get_logger(module: str) -> logging.Logger:
    """The logger of a module of this package, below ``latentman`` also where Blender loads the package under another name."""
    return logging.getLogger(ROOT + module.removeprefix(_PACKAGE) if module.startswith(_PACKAGE) else module)


def choose_level() -> int:
    """``$LATENTMAN_LOG_LEVEL`` as logging's number; INFO when it is unset or no level."""
    name = os.environ.get(LEVEL_ENVIRONMENT, "").strip().upper()
    return logging.getLevelNamesMapping().get(name, logging.INFO) or logging.INFO


class LineFormatter(logging.Formatter):
    """Lines that begin with the local time to the millisecond and its distance from UTC."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """``2026-05-01 09:30:00.123+02:00``."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")


class RunLog(RotatingFileHandler):
    """The rotating file of one run. A full disk or a file that cannot be moved is said once and raises nothing."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, backups: int = BACKUPS) -> None:
        """Opens the file; ``OSError`` when it cannot be made."""
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(LineFormatter())

    def _open(self) -> TextIOWrapper:
        """The file, which nobody but its owner can read."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "a")), encoding=self.encoding, errors=self.errors)

    def rotate(self, source: str, dest: str) -> None:
        """Move a full file aside."""
        try:
            super().rotate(source, dest)
        except OSError:
            pass  # on Windows whoever reads it holds it; a file that grows is better than a line that is lost

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn once instead of at every line."""
        _warn(Path(self.baseFilename).parent, sys.exc_info()[1])


def _warn(folder: Path, error: BaseException | None) -> None:
    if str(folder) in _warned or sys.stderr is None:
        return
    _warned.add(str(folder))
    reason = getattr(error, "strerror", None) or error
    print(f"The log folder {folder} cannot be written ({reason}); set {LOG_ENVIRONMENT} to another folder.", file=sys.stderr)


def new_path(kind: str, folder: Path) -> Path:
    """Where a run of this process that begins now writes."""
    return folder / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def prepare_folder(kind: str) -> Path | None:
    """The log folder, made and rid of the oldest runs of a kind; None when nothing can be written there."""
    folder = log_folder()
    try:
        make_private_folder(folder)
        _close_to_others(folder)
        remove_old(folder, kind)
    except OSError as error:
        _warn(folder, error)
        return None
    return folder


def _close_to_others(folder: Path) -> None:
    """What earlier versions wrote could be read by others; so could the folder, unless the user chose it."""
    if os.name == "nt":
        return
    paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    if not os.environ.get(LOG_ENVIRONMENT):
        paths.append(folder)
    for path in paths:
        with suppress(OSError):  # another's, or just removed
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & 0o077 and not path.is_symlink():
                path.chmod(mode & 0o700)


def open_run_log(kind: str, handler: type[RunLog] = RunLog) -> RunLog | None:
    """The file of a run that begins now; None when it cannot be written."""
    folder = prepare_folder(kind)
    if folder is None:
        return None
    try:
        return handler(new_path(kind, folder))
    except OSError as error:
        _warn(folder, error)
        return None


def open_output(folder: Path, kind: str = BACKEND_OUTPUT) -> tuple[Path, BinaryIO]:
    """A new file for the output of a process that is started now, unbuffered, written at its end. Raises ``OSError``."""
    first = new_path(kind, folder)
    for n in range(1, 100):
        path = first if n == 1 else first.with_name(f"{first.stem}-{n}.log")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            continue
        return path, path.open("ab", buffering=0)
    raise FileExistsError(f"{first} exists a hundred times")


def shorten(path: Path, stream: BinaryIO, limit: int = MAX_BYTES) -> None:
    """Keep only the last quarter of ``limit`` bytes of a file that outgrew it, while a child process goes on writing.

    ``stream`` must be the one that the child inherited: both share its position, so the child goes on behind what is left.
    """
    if path.stat().st_size <= limit:
        return
    with path.open("rb") as file:
        file.seek(-limit // 4, os.SEEK_END)
        file.readline()
        rest = file.read()
    stream.truncate(0)
    stream.seek(0)
    stream.write(b"[earlier lines were removed]\n" + rest)


def start(kind: str) -> Path | None:
    """Let this package's loggers write into a file of this run; its path, or None when it cannot be written."""
    stop()
    logger = logging.getLogger(ROOT)
    logger.setLevel(choose_level())
    log = open_run_log(kind)
    logger.addHandler(log or logging.NullHandler())
    return Path(log.baseFilename) if log else None


def stop() -> None:
    """Close the run's file and leave the loggers as they were."""
    logger = logging.getLogger(ROOT)
    for handler in [one for one in logger.handlers if isinstance(one, RunLog | logging.NullHandler)]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)


def find_own() -> Path:
    """The file that this process's log goes to, or else the folder of all logs: what a sentence names."""
    own = next((one for one in logging.getLogger(ROOT).handlers if isinstance(one, RunLog)), None)
    return Path(own.baseFilename) if own else log_folder()


def _runs(folder: Path, kind: str) -> list[list[Path]]:
    """The files of each run of a kind, the youngest run first, its current file before the full ones."""
    runs: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if name and name["kind"] == kind:
            runs.setdefault(path.name.partition(".log")[0], []).append(path)
    return [
        sorted(runs[name]) for name in sorted(runs, key=lambda name: (max(map(_read_change_time, runs[name])), name), reverse=True)
    ]


def _read_change_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # another process has just removed it


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return False  # a signal would end the process there; its open file cannot be removed anyway
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's process
    return True


def remove_old(folder: Path, kind: str, keep: int = KEEP_RUNS, days: float = KEEP_DAYS) -> None:
    """Remove runs of a kind that are older than ``days``, and all but the youngest ``keep``; never those of living processes."""
    oldest = time.time() - days * 24 * 3600
    for n, files in enumerate(_runs(folder, kind)):
        if n < keep and max(map(_read_change_time, files)) >= oldest:
            continue
        name = _NAME.fullmatch(files[0].name)
        if name and _is_running(int(name["process"])):
            continue
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                pass  # in use on Windows


def find_recent(kind: str, folder: Path | None = None, count: int = 2) -> list[Path]:
    """The files of the last runs of a kind that wrote anything, the youngest first."""
    try:
        runs = _runs(folder or log_folder(), kind)
    except OSError:
        return []
    return [files[0] for files in runs if any(path.stat().st_size for path in files if path.exists())][:count]


def read_tail(path: Path, lines: int, most_bytes: int = 1 << 16) -> str:
    """The last lines of a run's log, whatever bytes are in it; empty when it cannot be read."""
    data = b""
    for part in (path, path.with_name(path.name + ".1")):
        try:
            with part.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most_bytes))
                data = file.read() + data
        except OSError:
            continue
        if data.count(b"\n") >= lines:
            break
    # a progress bar overwrites its line: what counts is what stood there last
    text = data.decode("utf-8", "replace").replace("\0", "").replace("\r\n", "\n").strip("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")[-lines:])
