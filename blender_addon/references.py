"""Finding Blender's data again after an event. Undo, redo and opening a file free the data that Python refers to, so that only
names and identifiers are kept from one event to the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bpy


@dataclass(frozen=True)
class Reference:
    """A data-block by its identifier, which survives undo and renaming and exists in no other file; ``name`` is for people.

    ``kind`` is the collection of ``bpy.data`` that it is in.
    """

    kind: str
    name: str
    uid: int

    def find(self) -> Any:
        """The data-block as it is now, or None when it does not exist."""
        blocks: Any = getattr(bpy.data, self.kind)
        found = blocks.get(self.name)
        if found is not None and found.session_uid == self.uid:
            return found
        return next((block for block in blocks if block.session_uid == self.uid), None)


class Finder:
    """Finds many data-blocks at one moment: each kind is looked through once at most. An undo makes it worthless."""

    def __init__(self) -> None:
        self._by_uid: dict[str, dict[int, Any]] = {}

    def find(self, reference: Reference) -> Any:
        """As ``Reference.find``."""
        blocks: Any = getattr(bpy.data, reference.kind)
        found = blocks.get(reference.name)
        if found is not None and found.session_uid == reference.uid:
            return found
        if reference.kind not in self._by_uid:
            self._by_uid[reference.kind] = {block.session_uid: block for block in blocks}
        return self._by_uid[reference.kind].get(reference.uid)


def refer_to(block: bpy.types.ID) -> Reference:
    """A reference to a scene, an object, an Action or an image."""
    kinds = {"SCENE": "scenes", "OBJECT": "objects", "ACTION": "actions", "IMAGE": "images"}
    return Reference(kinds[block.id_type], block.name, block.session_uid)


def find_all(references: Iterable[Reference]) -> list[Any]:
    """The data-blocks that still exist."""
    return [found for reference in references if (found := reference.find()) is not None]
