"""Figures about surfaces: how the same point of the character looks at different times.

Colours are floats on the 0..255 scale. Only pixels inside the eroded silhouettes count. Points are matched exactly, by their rest
positions.

HMSE is the paper's *human mean squared error* (LatentMan, arXiv 2312.07133): the mean squared difference of matched points of the
character in consecutive frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shared.passes import FramePasses
from .bands import find_window, smooth_inside
from .frames import BAND_SIGMA, Images, MeasuredFrame, pair_with_passes, prepare_frame, prepare_frames
from .pairs import find_inner, find_matched_points, sum_squared_differences
from .sampling import sample_cubic

#: side of a surface cell in typical pixel footprints
CELL = 2.0
#: frames apart over which ``surface_variance`` is shown as well
LAGS = (1, 8)
#: a point must have been hidden for this many frames before it counts as reappearing
HIDDEN_FRAMES = 4


class PairErrors:
    """Differences of matched surface points between consecutive frames, which are added one after the other.

    ``error`` is the sum over pixels of the mean squared difference of the channels (0..255 scale); ``matched`` and ``visible``
    count pixels.
    """

    def __init__(self) -> None:
        self.error, self.matched, self.visible = 0.0, 0, 0
        self._previous: MeasuredFrame | None = None

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        now = prepare_frame(0, image, passes)
        if self._previous is not None:
            points = find_matched_points(now, self._previous)
            inner = points.keep(find_inner(points, now, self._previous))
            self.error += sum_squared_differences(now, self._previous, inner)
            self.matched += len(inner.here)
            self.visible += int(now.inner.sum())
        self._previous = now

    def cut(self) -> None:
        """The next frame is compared with none before it."""
        self._previous = None


def hmse(images: Images, passes: FramePasses) -> float:
    """The paper's human mean squared error, in float arithmetic: the mean squared difference of matched surface points in
    consecutive frames (0..255 scale), the earlier frame read between its pixels.

    Every matched pixel counts the same; the last frame is not compared with the first. NaN without matches."""
    found = PairErrors()
    for image, own in pair_with_passes(images, passes):
        found.add(image, own)
    return found.error / found.matched if found.matched else float("nan")


class WarpError:
    """Squared differences between a frame and the previous one warped by Blender's own motion vectors (0..255 scale), where both
    show the same surface within half a pixel; frames are added one after the other."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._previous: MeasuredFrame | None = None

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame; one without ``motion_vectors`` is passed over."""
        then, self._previous = self._previous, frame
        if then is None or frame.passes.motion_vectors is None:
            return
        height, width = frame.mask.shape
        rows, cols = np.nonzero(frame.inner)
        places = np.stack([cols, rows], 1) + 0.5 + frame.passes.motion_vectors[0][rows, cols]
        inside = ((places >= 0) & (places < [width, height])).all(1)
        rows, cols, places = rows[inside], cols[inside], places[inside]
        x, y = places.astype(int).T
        read = sample_cubic(np.concatenate([then.image, then.passes.rest_position[0]], 2), places)
        apart = np.linalg.norm(frame.passes.rest_position[0][rows, cols] - read[:, 3:], axis=1)
        same = (apart < 0.5 * frame.footprint) & then.inner[y, x]
        self._total += float(((frame.image[rows, cols] - read[:, :3]) ** 2).mean(1)[same].sum())
        self._count += int(same.sum())

    def figures(self) -> dict[str, float]:
        """``warp_error``, see ``mean``."""
        return {"warp_error": self.mean}

    @property
    def mean(self) -> float:
        """The mean over pixels and channels; NaN when there is nothing to compare."""
        return self._total / self._count if self._count else float("nan")


def warp_error(images: Images, passes: FramePasses) -> float:
    """``WarpError.mean`` of a whole clip with a frame step of 1; NaN without the ``motion_vectors`` pass."""
    found = WarpError()
    for frame in prepare_frames(pair_with_passes(images, passes)):
        found.add(frame)
    return found.mean


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


class CellColourGatherer:
    """Gathers ``CellColours`` from frames, which are added one after the other."""

    def __init__(self) -> None:
        self._side = 0.0
        self._frames: list[tuple[int, np.ndarray, np.ndarray]] = []

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        pixels, window = np.flatnonzero(frame.inner), find_window(frame.mask, 1)
        if not len(pixels):
            return
        self._side = self._side or CELL * frame.footprint
        low = np.zeros(frame.image.shape)
        # the low band averages the characters' pixels only
        low[window] = smooth_inside(frame.image[window], frame.mask[window], BAND_SIGMA)
        lattice = np.floor(frame.passes.rest_position[0].reshape(-1, 3)[pixels] / self._side).astype(np.int32)
        ids = frame.passes.surface_index[0].ravel()[pixels].astype(np.int32)
        cells, where, count = np.unique(np.column_stack([lattice, ids]), axis=0, return_inverse=True, return_counts=True)
        both = np.concatenate([low, frame.image - low], 2).reshape(-1, 6)[pixels]
        means = np.stack([np.bincount(where.ravel(), column, len(cells)) for column in both.T], 1) / count[:, None]
        self._frames.append((frame.number, cells, np.column_stack([means, count]).astype(np.float32)))

    def figures(self) -> dict[str, float]:
        """``surface_variance`` of both bands over the clip and over ``LAGS``, ``reappearance`` and ``shading_std``."""
        colours = self.colours()
        out = {"reappearance": reappearance(colours), "shading_std": shading_std(colours)}
        for band in ("low", "high"):
            out[f"surface_variance_{band}"] = surface_variance(colours, band, None)
            out |= {f"surface_variance_{band}_lag{lag}": surface_variance(colours, band, lag) for lag in LAGS}
        return out

    def colours(self) -> CellColours | None:
        """What was gathered; None when no surface was visible."""
        if not self._frames:
            return None
        _, cell = np.unique(np.concatenate([cells for _, cells, _ in self._frames]), axis=0, return_inverse=True)
        frame = np.concatenate([np.full(len(cells), number) for number, cells, _ in self._frames])
        values = np.concatenate([found for _, _, found in self._frames]).astype(np.float64)
        return CellColours(frame, cell.ravel(), values[:, :3], values[:, 3:6], values[:, 6].astype(np.int64))


def compute_cell_colours(images: Images, passes: FramePasses) -> CellColours | None:
    """The colours of every surface cell in every frame (F, H, W, 3) uint8; None when no surface is visible."""
    found = CellColourGatherer()
    for frame in prepare_frames(pair_with_passes(images, passes)):
        found.add(frame)
    return found.colours()


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
