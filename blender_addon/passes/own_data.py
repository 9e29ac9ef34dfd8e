"""Data-blocks of our own in the user's file, for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bpy

PREFIX = "LatentMan"


class OwnData:
    """Data-blocks that are removed when the block ends, whatever happens within it."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Any]] = []

    def keep(self, owner: Any, block: Any) -> Any:
        """Remove ``block`` from ``owner``, a collection of ``bpy.data``, at the end; returns it."""
        self._made.append((owner, block))
        return block

    def remove_all(self) -> None:
        """Remove everything, last things first."""
        with ExitStack() as stack:
            # each for itself: one that cannot be removed must not keep the others
            for owner, block in self._made:
                stack.callback(_remove, owner, block)
        self._made.clear()


def _remove(owner: Any, block: Any) -> None:
    try:
        owner.remove(block)
    except ReferenceError:  # undo or another file has removed it
        pass


@contextmanager
def own_data() -> Iterator[OwnData]:
    """Data-blocks that exist within the block."""
    data = OwnData()
    try:
        yield data
    finally:
        data.remove_all()


def make_scene(data: OwnData, name: str) -> Any:
    """A scene without anything in it, whose view layer has a short name."""
    scene = data.keep(bpy.data.scenes, bpy.data.scenes.new(f"{PREFIX} {name}"))
    scene.view_layers[0].name = "Passes"
    return scene
