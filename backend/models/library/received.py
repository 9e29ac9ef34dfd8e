"""What the library has got: the files that came, with their sizes and hashes, in ``received.json`` of the models' folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from filelock import FileLock

from ....shared import logs
from ....shared.files import make_private_folder, read_file, write_atomically
from ....shared.folders import models_folder

logger = logs.get_logger(__name__)
FILE = "received.json"
MAX_FILE = 16 << 20


class ReceivedFile(msgspec.Struct, frozen=True):
    """A file that came: from which repository, commit and path there; ``entry`` is the library's name for what it belongs to."""

    size: int
    sha256: str
    entry: str = ""
    repository: str = ""
    commit: str = ""
    file: str = ""
    #: whether a check has found other bytes
    damaged: bool = False


class _Record(msgspec.Struct):
    version: int = 1
    files: dict[str, ReceivedFile] = {}


def find_record() -> Path:
    """Where the record is."""
    return models_folder() / FILE


def read_received() -> dict[str, ReceivedFile]:
    """path -> what came there; empty where there is no readable record."""
    try:
        record = msgspec.json.decode(read_file(find_record(), MAX_FILE), type=_Record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("The record of what was got cannot be read (%s)", error)
        return {}
    return {_to_absolute(path): file for path, file in record.files.items()}


def change_received(change: Callable[[dict[str, ReceivedFile]], object]) -> None:
    """Let ``change`` alter the record, alone among all processes. Raises ``OSError``."""
    path = find_record()
    make_private_folder(path.parent)
    with FileLock(f"{path}.lock"):
        files = read_received()
        change(files)
        record = _Record(files={_to_stored(name): file for name, file in sorted(files.items())})
        write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=1))


def note_received(files: dict[Path, ReceivedFile]) -> None:
    """Remember what came. Raises ``OSError``."""
    change_received(lambda known: known.update({str(path): file for path, file in files.items()}))


def forget_received(paths: Iterable[Path]) -> None:
    """Forget what was removed. Raises ``OSError``."""
    gone = {str(path) for path in paths}

    def forget(known: dict[str, ReceivedFile]) -> None:
        for path in gone & set(known):
            del known[path]

    if gone & set(read_received()):
        change_received(forget)


def _to_stored(path: str) -> str:
    """What lies in the models' folder is named from there, so that the folder can be moved."""
    inside = Path(path)
    return inside.relative_to(models_folder()).as_posix() if inside.is_relative_to(models_folder()) else path


def _to_absolute(path: str) -> str:
    return path if os.path.isabs(path) else str(models_folder() / path)
