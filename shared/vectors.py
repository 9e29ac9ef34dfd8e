"""Small array formulas that both sides use."""

from __future__ import annotations

import numpy as np

#: vectors shorter than this have no direction; they stay close to zero
SHORTEST = 1e-12


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., N) scaled to length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SHORTEST))


def smoothstep(t: np.ndarray | float) -> np.ndarray:
    """From 0 at ``t`` = 0 to 1 at 1, with no speed at either end; constant outside."""
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def smootherstep(t: np.ndarray | float) -> np.ndarray:
    """Like ``smoothstep``, with no acceleration at the ends either (Perlin 2002)."""
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * t * (t * (6.0 * t - 15.0) + 10.0))
