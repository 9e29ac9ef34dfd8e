"""Which Action an asset is: as the Asset Browser has chosen it, or by the reference that an asset shelf hands to operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .entries import iter_libraries

#: the kinds of libraries by the numbers that Blender gives to operators; every asset is in one of these
LIBRARY_TYPES = (
    ("NONE", "None", "The asset that is active where the operator is called", 0),
    ("LOCAL", "Current File", "An asset of the open file", 1),
    ("ESSENTIALS", "Essentials", "An asset that comes with Blender", 3),
    ("CUSTOM", "Custom", "An asset of a library in the preferences", 100),
)
#: between a file and an Action in it
_WITHIN = "/Action/"


@dataclass(frozen=True)
class ActionAsset:
    """An Action that is an asset: its name, and the file that it is in, None for the open one."""

    name: str
    file: Path | None


def find_active_asset(context: bpy.types.Context) -> ActionAsset | None:
    """The Action that is active in the Asset Browser; None elsewhere, and for other assets."""
    owner: Any = context
    asset = getattr(owner, "asset", None)
    if asset is None or asset.id_type != "ACTION":
        return None
    return ActionAsset(asset.name, None if asset.local_id is not None else Path(asset.full_library_path))


def find_asset(kind: str, library: str, identifier: str) -> ActionAsset | None:
    """The Action of a reference: one of ``LIBRARY_TYPES``, the library's name, and the path in it, such as
    ``clips.blend/Action/Walk``. None for what is no Action, and for a library that there is not."""
    identifier = identifier.replace("\\", "/")
    if kind == "LOCAL":
        return ActionAsset(identifier.removeprefix("Action/"), None) if identifier.startswith("Action/") else None
    file, within, name = identifier.rpartition(_WITHIN)
    root = _find_root(kind, library)
    return ActionAsset(name, root / file) if within and name and root is not None else None


def _find_root(kind: str, name: str) -> Path | None:
    if kind == "ESSENTIALS":
        # the stubs do not know it
        utilities: Any = bpy.utils
        return Path(utilities.system_resource("DATAFILES")) / "assets"
    if kind != "CUSTOM":
        return None
    return next((folder for library, folder in iter_libraries() if library.name == name), None)
