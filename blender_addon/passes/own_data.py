"""Data-blocks of our own in the user's file, for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import bpy

from ..compat import list_compositors, remove_scene

PREFIX = "LatentMan"


def show_only(scene: bpy.types.Scene, before: set[bpy.types.Object], now: set[bpy.types.Object]) -> set[bpy.types.Object]:
    """Change which of our objects are in a scene of our own, from those ``before``; returns those that are ``now``."""
    objects = scene.collection.objects
    for found in before - now:
        objects.unlink(found)
    for found in now - before:
        objects.link(found)
    return now


class OwnData:
    """Data-blocks that are removed when the block ends, whatever happens within it."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, Any]] = []

    def keep(self, owner: Any, block: Any) -> Any:
        """Remove ``block`` from ``owner``, a collection of ``bpy.data``, at the end; returns it."""
        self._made.append((owner, block))
        return block

    def drop(self, block: Any) -> None:
        """Forget ``block``, which somebody else removes."""
        self._made = [one for one in self._made if one[1] is not block]

    def remove_all(self) -> None:
        """Remove everything, last things first."""
        with ExitStack() as stack:
            # each for itself: one that cannot be removed must not keep the others
            for owner, block in self._made:
                stack.callback(_remove, owner, block)
        self._made.clear()


def _remove(owner: Any, block: Any) -> None:
    try:
        if isinstance(block, bpy.types.Scene):
            remove_scene(block)
        else:
            owner.remove(block)
    except ReferenceError:  # undo or another file has removed it
        pass


@contextmanager
def own_data() -> Iterator[OwnData]:
    """Data-blocks that exist within the block.

    A render makes an image for its result: one that was not there before the block is removed, too. Choosing a scene's engine
    makes Blender show all sockets of every compositor's render layers: those that were hidden are hidden again.
    """
    data = OwnData()
    had_result = _find_render_result() is not None
    hidden = {key for key, socket in _iter_sockets() if socket.hide}
    try:
        yield data
    finally:
        data.remove_all()
        for key, socket in _iter_sockets():
            if key in hidden and not socket.hide:
                socket.hide = True
        result = None if had_result else _find_render_result()
        if result is not None:
            bpy.data.images.remove(result)


def _find_render_result() -> bpy.types.Image | None:
    return next((image for image in bpy.data.images if image.type == "RENDER_RESULT"), None)


def _iter_sockets() -> Iterator[tuple[tuple[int, str, str], bpy.types.NodeSocket]]:
    """What the compositors' render layers give, by tree, node and name."""
    for tree in list_compositors():
        for node in tree.nodes:
            if node.type == "R_LAYERS":
                for socket in node.outputs:
                    yield (tree.as_pointer(), node.name, socket.identifier), socket


def make_scene(data: OwnData, name: str) -> Any:
    """A scene without anything in it, whose view layer has a short name."""
    scene = data.keep(bpy.data.scenes, bpy.data.scenes.new(f"{PREFIX} {name}"))
    scene.view_layers[0].name = "Passes"
    return scene
