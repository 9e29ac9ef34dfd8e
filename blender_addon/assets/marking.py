"""Makes a data-block an asset: what is said of it, and the catalogs that a file's own assets stand in.

A catalog exists once the folder's file of catalogs names it. As in Blender itself, that file is written when the .blend file is
saved, so that an undo leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ...shared import logs
from ..event_handlers import EventHandlers
from . import catalogs
from .entries import iter_libraries

logger = logs.get_logger(__name__)
#: custom property of an asset's data: the path of its catalog, which is made when the file is saved
CATALOG = "latentman_catalog"
#: collections of data-blocks that we make assets of
_KINDS = ("actions", "objects")


@dataclass(frozen=True)
class AssetWords:
    """What the Asset Browser says of an asset."""

    description: str
    catalog: str
    tags: tuple[str, ...] = ()
    author: str = ""
    licence: str = ""
    copyright: str = ""


def mark_asset(block: Any, words: AssetWords) -> None:
    """Make a data-block an asset, or change what is said of it. Tags that it has already stay."""
    block.asset_mark()
    data = block.asset_data
    data.description, data.author = words.description, words.author
    data.license, data.copyright = words.licence, words.copyright
    for tag in words.tags:
        data.tags.new(tag, skip_if_exists=True)
    path = catalogs.clean_path(words.catalog)
    if path:
        data.catalog_id = catalogs.find_catalog_id(_read_own_catalogs(), path)
        data[CATALOG] = path
    if hasattr(data, "use_preferred_import_method"):
        # from 5.2 on; what is linked or packed could not be changed
        data.use_preferred_import_method, data.preferred_import_method = True, "APPEND"


def find_library_root(path: Path) -> tuple[Path, bool]:
    """The folder whose catalogs the assets of a .blend file have, and whether it is one of the preferences' asset libraries."""
    for _, root in iter_libraries():
        if path.is_relative_to(root):
            return root, True
    return path.parent, False


def _read_own_catalogs() -> str:
    """The catalogs of the open file's folder, "" where there are none."""
    if not bpy.data.filepath:
        return ""
    try:
        return catalogs.read_file(find_library_root(Path(bpy.data.filepath))[0])
    except OSError as error:
        logger.info("The catalogs cannot be read (%s)", error)
        return ""


def write_missing_catalogs(*_: Any) -> None:
    """Write the catalogs of the open file's assets that we have made and that its folder's file does not name yet."""
    if not bpy.data.filepath:
        return
    wanted: dict[str, str] = {}
    for kind in _KINDS:
        for block in getattr(bpy.data, kind):
            path = block.asset_data.get(CATALOG) if block.asset_data is not None and block.library is None else None
            if isinstance(path, str) and path:
                wanted[str(block.asset_data.catalog_id)] = catalogs.clean_path(path)
    if not wanted:
        return
    root = find_library_root(Path(bpy.data.filepath))[0]
    text = catalogs.read_file(root)
    known = catalogs.read_catalogs(text)
    # who has put an asset into another catalog has its own way
    new = [path for one, path in wanted.items() if one not in known and one == catalogs.make_catalog_id(path)]
    if new:
        catalogs.write_file(root, catalogs.add_catalogs(text, new))


def explain_place() -> str:
    """A sentence about where the assets of the open file are found, and what to do for them to be found elsewhere."""
    if not bpy.data.filepath:
        return "Save the file: until then the asset is only in memory, without its catalog."
    _, is_library = find_library_root(Path(bpy.data.filepath))
    if is_library:
        return "Other files have it once this one is saved."
    return "It is under Current File; other files have it once this one is saved in the folder of an asset library."


_handlers = EventHandlers(save_post=write_missing_catalogs)


def register() -> None:
    """Begin to write catalogs when files are saved."""
    _handlers.register()


def unregister() -> None:
    """Leave them alone."""
    _handlers.unregister()
