"""Colours for the parts of a surface that no picture shows, taken from its neighbours along the surface.

Nearness is that of a walk over the surface: an arm takes nothing from the torso beside it, a hand nothing from the hip, one object
nothing from another. The surface is known by what frames see of it, so any mesh works, with or without texture coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra

from .correspondence import SurfaceFrame
from .lattice import SurfaceTexture, find_corners, pack_cells, sum_by_cell, unpack_cells

#: a step between cells that face opposite ways, as those of two sheets side by side, is longer than it looks by this many times its
#: length; one that turns by up to 60 degrees is not
TURN = 24.0
#: pixels beside each other whose points are farther apart than this many typical footprints are on other parts of the surface
GAP = 6.0
#: a step between neighbouring pixels leaves the surface when its sine against the tangent plane is larger
LEAVING = 0.6
#: a step between neighbours that is not longer than this many cells hardly turns
SAME_FACE = 2.5
#: doubtful cells take the colours of trusted ones up to this many cells away
REACH = 24.0
#: rounds in which filled cells take on the mean of their neighbours, so that no crease is left where two sources meet
ROUNDS = 6
_HALF = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])


@dataclass(frozen=True)
class SurfaceCells:
    """The cells that a surface passes through, and which of them are beside each other on it.

    ``cells`` (C,) int64, packed and sorted, of ``side`` metres; ``normals`` (C, 3) float64: sums of the unit normals in the rest
    pose, each counted as much as its pixel covers of the cell, and ``weights`` (C,) what they counted; ``links`` (L, 2) int64, rows
    of cells that a frame shows side by side and that are not neighbours in the lattice.
    """

    side: float
    cells: np.ndarray
    normals: np.ndarray
    weights: np.ndarray
    links: np.ndarray

    @classmethod
    def empty(cls, side: float) -> SurfaceCells:
        """No surface."""
        return cls(side, np.empty(0, np.int64), np.empty((0, 3)), np.empty(0), np.empty((0, 2), np.int64))

    def merge(self, other: SurfaceCells) -> SurfaceCells:
        """The cells of both, which have the same size."""
        return _join(self.side, [self, other])


def collect_surface_cells(frames: Iterable[SurfaceFrame], side: float) -> SurfaceCells:
    """The cells of ``side`` metres that frames see, whose pixels may be smaller or larger than a cell."""
    return _join(side, [_collect(frame, side) for frame in frames if len(frame.pixels)])


def _collect(frame: SurfaceFrame, side: float) -> SurfaceCells:
    corners, exact = find_corners(frame.key, frame.ids, side)
    weights = exact.astype(np.float32)
    normals = (weights * axis[:, None] for axis in frame.normal.T)
    cells, sums, index = sum_by_cell(corners, (*normals, weights))
    # a pixel's own cell is the corner that is nearest to it
    own = index[np.arange(len(index)), weights.argmax(1)]
    pairs = []
    for first, second in _list_neighbours(frame):
        step = frame.key[second] - frame.key[first]
        length = np.linalg.norm(step, axis=1)
        facing = (frame.normal[first] * frame.normal[second]).sum(1)
        leaving = np.abs((step * (frame.normal[first] + frame.normal[second])).sum(1)) / 2
        joined = (frame.ids[first] == frame.ids[second]) & (length < GAP * frame.footprint) & (facing > 0)
        joined &= leaving <= LEAVING * length
        pairs.append(np.stack([own[first], own[second]], 1)[joined])
    links = np.unique(np.sort(np.concatenate(pairs), 1), axis=0)
    place, _ = unpack_cells(cells)
    apart = np.abs(place[links[:, 0]] - place[links[:, 1]]).max(1) > 1
    return SurfaceCells(side, cells, sums[:, :3], sums[:, 3], links[apart])


def _list_neighbours(frame: SurfaceFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of pixels and of those to their right, and of pixels and of those below them, where both show a surface."""
    rows = frame.row_of.reshape(frame.height, frame.width)
    found = []
    for first, second in ((rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:])):
        both = (first >= 0) & (second >= 0)
        found.append((first[both], second[both]))
    return found


def _join(side: float, parts: list[SurfaceCells]) -> SurfaceCells:
    if not parts:
        return SurfaceCells.empty(side)
    given = [np.concatenate([part.normals, part.weights[:, None]], 1) for part in parts]
    cells, sums, index = sum_by_cell(np.concatenate([part.cells for part in parts]), np.concatenate(given).T)
    rows = np.split(index, np.cumsum([len(part.cells) for part in parts])[:-1])
    links = np.concatenate([own[part.links] for own, part in zip(rows, parts, strict=True)])
    return SurfaceCells(side, cells, sums[:, :3], sums[:, 3], np.unique(links, axis=0))


def _find_lattice_links(cells: np.ndarray) -> np.ndarray:
    """(L, 2) rows of cells that touch each other, at a face, an edge or a corner, and belong to one object."""
    place, ids = unpack_cells(cells)
    found = []
    for offset in _HALF:
        wanted = pack_cells(place + offset, ids)
        at = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        # where the lattice ends, a place is packed as the last one there is
        here = (cells[at] == wanted) & (at != np.arange(len(cells)))
        found.append(np.stack([np.flatnonzero(here), at[here]], 1))
    return np.concatenate(found)


def connect_cells(surface: SurfaceCells) -> csr_matrix:
    """(C, C) symmetric: the length in metres of the step from each cell to those beside it on the surface, longer where the surface
    turns away."""
    if not len(surface.cells):
        return csr_matrix((0, 0))
    links = np.concatenate([_find_lattice_links(surface.cells), surface.links])
    place, _ = unpack_cells(surface.cells)
    length = np.linalg.norm((place[links[:, 0]] - place[links[:, 1]]).astype(float), axis=1) * surface.side
    # a cell that two sheets share faces nowhere
    size = np.maximum(np.linalg.norm(surface.normals, axis=1), surface.weights / 2)[:, None]
    unit = surface.normals / np.maximum(size, 1e-12)
    cosine = (unit[links[:, 0]] * unit[links[:, 1]]).sum(1)
    cost = length * (1 + TURN * np.clip(0.5 - cosine, 0, None) / 1.5)
    both = np.concatenate([links, links[:, ::-1]])
    # a link that the lattice and a frame both have is there once
    _, once = np.unique(both[:, 0] * len(place) + both[:, 1], return_index=True)
    both, cost = both[once], np.concatenate([cost, cost])[once]
    return coo_matrix((cost, (both[:, 0], both[:, 1])), shape=(len(place), len(place))).tocsr()


@dataclass(frozen=True)
class FilledTexture:
    """``texture`` has a colour for every cell of a surface that is joined to a known one; ``filled`` (C,) bool says which of its
    cells took theirs from others, ``unreached`` how many of the surface's cells are joined to no known one and still have none."""

    texture: SurfaceTexture
    filled: np.ndarray
    unreached: int


def fill_texture(texture: SurfaceTexture, surface: SurfaceCells) -> FilledTexture:
    """``texture`` with the colours of the nearest known cells, along the surface, where it has none, and in place of doubtful ones
    that are near trusted ones.

    ``surface`` has cells of the same size; other cells stay as they are, also those that are not of the surface.
    """
    if abs(surface.side - texture.side) > 1e-6 * texture.side:
        raise ValueError("the texture's cells and the surface's are not of one size")
    own = texture.rows(torch.from_numpy(surface.cells).to(texture.cells.device)).cpu().numpy()
    known = own >= 0
    source = known & texture.trusted.cpu().numpy()[own.clip(0)] if known.any() else known
    if source.all() or not known.any():
        return FilledTexture(replace(texture, doubtful=None), np.zeros(len(texture.cells), bool), int((~known).sum()))
    values = texture.values.double().cpu().numpy()
    colours = np.zeros((len(own), 3))
    colours[known] = values[own[known], :3] / np.maximum(values[own[known], 3:], 1e-12)
    graph = connect_cells(surface)
    doubtful = known & ~source
    if doubtful.any():
        reach = REACH * surface.side
        near = dijkstra(graph, indices=np.flatnonzero(source), min_only=True, limit=reach) <= reach if source.any() else source
        # far from all that is trusted, what was seen badly is the best there is
        source = source | (doubtful & ~near)
    distance, _, start = dijkstra(graph, indices=np.flatnonzero(source), min_only=True, return_predecessors=True)
    reached = np.isfinite(distance)
    missing = reached & ~source
    starts, which = np.unique(start[missing], return_inverse=True)
    colours[missing] = _find_usual_colours(graph, colours, source, starts, surface.side)[which]
    colours = _smooth(graph, colours, missing, reached, surface.side)
    fresh = np.concatenate([colours[missing], np.ones((int(missing.sum()), 1))], 1).astype(np.float32)
    more = SurfaceTexture(
        texture.side,
        torch.from_numpy(surface.cells[missing]).to(texture.cells.device),
        torch.from_numpy(fresh).to(texture.values.device),
    )
    done = more.merge(replace(texture, doubtful=None))
    return FilledTexture(done, (more.rows(done.cells) >= 0).cpu().numpy(), int((~reached).sum()))


def _find_usual_colours(graph: csr_matrix, colours: np.ndarray, known: np.ndarray, rows: np.ndarray, side: float) -> np.ndarray:
    """(N, 3) the median colour of each of the cells ``rows`` and of the known ones beside it that face the same way: a stray one is
    not handed on."""
    counts = np.diff(graph.indptr)[rows]
    found = np.full((len(rows), int(counts.max(initial=0)) + 1, 3), np.nan)
    found[:, 0] = colours[rows]
    for n in range(found.shape[1] - 1):
        has = np.flatnonzero(counts > n)
        beside = graph.indices[graph.indptr[rows[has]] + n]
        there = known[beside] & (graph.data[graph.indptr[rows[has]] + n] <= side * SAME_FACE)
        found[has[there], n + 1] = colours[beside[there]]
    median: np.ndarray = np.nanmedian(found, axis=1)
    return median


def _smooth(graph: csr_matrix, colours: np.ndarray, moving: np.ndarray, counted: np.ndarray, side: float) -> np.ndarray:
    """Colours (C, 3) of which those that are ``moving`` take on the mean of themselves and the ``counted`` ones beside them that
    face the same way; nearer ones count more."""
    rows = graph[np.flatnonzero(moving)]
    counts = counted[rows.indices] & (rows.data <= side * SAME_FACE)
    near = csr_matrix((np.where(counts, side / rows.data, 0.0), rows.indices, rows.indptr), shape=rows.shape)
    total = 1 + np.asarray(near.sum(1)).reshape(-1, 1)
    for _ in range(ROUNDS):
        fresh = (colours[moving] + near @ colours) / total
        colours = colours.copy()
        colours[moving] = fresh
    return colours
