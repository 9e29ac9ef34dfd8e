"""Finishes the edge between surfaces and the place behind them at pixel level, where latents mix the two.

A latent stands for 8x8 pixels: whatever is decided for it, the character melts into the place or the place into the character.
Passes say of each pixel which of the two it shows.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .blurring import make_gaussian
from .distances import find_window, measure_distance, take_nearest
from .images import convert_to_picture
from .look import HALO

#: standard deviation in pixels of the blur that shows how far from a hard mask's line a pixel's centre lies, and how many of these
#: it reaches
_LINE_SIGMA, _LINE_REACH = 1.0, 4.0
#: pixels from the edge over which a frame's own colours begin to count
_TRUSTED = 3.0


def estimate_coverage(surface: torch.Tensor) -> torch.Tensor:
    """(H, W) float32: how much of each pixel a surface (H, W) bool covers; 1 on it.

    Passes have no half-covered pixels. A blurred mask says how far the outline lies from a pixel's centre, and so how much of the
    pixel lies within it: half of it at most beside slanted outlines, nothing beside upright and level ones.
    """
    kernel = make_gaussian(_LINE_SIGMA, surface.device, _LINE_REACH)
    reach = len(kernel) // 2
    padded = F.pad(surface.float()[None, None], (reach, reach, reach, reach), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]
    within = _LINE_SIGMA * torch.special.ndtri(blurred.clamp(1e-4, 1 - 1e-4))
    return torch.where(surface, torch.ones_like(within), (within + 0.5).clamp(0, 1))


def weigh_inside(index: np.ndarray) -> np.ndarray:
    """(H, W) float32: how far a frame's own colours can be trusted to be those of the surface ``index`` (H, W) that a pixel shows:
    0 where it is 0, little at a surface's edge, 1 three pixels within."""
    out = np.zeros(index.shape, np.float32)
    for number in np.unique(index[index > 0]):
        # whatever is outside is beside it first
        window = find_window(index == number, 1)
        out[window] += np.clip((measure_distance(index[window] != number) - 0.5) / _TRUSTED, 0, 1) ** 2
    return out


def composite_surfaces(
    picture: torch.Tensor,
    surface: torch.Tensor,
    place: np.ndarray | None = None,
    known: np.ndarray | None = None,
    shade: np.ndarray | None = None,
) -> torch.Tensor:
    """(3, H, W) float32: a picture's surfaces (H, W) bool over the ``place`` (H, W, 3) from 0 to 255 behind them, by how much of
    each pixel they cover.

    Where the place is not ``known`` (H, W) bool it is the picture's own, except beside surfaces, whose colours it has there: that
    is taken from what is near. Without a ``place`` all of it stays the picture's own. ``shade`` (H, W, 3) is what shadows leave of
    its light.
    """
    picture = picture.float()
    behind, seen = picture, surface.cpu().numpy()
    if place is not None and known is not None:
        behind = torch.where(torch.from_numpy(known).to(picture.device), convert_to_picture(place, picture.device), picture)
        if seen.any():
            # all around the window is clear, so that nothing outside is nearest
            window = find_window(seen, HALO + 1)
            clear = np.ones_like(known)
            clear[window] = known[window] | (measure_distance(seen[window]) > HALO)
            if clear.any() and not clear.all():
                behind = _take_nearest_within(behind, clear, window)
    if shade is not None:
        behind = (behind + 1) * torch.from_numpy(shade).to(picture).permute(2, 0, 1) - 1
    if not seen.any():
        return behind
    # farther away nothing is covered
    window = find_window(seen, int(_LINE_SIGMA * _LINE_REACH) + 1)
    coverage = estimate_coverage(surface)[window]
    out, (rows, columns) = behind.clone(), window
    nearest = take_nearest(picture[:, rows, columns], seen[window])
    out[:, rows, columns] = nearest * coverage + behind[:, rows, columns] * (1 - coverage)
    return out


def _take_nearest_within(picture: torch.Tensor, known: np.ndarray, window: tuple[slice, slice]) -> torch.Tensor:
    """``take_nearest`` where all pixels that are not ``known``, and those that are nearest to them, lie within a window."""
    out, (rows, columns) = picture.clone(), window
    out[:, rows, columns] = take_nearest(picture[:, rows, columns], known[window])
    return out
