"""Coarse and fine bands of a picture inside a silhouette, where what lies outside takes no part (normalised convolution)."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

#: weight below which a place is too far from the silhouette to have a mean
LEAST_WEIGHT = 1e-4


def find_window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns of a mask (H, W) with ``margin`` pixels around them; empty slices for an empty mask."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(cols[0]) - margin, 0), int(cols[-1]) + 1 + margin),
    )


def smooth_inside(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian means of values (H, W, C) over the pixels of a mask (H, W) bool only; 0 far away from it."""
    weight = gaussian_filter(mask.astype(np.float64), sigma)
    total = gaussian_filter(np.where(mask[..., None], values, 0.0).astype(np.float64), (sigma, sigma, 0))
    return np.where(weight[..., None] > LEAST_WEIGHT, total / np.maximum(weight, LEAST_WEIGHT)[..., None], 0.0)
