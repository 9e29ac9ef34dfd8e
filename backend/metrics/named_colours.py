"""Whether the mannequin wears the colours that the prompt names: how well an evaluation's frames follow their text."""

from __future__ import annotations

import re

import numpy as np
from scipy.ndimage import binary_erosion

from ...shared.passes import FramePasses

#: the colours that can be recognised, as red, green and blue in 0..1; the starter model learnt them by these names
PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.78, 0.10, 0.10),
    "blue": (0.12, 0.25, 0.78),
    "green": (0.12, 0.55, 0.18),
    "yellow": (0.93, 0.80, 0.12),
    "orange": (0.93, 0.48, 0.08),
    "purple": (0.45, 0.15, 0.62),
    "pink": (0.93, 0.50, 0.68),
    "white": (0.93, 0.93, 0.93),
    "black": (0.07, 0.07, 0.08),
    "grey": (0.48, 0.48, 0.50),
    "brown": (0.42, 0.25, 0.12),
}
TOPS = ("T-shirt", "shirt", "jacket", "sweater", "vest")
BOTTOMS = ("jeans", "trousers", "shorts", "skirt")
#: height of the mannequin's waist above its pelvis in the rest pose, in metres
WAIST = 0.055

#: brightnesses at which a colour is still recognised
BRIGHTNESS = (1.0, 0.85, 0.7)
#: ranges of height above the pelvis, and the distance from the body's middle, in which each garment is found, in metres
TOP_HEIGHTS, BOTTOM_HEIGHTS, MAX_DISTANCE = (WAIST + 0.05, 0.42), (-0.70, -0.05), 0.45
#: a garment is judged where at least this many of its pixels are visible
MIN_PIXELS = 40


def parse_colours(prompt: str) -> dict[str, str]:
    """``top`` and ``bottom`` -> the colour that a prompt asks for; a suit counts as both. What is not named is left out."""
    colours = "|".join(PALETTE)
    out = {}
    for part, kinds in (("top", TOPS), ("bottom", BOTTOMS)):
        found = re.search(rf"\b({colours}) (?:\w+ )?(?:{'|'.join(kinds)}|suit)\b", prompt)
        if found:
            out[part] = found[1]
    return out


def find_nearest_colour(colour: np.ndarray) -> str:
    """The palette's name for a colour (3,) in 0..255, at the brightness that fits best."""
    names = list(PALETTE)
    options = np.array([[np.array(PALETTE[name]) * light for name in names] for light in BRIGHTNESS]) * 255
    return names[int(np.square(options - colour).sum(-1).min(0).argmin())]


def measure_named_colours(images: np.ndarray, passes: FramePasses, prompt: str) -> float:
    """Fraction of garments, over all frames (F, H, W, 3) uint8, whose mean colour is nearest to the one that the prompt names.

    The passes must show the bundled mannequin. NaN when the prompt names no colour or no garment is visible.
    """
    wanted, right = parse_colours(prompt), []
    for image, mask, rest_position in zip(images, passes.mask, passes.rest_position, strict=True):
        inside = binary_erosion(mask > 0, iterations=2)
        for part, (low, high) in (("top", TOP_HEIGHTS), ("bottom", BOTTOM_HEIGHTS)):
            seen = (
                inside
                & (rest_position[..., 1] > low)
                & (rest_position[..., 1] < high)
                & (np.abs(rest_position[..., 0]) < MAX_DISTANCE)
            )
            if part in wanted and seen.sum() >= MIN_PIXELS:
                right.append(find_nearest_colour(image[seen].mean(0)) == wanted[part])
    return float(np.mean(right)) if right else float("nan")


def compute_text_metrics(images: np.ndarray, passes: FramePasses, prompt: str) -> dict[str, float]:
    """``measure_named_colours`` as the evaluator's extra metrics."""
    return {"named_colours": measure_named_colours(images, passes, prompt)}
