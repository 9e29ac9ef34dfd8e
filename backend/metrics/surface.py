"""Figures about surfaces: how the same point of the character looks at different times.

Colours are floats on the 0..255 scale. Only pixels inside the eroded silhouettes count. Points are matched exactly, by their rest
positions.

HMSE is the paper's *human mean squared error* (LatentMan, arXiv 2312.07133): the mean squared difference of matched points of the
character in consecutive frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

from ...shared.passes import FramePasses
from ..video.correspondence import SurfaceFrame, find_reference_pixels, match, prepare_surface_frame, prepare_surface_frames

#: frames (H, W, 3) uint8, as one array or one after the other
Images = np.ndarray | Sequence[np.ndarray]
#: pixels taken off the edge of the silhouette, where one pixel mixes two surfaces
EROSION = 2
#: pixels; what is coarser is shading and belongs to the low band, what is finer is texture
BAND_SIGMA = 4.0
#: side of a surface cell in typical pixel footprints
CELL = 2.0
#: a point must have been hidden for this many frames before it counts as reappearing
HIDDEN_FRAMES = 4


def erode_masks(passes: FramePasses) -> np.ndarray:
    """(F, H, W) bool: the characters without the edges of their silhouettes (``EROSION`` pixels)."""
    return np.stack([binary_erosion(mask, iterations=EROSION) for mask in passes.mask > 0])


class PairErrors:
    """Differences of matched surface points between consecutive frames, which are added one after the other.

    ``error`` is the sum over pixels of the mean squared difference of the channels (0..255 scale); ``matched`` and ``visible``
    count pixels.
    """

    def __init__(self) -> None:
        self.error, self.matched, self.visible = 0.0, 0, 0
        self._previous: tuple[np.ndarray, np.ndarray, SurfaceFrame] | None = None

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        mask = binary_erosion(passes.mask[0] > 0, iterations=EROSION)
        now = image.reshape(-1, 3).astype(np.float64), mask, prepare_surface_frame(passes.rest_position[0], passes.surface_index[0])
        if self._previous is not None:
            colours, inside, surface = self._previous
            here, places = match(now[2], surface, *mask.shape)
            there = find_reference_pixels(places, *mask.shape)
            inner = mask.ravel()[here] & inside.ravel()[there]
            self.error += float(((now[0][here[inner]] - colours[there[inner]]) ** 2).mean(1).sum())
            self.matched += int(inner.sum())
            self.visible += int(mask.sum())
        self._previous = now


def compute_pair_errors(images: Images, passes: FramePasses) -> PairErrors:
    """The ``PairErrors`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = PairErrors()
    for n in range(len(images)):
        found.add(images[n], passes.select([n]))
    return found


def hmse(images: np.ndarray, passes: FramePasses) -> float:
    """The paper's human mean squared error, in float arithmetic: the mean squared difference of matched surface points in
    consecutive frames (0..255 scale).

    Every matched pixel counts the same; the last frame is not compared with the first. NaN without matches."""
    found = compute_pair_errors(images, passes)
    return found.error / found.matched if found.matched else float("nan")


def hmse_compat(images: np.ndarray, passes: FramePasses) -> float:
    """HMSE by the authors' formula: every frame against the next, the last against the first, and the mean over the pairs.

    The published numbers were computed in 8 bits, where squares wrap, so that they cannot be compared with these."""
    cycle = [*range(len(images)), 0]
    values = []
    for a, b in pairwise(cycle):
        pair = FramePasses(**{name: array[[b, a]] for name, array in passes.arrays().items()})
        values.append(hmse(images[[b, a]], pair))
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def warp_error(images: np.ndarray, passes: FramePasses) -> float:
    """Mean squared difference between a frame and the previous one warped by Blender's own motion vectors (0..255 scale), where
    both show the same surface within two footprints of a pixel.

    Needs the ``motion_vectors`` pass of a shot with a frame step of 1; NaN without it."""
    if passes.motion_vectors is None or len(images) < 2:
        return float("nan")
    masks, frames = erode_masks(passes), images.astype(np.float64)
    height, width = masks.shape[1:]
    total, count = 0.0, 0
    sizes = [frame.footprint for frame in prepare_surface_frames(passes)]
    for n in range(1, len(frames)):
        rows, cols = np.nonzero(masks[n])
        place = np.stack([cols, rows], 1) + np.round(passes.motion_vectors[n][rows, cols]).astype(int)
        inside = ((place >= 0) & (place < [width, height])).all(1)
        rows, cols, (x, y) = rows[inside], cols[inside], place[inside].T
        apart = np.linalg.norm(passes.rest_position[n][rows, cols] - passes.rest_position[n - 1][y, x], axis=-1)
        same = (apart < 2 * sizes[n]) & masks[n - 1][y, x]
        total += float(((frames[n][rows, cols] - frames[n - 1][y, x]) ** 2).mean(1)[same].sum())
        count += int(same.sum())
    return total / count if count else float("nan")


@dataclass(frozen=True)
class CellColours:
    """Colours of surface cells over time. Each of N observations is a cell in a frame: ``frame`` and ``cell`` (N,) are its numbers,
    ``low`` and ``high`` (N, 3) its mean colours in both bands, ``pixels`` (N,) how many pixels it covered."""

    frame: np.ndarray
    cell: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pixels: np.ndarray

    def sum_over_cells(self, values: np.ndarray) -> np.ndarray:
        """(C, D) sums over the observations of each cell of values (N, D), weighted by pixels."""
        out = np.zeros((int(self.cell.max()) + 1, values.shape[1]))
        np.add.at(out, self.cell, values * self.pixels[:, None])
        return out


def _split_bands(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high band of an image (H, W, 3) inside a mask. The low band averages the mask's pixels only."""
    weight = gaussian_filter(mask.astype(np.float64), BAND_SIGMA)
    low = np.stack([gaussian_filter(image[..., c] * mask, BAND_SIGMA) for c in range(3)], -1) / np.maximum(weight, 1e-6)[..., None]
    return low, image - low


def compute_cell_colours(images: np.ndarray, passes: FramePasses) -> CellColours | None:
    """The colours of every surface cell in every frame (F, H, W, 3) uint8; None when no surface is visible."""
    masks, frames = erode_masks(passes), images.astype(np.float64)
    sizes = [frame.footprint for frame in prepare_surface_frames(passes) if len(frame.pixels)]
    if not masks.any() or not sizes:
        return None
    side = CELL * float(np.median(sizes))
    index, rows, lows, highs = [], [], [], []
    for n, mask in enumerate(masks):
        if not mask.any():
            continue
        low, high = _split_bands(frames[n], passes.mask[n] > 0)
        lattice = np.floor(passes.rest_position[n][mask] / side).astype(np.int64)
        index.append(np.column_stack([lattice, passes.surface_index[n][mask]]))
        rows.append(np.full(int(mask.sum()), n))
        lows.append(low[mask])
        highs.append(high[mask])
    _, cell = np.unique(np.concatenate(index), axis=0, return_inverse=True)
    frame = np.concatenate(rows)
    key = cell.ravel() * len(frames) + frame
    found, where, count = np.unique(key, return_inverse=True, return_counts=True)

    def mean(values: list[np.ndarray]) -> np.ndarray:
        out = np.zeros((len(found), 3))
        np.add.at(out, where.ravel(), np.concatenate(values))
        return out / count[:, None]

    return CellColours(found % len(frames), found // len(frames), mean(lows), mean(highs), count)


def surface_variance(colours: CellColours | None, band: str, lag: int | None) -> float:
    """Variance of the cells' colours over time, on the 0..255 scale, weighted by area.

    ``band`` is ``low`` (shading) or ``high`` (texture). With a ``lag`` it is half the mean squared change between frames that many
    apart, with None the variance over the whole clip. NaN when nothing can be compared."""
    if colours is None:
        return float("nan")
    values = colours.low if band == "low" else colours.high
    if lag is None:
        weight = np.zeros(int(colours.cell.max()) + 1)
        np.add.at(weight, colours.cell, colours.pixels)
        mean = colours.sum_over_cells(values) / weight[:, None]
        seen = np.bincount(colours.cell)[colours.cell] > 1
        if not seen.any():
            return float("nan")
        error = ((values - mean[colours.cell]) ** 2).mean(1)
        return float(np.average(error[seen], weights=colours.pixels[seen]))
    span = int(colours.frame.max()) + lag + 1
    key = colours.cell * span + colours.frame
    order = np.argsort(key)
    at = np.searchsorted(key[order], key + lag)
    hit = (at < len(key)) & (key[order[np.minimum(at, len(key) - 1)]] == key + lag)
    if not hit.any():
        return float("nan")
    later = order[at[hit]]
    error = ((values[hit] - values[later]) ** 2).mean(1) / 2
    return float(np.average(error, weights=np.minimum(colours.pixels[hit], colours.pixels[later])))


def shading_std(colours: CellColours | None) -> float:
    """Standard deviation of the shading over time: the root of the low band's ``surface_variance`` (0..255 scale).

    It shows light that moves over the surface; a baked texture has about none. Flicker raises it too, so it is read together with
    ``hmse``."""
    return float(np.sqrt(surface_variance(colours, "low", None)))


def reappearance(colours: CellColours | None) -> float:
    """Mean squared change of cells that were hidden for at least ``HIDDEN_FRAMES`` frames, from before to after (0..255 scale,
    both bands together, weighted by area). NaN when nothing reappears."""
    if colours is None:
        return float("nan")
    order = np.lexsort((colours.frame, colours.cell))
    cell, frame = colours.cell[order], colours.frame[order]
    values, pixels = (colours.low + colours.high)[order], colours.pixels[order]
    reappears = (cell[1:] == cell[:-1]) & (frame[1:] - frame[:-1] > HIDDEN_FRAMES)
    if not reappears.any():
        return float("nan")
    error = ((values[1:] - values[:-1]) ** 2).mean(1)[reappears]
    return float(np.average(error, weights=np.minimum(pixels[1:], pixels[:-1])[reappears]))
