"""Cutting parts and characters out of finished frames, and laying them over other pictures."""

from __future__ import annotations

import numpy as np

from .picture_size import Crop
from .shot import ShotError


def _sum_around(values: np.ndarray) -> np.ndarray:
    """(H, W, ...) sums over each pixel and its eight neighbours; a picture's border goes on beyond it."""
    padded = np.pad(values, ((1, 1), (1, 1), *([(0, 0)] * (values.ndim - 2))), mode="edge")
    height, width = values.shape[:2]
    return np.asarray(sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)))


def soften_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1] of a hard mask: its edge is softened over one pixel, since passes have no half-covered ones."""
    return np.asarray(_sum_around((mask > 0).astype(np.float32)) / 9, np.float32)


def _spread_colours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: an image whose pixels beside the mask have the mean colour of those neighbours that lie within it, so that
    a softened edge shows nothing of the place that the character was made in."""
    seen = (mask > 0).astype(np.float32)[..., None]
    count = _sum_around(seen)
    spread = _sum_around(image * seen) / np.maximum(count, 1)
    return np.where((seen == 0) & (count > 0), spread, image).astype(np.float32)


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8, straight alpha, of a frame (H, W, 3) uint8."""
    alpha = np.round(soften_mask(mask) * 255).astype(np.uint8)
    return np.concatenate([np.round(_spread_colours(image, mask)).astype(np.uint8), alpha[..., None]], -1)


def composite_over(image: np.ndarray, mask: np.ndarray, below: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the characters of a frame over another picture of the same size."""
    alpha = soften_mask(mask)[..., None]
    return np.round(_spread_colours(image, mask) * alpha + below * (1 - alpha)).astype(np.uint8)


def crop_image(image: np.ndarray, crop: Crop) -> np.ndarray:
    """(crop.height, crop.width, C) of an image (H, W, C). Raises ``ShotError`` where the part reaches out of the image."""
    height, width = image.shape[:2]
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise ShotError(
            "size",
            f"A frame of {width}x{height} pixels does not hold the part of {crop.width}x{crop.height} that is asked for; generate "
            "the shot again.",
        )
    return image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
