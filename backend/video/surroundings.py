"""What is around the characters of a shot, as frames are put together with it: a background without characters and without the
shadows that the model painted, which turns with the camera, and each frame's own shadow on it.

Before a camera that stands still it is one picture, and only what was hidden or lay in a shadow is replaced by it. Before one that
moves it is some of the key frames' pictures with their cameras: what is below the horizon lies on the ground under the feet, all
else at infinity. Which picture shows a place is decided by the place alone, so nothing slides or pops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from ...shared.passes import FramePasses
from .cameras import Camera
from .distances import measure_distance
from .horizon import Horizon
from .plate_filling import fill_along_horizon
from .shadows import (
    EDGE,
    USUAL_TONE,
    CleanPlate,
    cast_contact_shadow,
    clean_plate,
    darken,
    guess_contact_shadow,
    measure_level,
)

#: pixels over which a picture gives way to another at its edge and around what hides in it
FEATHER = 12.0
#: pictures that are taken of the key frames and kept at most, and the share of unseen pixels that makes another one worth it
MOST_PICTURES, MOST_VIEWS, LEAST_UNSEEN = 8, 16, 0.004
#: the side in pixels of the pictures in which what is unseen is counted
COUNTED = 48


@dataclass(frozen=True)
class Surroundings:
    """``colour`` (K, H, W, 3) uint8 and ``cameras`` of some pictures, and ``weight`` (K, H, W) uint8, how well each shows its
    places, 0 where it does not. Before a camera that stands still there are no cameras, and one picture, whose weight says where
    the frames' own backgrounds are not as they should be. ``ground`` is that of the ``Horizon``. ``tone`` (3,) float32
    is by how much shadows darken, None where none are laid on, ``level`` how dark the shadow pass is where they are, and ``scale``
    that of the lengths of contact shadows."""

    colour: np.ndarray
    weight: np.ndarray
    cameras: tuple[Camera, ...] = ()
    ground: float | None = None
    tone: np.ndarray | None = None
    level: float = 1.0
    scale: float = 1.0

    def render(self, camera: Camera | None) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) float32 from 0 to 255, the background before a camera, and (H, W) bool where it replaces a frame's own. Every
        camera sees the same before one that stands still."""
        if not self.cameras or camera is None:
            return self.colour[0].astype(np.float32), self.weight[0] > 0
        colour, left = self._compose(camera, *self.colour.shape[1:3])
        return fill_along_horizon(colour, left > 0.5), np.ones(left.shape, bool)

    @property
    def replaced(self) -> np.ndarray | None:
        """(H, W) bool where frames before a camera that stands still are not to keep the background that they share."""
        return None if self.cameras else self.weight[0] > 0

    def _compose(self, camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) float32 what the pictures show before a camera, and (H, W) float32 how much of it none shows."""
        points = Horizon(self.ground).locate(camera, height, width)
        total, left = np.zeros((height, width, 3), np.float32), np.ones((height, width), np.float32)
        tall, wide = self.colour.shape[1:3]
        for colour, weight, own in zip(self.colour, self.weight, self.cameras, strict=True):
            pixels, before = own.project(points, tall, wide)
            at = np.stack([pixels[..., 1], pixels[..., 0]]) - 0.5
            inside = before & (left > 1 / 255) & (at >= -0.5).all(0) & (at[0] <= tall - 0.5) & (at[1] <= wide - 0.5)
            if not inside.any():
                continue
            here = at[:, inside]
            share = np.zeros_like(left)
            share[inside] = map_coordinates(weight.astype(np.float32) / 255, here, order=1, mode="nearest")
            share *= left
            for channel in range(3):
                total[inside, channel] += share[inside] * map_coordinates(
                    colour[..., channel].astype(np.float32), here, order=1, mode="nearest"
                )
            left = left - share
        return total / np.maximum(1 - left, 1e-3)[..., None], left

    def add_view(self, plate: CleanPlate, hidden: np.ndarray, camera: Camera) -> Surroundings:
        """With another picture behind the others; what is ``hidden`` (H, W) bool in it does not count."""
        weight = _weigh(hidden)
        return replace(
            self,
            colour=np.concatenate([self.colour, plate.colour[None]]),
            weight=np.concatenate([self.weight, weight[None]]),
            cameras=(*self.cameras, camera),
        )

    def complete(self, cameras: Sequence[Camera]) -> Surroundings:
        """With pictures, filled in from what is beside, of what none shows and ``cameras`` see, those first that see most of it."""
        done, (height, width) = self, self.colour.shape[1:3]
        scale = COUNTED / max(height, width)
        size = max(2, round(height * scale)), max(2, round(width * scale))
        cameras = cameras[:: max(1, len(cameras) // COUNTED)]
        while len(done.cameras) < MOST_VIEWS:
            unseen = [float((done._compose(camera, *size)[1] > 0.5).mean()) for camera in cameras]
            worst = int(np.argmax(unseen))
            if unseen[worst] < LEAST_UNSEEN:
                break
            colour, left = done._compose(cameras[worst], height, width)
            filled = fill_along_horizon(colour, left > 0.5).round().astype(np.uint8)
            done = replace(
                done,
                colour=np.concatenate([done.colour, filled[None]]),
                weight=np.concatenate([done.weight, np.full((1, height, width), 255, np.uint8)]),
                cameras=(*done.cameras, cameras[worst]),
            )
        return done

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For files."""
        arrays = {
            "around": self.colour,
            "around_weight": self.weight,
            "around_level": np.array(self.level),
            "around_scale": np.array(self.scale),
            "around_cameras": np.array([camera.pack() for camera in self.cameras]).reshape(-1, 32),
        }
        if self.ground is not None:
            arrays["around_ground"] = np.array(self.ground)
        if self.tone is not None:
            arrays["around_tone"] = self.tone
        return arrays

    @classmethod
    def from_arrays(cls, found: Mapping[str, np.ndarray]) -> Surroundings | None:
        """The inverse of ``to_arrays``; None where there are none. Raises ``ValueError`` for arrays that none has."""
        if "around" not in found:
            return None
        colour, weight, cameras = found["around"], found["around_weight"], found["around_cameras"]
        tone, ground = found.get("around_tone"), found.get("around_ground")
        # looks of earlier versions have none
        scale = found.get("around_scale", np.array(1.0))
        numbers: list[Any] = [found["around_level"], scale, *(one for one in (tone, ground) if one is not None)]
        fits = colour.dtype == weight.dtype == np.uint8 and colour.ndim == 4 and colour.shape == (*weight.shape, 3)
        if not fits or not colour.size or not all(np.isfinite(one).all() for one in numbers) or scale.size != 1 or scale <= 0:
            raise ValueError("its surroundings are damaged")
        if cameras.shape[1:] != (32,) or len(cameras) not in (0, len(colour)) or (tone is not None and tone.shape != (3,)):
            raise ValueError("its surroundings are damaged")
        return cls(
            colour,
            weight,
            tuple(Camera.unpack(values) for values in cameras),
            None if ground is None else float(ground),
            None if tone is None else tone.astype(np.float32),
            float(found["around_level"]),
            float(scale),
        )


def _weigh(hidden: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 255 in the middle of what a picture shows, 0 at its edge and where something is hidden."""
    padded = np.pad(~hidden, 1)
    away = distance_transform_edt(padded)[1:-1, 1:-1]
    return (np.clip((away - 1) / FEATHER, 0, 1) * 255).round().astype(np.uint8)


def make_still(
    colour: np.ndarray,
    distance: np.ndarray,
    figure: np.ndarray,
    *,
    shadow: np.ndarray | None,
    former: Surroundings | None,
    ground: float | None,
    scale: float = 1.0,
) -> Surroundings:
    """What is around the characters before a camera that stands still, from the background plate: ``colour`` (H, W, 3) uint8, seen
    ``distance`` (H, W) pixels from characters. ``figure`` (H, W) bool are the characters in the frame whose background all frames
    share, ``shadow`` the shadow passes of the frames that it is made from; ``former`` is what there was before."""
    plate = clean_plate(colour, distance, figure)
    tone = former.tone if former is not None and former.tone is not None else plate.tone
    return Surroundings(
        plate.colour[None],
        (plate.mended[None] * 255).astype(np.uint8),
        (),
        ground,
        USUAL_TONE if tone is None else tone,
        former.level if former is not None else (1.0 if shadow is None else measure_level(shadow)),
        scale,
    )


def make_moving(
    pictures: Sequence[np.ndarray],
    passes: FramePasses,
    cameras: Sequence[Camera],
    seen_by: Sequence[Camera],
    ground: float | None,
    former: Surroundings | None,
    *,
    shadows: bool,
    scale: float = 1.0,
) -> Surroundings:
    """What is around the characters before a camera that moves, from finished key frames (H, W, 3) uint8 with their passes and
    ``cameras``, behind what there was before; ``seen_by`` are the cameras of all frames. With ``shadows``, those that are painted
    in the key frames are taken out, and others laid on."""
    height, width = pictures[0].shape[:2]
    found = former or Surroundings(
        np.zeros((0, height, width, 3), np.uint8),
        np.zeros((0, height, width), np.uint8),
        (),
        ground,
        None,
        1.0 if passes.shadow is None else measure_level(passes.shadow),
        scale,
    )
    tones = []
    surfaces = passes.surface_index > 0
    for n in np.unique(np.linspace(0, len(pictures) - 1, min(MOST_PICTURES, len(pictures))).round().astype(int)):
        picture, surface, camera = pictures[n], surfaces[n], cameras[n]
        distance = measure_distance(surface)
        plate = clean_plate(picture, distance, surface, shadows=shadows)
        if plate.tone is not None:
            tones.append(plate.tone)
        found = found.add_view(plate, distance <= EDGE, camera)
    if shadows and found.tone is None:
        found = replace(found, tone=np.median(tones, 0).astype(np.float32) if tones else USUAL_TONE)
    return found.complete(seen_by)


@dataclass(frozen=True)
class FrameBackground:
    """One frame's background: ``colour`` (H, W, 3) float32 from 0 to 255 without shadows, ``known`` (H, W) bool, where it replaces
    the frame's own, and ``shade`` (H, W, 3) float32, what is left of the light."""

    colour: np.ndarray
    known: np.ndarray
    shade: np.ndarray


def make_background(
    around: Surroundings, passes: FramePasses, row: int, camera: Camera | None, depth_range: tuple[float, float], strength: float
) -> FrameBackground:
    """The background of frame ``row`` of some passes, seen by ``camera``, None where that is not known. ``depth_range`` is the
    nearest and the farthest depth in metres, ``strength`` by how much shadows are stronger than the key frames' own."""
    colour, known = around.render(camera)
    shade = np.ones_like(colour)
    if around.tone is not None and strength > 0:
        shadow = find_shadow(around, passes, row, camera, depth_range) * (passes.surface_index[row] == 0)
        shade = darken(shade, shadow, np.minimum(around.tone * strength, 1).astype(np.float32)).astype(np.float32)
    return FrameBackground(colour, known, shade)


def find_shadow(
    around: Surroundings, passes: FramePasses, row: int, camera: Camera | None, depth_range: tuple[float, float]
) -> np.ndarray:
    """(H, W) float32 from 0 to 1: the shadow of frame ``row``, from its pass, or else below what is near the ground."""
    if passes.shadow is not None:
        return np.clip(passes.shadow[row].astype(np.float32) / around.level, 0, 1)
    if camera is not None and around.ground is not None:
        return cast_contact_shadow(passes, row, camera, around.ground, *depth_range, around.scale)
    return guess_contact_shadow(passes.mask[row])
