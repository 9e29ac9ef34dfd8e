"""Reading pictures between their pixels."""

from __future__ import annotations

import numpy as np


def compute_cubic_weights(fraction: np.ndarray) -> np.ndarray:
    """(4, N) weights of the pixels at -1, 0, 1 and 2 for places (N,) in [0, 1) behind pixel 0: cubic convolution with a = -1/2
    (Keys 1981), which reproduces parabolas."""
    t = fraction
    return np.stack(
        [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )


def sample_cubic(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, C) float64 values of a picture (H, W, C) at places (N, 2): x and y in pixels, the first pixel's centre at 0.5."""
    height, width = values.shape[:2]
    x, y = places[:, 0].astype(np.float64) - 0.5, places[:, 1].astype(np.float64) - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    across, down = compute_cubic_weights(x - left), compute_cubic_weights(y - top)
    flat, out = values.reshape(height * width, -1), np.zeros((len(places), values.shape[2]))
    columns = [np.clip(left + n - 1, 0, width - 1) for n in range(4)]
    for row in range(4):
        start = np.clip(top + row - 1, 0, height - 1) * width
        for column in range(4):
            out += (down[row] * across[column])[:, None] * flat[start + columns[column]]
    return out


def sample_linear_inside(values: np.ndarray, mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, C) float64 values of a picture (H, W, C) at places (N, 2), of the pixels of a mask (H, W) bool only, as in
    ``sample_cubic`` but linear: beside an edge, where there are no four pixels in a row. NaN where no pixel of the mask is near."""
    height, width = mask.shape
    x, y = places[:, 0].astype(np.float64) - 0.5, places[:, 1].astype(np.float64) - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    flat, inside = values.reshape(height * width, -1), mask.ravel()
    out, total = np.zeros((len(places), values.shape[2])), np.zeros(len(places))
    for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
        for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
            pixel = np.clip(top + dy, 0, height - 1) * width + np.clip(left + dx, 0, width - 1)
            weight = wx * wy * inside[pixel]
            out += weight[:, None] * flat[pixel]
            total += weight
    out[total > 0] /= total[total > 0, None]
    out[total <= 0] = np.nan
    return out
