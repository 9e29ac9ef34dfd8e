"""Baselines that are not made by the method: a texture baked from finished frames, and a blur that must lose."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ...shared.passes import FramePasses
from ..video.correspondence import match, prepare_surface_frames

#: standard deviation of the blur in pixels
BLUR = 3.0


def blur(images: np.ndarray) -> np.ndarray:
    """Frames (F, H, W, 3) uint8 without their detail: a figure that prefers them to the originals must not be used alone."""
    return np.stack([gaussian_filter(image, (BLUR, BLUR, 0)) for image in images])


def bake_texture(images: np.ndarray, passes: FramePasses) -> np.ndarray:
    """Paint the characters of frames (F, H, W, 3) uint8 with the mean colour of every surface point over all frames; the
    backgrounds stay.

    A point is looked up in the other frames at its exact place, with bilinear sampling, so that the mean is not quantised.
    """
    frames, out = prepare_surface_frames(passes), images.copy()
    height, width = images.shape[1:3]
    for n, target in enumerate(frames):
        total, count = np.zeros((height * width, 3)), np.zeros(height * width)
        for m, other in enumerate(frames):
            if m == n:
                continue
            pixels, places = match(target, other, height, width)
            total[pixels] += sample_bilinear(images[m], places)
            count[pixels] += 1
        own = images[n].reshape(-1, 3).astype(np.float64)
        mean = (total + own) / (count + 1)[:, None]
        seen = (passes.mask[n] > 0).ravel()
        out[n].reshape(-1, 3)[seen] = np.round(mean[seen]).astype(np.uint8)
    return out


def sample_bilinear(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, 3) float64 colours of an image (H, W, 3) at places (N, 2): x and y in pixels, the first pixel's centre at 0.5."""
    height, width = image.shape[:2]
    x, y = places[:, 0] - 0.5, places[:, 1] - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    out = np.zeros((len(places), 3))
    for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
        for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
            pixel = image[np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)]
            out += (wx * wy)[:, None] * pixel
    return out
