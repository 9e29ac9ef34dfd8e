"""The asset libraries that the preferences name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy


def iter_libraries() -> Iterator[tuple[bpy.types.UserAssetLibrary, Path]]:
    """Each library of the preferences that has a folder, with that; none where there are no preferences."""
    preferences = bpy.context.preferences
    for library in preferences.filepaths.asset_libraries if preferences is not None else ():
        if library.path:
            yield library, Path(bpy.path.abspath(library.path))
