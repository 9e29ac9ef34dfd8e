"""The edge between characters and the place behind them, on constructed passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.ndimage import distance_transform_edt  # noqa: E402

from latentman.backend.video.correspondence import match_background  # noqa: E402
from latentman.backend.video.correspondence.background import find_occupied  # noqa: E402
from latentman.backend.video.distances import measure_distance, take_nearest  # noqa: E402
from latentman.backend.video.edges import composite_surfaces, estimate_coverage, weigh_inside  # noqa: E402
from latentman.backend.video.images import convert_to_picture  # noqa: E402
from latentman.backend.video.lattice import SurfaceLattice  # noqa: E402
from latentman.backend.video.look import HALO  # noqa: E402
from latentman.backend.video.texture_detail import blend_views, restore_detail  # noqa: E402
from latentman.shared.compositing import composite_over, cut_out  # noqa: E402
from tests import samples  # noqa: E402


def _place(level, *, known=True):
    """A place of one grey, and where it is known."""
    return np.full((64, 64, 3), level, np.uint8), np.full((64, 64), known)


def test_a_cell_that_holds_any_of_the_character_is_not_pinned():
    """The arm takes a few pixels of a cell, none of them the one that a shrunk mask looks at."""
    passes = samples.passes(2, 64, 0)
    mask = passes.mask.copy()
    mask[1, 50:52, 48:51] = 1
    arm = replace(passes, mask=mask)
    cell = (50 // 8) * 8 + 48 // 8
    assert cell in match_background(passes, 8, 8).target_pixels[1], "nothing is there without the arm"
    found = match_background(arm, 8, 8)
    assert cell not in found.target_pixels[1]
    pinned = np.zeros((8, 8), bool)
    pinned.ravel()[found.target_pixels[1]] = True
    assert not (np.kron(pinned, np.ones((8, 8), bool)) & (mask[1] > 0)).any()
    # nor is anything copied from a cell of the first frame that holds some of it
    first = replace(passes, mask=mask[::-1].copy())
    assert cell not in match_background(first, 8, 8).reference_pixels[1]


def test_occupied_cells_are_those_with_any_pixel_of_what_moves(rng):
    passes = samples.passes(2, 48, 3)
    mask = (rng.random(passes.mask.shape) < 0.01).astype(np.uint8)
    shot = replace(passes, mask=mask)
    found = find_occupied(shot, 6, 6)
    for frame, row, col in np.ndindex(found.shape):
        assert found[frame, row, col] == (mask[frame, row * 8 : row * 8 + 8, col * 8 : col * 8 + 8] > 0).any()
    # where world positions say what stands still, only characters count
    still = replace(shot, position=passes.rest_position, object_index=np.ones_like(mask, np.uint16))
    assert (find_occupied(still, 6, 6) == found).all()


def test_the_edge_is_the_surface_over_the_place_by_its_coverage(rng):
    passes = samples.passes(1, 64)
    surface = torch.from_numpy(passes.mask[0] > 0)
    picture = torch.from_numpy(rng.uniform(-1, 1, (3, 64, 64)).astype(np.float32))
    out = composite_surfaces(picture, surface, *_place(51))
    assert torch.equal(out[:, surface], picture[:, surface]), "the surface has its own colours up to its last pixel"
    coverage = estimate_coverage(surface)
    place = 51 / 127.5 - 1
    untouched = coverage == 0
    assert torch.allclose(out[:, untouched], torch.tensor(place)) and untouched.float().mean() > 0.5
    ring = torch.nonzero((coverage > 0) & ~surface)
    inside = torch.nonzero(surface)
    assert len(ring) > 10
    for at in ring:
        distance = ((inside - at) ** 2).sum(1)
        nearest = inside[distance == distance.min()]
        wanted = [picture[:, y, x] * coverage[tuple(at)] + place * (1 - coverage[tuple(at)]) for y, x in nearest]
        assert any(torch.allclose(out[:, at[0], at[1]], one, atol=1e-6) for one in wanted)


def test_outlines_are_softened_where_they_are_slanted_only():
    upright, slanted = torch.zeros(32, 32, dtype=torch.bool), torch.zeros(32, 32, dtype=torch.bool)
    upright[:, :13] = True
    rows, cols = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    slanted[cols < 8 + 0.3 * rows] = True
    assert torch.equal(estimate_coverage(upright), upright.float())
    soft = estimate_coverage(slanted)
    between = (soft > 0.05) & ~slanted
    assert between.sum() > 6 and float(soft[~slanted].max()) <= 0.55
    # exact: the part of the pixel left of the line, by its centre's distance from it
    exact = (0.5 + (8 + 0.3 * rows - cols - 0.5) / 1.09**0.5).clamp(0, 1)
    assert float((soft - exact)[4:28][~slanted[4:28]].abs().mean()) < 0.06


def test_an_unknown_place_is_the_frames_own_but_for_what_the_character_tints():
    surface = torch.zeros(64, 64, dtype=torch.bool)
    surface[20:40, 20:40] = True
    picture = torch.full((3, 64, 64), -0.5)
    picture[:, torch.from_numpy(distance_transform_edt(~surface) <= HALO)] = 0.9  # a smear around it
    picture[:, surface] = 0.5
    out = composite_surfaces(picture, surface, *_place(0, known=False))
    assert torch.equal(out, torch.where(surface, 0.5, torch.tensor(-0.5)).expand(3, 64, 64))
    # without a plate the place is left as it is
    assert torch.equal(composite_surfaces(picture, surface)[:, ~surface], picture[:, ~surface])
    everything = torch.ones(64, 64, dtype=torch.bool)
    assert torch.equal(composite_surfaces(picture, everything, *_place(0, known=False)), picture)
    nothing = torch.zeros(64, 64, dtype=torch.bool)
    assert torch.equal(composite_surfaces(picture, nothing, *_place(0, known=False)), picture)
    assert torch.allclose(composite_surfaces(picture, nothing, *_place(255)), torch.ones(3, 64, 64))


def _list_outlines(rng):
    """Surfaces (H, W) bool: boxes at the borders and within, discs, single pixels, all of the picture, and a frame of it."""
    rows, columns = np.mgrid[0:70, 0:50]
    boxes = np.zeros((6, 70, 50), bool)
    for box in boxes[:4]:
        top, left = rng.integers(0, 60), rng.integers(0, 40)
        box[top : top + rng.integers(1, 40), left : left + rng.integers(1, 30)] = True
    boxes[4] = True
    boxes[5] = (rows < 5) | (columns > 45)
    discs = [(rows - rng.integers(0, 70)) ** 2 + (columns - rng.integers(0, 50)) ** 2 < rng.integers(3, 40) ** 2 for _ in range(4)]
    return [*boxes, *discs, *(rng.random((4, 70, 50)) < 0.003)]


def test_only_what_is_near_surfaces_is_worked_on_and_nothing_is_lost_by_it(rng):
    """To the last bit what whole pictures give."""
    for surface in _list_outlines(rng):
        picture = torch.from_numpy(rng.normal(size=(3, 70, 50)).astype(np.float32))
        place = rng.integers(0, 256, (70, 50, 3)).astype(np.float32)
        known = rng.random((70, 50)) < rng.choice([0.0, 0.02, 0.9, 1.0])
        behind = torch.where(torch.from_numpy(known), convert_to_picture(place, picture.device), picture)
        clear = known | (measure_distance(surface) > HALO)
        if clear.any():
            behind = take_nearest(behind, clear)
        plain = behind
        if surface.any():
            coverage = estimate_coverage(torch.from_numpy(surface))
            plain = take_nearest(picture, surface) * coverage + behind * (1 - coverage)
        assert torch.equal(composite_surfaces(picture, torch.from_numpy(surface), place, known), plain)
        index = surface.astype(np.uint16) * 7
        trusted = np.clip((measure_distance(~surface) - 0.5) / 3.0, 0, 1) ** 2 if surface.any() else np.zeros((70, 50))
        assert (weigh_inside(index) == trusted.astype(np.float32)).all()


def test_thin_parts_are_not_trusted():
    index = np.zeros((40, 40), int)
    index[5:35, 5:25] = 1
    index[5:35, 25:] = 2
    index[:, 2] = 3
    trusted = weigh_inside(index)
    assert trusted[20, 15] == 1 and trusted[20, 33] == 1 and (trusted[index == 0] == 0).all()
    assert trusted[20, 24] < 0.1 and trusted[20, 25] < 0.1, "another surface is an edge, too"
    assert trusted[:, 2].max() < 0.1


def test_a_texture_shows_its_pictures_detail():
    passes = samples.passes(3, 64, 3)
    x, y = passes.rest_position[..., 0] / 0.01, passes.rest_position[..., 1] / 0.01
    # shifted by fractions of a pixel against each other, as frames are
    waves = np.stack([np.sin(1.4 * x + 0.7 * y), np.sin(1.1 * y), np.cos(1.3 * x)], -1) * (passes.mask[..., None] > 0) * 0.6
    passes = replace(passes, rest_position=passes.rest_position + np.float32(0.0043))
    pictures, lattice = torch.from_numpy(waves.astype(np.float32)).permute(0, 3, 1, 2), SurfaceLattice(passes, torch.device("cpu"))
    plain = lattice.texture(pictures, 3.0)
    sharp = restore_detail(lattice, plain, pictures, 3.0)
    inside = torch.from_numpy(weigh_inside(passes.mask[0])) == 1

    def lose(texture):
        return float(((lattice.render(texture, 0, pictures[0]) - pictures[0])[:, inside] ** 2).mean())

    assert lose(sharp) < 0.4 * lose(plain)
    assert torch.equal(sharp[:, 3], plain[:, 3]) and float((sharp[:, :3].abs() / sharp[:, 3:].clamp(min=1e-9)).max()) <= 1 + 1e-5


def test_views_that_differ_in_brightness_leave_no_seam_and_keep_their_detail():
    """Two views are equally good but for noise, so that now one is better, now the other; the second is brighter."""
    passes = samples.passes(2, 64, 0)
    x = passes.rest_position[..., 0] / 0.01
    detail = torch.from_numpy((0.2 * np.sin(1.4 * x) * (passes.mask > 0)).astype(np.float32))[:, None].repeat(1, 3, 1, 1)
    pictures = [detail[0] - 0.2, detail[1] + 0.2]
    lattice = SurfaceLattice(passes, torch.device("cpu"))
    noise = torch.Generator().manual_seed(1)
    lattice._best = lattice._best * 1.02
    lattice._quality = [quality * (1 + 0.02 * torch.rand(quality.shape, generator=noise)) for quality in lattice._quality]
    inside = torch.from_numpy(weigh_inside(passes.mask[0])) == 1

    def show(texture):
        return lattice.render(texture, 0, pictures[0])[:, inside]

    seams, even = (
        float((show(one) - detail[0][:, inside]).std())
        for one in (lattice.texture(pictures, 400.0), blend_views(lattice, pictures, 400.0))
    )
    assert even < 0.4 * seams
    assert float(show(blend_views(lattice, pictures, 400.0)).std()) > 0.8 * float(detail[0][:, inside].std())


def test_a_cut_out_character_has_no_fringe_of_its_place():
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    image = np.where(mask[..., None] > 0, np.array([200, 10, 10]), np.array([0, 0, 255])).astype(np.uint8)
    cut = cut_out(image, mask)
    assert (cut[cut[..., 3] > 0][:, :3] == (200, 10, 10)).all()
    over = composite_over(image, mask, np.zeros_like(image))
    assert over[..., 2].max() <= 10
    assert (cut[..., :3][cut[..., 3] == 0] == image[cut[..., 3] == 0]).all()
