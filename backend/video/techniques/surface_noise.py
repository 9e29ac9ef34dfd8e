"""First noise that sticks to surfaces and to the place, so that it moves with what a frame shows."""

from __future__ import annotations

import numpy as np
import torch

from ....shared.passes import FramePasses
from .technique import Technique

#: odd constants of the SplitMix64 generator (Steele, Lea and Flood 2014)
_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
#: cells of what shows no surface, which are pixels, and of what stands in the world, have numbers of their own
_SCREEN, _WORLD = 1, 2


class SurfaceNoise(Technique):
    """A fraction of the first noise's variance moves with the surfaces."""

    #: the fraction
    settings: float

    def first_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Mix the surface's noise in, where the caller did not choose the noise."""
        context = self.context
        if context.noise_given:
            return noise
        channels, height, width = noise.shape[1:]
        own = draw_surface_noise(context.own_passes, (channels, height, width), context.request.sampling.seed, context.cell_side())
        return mix_noise(noise, own, self.settings)


def mix_noise(noise: torch.Tensor, other: torch.Tensor, fraction: float) -> torch.Tensor:
    """Two independent standard normal noises as one, of whose variance ``fraction`` is the other's."""
    return (1 - fraction) ** 0.5 * noise + fraction**0.5 * other


def _multiply_by_golden_ratio(n: int) -> np.uint64:
    return np.uint64(n * int(_GOLDEN) & (1 << 64) - 1)


def _scramble(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function on uint64."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def _draw_normal(cells: np.ndarray, seed: int, channel: int) -> np.ndarray:
    """(N,) standard normal numbers that belong to cells (N,) uint64: the same for the same cell, seed and channel."""
    key = _scramble(cells + _multiply_by_golden_ratio(seed * 64 + channel + 1))
    first, second = ((_scramble(key + _multiply_by_golden_ratio(n)) >> np.uint64(11)).astype(np.float64) * 2.0**-53 for n in (1, 2))
    return np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)


def _list_cells(passes: FramePasses, frame: int, side: float) -> np.ndarray:
    """(H, W) uint64: the cell that each pixel's centre lies in."""
    height, width = passes.mask.shape[1:]
    index = passes.surface_index[frame].astype(np.uint64)
    places, kind = passes.rest_position[frame], np.where(index > 0, 0, _SCREEN).astype(np.uint64)
    if passes.position is not None:
        standing = (index > 0) & (passes.mask[frame] == 0)
        places = np.where(standing[..., None], passes.position[frame], places)
        kind[standing] = _WORLD
    lattice = np.floor(places.astype(np.float64) / side).astype(np.int64).astype(np.uint64)
    lattice[index == 0] = 0
    lattice[index == 0, :2] = np.moveaxis(np.indices((height, width)), 0, -1)[index == 0].astype(np.uint64)
    out = _scramble(kind * np.uint64(1 << 20) + index)
    for axis in range(3):
        out = _scramble(out * _GOLDEN + lattice[..., axis])
    return out


def draw_surface_noise(passes: FramePasses, shape: tuple[int, int, int], seed: int, side: float) -> torch.Tensor:
    """(F, C, h, w) float32 standard normal noise that moves with the surfaces.

    Rest space is divided into cells of ``side`` metres, each with a number of its own in every channel; a latent pixel has the sum
    of its cells' numbers, weighted by how many of its pixels lie in each, over the root of the squared weights. What stands in
    the world is divided by its world position where that is known; what shows no surface keeps its place in the picture. Frames
    correlate as far as their latent pixels cover the same cells. (After Integral Noise, Chang et al. 2024.)
    """
    channels, height, width = shape
    full_height, full_width = passes.mask.shape[1:]
    rows, cols = np.arange(full_height) * height // full_height, np.arange(full_width) * width // full_width
    latent = (rows[:, None] * width + cols).ravel()
    out = np.empty((passes.frame_count, channels, height * width), np.float32)
    for n in range(passes.frame_count):
        cells, index = np.unique(_list_cells(passes, n, side).ravel(), return_inverse=True)
        pairs, counts = np.unique(latent * len(cells) + index.ravel(), return_counts=True)
        place, cell, count = pairs // len(cells), pairs % len(cells), counts.astype(np.float64)
        spread = np.sqrt(np.bincount(place, count**2, height * width))
        for channel in range(channels):
            out[n, channel] = np.bincount(place, count * _draw_normal(cells, seed, channel)[cell], height * width) / spread
    return torch.from_numpy(out.reshape(-1, channels, height, width))
