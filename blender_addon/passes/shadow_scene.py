"""The scene that Cycles renders for shadows: how much of the light the characters take from what is around them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from . import pass_engine
from .camera import View
from .cutouts import CutOuts
from .cycles_settings import set_up_cycles
from .geometry import FrameGeometry, Hair, Shape, Surface
from .own_data import PREFIX, OwnData, make_scene
from .pass_material import fill_pass_material
from .placed_strands import PlacedStrands
from .placed_surfaces import PlacedSurfaces, add_camera, place_camera

#: light paths for each pixel; what is left of their noise is taken away by averaging over neighbours on the same surface
SAMPLES = 4
#: half the side of the square of pixels that are averaged
REACH = 2
#: a neighbour's distance from the camera may differ by this fraction
SAME_SURFACE = 0.02
#: where there is no light, a sun shines over the camera's left shoulder: its angles to the vertical and its width, in radians
SUN_TILT, SUN_TURN, SUN_WIDTH = math.radians(40), math.radians(-35), math.radians(1)
#: the longer side in pixels above which a picture is halved again
HALVED_SIDE = 256
#: half the side of the ground that is put under the feet where the scene has none: in metres, and in sizes of the characters,
#: whichever is more
GROUND_REACH, GROUND_SIZES = 100.0, 20.0


class ShadowScene:
    """The scene that Cycles renders. It exists until the ``OwnData`` that it was made in are removed."""

    def __init__(
        self,
        data: OwnData,
        stage: bpy.types.Scene,
        width: int,
        height: int,
        cut_outs: CutOuts,
        lights: Iterable[bpy.types.Object],
        world: bpy.types.World | None,
        *,
        halved: bool = False,
    ) -> None:
        """``lights`` and ``world`` are the user's. Without lights, there is a sun. With ``halved``, every other pixel is rendered
        each way, and fewer of a large picture, which is a third of the work or less: enough for a ground, which has no edges of its
        own."""
        self._halvings = 0
        while halved and width % 2 == 0 and height % 2 == 0 and (not self._halvings or max(width, height) > HALVED_SIDE):
            width, height, self._halvings = width // 2, height // 2, self._halvings + 1
        self._size = width, height
        self._stage, self._cut_outs = stage, cut_outs
        self.scene = make_scene(data, "Shadows")
        self._camera = add_camera(data, self.scene)
        self._surfaces = PlacedSurfaces(data, self.scene, _prepare)
        self._hair = PlacedStrands(data, self.scene, self._surfaces.origin, _prepare)
        self._material = data.keep(bpy.data.materials, bpy.data.materials.new(f"{PREFIX} Shadows"))
        self._made_of = -1
        self._sun: bpy.types.Object | None = None
        shining = list(lights)
        for light in shining:
            self.scene.collection.objects.link(light)
        if shining:
            self.scene.world = world
        else:
            sun: Any = data.keep(bpy.data.lights, bpy.data.lights.new(PREFIX, "SUN"))
            sun.angle = SUN_WIDTH
            self._sun = data.keep(bpy.data.objects, bpy.data.objects.new(PREFIX, sun))
            self.scene.collection.objects.link(self._sun)
        self._set_up()

    def _set_up(self) -> None:
        set_up_cycles(self.scene, *self._size, SAMPLES)
        if self._halvings:
            # light paths spread over their larger pixels, or thin shadows would fall between these
            owner: Any = self.scene
            owner.cycles.pixel_filter_type = "BOX"
        layer: Any = self.scene.view_layers[0]
        layer.use_pass_z, layer.cycles.use_pass_shadow_catcher = True, True
        layer.material_override = self._material

    def draw(self, frame: int, geometry: FrameGeometry, view: View, ground: float | None) -> np.ndarray:
        """(H, W) float32 from 0, where the characters take no light away, to 1, where they take all; 0 where there is nothing.

        ``ground`` is the height of a ground under the feet, None where the scene has its own. Raises ``ShotError`` when the render
        was stopped.
        """
        surfaces = [one for one in geometry.surfaces if not one.is_hole]
        hair = [one for one in geometry.hair if not one.is_hole]
        if ground is not None:
            surfaces = [one for one in surfaces if one.character] + [
                _make_ground(geometry, ground, GROUND_REACH / view.metres_per_unit)
            ]
            hair = [one for one in hair if one.character]
        self._surfaces.show(surfaces, {})
        self._hair.show(hair, {})
        if len(self._cut_outs.found) != self._made_of:
            fill_pass_material(self._material, self._cut_outs.found, previous=False)
            self._made_of = len(self._cut_outs.found)
        place_camera(self._camera, view)
        if self._sun is not None:
            _point_sun(self._sun, view)
        channels = pass_engine.render(self._stage, self.scene, frame)
        if channels is None:
            raise shot.ShotError("passes", "The render of the shadows was stopped (Esc does that, too); generate the shot again.")
        lit = np.mean([_find(channels, f"Shadow Catcher.{name}") for name in "RGB"], 0)
        distance = _find(channels, "Depth.Z", "Depth.V")
        # the characters are not in the way, so that the shadow goes on behind them
        reach = max(1, REACH >> self._halvings) if REACH else 0
        found = average_over_surface(np.clip(1 - lit, 0, 1), distance, reach, SAME_SURFACE)
        for _ in range(self._halvings):
            found = double(double(found).T).T
        return found


def double(values: np.ndarray) -> np.ndarray:
    """Values (H, W) at the centres of twice as many rows, between the former ones' centres in proportion."""
    padded = np.pad(values, ((1, 1), (0, 0)), "edge")
    out = np.empty((2 * len(values), values.shape[1]), values.dtype)
    out[0::2], out[1::2] = 0.25 * padded[:-2] + 0.75 * values, 0.75 * values + 0.25 * padded[2:]
    return out


def _find(channels: dict[str, np.ndarray], *endings: str) -> np.ndarray:
    return next(np.asarray(pixels, np.float32) for name, pixels in channels.items() if name.endswith(endings))


def _prepare(found: bpy.types.Object, surface: Surface | Hair) -> None:
    found.visible_camera = not surface.character
    found.is_shadow_catcher = not surface.character


def _make_ground(geometry: FrameGeometry, height: float, reach: float) -> Surface:
    points = geometry.find_character_points()
    centre = points[:, :2].mean(0) if len(points) else np.zeros(2)
    if len(points):
        reach = max(reach, GROUND_SIZES * float(np.ptp(points, axis=0).max()))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach + centre
    shape = Shape(
        np.column_stack([corners, np.full(4, height)]).astype(np.float32),
        np.arange(4, dtype=np.int32),
        np.zeros(1, np.int32),
        np.tile(np.array([0, 0, 1], np.float32), (4, 1)),
        {},
        None,
        None,
        None,
    )
    return Surface(("", f"{PREFIX} Ground", ()), "", 0, 1.0, np.eye(4), shape)


def _point_sun(sun: bpy.types.Object, view: View) -> None:
    """Let the sun shine over the camera's left shoulder, from above."""
    right = view.world_to_camera[0, :3]
    sun.rotation_euler = (SUN_TILT, 0.0, math.atan2(right[1], right[0]) + SUN_TURN)


def average_over_surface(values: np.ndarray, distance: np.ndarray, reach: int, same: float) -> np.ndarray:
    """Values (H, W) averaged over the square of ``2 * reach + 1`` pixels around each, of which only those count whose distance
    from the camera (H, W) differs by no more than the fraction ``same``."""
    height, width = values.shape
    total, count = np.zeros_like(values), np.zeros_like(values)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            here = np.s_[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            there = np.s_[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
            close = np.abs(distance[there] - distance[here]) <= same * distance[here]
            total[here] += values[there] * close
            count[here] += close
    return total / np.maximum(count, 1)
