"""Captured hair as hair curves in a scene of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..compat import set_curve_kinds
from .geometry import Hair, Key, Strands
from .own_data import PREFIX, OwnData, show_only
from .pass_material import PREVIOUS_ATTRIBUTE
from .render_set import ROOT_COORDINATE
from .surfaces import HAS_REST_POSITION_ATTRIBUTE, REST_POSITION_ATTRIBUTE


class PlacedStrands:
    """The hair of a frame as objects of a scene; what a frame does not have is taken out of the scene."""

    def __init__(
        self, data: OwnData, scene: bpy.types.Scene, origin: bpy.types.Object, prepare: Callable[[bpy.types.Object, Hair], None]
    ) -> None:
        """``origin`` is an object at the origin; ``prepare`` sets up a new object for its hair."""
        self._data, self._scene, self._origin, self._prepare = data, scene, origin, prepare
        self._objects: dict[Key, bpy.types.Object] = {}
        self._shown: set[bpy.types.Object] = set()

    def show(self, hair: Iterable[Hair], previous: dict[Key, np.ndarray]) -> None:
        """Show this hair and no other; ``previous`` holds how far the points (P, 3) of some have come since the frame before."""
        shown = set()
        for one in hair:
            # Cycles takes new curves for those of the frame before where they happen to lie in the same place in memory
            self._scene.render.use_persistent_data = False
            curves = self._make_curves(one.strands, previous.get(one.key))
            found = self._objects.get(one.key)
            if found is None:
                found = self._objects[one.key] = self._data.keep(bpy.data.objects, bpy.data.objects.new(PREFIX, curves))
                found.parent = self._origin
                self._prepare(found, one)
            else:
                former: Any = found.data
                found.data = curves
                self._data.drop(former)
                bpy.data.hair_curves.remove(former)
            if not np.array_equal(np.array(found.matrix_parent_inverse), one.matrix.astype(np.float32)):
                found.matrix_parent_inverse = Matrix(one.matrix.tolist())
            shown.add(found)
        self._shown = show_only(self._scene, self._shown, shown)

    def _make_curves(self, strands: Strands, previous: np.ndarray | None) -> Any:
        """New curves: Blender updates those that exist slowly, and Cycles does not notice all that changes."""
        curves: Any = self._data.keep(bpy.data.hair_curves, bpy.data.hair_curves.new(PREFIX))
        curves.add_curves(strands.counts.tolist())
        curves.attributes["position"].data.foreach_set("vector", strands.points.ravel())
        flags = None if strands.rest is None else np.ones(len(strands.points), np.float32)
        for name, kind, domain, values in (
            ("radius", "FLOAT", "POINT", strands.radii),
            (ROOT_COORDINATE, "FLOAT2", "CURVE", strands.uvs),
            (REST_POSITION_ATTRIBUTE, "FLOAT_VECTOR", "POINT", strands.rest),
            (HAS_REST_POSITION_ATTRIBUTE, "FLOAT", "POINT", flags),
            (PREVIOUS_ATTRIBUTE, "FLOAT_VECTOR", "POINT", previous),
        ):
            if values is not None:
                attribute = curves.attributes.get(name) or curves.attributes.new(name, kind, domain)
                attribute.data.foreach_set("vector" if values.ndim == 2 else "value", values.ravel())
        if strands.kinds is not None:
            set_curve_kinds(curves, strands.kinds)
        return curves
