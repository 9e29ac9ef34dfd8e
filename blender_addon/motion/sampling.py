"""Frames of a long motion that are looked at in place of all. No bpy."""

from __future__ import annotations

import numpy as np


def spread_frames(count: int, most: int) -> np.ndarray:
    """(N,) int numbers of at most ``most`` frames, evenly spread over ``count`` with the first and the last; none of none."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(int))
