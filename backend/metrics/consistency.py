"""The few figures that every finished job is given."""

from __future__ import annotations

import numpy as np

from ...shared.shot import FramePasses
from .surface import Images, pair_errors


def background_error(images: Images, passes: FramePasses) -> float:
    """Mean squared difference of consecutive frames where both show no surface at all (0..255 scale): for a still camera. NaN
    where there is nothing to compare."""
    total, count = 0.0, 0
    for n in range(1, len(images)):
        still = (passes.surface_index[n] == 0) & (passes.surface_index[n - 1] == 0)
        total += float(((images[n].astype(np.float64) - images[n - 1]) ** 2).mean(-1)[still].sum())
        count += int(still.sum())
    return total / count if count else float("nan")


def consistency(images: Images, passes: FramePasses) -> dict[str, float]:
    """Figures for frames (F, H, W, 3) uint8 with their passes; differences are squared on the 0..255 scale.

    ``hmse``: matched surface points of consecutive frames. ``background_mse``: pixels that are background in both frames of a
    pair; meaningful for a still camera. ``matched_share``: matched pixels over the character's pixels. NaN where there is
    nothing to compare.
    """
    error, matched, visible = pair_errors(images, passes)
    return {
        "hmse": error / matched if matched else float("nan"),
        "background_mse": background_error(images, passes),
        "matched_share": matched / visible if visible else float("nan"),
    }
