"""Skeletons drawn the way OpenPose draws them, which is what pose ControlNets were trained on."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotError

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
    from PIL import Image, ImageDraw

    if not manifest.people:
        raise ShotError("parts", "The passes hold no skeleton; map the bones of the character and render the passes again.")
    scale = SUPERSAMPLING * min(manifest.width, manifest.height) / 512
    out = []
    for n in range(len(manifest.frames)):
        picture = Image.new("RGB", (manifest.width * SUPERSAMPLING, manifest.height * SUPERSAMPLING))
        draw = ImageDraw.Draw(picture)
        for person in manifest.people:
            points = np.array(person.keypoints[n])
            in_front = points[:, 2] > 0
            places = points[:, :2] * SUPERSAMPLING
            for number, (a, b) in enumerate(LIMBS):
                if in_front[a] and in_front[b]:
                    _draw_limb(draw, places[a], places[b], THICKNESS * scale, _get_colour(number, LIMB_BRIGHTNESS))
            for number, (x, y) in enumerate(places):
                if in_front[number]:
                    r = RADIUS * scale
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=_get_colour(number))
        out.append(np.asarray(picture.resize((manifest.width, manifest.height), Image.Resampling.BOX)))
    return np.stack(out)


def _draw_limb(draw: ImageDraw.ImageDraw, a: np.ndarray, b: np.ndarray, width: float, colour: tuple[int, int, int]) -> None:
    """An ellipse from one joint to the other."""
    along = (b - a) / 2
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        return
    across = np.array([-along[1], along[0]]) / length * width
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = (a + b) / 2 + np.cos(angles)[:, None] * along + np.sin(angles)[:, None] * across
    draw.polygon([tuple(point) for point in outline], fill=colour)
