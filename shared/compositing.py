"""Cutting the characters out of finished frames, and laying them over other pictures."""

from __future__ import annotations

import numpy as np


def soften_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1] of a hard mask: its edge is softened over one pixel, since passes have no half-covered ones."""
    seen = (mask > 0).astype(np.float32)
    padded = np.pad(seen, 1, mode="edge")
    height, width = seen.shape
    total = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.asarray(total / 9, np.float32)


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8, straight alpha, of a frame (H, W, 3) uint8."""
    alpha = np.round(soften_mask(mask) * 255).astype(np.uint8)
    return np.concatenate([image, alpha[..., None]], -1)


def composite_over(image: np.ndarray, mask: np.ndarray, below: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the characters of a frame over another picture of the same size."""
    alpha = soften_mask(mask)[..., None]
    return np.round(image * alpha + below * (1 - alpha)).astype(np.uint8)
