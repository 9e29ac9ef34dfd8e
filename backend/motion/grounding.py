"""Takes made motions out of the ground, as little and as smoothly as that goes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

#: frames that share a lift, and over which it comes and goes
REACH, EASE = 7, 1.5
#: where features hold heights: the root's, then those of the joints 1..21
HEIGHTS = np.array([3, *range(5, 67, 3)])


def grounded(vectors: np.ndarray, toe_height: float) -> np.ndarray:
    """HumanML3D vectors (..., F, 263) whose lowest joint is nowhere below ``toe_height`` metres; what stands higher is left."""
    lowest = vectors[..., HEIGHTS].min(-1)
    missing = np.maximum(toe_height - lowest, 0.0)
    lift = gaussian_filter1d(maximum_filter1d(missing, REACH, axis=-1), EASE, axis=-1, truncate=(REACH // 2) / EASE)
    out = vectors.copy()
    # the filter's reach is that of the maximum: what is missing at a frame is in all it averages
    out[..., HEIGHTS] += np.maximum(lift, missing)[..., None]
    return out
