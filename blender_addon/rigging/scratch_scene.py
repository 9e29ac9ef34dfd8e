"""Scenes that exist for a while, in which Blender evaluates or imports what the user's scene must not notice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

from ..compat import get_slot_fcurves, get_strip_slot, get_used_fcurves, get_used_strips, remove_scene
from ..typed_access import evaluate

#: the name of a custom property at the end of a path
_CUSTOM = re.compile(r'\["(?:[^"\\]|\\.)*"\]$')


@contextmanager
def make_scratch_scene(name: str) -> Iterator[bpy.types.Scene]:
    """An empty scene, which is removed again."""
    scene = bpy.data.scenes.new(name)
    try:
        yield scene
    finally:
        remove_scene(scene)


def evaluate_at(scene: bpy.types.Scene, frame: float) -> bpy.types.Depsgraph:
    """The evaluated objects of a scene at a frame, which may lie between two."""
    # an exact frame is not 0.9999999 of the one before
    frame = round(frame) if abs(frame - round(frame)) < 1e-5 else frame
    scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
    return evaluate(scene.view_layers[0])


@contextmanager
def keep_unkeyed(owners: Iterable[Any], shown: bpy.types.ViewLayer | None = None) -> Iterator[None]:
    """Give animated properties of data-blocks their values back at the end, after ``shown``, if given, is evaluated once more.

    What Blender evaluates goes back to the data, where it would take the place of what the user has changed and not keyed yet.
    """
    kept = [value for owner in owners for value in _read_animated(owner)]
    try:
        yield
    finally:
        if shown is not None:
            shown.update()
        for holder, name, value in kept:
            if _get_value(holder, name) != value:
                _set_value(holder, name, value)


def _read_animated(owner: Any) -> list[tuple[Any, str, Any]]:
    """(what has it, its name, its value) of every property of a data-block that its Action or its strips animate."""
    if getattr(owner, "animation_data", None) is None:
        return []
    actions = [(strip.action, get_strip_slot(strip)) for strip in get_used_strips(owner)]
    curves = [*get_used_fcurves(owner), *(curve for action, slot in actions for curve in get_slot_fcurves(action, slot))]
    out = []
    for path in {curve.data_path for curve in curves}:
        custom = _CUSTOM.search(path)
        head, name = (path[: custom.start()], custom[0]) if custom else (path.rpartition(".")[0], path.rpartition(".")[2])
        try:
            holder = owner.path_resolve(head) if head else owner
            value = _get_value(holder, name)
        except (ValueError, AttributeError, KeyError, TypeError):
            # a curve of what is there no more
            continue
        out.append((holder, name, value))
    return out


def _get_value(holder: Any, name: str) -> Any:
    """The value of a property, or of a custom one, whose name is in brackets and quotes as in a path."""
    value = holder[bpy.utils.unescape_identifier(name[2:-2])] if name.startswith("[") else getattr(holder, name)
    return tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


def _set_value(holder: Any, name: str, value: Any) -> None:
    if name.startswith("["):
        holder[bpy.utils.unescape_identifier(name[2:-2])] = value
    else:
        setattr(holder, name, value)
