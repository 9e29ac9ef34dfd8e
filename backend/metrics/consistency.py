"""How much a clip flickers where the same surface or background is seen twice."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

from backend.video.correspondence import surface_frames, surface_matches
from shared.shot import FramePasses

#: pixels taken off the silhouette, where one pixel mixes two surfaces
EROSION = 2


def consistency(images: np.ndarray, passes: FramePasses) -> dict[str, float]:
    """Figures for frames (F, H, W, 3) uint8 with their passes; differences are squared on the 0..255 scale.

    ``hmse``: matched surface points of consecutive frames, averaged over pairs weighted by their matches.
    ``background_mse``: pixels that are background in both frames of a pair; meaningful for a still camera.
    ``matched_share``: matched pixels over the character's pixels. NaN where there is nothing to compare.
    """
    frames = images.astype(np.float64)
    masks = np.stack([binary_erosion(mask, iterations=EROSION) for mask in passes.mask > 0])
    height, width = masks.shape[1:]
    matches = surface_matches(passes, height, width, "prev", surface_frames(passes))
    error, matched, visible, background, background_pixels = 0.0, 0, 0, 0.0, 0
    for n in range(1, len(frames)):
        here, there = matches.target_pixels[n], matches.reference_pixels[n]
        inner = masks[n].ravel()[here] & masks[n - 1].ravel()[there]
        here, there = here[inner], there[inner]
        a, b = frames[n].reshape(-1, 3), frames[n - 1].reshape(-1, 3)
        error += float(((a[here] - b[there]) ** 2).mean(1).sum())
        matched += len(here)
        visible += int(masks[n].sum())
        still = ((passes.mask[n] == 0) & (passes.mask[n - 1] == 0)).ravel()
        background += float(((a[still] - b[still]) ** 2).mean(1).sum())
        background_pixels += int(still.sum())
    return {"hmse": error / matched if matched else float("nan"),
            "background_mse": background / background_pixels if background_pixels else float("nan"),
            "matched_share": matched / visible if visible else float("nan")}
