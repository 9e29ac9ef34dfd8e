"""Where the extension's asset library is, whether it is there, and its place in the preferences."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from ...shared.files import write_atomically
from ...shared.folders import assets_folder
from . import catalogs
from .arrivals import FILE
from .contents import STAMP
from .entries import iter_libraries

NAME = "LatentMan"
#: catalogs of what the library holds
CATALOGS = (catalogs.MANNEQUIN, catalogs.CLIPS)


def read_version() -> str:
    """The version of the extension that has made the library; "" where there is none. Raises ``ShotError``."""
    folder = assets_folder()
    try:
        if not (folder / FILE).is_file():
            return ""
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return str(stamp["version"])
    except (OSError, ValueError, KeyError, TypeError):
        # there is a library, but whose it is cannot be told
        return "unknown"


def take_over(made: Path) -> None:
    """Put the files that were made in a folder into the library, in place of those that are there; what else lies there, and other
    catalogs, stay. Raises ``OSError``."""
    folder = assets_folder()
    folder.mkdir(parents=True, exist_ok=True)
    catalogs.write_file(folder, catalogs.add_catalogs(catalogs.read_file(folder), CATALOGS))
    for name in (FILE, STAMP):
        write_atomically(folder / name, (made / name).read_bytes())


def delete_files() -> list[str]:
    """Delete what is ours in the library's folder, and the folder if nothing else is in it; returns the names of what else is.
    Raises ``OSError``."""
    folder = assets_folder()
    if not folder.is_dir():
        return []
    for name in (STAMP, FILE, f"{FILE}1"):
        (folder / name).unlink(missing_ok=True)
    others = sorted(path.name for path in folder.iterdir() if path.name != catalogs.FILE)
    text = catalogs.remove_catalogs(catalogs.read_file(folder), CATALOGS)
    if catalogs.read_catalogs(text) or others:
        if text:
            catalogs.write_file(folder, text)
        return others or [catalogs.FILE]
    # Blender keeps a copy of the catalogs that it has changed
    (folder / catalogs.FILE).unlink(missing_ok=True)
    folder.rmdir()
    return []


def _iter_registered() -> Iterator[Any]:
    """Our entries among the preferences' asset libraries."""
    wanted = os.path.realpath(assets_folder())
    for library, folder in iter_libraries():
        if os.path.realpath(folder) == wanted:
            yield library


def is_registered() -> bool:
    """Whether the preferences name the library."""
    return any(True for _ in _iter_registered())


def register_library() -> bool:
    """Have the preferences name the library, once; returns whether that is new. An entry that is there stays as the user has it."""
    if is_registered():
        return False
    preferences: Any = bpy.context.preferences
    entry = preferences.filepaths.asset_libraries.new(name=NAME, directory=str(assets_folder()))
    # two mannequins must not share a body, and what is linked could not be keyed
    entry.import_method = "APPEND"
    preferences.is_dirty = True
    return True


def forget_library() -> bool:
    """Have the preferences name it no more; returns whether they did."""
    preferences: Any = bpy.context.preferences
    found = False
    while (entry := next(_iter_registered(), None)) is not None:
        preferences.filepaths.asset_libraries.remove(entry)
        preferences.is_dirty, found = True, True
    return found


def explain_saving() -> str:
    """A sentence where Blender will not save the preferences by itself."""
    preferences = bpy.context.preferences
    saves = preferences is None or preferences.use_preferences_save
    return "" if saves else " Save the preferences to keep it there."
