"""The scene that Cycles renders: one frame's surfaces as plain meshes, with the settings that exact passes need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from . import pass_engine
from .camera import View
from .cutouts import CutOuts
from .cycles_settings import set_up_cycles
from .geometry import FrameGeometry, Hair, Key, Surface
from .own_data import PREFIX, OwnData, make_scene
from .pass_material import NORMAL_AOV, PART_AOV, PREVIOUS_AOV, REST_POSITION_AOV, fill_pass_material
from .placed_strands import PlacedStrands
from .placed_surfaces import PlacedSurfaces, add_camera, place_camera

#: from so many units away on, what is drawn is drawn as if it were near
FAR = 1024.0


def find_near_origin(view: View) -> np.ndarray:
    """(3,) a point near the camera, the same while it moves little; the world's origin where that is not far away."""
    camera = np.linalg.inv(view.world_to_camera)[:3, 3]
    return np.round(camera / FAR) * FAR


class DrawnScene:
    """The scene that Cycles renders. It exists until the ``OwnData`` that it was made in are removed."""

    def __init__(
        self,
        data: OwnData,
        stage: bpy.types.Scene,
        width: int,
        height: int,
        cut_outs: CutOuts,
        *,
        position: bool,
        motion_vectors: bool,
    ) -> None:
        self._data, self._stage, self._size = data, stage, (width, height)
        self._cut_outs, self._motion_vectors = cut_outs, motion_vectors
        self.scene = make_scene(data, "Drawn")
        self._camera = add_camera(data, self.scene)
        self._material = data.keep(bpy.data.materials, bpy.data.materials.new(f"{PREFIX} Passes"))
        self._made_of = -1
        self._numbers: dict[Key, int] = {}
        self._surfaces = PlacedSurfaces(data, self.scene, self._prepare)
        self._hair = PlacedStrands(data, self.scene, self._surfaces.origin, self._prepare)
        self._live: set[bpy.types.Object] = set()
        self._set_up(position)

    def _set_up(self, position: bool) -> None:
        set_up_cycles(self.scene, *self._size, samples=1)
        layer: Any = self.scene.view_layers[0]
        passes = dict(
            use_pass_z=True, use_pass_uv=True, use_pass_object_index=True, use_pass_combined=True, use_pass_position=position
        )
        for name, value in passes.items():
            setattr(layer, name, value)
        layer.pass_alpha_threshold, layer.material_override = 0.5, self._material
        aovs = [(REST_POSITION_AOV, "COLOR"), (PART_AOV, "VALUE"), (NORMAL_AOV, "COLOR")]
        for name, kind in aovs + ([(PREVIOUS_AOV, "COLOR")] if self._motion_vectors else []):
            aov = layer.aovs.add()
            aov.name, aov.type = name, kind

    def draw(
        self,
        frame: int,
        geometry: FrameGeometry,
        view: View,
        numbers: dict[Key, int],
        live: Iterable[tuple[bpy.types.Object, int]],
        box: tuple[int, int, int, int],
        previous: dict[Key, np.ndarray],
        ways: dict[Key, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """The channels (H, W) of a rectangle (left, top, right, bottom) of a frame, as ``read_passes`` takes them.

        Surfaces get the pass indices ``numbers``; ``live`` are objects with pass indices that Cycles draws itself; ``previous``
        holds the points (V, 3) of surfaces on the frame before, ``ways`` the steps (P, 3) that lead the points of hair to those
        that they had then. Raises ``ShotError`` when the render was stopped.
        """
        self._numbers = numbers
        self._place_live(live)
        near = np.eye(4)
        # far from the world's origin, single precision would cost millimetres; what Cycles draws itself stays where it is
        near[:3, 3] = 0.0 if self._live else -find_near_origin(view)
        surfaces = [one for one in geometry.surfaces if not one.is_live]
        hair: Iterable[Hair] = geometry.hair
        if near[:3, 3].any():
            surfaces = [replace(one, matrix=near @ one.matrix) for one in surfaces]
            hair = [replace(one, matrix=near @ one.matrix) for one in hair]
        self._surfaces.show(surfaces, previous)
        self._hair.show(hair, ways)
        if len(self._cut_outs.found) != self._made_of:
            fill_pass_material(self._material, self._cut_outs.found, previous=self._motion_vectors)
            self._made_of = len(self._cut_outs.found)
        place_camera(self._camera, replace(view, world_to_camera=view.world_to_camera @ np.linalg.inv(near)))
        set_render_region(self.scene, box, *self._size)
        channels = pass_engine.render(self._stage, self.scene, frame)
        if channels is None:
            raise shot.ShotError("passes", "The render of the passes was stopped (Esc does that, too); generate the shot again.")
        for n, axis in enumerate("XYZ"):
            for name in channels if near[:3, 3].any() else ():
                if name.endswith(f"Position.{axis}"):
                    channels[name] = channels[name] - np.float32(near[n, 3])
        return channels

    def _prepare(self, found: bpy.types.Object, surface: Surface | Hair) -> None:
        found.pass_index = self._numbers[surface.key]

    def _place_live(self, live: Iterable[tuple[bpy.types.Object, int]]) -> None:
        for found, number in live:
            if found in self._live:
                continue
            # the object itself may be the user's
            copy = self._data.keep(bpy.data.objects, found.copy())
            copy.pass_index = number
            self.scene.collection.objects.link(copy)
            self._live.add(found)
            # Cycles does not notice that points have moved
            self.scene.render.use_persistent_data = False


def set_render_region(scene: bpy.types.Scene, box: tuple[int, int, int, int], width: int, height: int) -> None:
    """Render only a rectangle (left, top, right, bottom) of pixels."""
    render = scene.render
    whole = box == (0, 0, width, height)
    render.use_border = render.use_crop_to_border = not whole
    if not whole:
        left, top, right, bottom = box
        # Blender truncates; a quarter of a pixel keeps a rounding error from costing a whole one
        render.border_min_x, render.border_max_x = (left + 0.25) / width, (right + 0.25) / width
        render.border_min_y, render.border_max_y = (height - bottom + 0.25) / height, (height - top + 0.25) / height
