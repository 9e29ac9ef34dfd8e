"""Holes of a texture, filled along the surface: on constructed surfaces, against walks over a mesh of the same shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.sparse import coo_matrix  # noqa: E402
from scipy.sparse.csgraph import dijkstra  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from latentman.backend.video.correspondence import prepare_surface_frame  # noqa: E402
from latentman.backend.video.lattice import (  # noqa: E402
    LEAST_QUALITY,
    THIN_WEIGHT,
    SurfaceTexture,
    find_corners,
    find_unique,
    measure_quality,
    pack_cells,
    unpack_cells,
)
from latentman.backend.video.surface_filling import collect_surface_cells, connect_cells, fill_texture  # noqa: E402

SIDE = 0.01
RED, BLUE, GREEN = (0.9, -0.8, -0.8), (-0.8, -0.8, 0.9), (-0.8, 0.7, -0.7)


def _make_strip(outline, width=24, step=0.5):
    """(N, W, 3) points of a strip that follows an outline [(x, z), ...] in cells, ``step`` cells apart, and (N,) the way along."""
    outline = np.array(outline, float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    at = np.arange(0, along[-1], step)
    x, z = (np.interp(at, along, axis) for axis in outline.T)
    y = np.arange(width) * step
    points = np.stack(np.broadcast_arrays(x[:, None], y[None], z[:, None]), -1)
    # off the lattice's own planes, as surfaces are
    return (points + (0.31, 0.17, 0.43)) * SIDE, at


def _make_surface(points, ids=None):
    ids = np.ones(points.shape[:2], int) if ids is None else ids
    return collect_surface_cells([prepare_surface_frame(points, ids)], SIDE)


def _find_points(points, cells):
    """For each cell the flat index of the surface point that is nearest to it."""
    return cKDTree(points.reshape(-1, 3)).query(unpack_cells(cells)[0] * SIDE)[1]


def _make_texture(surface, colours, known):
    """A texture of the cells of a surface that are ``known``; ``colours`` (C, 3)."""
    weight = np.linspace(0.5, 2.0, len(surface.cells))[:, None]
    values = np.concatenate([colours * weight, weight], 1)[known].astype(np.float32)
    return SurfaceTexture(SIDE, torch.from_numpy(surface.cells[known]), torch.from_numpy(values))


def _get_colours(texture):
    return (texture.values[:, :3] / texture.values[:, 3:]).numpy()


def _list_mesh_walks(points, starts):
    """(N, M) lengths in metres of the shortest walks over a mesh's edges and diagonals from the points ``starts`` to all others."""
    rows, columns = points.shape[:2]
    numbers = np.arange(rows * columns).reshape(rows, columns)
    pairs = [
        np.stack([a.ravel(), b.ravel()], 1)
        for a, b in (
            (numbers[1:], numbers[:-1]),
            (numbers[:, 1:], numbers[:, :-1]),
            (numbers[1:, 1:], numbers[:-1, :-1]),
            (numbers[1:, :-1], numbers[:-1, 1:]),
        )
    ]
    a, b = np.concatenate(pairs).T
    flat = points.reshape(-1, 3)
    length = np.linalg.norm(flat[a] - flat[b], axis=1)
    graph = coo_matrix((length, (a, b)), shape=(len(flat), len(flat))).tocsr()
    return dijkstra(graph, directed=False, indices=starts)


def test_holes_take_the_colour_that_is_nearest_along_the_surface():
    """On a folded surface, wherever the mesh leaves no doubt."""
    points, _ = _make_strip([(0, 0), (20, 0), (24, 5), (24, 12), (18, 16), (2, 16)], width=40)
    surface = _make_surface(points)
    near = _find_points(points, surface.cells)
    spots = [(10, 10), (40, 30), (70, 5), (90, 38)]
    palette = np.array([RED, BLUE, GREEN, (0.8, 0.8, -0.5)])
    walks = _list_mesh_walks(points, [row * points.shape[1] + column for row, column in spots]) / SIDE
    known = walks.min(0)[near] < 3
    texture = _make_texture(surface, palette[walks.argmin(0)[near]], known)
    found = fill_texture(texture, surface)
    assert found.unreached == 0 and len(found.texture.cells) == len(surface.cells) and found.filled.sum() == (~known).sum()
    first, second = np.sort(walks, axis=0)[:2, near]
    # colours run into each other over a few cells, and a walk over a lattice is up to a tenth longer
    clear = ~known & (second - 3 > 1.3 * (first - 3) + 7)
    assert clear.sum() > 500
    distance = np.linalg.norm(_get_colours(found.texture) - palette[walks.argmin(0)[near]], axis=1)
    assert (distance[clear] < 0.2).mean() > 0.99


@pytest.mark.parametrize("gap", [1.5, 3.0])
def test_nothing_passes_from_one_sheet_to_another_beside_it(gap):
    """An arm beside a torso: near in space, far along the surface; the hole's own colour is farther away in space."""
    points, along = _make_strip([(0, 0), (40, 0), (40, gap), (0, gap)])
    surface = _make_surface(points)
    near = _find_points(points, surface.cells)
    way = along[near // points.shape[1]]
    place, _ = unpack_cells(surface.cells)
    colours = np.where((way < 40)[:, None], RED, BLUE)
    # of the second sheet, its end alone is known; what lies right between the sheets belongs to either
    known = (way < 40) | (way > 70 + gap)
    found = fill_texture(_make_texture(surface, colours, known), surface)
    hole = ~known & (way > 58 + gap) & (place[:, 2] >= gap)
    assert hole.sum() > 100
    assert np.abs(_get_colours(found.texture)[hole] - BLUE).max() < 0.2


def test_objects_keep_to_themselves_and_known_cells_to_their_colours(rng):
    points, _ = _make_strip([(0, 0), (30, 0)])
    ids = np.ones(points.shape[:2], int)
    ids[30:] = 2
    surface = _make_surface(points, ids)
    _, objects = unpack_cells(surface.cells)
    known = (objects == 1) & (rng.random(len(objects)) < 0.5)
    texture = _make_texture(surface, rng.uniform(-1, 1, (len(objects), 3)), known)
    found = fill_texture(texture, surface)
    assert found.unreached == (objects == 2).sum() and (unpack_cells(found.texture.cells.numpy())[1] == 1).all()
    assert torch.equal(found.texture.get_values(texture.cells), texture.values), "to the last bit"
    again = fill_texture(texture, surface)
    assert torch.equal(again.texture.values, found.texture.values) and torch.equal(again.texture.cells, found.texture.cells)
    nothing = replace(texture, cells=texture.cells[:0], values=texture.values[:0])
    assert fill_texture(nothing, surface).unreached == len(surface.cells)
    whole = fill_texture(found.texture, _make_surface(points[:30]))
    assert whole.unreached == 0 and not whole.filled.any() and torch.equal(whole.texture.values, found.texture.values)
    with pytest.raises(ValueError, match="one size"):
        fill_texture(found.texture.coarsen(2 * SIDE), surface)


def test_a_stray_colour_is_not_handed_on():
    points, _ = _make_strip([(0, 0), (40, 0)])
    surface = _make_surface(points)
    place, _ = unpack_cells(surface.cells)
    known, colours = place[:, 0] < 20, np.tile(RED, (len(place), 1))
    rim = known & (place[:, 0] == 19)
    colours[rim & (place[:, 1] % 4 == 0)] = (1.0, 1.0, 1.0)
    found = fill_texture(_make_texture(surface, colours, known), surface)
    assert np.abs(_get_colours(found.texture)[~known & (place[:, 0] > 26)] - RED).max() < 0.2


def test_doubtful_cells_give_way_to_trusted_ones_nearby():
    points, _ = _make_strip([(0, 0), (60, 0)])
    surface = _make_surface(points)
    place, _ = unpack_cells(surface.cells)
    doubtful = place[:, 0] >= 20
    colours = np.where(doubtful[:, None], (1.0, 1.0, 1.0), RED)
    texture = replace(_make_texture(surface, colours, place[:, 0] < 50), doubtful=torch.from_numpy(doubtful[place[:, 0] < 50]))
    found = fill_texture(texture, surface).texture
    assert found.doubtful is None
    near, far = (place[:, 0] >= 20) & (place[:, 0] < 24), place[:, 0] > 36
    assert np.abs(_get_colours(found)[near] - RED).max() < 0.2, "a white rim of a red sleeve"
    assert np.abs(_get_colours(found)[far] - 1.0).max() < 0.2, "what nobody knows better stays"


def test_frames_complete_each_other_and_gaps_between_their_pixels_are_bridged():
    fine, _ = _make_strip([(0, 0), (40, 0)])
    whole = _make_surface(fine)
    frames = [prepare_surface_frame(part, np.ones(part.shape[:2], int)) for part in (fine[:50], fine[40:])]
    both = collect_surface_cells(frames, SIDE)
    assert (both.cells == whole.cells).all()
    assert np.allclose(both.normals / both.weights[:, None], whole.normals / whole.weights[:, None])
    joined = collect_surface_cells(frames[:1], SIDE).merge(collect_surface_cells(frames[1:], SIDE))
    assert (joined.cells == both.cells).all() and (joined.links == both.links).all()
    coarse, _ = _make_strip([(0.3, 0), (60.3, 0)], step=4.0, width=8)
    sparse = _make_surface(coarse)
    assert len(sparse.links) and dijkstra(connect_cells(sparse), indices=0).max() < np.inf
    empty = collect_surface_cells([], SIDE)
    assert not len(empty.cells) and connect_cells(empty).shape == (0, 0)


def test_corners_and_cells_are_found_as_one_by_one(rng):
    """Also where the lattice ends, and places are packed as the last one there is."""
    for reach in (1.0, 1e3, 1e4):
        points, ids = (rng.normal(size=(300, 3)) * reach).astype(np.float32), rng.integers(1, 500, 300)
        corners, weights = find_corners(points, ids, SIDE)
        place = points.astype(np.float64) / SIDE
        low = np.floor(place).astype(np.int64)
        for n, corner in enumerate(np.ndindex(2, 2, 2)):
            assert (corners[:, n] == pack_cells(low + corner, ids)).all()
            assert (weights[:, n] == np.where(corner, place - low, 1 - (place - low)).prod(1)).all()
        found, rows = find_unique(corners)
        expected, index = np.unique(corners, return_inverse=True)
        assert (found == expected).all() and (rows == index.reshape(corners.shape)).all()
    assert find_corners(np.empty((0, 3)), np.empty(0, np.int64), SIDE)[0].shape == (0, 8)


def test_a_picture_that_is_all_surface_has_no_outline_at_its_border():
    rows, columns = np.mgrid[0:24, 0:24] * 0.01
    rest = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.float32)
    frame = prepare_surface_frame(rest, np.ones((24, 24), np.int64))
    quality = measure_quality(frame, 0.01).reshape(24, 24)
    assert np.allclose(quality, quality[12, 12], rtol=1e-3)


def test_a_thin_part_is_seen_badly_unless_all_is_thin():
    """A finger four pixels wide at the side of a body; alone it is all there is."""
    rows, columns = np.mgrid[0:48, 0:48] * 0.01
    rest = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.float32)
    body, finger = np.zeros((2, 48, 48), np.int64)
    body[8:40, 4:28], finger[20:24, 28:44] = 1, 1

    def see(index):
        frame = prepare_surface_frame(rest, index)
        quality = np.zeros(48 * 48)
        quality[frame.pixels] = measure_quality(frame, 0.01)
        return quality.reshape(48, 48)

    both, alone = see(body | finger), see(finger)
    assert both[16:32, 10:20].min() > 0.9 and both[20:24, 34:44].max() < LEAST_QUALITY
    assert alone[20:24, 34:40].max() > LEAST_QUALITY
    assert both[9:39, 5:27].min() > THIN_WEIGHT * LEAST_QUALITY and both[12, 6] > LEAST_QUALITY, (
        "a thick part's rim is no thin part"
    )
