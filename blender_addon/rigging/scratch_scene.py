"""Scenes that exist for a while, in which Blender evaluates or imports what the user's scene must not notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

from ..compat import get_slot_fcurves, get_strip_slot, get_used_fcurves, get_used_strips
from ..typed_access import evaluate


@contextmanager
def make_scratch_scene(name: str) -> Iterator[bpy.types.Scene]:
    """An empty scene, which is removed again."""
    scene = bpy.data.scenes.new(name)
    try:
        yield scene
    finally:
        bpy.data.scenes.remove(scene)


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
            if getattr(holder, name) != value:
                setattr(holder, name, value)


def _read_animated(owner: Any) -> list[tuple[Any, str, Any]]:
    """(what has it, its name, its value) of every property of a data-block that its Action or its strips animate."""
    if getattr(owner, "animation_data", None) is None:
        return []
    actions = [(strip.action, get_strip_slot(strip)) for strip in get_used_strips(owner) if strip.action is not None]
    curves = [*get_used_fcurves(owner), *(curve for action, slot in actions for curve in get_slot_fcurves(action, slot))]
    out = []
    for path in {curve.data_path for curve in curves}:
        head, dot, name = path.rpartition(".")
        try:
            holder = owner.path_resolve(head) if dot else owner
            value = getattr(holder, name)
        except (ValueError, AttributeError):
            # a curve of what is there no more, or of a custom property
            continue
        out.append((holder, name, tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else value))
    return out
