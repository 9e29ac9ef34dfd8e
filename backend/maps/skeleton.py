"""Skeletons drawn the way OpenPose draws them, which is what pose ControlNets were trained on."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotError
from .depth_normal import draw_depth

if TYPE_CHECKING:
    from PIL import ImageDraw

#: pairs of the 18 key points, in OpenPose's order of limbs
LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
#: brightness of a limb against that of a key point
LIMB_BRIGHTNESS = 0.6
#: width of a limb and radius of a point, for a picture 512 pixels high
THICKNESS, RADIUS = 4.0, 4.0
#: drawn this many times larger and then shrunk, so that edges are smooth
SUPERSAMPLING = 4


def _get_colour(n: int, brightness: float = 1.0) -> tuple[int, int, int]:
    """The n-th of 18 hues around the colour circle, red first."""
    red, green, blue = colorsys.hsv_to_rgb(n / 18, 1.0, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_openpose(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 skeletons on black, from the key points in the manifest.

    Raises ``ShotError`` when no character's skeleton is known.
    """
    return _draw_skeletons(manifest)[0]


def draw_depth_openpose(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 depth, near white, with the skeletons drawn in.

    Raises ``ShotError`` when no character's skeleton is known.
    """
    skeletons, covered = _draw_skeletons(manifest)
    depth = draw_depth(passes, manifest).astype(np.uint16)
    return (depth * (255 - covered[..., None].astype(np.uint16)) // 255 + skeletons).clip(0, 255).astype(np.uint8)


def _draw_skeletons(manifest: PassesManifest) -> tuple[np.ndarray, np.ndarray]:
    """(F, H, W, 3) uint8 skeletons on black, and (F, H, W) uint8 how much of each pixel they cover."""
    from PIL import Image, ImageDraw

    if not manifest.people:
        raise ShotError("parts", "The passes hold no skeleton; map the bones of the character and render the passes again.")
    scale = SUPERSAMPLING * min(manifest.width, manifest.height) / 512
    size = (manifest.width * SUPERSAMPLING, manifest.height * SUPERSAMPLING)
    out = []
    for n in range(len(manifest.frames)):
        pictures = [Image.new("RGB", size), Image.new("L", size)]
        colours, cover = map(ImageDraw.Draw, pictures)
        for person in manifest.people:
            points = np.array(person.keypoints[n])
            in_front = points[:, 2] > 0
            places = points[:, :2] * SUPERSAMPLING
            for number, (a, b) in enumerate(LIMBS):
                if in_front[a] and in_front[b]:
                    _draw_limb(colours, places[a], places[b], THICKNESS * scale, _get_colour(number, LIMB_BRIGHTNESS))
                    _draw_limb(cover, places[a], places[b], THICKNESS * scale, 255)
            for number, (x, y) in enumerate(places):
                if in_front[number]:
                    r = RADIUS * scale
                    colours.ellipse((x - r, y - r, x + r, y + r), fill=_get_colour(number))
                    cover.ellipse((x - r, y - r, x + r, y + r), fill=255)
        out.append([np.asarray(picture.resize((manifest.width, manifest.height), Image.Resampling.BOX)) for picture in pictures])
    skeletons, covered = zip(*out, strict=True)
    return np.stack(skeletons), np.stack(covered)


def _draw_limb(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, width: float, colour: tuple[int, int, int] | int) -> None:
    """An ellipse from one joint to the other."""
    along = (b - a) / 2
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        return
    across = np.array([-along[1], along[0]]) / length * width
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = (a + b) / 2 + np.cos(angles)[:, None] * along + np.sin(angles)[:, None] * across
    draw.polygon([tuple(point) for point in outline], fill=colour)
