"""A costume: what a character looks like from all sides, on its surface.

It becomes an image on the mesh's texture map, and an image that was painted on becomes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ...shared.charts import Charts, decode_arrays, encode_arrays
from ...shared.costume_files import IMAGE
from ...shared.passes import PASS_LAYOUT, FramePasses
from ...shared.shot import ShotError
from .lattice import MIN_WEIGHT, SurfaceTexture, find_corners, sample_frames, sum_by_cell, unpack_cells
from .light import Light
from .look import SAME_SURFACE, Anchor, Look, Plate
from .source import PassesSource
from .surface_filling import SurfaceCells

#: points of the surface lie at most this far apart, in cells
SPACING = 0.7
#: points and texels that are worked on at a time, and triangles' steps along an edge at most
CHUNK, MOST_STEPS = 1 << 20, 256
#: a point is known where at least this share of what lies around it is
KNOWN = 0.5
#: texels around the map's islands that take the nearest colour, as a fraction of the side
BLEED = 1 / 64
#: a texel was painted where a channel differs by more than this
PAINTED = 3
#: weight of a painted cell, far above that of one that some frames have seen
FIRM = 10.0


@dataclass(frozen=True)
class Points:
    """Points on surfaces: ``uv`` (N, 2), ``rest`` (N, 3) in metres, ``surface`` and ``triangle`` (N,) int64, and the ``area`` (N,)
    in square metres that each stands for."""

    uv: np.ndarray
    rest: np.ndarray
    surface: np.ndarray
    triangle: np.ndarray
    area: np.ndarray


def sample_charts(charts: Charts, spacing: float) -> Iterator[Points]:
    """Points of the surfaces, at most ``spacing`` metres apart along the triangles' edges, some at a time."""
    edges = np.linalg.norm(charts.rest - np.roll(charts.rest, 1, 1), axis=2).max(1)
    steps = np.clip(np.ceil(edges / spacing), 1, MOST_STEPS).astype(int)
    area = charts.area
    for count in np.unique(steps):
        # the middles of the small triangles that a triangle is divided into
        a, b = (axis.ravel() for axis in np.meshgrid(np.arange(count), np.arange(count), indexing="ij"))
        upward = a + b < count
        downward = a + b < count - 1
        u = np.concatenate([a[upward] + 1 / 3, a[downward] + 2 / 3]) / count
        v = np.concatenate([b[upward] + 1 / 3, b[downward] + 2 / 3]) / count
        weights = np.stack([1 - u - v, u, v], 1).astype(np.float32)
        chosen = np.flatnonzero(steps == count)
        for rows in np.array_split(chosen, max(1, len(chosen) * len(u) // CHUNK)):
            if not len(rows):
                continue
            uv, rest = (
                np.einsum("pc,tcd->tpd", weights, array[rows]).reshape(-1, array.shape[2]) for array in (charts.uv, charts.rest)
            )
            each = np.repeat(area[rows] / len(u), len(u))
            triangle = np.repeat(rows, len(u))
            yield Points(uv, rest, charts.surface[triangle].astype(np.int64), triangle, each)


def collect_surface(charts: Charts, side: float) -> SurfaceCells:
    """The cells of ``side`` metres that the surfaces pass through, whether or not any frame shows them."""
    surface = SurfaceCells.empty(side)
    normals = charts.normals
    for points in sample_charts(charts, SPACING * side):
        corners, weights = find_corners(points.rest, points.surface, side)
        weights = np.where(weights > 1e-3, weights, 0.0)
        values = np.concatenate([normals[points.triangle], np.ones((len(corners), 1))], 1)
        cells, sums, _ = sum_by_cell(corners, (weights * axis[:, None] for axis in values.T))
        cells, sums = cells[sums[:, 3] > 0], sums[sums[:, 3] > 0]
        surface = surface.merge(SurfaceCells(side, cells, sums[:, :3], sums[:, 3], surface.links[:0]))
    return surface


def read_colours(texture: SurfaceTexture, rest: np.ndarray, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colours (N, 3) in [-1, 1] of points (N, 3) of surfaces (N,), and which share (N,) of what lies around each is known."""
    colour, known = np.zeros((len(rest), 3), np.float32), np.zeros(len(rest), np.float32)
    cells, values = texture.cells.cpu().numpy(), texture.values.cpu().numpy()
    if not len(cells):
        return colour, known
    for start in range(0, len(rest), CHUNK // 4):
        some = slice(start, start + CHUNK // 4)
        corners, weights = find_corners(rest[some], surface[some], texture.side)
        at = np.searchsorted(cells, corners).clip(max=len(cells) - 1)
        there = (cells[at] == corners) & (values[at, 3] > MIN_WEIGHT)
        own = weights * there
        total = own.sum(1)
        # every cell's mean counts alike, however often it was seen
        mean = values[at, :3] / np.maximum(values[at, 3:], 1e-9)
        colour[some] = (mean * own[..., None]).sum(1) / np.maximum(total, 1e-9)[:, None]
        known[some] = total
    return colour, known


def measure_known(texture: SurfaceTexture, charts: Charts) -> float:
    """The fraction of the surfaces' area that a texture knows, and not only doubtfully, 0 to 1."""
    texture = texture.select(texture.trusted)
    known = total = 0.0
    for points in sample_charts(charts, 2 * SPACING * texture.side):
        share = read_colours(texture, points.rest, points.surface)[1]
        known += float(points.area[share >= KNOWN].sum())
        total += float(points.area.sum())
    return known / total if total else 0.0


def rasterise_charts(charts: Charts, surface: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat texels (N,) of a surface's image, row 0 at v = 1, and the rest position (N, 3) float32 of each; a texel that several
    triangles cover is there several times."""
    own = charts.surface == surface
    uv, rest = charts.uv[own].astype(np.float64), charts.rest[own]
    # maps that lie beside the unit square are repeated there
    uv = uv - np.floor(uv.mean(1, keepdims=True))
    x, y = uv[..., 0] * size, (1 - uv[..., 1]) * size
    low_x, low_y = (np.ceil(axis.min(1) - 0.5).astype(np.int64) for axis in (x, y))
    wide, high = (np.floor(axis.max(1) - 0.5).astype(np.int64) + 1 - low for axis, low in ((x, low_x), (y, low_y)))
    double = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    count = np.where((wide > 0) & (high > 0) & (double != 0), wide * high, 0)
    texels, places = [], []
    ends = np.cumsum(count)
    if not ends[-1:].any():
        return np.empty(0, np.int64), np.empty((0, 3), np.float32)
    starts = np.searchsorted(ends, np.arange(0, ends[-1], 4 * CHUNK), side="right")
    for first, last in zip(starts, [*starts[1:], len(count)], strict=True):
        some = count[first:last]
        owner = np.repeat(np.arange(first, last), some)
        nth = np.arange(len(owner)) - np.repeat(np.cumsum(some) - some, some)
        px, py = low_x[owner] + nth % wide[owner], low_y[owner] + nth // wide[owner]
        cx, cy = px + 0.5, py + 0.5
        ox, oy = x[owner], y[owner]
        w0 = ((ox[:, 1] - cx) * (oy[:, 2] - cy) - (ox[:, 2] - cx) * (oy[:, 1] - cy)) / double[owner]
        w1 = ((ox[:, 2] - cx) * (oy[:, 0] - cy) - (ox[:, 0] - cx) * (oy[:, 2] - cy)) / double[owner]
        w2 = 1 - w0 - w1
        inside = (w0 >= -1e-9) & (w1 >= -1e-9) & (w2 >= -1e-9)
        weights = np.stack([w0, w1, w2], 1)[inside]
        texels.append(py[inside] % size * size + px[inside] % size)
        places.append(np.einsum("nc,ncd->nd", weights, rest[owner[inside]]).astype(np.float32))
    return np.concatenate(texels), np.concatenate(places)


def make_atlas(texture: SurfaceTexture, charts: Charts, surface: int, size: int = 0) -> np.ndarray:
    """(S, S, 4) uint8 the colours of a surface on its texture map, row 0 at v = 1; ``size`` 0 is the charts' own.

    Around the map's islands the nearest colour goes on for a few texels, so that no seam is seen; elsewhere, and where the texture
    knows nothing, alpha is 0.
    """
    size = size or charts.size
    texels, rest = rasterise_charts(charts, surface, size)
    colour, share = read_colours(texture, rest, np.full(len(rest), surface, np.int64))
    seen = share > 0
    total = np.zeros((size * size, 4))
    for channel in range(3):
        total[:, channel] = np.bincount(texels[seen], colour[seen, channel], size * size)
    total[:, 3] = np.bincount(texels[seen], minlength=size * size)
    known = (total[:, 3] > 0).reshape(size, size)
    out = np.zeros((size, size, 4), np.uint8)
    if not known.any():
        return out
    mean = total[:, :3] / np.maximum(total[:, 3:], 1)
    out[..., :3] = np.round((np.clip(mean, -1, 1) + 1) * 127.5).reshape(size, size, 3)
    away, (rows, cols) = distance_transform_edt(~known, return_indices=True)
    out[..., :3] = out[rows, cols, :3]
    out[..., 3] = (away <= BLEED * size) * 255
    return out


def measure_overlap(charts: Charts, surface: int, size: int = 256) -> float:
    """The fraction of a surface's texels that belong to more than one place of it."""
    texels, rest = rasterise_charts(charts, surface, size)
    if not len(texels):
        return 0.0
    found, first = np.unique(texels, return_index=True)
    extent = np.linalg.norm(np.ptp(charts.rest[charts.surface == surface].reshape(-1, 3), axis=0))
    far = np.linalg.norm(rest - rest[first[np.searchsorted(found, texels)]], axis=1) > 0.02 * extent
    return float(len(np.unique(texels[far])) / len(found))


def paint_texture(texture: SurfaceTexture, charts: Charts, surface: int, image: np.ndarray) -> tuple[SurfaceTexture, float]:
    """The texture with what was painted on a surface's image (S, S, 3 or 4) uint8, and the fraction of the surface that was.

    Where the image is as ``make_atlas`` makes it, the texture stays exactly as it is.
    """
    height, width = image.shape[:2]
    if height != width:
        raise ShotError("paint", f"The painted image is {width}x{height}; it must be square, as the one that Dress made.")
    before = make_atlas(texture, charts, surface, height)
    changed = (np.abs(image[..., :3].astype(int) - before[..., :3]) > PAINTED).any(-1)
    if image.shape[2] == 4:
        changed &= image[..., 3] > 127
    if not changed.any():
        return texture, 0.0
    own = charts.surface == surface
    mine = replace(charts, uv=charts.uv[own], rest=charts.rest[own], surface=charts.surface[own])
    cells: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    painted = total = 0.0
    for points in sample_charts(mine, SPACING * texture.side / 2):
        column = np.floor(points.uv[:, 0] % 1 * width).astype(int).clip(0, width - 1)
        row = np.floor((1 - points.uv[:, 1]) % 1 * height).astype(int).clip(0, height - 1)
        hit = changed[row, column]
        painted, total = painted + float(points.area[hit].sum()), total + float(points.area.sum())
        corners, weights = find_corners(points.rest, points.surface, texture.side)
        weights = weights * points.area[:, None] / texture.side**2
        colour = image[row, column, :3] / 127.5 - 1
        values = np.concatenate([colour, np.ones((len(colour), 1)), hit[:, None]], 1)
        found, own_sums, _ = sum_by_cell(corners, (weights * column[:, None] for column in values.T))
        sums.append(own_sums)
        cells.append(found)
    found, together, _ = sum_by_cell(np.concatenate(cells), np.concatenate(sums).T)
    touched = together[:, 4] > 0.05 * np.maximum(together[:, 3], 1e-12)
    found, together = found[touched], together[touched]
    fresh = np.concatenate([together[:, :3] / together[:, 3:4], np.ones((len(found), 1))], 1).astype(np.float32) * FIRM
    new = SurfaceTexture(texture.side, torch.from_numpy(found), torch.from_numpy(fresh))
    kept = new.rows(texture.cells.cpu()) < 0
    return new.merge(texture.to(torch.device("cpu")).select(kept)), painted / total if total else 0.0


@dataclass(frozen=True)
class Costume:
    """A texture that knows all of a character's surfaces, with their charts, and what was said when it was made. One that is
    ``unlit`` is seen in the light of the shot that it is worn in."""

    texture: SurfaceTexture
    charts: Charts
    prompt: str = ""
    unlit: bool = False

    def encode(self, images: Mapping[int, bytes] | None = None) -> bytes:
        """As an ``npz`` file without pickles; ``images`` are the PNG files of its surfaces by number, for whoever opens it."""
        pictures = {f"{IMAGE}{number}": np.frombuffer(data, np.uint8) for number, data in (images or {}).items()}
        return encode_arrays(
            {
                **pictures,
                **self.charts.arrays(),
                **self.texture.to_arrays(),
                "prompt": np.array(self.prompt or " "),
                "unlit": np.array(self.unlit),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Costume:
        """The inverse of ``encode``. Raises ``ShotError`` when the data are damaged."""
        try:
            found = {name: array.copy() for name, array in decode_arrays(data).items()}
            unlit = bool(found.get("unlit", False))
            return cls(SurfaceTexture.from_arrays(found), Charts.from_arrays(found), str(found["prompt"]).strip(), unlit)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ShotError("costume", f"The costume cannot be read ({error}); dress the character again.") from error

    def make_look(self) -> Look:
        """A look with this texture, and neither an anchor nor surroundings: those are of the shot that wears it."""
        pixel = {name: np.zeros((1, 1, 1, *trailing), dtype) for name, (dtype, trailing) in PASS_LAYOUT.items()}
        anchor = Anchor(torch.zeros((1, 1, 1, 1)), (), FramePasses(**pixel))
        light = Light.even() if self.unlit else None
        return Look(self.texture, anchor, Plate.empty(1, 1), dict(self.charts.names), light=light)

    def fit(self, source: PassesSource, claimed: Collection[str] = ()) -> Costume:
        """The costume with its surfaces numbered as in a shot, whatever they are called there; the surfaces with the names
        ``claimed`` are others'.

        Raises ``ShotError`` when the shot shows none of them.
        """
        names = source.surface_names(range(source.frame_count))
        votes: dict[int, np.ndarray] = {}
        surfaces = sorted(self.charts.names)
        for frame in sample_frames(source.overview, range(source.frame_count)):
            for number in np.unique(frame.ids).tolist():
                rest = frame.key[frame.ids == number]
                inside = [self._count_inside(rest, surface) for surface in surfaces]
                votes[number] = votes.get(number, np.zeros(1 + len(surfaces))) + [len(rest), *inside]
        # surfaces of one name first, then those that are most alike
        alike = sorted(
            (self.charts.names[surface] != names.get(number), -inside / seen, number, surface)
            for number, (seen, *counts) in votes.items()
            for surface, inside in zip(surfaces, counts, strict=True)
            if inside >= SAME_SURFACE * seen
            and (names.get(number) not in claimed or self.charts.names[surface] == names.get(number))
        )
        table: dict[int, int] = {}
        for _, _, number, surface in alike:
            if surface not in table and number not in table.values():
                table[surface] = number
        # frames that nobody has looked at may show what these do not
        for number, name in names.items():
            own = next((surface for surface, called in self.charts.names.items() if called == name), None)
            if number not in votes and own is not None and own not in table:
                table[own] = number
        if votes and not table:
            raise ShotError(
                "costume",
                "The costume was made for another surface than the character of this shot has; wear it on the character that it "
                "was made for, or dress this one.",
            )
        charts = replace(self.charts, names={n: names.get(table[n], self.charts.names[n]) for n in table})
        numbered = charts.renumber({table[n]: name for n, name in charts.names.items()})
        return replace(self, texture=self.texture.renumber(table), charts=numbered)

    def resample(self, side: float) -> SurfaceTexture:
        """Its texture in cells of another size."""
        if side == self.texture.side:
            return self.texture
        cells = collect_surface(self.charts, side).cells
        place, ids = unpack_cells(cells)
        colour, share = read_colours(self.texture, place * side, ids)
        seen = share > 0
        values = np.concatenate([colour, np.ones((len(cells), 1), np.float32)], 1)[seen]
        return SurfaceTexture(side, torch.from_numpy(cells[seen]), torch.from_numpy(values.astype(np.float32)))

    def join(self, other: Costume) -> Costume:
        """Both, of different surfaces of one shot, in the finer of their cells."""
        side = min(self.texture.side, other.texture.side)
        one, two = self.charts, other.charts
        uv, rest, surface = (np.concatenate([getattr(one, name), getattr(two, name)]) for name in ("uv", "rest", "surface"))
        charts = Charts(uv, rest, surface, one.names | two.names, max(one.size, two.size))
        return Costume(self.resample(side).merge(other.resample(side)), charts, self.prompt, self.unlit and other.unlit)

    def _count_inside(self, rest: np.ndarray, surface: int) -> int:
        """How many points lie on one of its surfaces."""
        return int((read_colours(self.texture, rest, np.full(len(rest), surface, np.int64))[1] >= KNOWN).sum())

    def iter_atlases(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every surface's number and its image (S, S, 4) uint8."""
        for surface in sorted(self.charts.names):
            yield surface, make_atlas(self.texture, self.charts, surface)
