"""The folders of the user's that the library reads, in ``library.json`` of the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock

from ....shared import logs
from ....shared.disk_errors import explain_disk_error, find_path
from ....shared.files import make_private_folder, read_file, write_atomically
from ....shared.folders import CONFIG_ENVIRONMENT, config_folder
from ....shared.library import LibraryFolder, LongText
from ....shared.shot import ShotError
from .layouts import find_layout
from .naming import read_path

logger = logs.get_logger(__name__)
FILE = "library.json"
MAX_FILE, MAX_FOLDERS = 1 << 20, 100


class _Settings(msgspec.Struct):
    version: int = 1
    folders: Annotated[list[LongText], msgspec.Meta(max_length=MAX_FOLDERS)] = []


def find_settings_file() -> Path:
    """Where the list is."""
    return config_folder() / FILE


def read_folders() -> list[Path]:
    """The folders, whether or not they are there right now. Raises ``ShotError`` for a file that cannot be understood, so that it
    is not written over."""
    path = find_settings_file()
    try:
        return [Path(folder) for folder in msgspec.json.decode(read_file(path, MAX_FILE), type=_Settings).folders]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ShotError("library", f"The list of folders {path} cannot be read ({error}); correct it, or delete it.") from error


def list_folders() -> list[LibraryFolder]:
    """The folders with their layouts, and why one cannot be read. Raises ``ShotError``."""
    return [describe_folder(folder) for folder in read_folders()]


def describe_folder(folder: Path) -> LibraryFolder:
    """A folder with its layout, and why it cannot be read."""
    if not os.path.isdir(folder):
        return LibraryFolder(path=str(folder), problem=f"There is no folder {folder}; connect its disk, or remove it.")
    if not os.access(folder, os.R_OK | os.X_OK):
        return LibraryFolder(
            path=str(folder), problem=f"The folder {folder} may not be read; change its permissions, or remove it."
        )
    return LibraryFolder(path=str(folder), layout=find_layout(folder))


def add_folder(text: str) -> LibraryFolder:
    """Have a folder read from now on; one that is read already stays. Raises ``ShotError``."""
    folder = read_path(text)
    if os.path.isfile(folder):
        folder = folder.parent
    found = describe_folder(folder)
    if found.problem:
        raise ShotError("library", f"There is no folder {folder} that can be read; choose one with models in it.")
    if folder == Path(folder.anchor) or folder == Path.home():
        raise ShotError("library", f"{folder} holds everything; choose the folder of the models in it.")

    def add(folders: list[Path]) -> list[Path]:
        if len(folders) >= MAX_FOLDERS:
            raise ShotError("library", f"The library reads {MAX_FOLDERS} folders already; remove one first.")
        return folders if folder in folders else [*folders, folder]

    _change(add)
    return found


def remove_folder(folder: Path) -> bool:
    """Read a folder no more; nothing in it is touched. Whether it was read. Raises ``ShotError``."""
    if folder not in read_folders():
        return False
    _change(lambda folders: [one for one in folders if one != folder])
    return True


def _change(change: Callable[[list[Path]], list[Path]]) -> None:
    path = find_settings_file()
    try:
        make_private_folder(path.parent)
        with FileLock(f"{path}.lock"):
            folders = change(read_folders())
            settings = _Settings(folders=[str(folder) for folder in folders])
            write_atomically(path, msgspec.json.format(msgspec.json.encode(settings), indent=1), private=True)
    except OSError as error:
        elsewhere = f"name another folder in {CONFIG_ENVIRONMENT}"
        raise ShotError("disk", explain_disk_error(error, find_path(error, path), "written", elsewhere)) from error
