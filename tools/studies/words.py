"""Whether frames of the mannequin wear the colours that their prompt names: the evaluations' figure for the text."""

from __future__ import annotations

import re

import numpy as np
from scipy.ndimage import binary_erosion

from latentman.shared.shot import FramePasses
from tools.starter.wardrobe import BOTTOMS, PALETTE, TOPS, WAIST

#: light and shade that a colour may have and still be itself
BRIGHTNESS = (1.0, 0.85, 0.7)
#: heights over the pelvis in rest space, and the reach from the middle, between which a garment surely is
TOP, BOTTOM, REACH = (WAIST + 0.05, 0.42), (-0.70, -0.05), 0.45
LEAST_PIXELS = 40


def asked(prompt: str) -> dict[str, str]:
    """``top`` and ``bottom`` -> the colour that a prompt names for it; a suit is both."""
    colours = "|".join(PALETTE)
    out = {}
    for part, kinds in (("top", TOPS), ("bottom", BOTTOMS)):
        found = re.search(rf"\b({colours}) (?:\w+ )?(?:{'|'.join(kinds)}|suit)\b", prompt)
        if found:
            out[part] = found[1]
    return out


def nearest_colour(colour: np.ndarray) -> str:
    """The palette's name for a colour (3,) in 0..255, in the light that suits it best."""
    names = list(PALETTE)
    options = np.array([[np.array(PALETTE[name]) * light for name in names] for light in BRIGHTNESS]) * 255
    return names[int(np.square(options - colour).sum(-1).min(0).argmin())]


def named_colours(images: np.ndarray, passes: FramePasses, prompt: str) -> float:
    """Share of garments, over all frames (F, H, W, 3) uint8, whose mean colour is nearest to the one that the prompt names; NaN
    where it names none or none is seen."""
    wanted, right = asked(prompt), []
    for image, mask, rest in zip(images, passes.mask, passes.rest_position, strict=True):
        inside = binary_erosion(mask > 0, iterations=2)
        for part, (low, high) in (("top", TOP), ("bottom", BOTTOM)):
            seen = inside & (rest[..., 1] > low) & (rest[..., 1] < high) & (np.abs(rest[..., 0]) < REACH)
            if part in wanted and seen.sum() >= LEAST_PIXELS:
                right.append(nearest_colour(image[seen].mean(0)) == wanted[part])
    return float(np.mean(right)) if right else float("nan")


def text_figures(images: np.ndarray, passes: FramePasses, prompt: str) -> dict[str, float]:
    """``named_colours`` as the laboratory takes further figures."""
    return {"named_colours": named_colours(images, passes, prompt)}
