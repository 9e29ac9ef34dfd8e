"""The one depth convention: near = 1, background = 0, one range for a whole shot.

The farthest surface stays above 0, so that a far foot can be told from the background.
"""

from __future__ import annotations

import numpy as np

#: value of the farthest point of the range; the background is 0
FAR_VALUE = 0.15


def normalise_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Planar camera depth in metres, any shape, background inf or >= 1e9 -> float32 in [0, 1].

    ``near`` and ``far`` are the shot's range in metres; values outside are clipped to it.
    """
    span = max(far - near, 1e-6)
    value = 1.0 - (1.0 - FAR_VALUE) * np.clip((depth - near) / span, 0.0, 1.0)
    return np.where(depth < 1e9, value, 0.0).astype(np.float32)


def compute_metric_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """The inverse of ``normalise_depth``: float32 metres, 1e10 for the background."""
    distance = near + (1.0 - np.asarray(depth, np.float64)) / (1.0 - FAR_VALUE) * (far - near)
    return np.where(depth > 0, distance, 1e10).astype(np.float32)
