"""Small formulas on arrays that both sides use."""

from __future__ import annotations

import numpy as np

#: shorter vectors have no direction; they stay nearly zero
SHORTEST = 1e-12


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., N) at length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SHORTEST))


def smoothstep(fraction: np.ndarray | float) -> np.ndarray:
    """From 0 to 1 as ``fraction`` goes there, with no speed at either end; flat outside."""
    x = np.clip(fraction, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x))


def smootherstep(fraction: np.ndarray | float) -> np.ndarray:
    """As ``smoothstep``, with no acceleration at the ends either (Perlin 2002)."""
    x = np.clip(fraction, 0.0, 1.0)
    return np.asarray(x * x * x * (x * (6.0 * x - 15.0) + 10.0))
