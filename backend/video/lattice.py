"""The surface as a sparse lattice of cells in rest space.

Any mesh works, with or without texture coordinates, without seams, and several objects at once. Splatting and reading are
trilinear and linear in the number of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ...shared.passes import FramePasses
from .correspondence import SurfaceFrame, prepare_surface_frame, prepare_surface_frames
from .distances import measure_distance

#: side of a cell in typical pixel footprints
CELL = 1.0
#: pixels from the silhouette over which the blend weight grows from nothing: there a pixel mixes two surfaces
FEATHER = 3.0
#: pixels beside each other whose points are farther apart than this many typical footprints show two parts of the surface
JUMP = 3.0
#: cells whose total weight over all frames is below this are left unchanged
MIN_WEIGHT = 1e-3
#: a cell that no pixel sees better than this is doubtful: it was seen on the last pixel of a silhouette, at a grazing angle, or on
#: a thin part alone, where the colour is half that of what lies behind
LEAST_QUALITY = 0.1
#: standard deviations in pixels of the blurs of how near and frontal a view is, and of how far within an outline: without them
#: neighbouring pixels take turns in being the better view, and the texture is a mosaic of frames that differ
VIEW_SIGMA, FEATHER_SIGMA = 6.0, 1.0
#: a part of the surface into which no disc of this radius in pixels fits is thin: a latent mixes it with what lies beside it, and
#: its pixels count this much less; unless more than this fraction of a frame's surface is thin, which then is small, and there is
#: nothing better
THIN, THIN_WEIGHT, MOST_THIN = 4.0, 0.02, 0.2
#: the least visibility of a pixel, at grazing angles or from far away
MIN_VISIBILITY = 0.02
#: frames that represent a whole shot
SAMPLED = 8
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
#: bits of a cell's coordinate along an axis, and of an object's number, in a packed cell
_BITS, _ID_BITS = 18, 9
#: what a packed cell's corners are more than it
_STEPS = _CORNERS @ [1 << 2 * _BITS, 1 << _BITS, 1]


def pack_cells(cell: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """One integer for each cell (..., 3) of an object; coordinates up to 131,072 cells from the origin along an axis."""
    x, y, z = (np.clip(cell[..., axis] + (1 << _BITS - 1), 0, (1 << _BITS) - 1) for axis in range(3))
    return (((ids & (1 << _ID_BITS) - 1) << _BITS | x) << _BITS | y) << _BITS | z


def unpack_cells(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of ``pack_cells``: places (..., 3) and objects (...)."""
    low = (1 << _BITS) - 1
    place = np.stack([cells >> shift & low for shift in (2 * _BITS, _BITS, 0)], -1) - (1 << _BITS - 1)
    return place, cells >> 3 * _BITS


def find_corners(points: np.ndarray, ids: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The packed cells (N, 8) of ``side`` metres around points (N, 3) of the objects ``ids`` (N,), and their trilinear weights
    (N, 8) float64."""
    place = points.astype(np.float64) / side
    low = np.floor(place).astype(np.int64)
    fraction = place - low
    x, y, z = np.stack([1 - fraction, fraction], -1).transpose(1, 0, 2)
    weights = ((x[:, :, None] * y[:, None])[..., None] * z[:, None, None]).reshape(-1, 8)
    if len(low) and (np.abs(low) < (1 << _BITS - 1) - 1).all():
        # away from the lattice's ends the corners of all cells are alike
        return pack_cells(low, ids)[:, None] + _STEPS, weights
    return pack_cells(low[:, None] + _CORNERS[None], ids[:, None]), weights


def find_unique(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones (C,) of packed ``cells`` of any shape, sorted, and the row of every one of the ``cells`` among them."""
    # several times as quick as numpy's
    found, rows = torch.unique(torch.from_numpy(cells), return_inverse=True)
    return found.numpy(), rows.numpy()


def sum_by_cell(cells: np.ndarray, columns: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different ones (C,) of packed ``cells`` of any shape, sorted; the sums (C, K) float64 of what each has in the K
    ``columns``, which have the cells' shape; and the row of every one of the ``cells`` in both."""
    found, rows = find_unique(cells)
    sums = np.stack([np.bincount(rows.ravel(), column.ravel(), len(found)) for column in columns], 1)
    return found, sums, rows


def sample_frames(frame_at: Callable[[int], FramePasses], among: Sequence[int], count: int = SAMPLED) -> Iterator[SurfaceFrame]:
    """Up to ``count`` of the frames ``among``, spread over them and prepared one after the other.

    ``frame_at`` gives a frame's passes (1, H, W, ...).
    """
    for n in np.unique(np.linspace(0, len(among) - 1, min(count, len(among))).round().astype(int)):
        passes = frame_at(among[n])
        yield prepare_surface_frame(passes.rest_position[0], passes.surface_index[0])


def cell_side(frames: Iterable[SurfaceFrame]) -> float:
    """The side of a cell in metres that suits a shot."""
    sizes = [frame.footprint for frame in frames if len(frame.pixels)]
    return CELL * float(np.median(sizes)) if sizes else 1.0


def _measure_inside(frame: SurfaceFrame) -> np.ndarray:
    """(H*W,) how many pixels each lies within the outline of its part of the surface, 1 for the outline's own: the silhouette, and
    where one part covers another."""
    if not len(frame.pixels):
        return np.zeros(frame.height * frame.width)
    rows = frame.row_of.reshape(frame.height, frame.width)
    outline = np.zeros(rows.shape, bool)
    for ahead, behind in (((slice(None), slice(None, -1)), (slice(None), slice(1, None))), ((slice(None, -1),), (slice(1, None),))):
        first, second = rows[ahead], rows[behind]
        there = (first >= 0) & (second >= 0)
        step = np.linalg.norm(frame.key[first] - frame.key[second], axis=-1)
        parted = there & ((step > JUMP * frame.footprint) | (frame.ids[first] != frame.ids[second]))
        outline[ahead] |= parted
        outline[behind] |= parted
    inside = np.minimum(measure_distance(rows < 0), 1 + measure_distance(outline))
    return np.asarray(np.where(rows >= 0, inside, 0).ravel())


def _find_thin(inside: np.ndarray) -> np.ndarray:
    """(H, W) bool: thin parts of the surface, of whose pixels ``inside`` (H, W) says how far they lie within their outline."""
    # the outline's own pixels are 1 within, and a little farther where it is slanted
    thin: np.ndarray = (inside > 0) & (measure_distance(inside >= THIN) > THIN - 0.1)
    return thin if thin.sum() <= MOST_THIN * (inside > 0).sum() else np.zeros_like(thin)


def _smooth_within(frame: SurfaceFrame, values: np.ndarray, sigma: float) -> np.ndarray:
    """(N,) values of a frame's pixels, their logarithms blurred among themselves."""
    both = np.zeros((2, frame.height * frame.width), np.float32)
    both[0, frame.pixels], both[1, frame.pixels] = np.log(values), 1
    total, count = gaussian_filter(both.reshape(2, frame.height, frame.width), (0, sigma, sigma), truncate=3).reshape(2, -1)
    return np.asarray(np.exp(total[frame.pixels] / count[frame.pixels]))


def measure_quality(frame: SurfaceFrame, side: float) -> np.ndarray:
    """(N,) float32: how well each of a frame's pixels sees its point, 1 where it covers the face of one cell of ``side`` metres."""
    area = np.linalg.norm(np.cross(frame.across, frame.down), axis=1)
    inside = _measure_inside(frame)
    feather = np.clip((inside[frame.pixels] - 0.5) / FEATHER, MIN_VISIBILITY, 1)
    # the less surface a pixel covers, the nearer and the more frontal the view
    view = np.where(area > 0, side**2 / np.maximum(area, side**2 * 1e-2), MIN_VISIBILITY)
    quality = _smooth_within(frame, view, VIEW_SIGMA) * _smooth_within(frame, feather**2, FEATHER_SIGMA)
    thin = _find_thin(inside.reshape(frame.height, frame.width)).ravel()[frame.pixels]
    return np.where(thin, THIN_WEIGHT * quality, quality).astype(np.float32)


def _paint(
    picture: torch.Tensor,
    pixels: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture (3, H, W) with ``pixels`` interpolated from their corners' values (N, 8, 4), and which of them have values."""
    seen = (values * weights[..., None]).sum(1)
    known = seen[:, 3] > MIN_WEIGHT * weights.sum(1)
    out = picture.float().flatten(1).clone()
    # which are known is not asked for, since a GPU is waited for then
    out[:, pixels] = torch.where(known, (seen[:, :3] / seen[:, 3:].clamp(min=1e-9)).T, out[:, pixels])
    return out.view_as(picture), known


def _add_to_rows(total: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Add ``values`` (N, C) to the ``rows`` (N,) of ``total``, of which some come often, in an order that is always the same."""
    if total.device.type == "cpu":
        total.index_add_(0, rows, values)
    else:
        # on GPUs the other function adds in any order, so that the last bits of frames would change from one time to the next
        total.index_put_((rows,), values, accumulate=True)


@dataclass(frozen=True)
class SurfaceTexture:
    """Colours on the surface, independent of frames: ``cells`` (C,) int64, packed and sorted, of ``side`` metres, and ``values``
    (C, 4) float32: colours in [-1, 1] times their weight, and the weight. ``doubtful`` (C,) bool are cells only seen badly, None
    where all are trusted."""

    side: float
    cells: torch.Tensor
    values: torch.Tensor
    doubtful: torch.Tensor | None = None

    @property
    def trusted(self) -> torch.Tensor:
        """(C,) bool: the cells that are not doubtful."""
        return torch.ones(len(self.cells), dtype=torch.bool, device=self.cells.device) if self.doubtful is None else ~self.doubtful

    def to(self, device: torch.device) -> SurfaceTexture:
        """On a device."""
        doubtful = None if self.doubtful is None else self.doubtful.to(device)
        return SurfaceTexture(self.side, self.cells.to(device), self.values.to(device), doubtful)

    def to_arrays(self, which: str = "") -> dict[str, np.ndarray]:
        """For files; ``which`` stands before every name."""
        arrays = {"side": np.array(self.side), "cells": self.cells.cpu().numpy(), "values": self.values.cpu().numpy()}
        if self.doubtful is not None:
            arrays["doubtful"] = self.doubtful.cpu().numpy()
        return {which + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, found: Mapping[str, np.ndarray], which: str = "") -> SurfaceTexture:
        """The inverse of ``to_arrays``. Raises ``ValueError`` or ``KeyError`` for arrays that no texture has."""
        side, cells, values = (found[which + name] for name in ("side", "cells", "values"))
        if cells.dtype != np.int64 or values.dtype != np.float32:
            raise ValueError("its arrays are of other types")
        if side.shape or not (np.isfinite(side) and float(side) > 0):
            raise ValueError("its cells have no size")
        doubtful = found.get(which + "doubtful")
        if cells.ndim != 1 or values.shape != (len(cells), 4) or (cells[1:] <= cells[:-1]).any() or not np.isfinite(values).all():
            raise ValueError("its texture is damaged")
        if doubtful is not None and (doubtful.shape != cells.shape or doubtful.dtype != np.bool_):
            raise ValueError("its texture is damaged")
        return cls(
            float(side),
            torch.from_numpy(cells),
            torch.from_numpy(values),
            None if doubtful is None else torch.from_numpy(doubtful),
        )

    def select(self, rows: torch.Tensor) -> SurfaceTexture:
        """Some of its cells, by ascending rows or by a (C,) bool."""
        doubtful = None if self.doubtful is None else self.doubtful[rows]
        return SurfaceTexture(self.side, self.cells[rows], self.values[rows], doubtful)

    def rows(self, cells: torch.Tensor) -> torch.Tensor:
        """Indices of cells (...) in the texture; -1 for cells that it does not have."""
        if not len(self.cells):
            return torch.full_like(cells, -1)
        at = torch.searchsorted(self.cells, cells).clamp(max=len(self.cells) - 1)
        return torch.where(self.cells[at] == cells, at, torch.full_like(at, -1))

    def get_values(self, cells: torch.Tensor) -> torch.Tensor:
        """(..., 4) the values of cells (...), 0 where the texture has none."""
        rows = self.rows(cells)
        found = self.values[rows.clamp(min=0)] if len(self.cells) else torch.zeros((*cells.shape, 4), device=cells.device)
        return found * (rows >= 0)[..., None]

    def merge(self, other: SurfaceTexture) -> SurfaceTexture:
        """This texture, completed by the other's cells where this one has none; both have cells of the same size."""
        new = self.rows(other.cells) < 0
        cells, order = torch.cat([self.cells, other.cells[new]]).sort()
        doubtful = None
        if self.doubtful is not None or other.doubtful is not None:
            doubtful = ~torch.cat([self.trusted, other.trusted[new]])[order]
        return replace(self, cells=cells, values=torch.cat([self.values, other.values[new]])[order], doubtful=doubtful)

    def coarsen(self, side: float) -> SurfaceTexture:
        """The same texture in larger cells of ``side`` metres; what is doubtful counts only where nothing else is known."""
        place, ids = unpack_cells(self.cells.cpu().numpy())
        large = pack_cells(np.floor((place + 0.5) * self.side / side).astype(np.int64), ids)
        cells, index = find_unique(large)
        values = torch.zeros((len(cells), 4), device=self.values.device)
        into = torch.from_numpy(index).to(self.values.device)
        if self.doubtful is None:
            _add_to_rows(values, into, self.values)
            return SurfaceTexture(side, torch.from_numpy(cells).to(self.cells.device), values)
        has_trusted = torch.zeros(len(cells), dtype=torch.bool, device=self.values.device)
        has_trusted[into[self.trusted]] = True
        counted = self.trusted | ~has_trusted[into]
        _add_to_rows(values, into[counted], self.values[counted])
        return SurfaceTexture(side, torch.from_numpy(cells).to(self.cells.device), values, ~has_trusted)

    def renumber(self, numbers: dict[int, int]) -> SurfaceTexture:
        """The same texture with other object numbers; objects that are not in ``numbers`` are left out."""
        place, ids = unpack_cells(self.cells.cpu().numpy())
        known = np.isin(ids, list(numbers))
        fresh = pack_cells(place[known], np.array([numbers[n] for n in ids[known].tolist()], np.int64))
        order = np.argsort(fresh)
        found = self.select(torch.from_numpy(np.flatnonzero(known)[order]).to(self.values.device))
        return replace(found, cells=torch.from_numpy(fresh[order]).to(self.cells.device))


class SurfaceLattice:
    """The cells that a clip's pixels lie between, and how well each pixel sees its point."""

    def __init__(self, passes: FramePasses, device: torch.device, side: float = 0.0, *, blends: bool = True) -> None:
        """``side`` is the side of the cells in metres; 0 chooses one that suits the clip. ``blends`` says that textures will be
        blended of the frames' pictures; for frames that only show one the better view need not be found."""
        self._shape, self._device = passes.mask.shape[1:], device
        prepared = prepare_surface_frames(passes)
        self._passes = passes
        self.side = side or cell_side(prepared)
        around = [find_corners(frame.key, frame.ids, self.side) for frame in prepared]
        corners = torch.from_numpy(np.concatenate([corners for corners, _ in around])).to(device)
        self._cells, index = torch.unique(corners, return_inverse=True)
        self._index = list(index.split([len(frame.pixels) for frame in prepared]))
        self._weight = [torch.from_numpy(weights.astype(np.float32)).to(device) for _, weights in around]
        self._pixels = [torch.from_numpy(frame.pixels).to(device) for frame in prepared]
        if blends:
            # while the frames are prepared: kept, they would be most of a long clip's memory
            self._quality = self._measure(prepared)

    @cached_property
    def _quality(self) -> list[torch.Tensor]:
        """(N,) of each frame, how well its pixels see their points."""
        return self._measure(prepare_surface_frames(self._passes))

    def _measure(self, prepared: Sequence[SurfaceFrame]) -> list[torch.Tensor]:
        return [torch.from_numpy(measure_quality(frame, self.side)).to(self._device) for frame in prepared]

    @cached_property
    def _best(self) -> torch.Tensor:
        """(cells,) the best visibility of each cell, which the others are compared with."""
        best = torch.zeros(len(self._cells), device=self._device)
        for n, quality in enumerate(self._quality):
            spread = (quality[:, None] * (self._weight[n] > 0.05)).flatten()
            best.scatter_reduce_(0, self._index[n].flatten(), spread, "amax")
        return best.clamp(min=1e-9)

    @property
    def frame_count(self) -> int:
        """The number of frames."""
        return len(self._pixels)

    def _compute_blend_weights(self, frame: int, sharpness: float) -> torch.Tensor:
        """(N, 8) how much each pixel's colour counts in its cells; a greater ``sharpness`` favours the pixel that sees best."""
        relative = (self._quality[frame][:, None] / self._best[self._index[frame]]).clamp(1e-4, 1)
        return self._weight[frame] * relative**sharpness

    def texture(self, pictures: Iterable[torch.Tensor], sharpness: float) -> torch.Tensor:
        """(cells, 4) sums of weighted colours, and of weights, over the frames' pictures (3, H, W)."""
        total = torch.zeros((len(self._cells), 4), device=self._device)
        for n, picture in enumerate(pictures):
            self._splat(total, n, picture, self._compute_blend_weights(n, sharpness))
        return total

    def texture_of(self, frame: int, picture: torch.Tensor) -> torch.Tensor:
        """(cells, 4) sums of one frame's colours (3, H, W), each times how well its pixel sees, and of these weights."""
        total = torch.zeros((len(self._cells), 4), device=self._device)
        self._splat(total, frame, picture, self._weight[frame] * self._quality[frame][:, None])
        return total

    def _splat(self, total: torch.Tensor, frame: int, picture: torch.Tensor, weights: torch.Tensor) -> None:
        """Add a frame's colours (3, H, W), times the ``weights`` (N, 8) of its pixels in their cells, and these to ``total``."""
        colour = picture.flatten(1)[:, self._pixels[frame]].T.float()
        values = torch.cat([colour, torch.ones_like(colour[:, :1])], 1).repeat_interleave(8, 0) * weights.flatten()[:, None]
        _add_to_rows(total, self._index[frame].flatten(), values)

    def known_texture(self, texture: SurfaceTexture) -> torch.Tensor:
        """(cells, 4) the values of these cells in a texture with cells of the same size; 0 where it has none."""
        return texture.get_values(self._cells)

    def read_textures(self, texture: SurfaceTexture, filled: SurfaceTexture | None) -> torch.Tensor:
        """(cells, 4) the values at these cells of a ``texture``, and where that has none of the ``filled`` one."""
        both = [one for one in (texture, filled) if one is not None]
        known, *more = (self.read_texture(one if one.side >= self.side else one.coarsen(self.side)) for one in both)
        return torch.where(known[:, 3:] > 0, known, more[0]) if more else known

    def extract_texture(self, texture: torch.Tensor) -> SurfaceTexture:
        """Colours (cells, 4) of this lattice as a texture that no longer needs it."""
        known = texture[:, 3] > MIN_WEIGHT
        return SurfaceTexture(self.side, self._cells[known], texture[known], self._best[known] < LEAST_QUALITY)

    def read_texture(self, texture: SurfaceTexture) -> torch.Tensor:
        """(cells, 4) the values at these cells of a texture whose cells may be larger, interpolated between those that it has."""
        if texture.side == self.side:
            return self.known_texture(texture)
        place, ids = unpack_cells(self._cells.cpu().numpy())
        # a cell's values are those at its low corner where the texture was made, and at its middle where it was coarsened
        corners, weights = find_corners((place + 0.5) * self.side / texture.side - 0.5, ids, 1.0)
        found = texture.get_values(torch.from_numpy(corners).to(self._device))
        colour = found[..., :3] / found[..., 3:].clamp(min=1e-9)
        near = torch.from_numpy(weights).float().to(self._device)[..., None] * (found[..., 3:] > 0)
        total = near.sum(1)
        values = torch.cat([(colour * near).sum(1) / total.clamp(min=1e-9), torch.ones_like(total)], 1)
        return torch.where(total > MIN_WEIGHT, values, torch.zeros_like(values))

    def render(self, texture: torch.Tensor, frame: int, picture: torch.Tensor) -> torch.Tensor:
        """(3, H, W): a frame's picture with the texture (cells, 4) rendered on its surfaces."""
        return self.paint(texture, frame, picture)[0]

    def paint(self, texture: torch.Tensor, frame: int, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``render``, and (H, W) bool where the texture has colours."""
        shown, known = _paint(picture, self._pixels[frame], texture[self._index[frame]], self._weight[frame])
        where = torch.zeros(self._shape[0] * self._shape[1], dtype=torch.bool, device=self._device)
        where[self._pixels[frame]] = known
        return shown, where.view(self._shape)

    def mask(self, frame: int) -> torch.Tensor:
        """(1, H, W) float32: 1 where a frame shows a surface."""
        out = torch.zeros(self._shape[0] * self._shape[1], device=self._device)
        out[self._pixels[frame]] = 1.0
        return out.view(1, *self._shape)
