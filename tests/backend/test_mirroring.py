"""The plane that mirrors a body onto itself, and what one side lacks taken from the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.video.correspondence import prepare_surface_frame  # noqa: E402
from latentman.backend.video.lattice import SurfaceTexture, unpack_cells  # noqa: E402
from latentman.backend.video.mirroring import find_mirror, mirror_texture  # noqa: E402
from latentman.backend.video.surface_filling import collect_surface_cells  # noqa: E402

SIDE = 0.01


def _make_body(bulge=(0.0, 0.0), turn=0.0, middle=0.003):
    """The cells of an egg-shaped tube seen from all around, with a bulge on its left and its right side; ``turn`` in degrees."""
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 160, endpoint=False), np.arange(60) * 0.5, indexing="ij")
    wide = 10 + height * 0.6
    left, right = (size * np.exp(-((height - 12) ** 2) / 30) for size in bulge)
    x = wide * np.cos(angle) + np.where(np.cos(angle) < 0, -left, right) * np.abs(np.cos(angle))
    y = 9 * np.sin(angle) + 6 * np.sin(angle) ** 2
    turned = np.radians(turn)
    points = np.stack([x * np.cos(turned) - y * np.sin(turned), x * np.sin(turned) + y * np.cos(turned), height], -1) * SIDE
    points[..., 0] += middle
    frame = prepare_surface_frame(points, np.ones(points.shape[:2], int))
    return collect_surface_cells([frame], SIDE)


@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_the_plane_of_a_symmetric_body_is_found(turn):
    mirror = find_mirror(_make_body(turn=turn))
    wanted = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn)), 0])
    assert mirror is not None and abs(mirror.normal @ wanted) > 0.999
    assert abs(mirror.offset * np.sign(mirror.normal @ wanted) - 0.003 * wanted[0]) < SIDE
    points = np.random.default_rng(1).normal(size=(5, 3))
    assert np.allclose(mirror.reflect(mirror.reflect(points)), points)
    apart = [np.linalg.norm(some[:, None] - some, axis=-1) for some in (points, mirror.reflect(points))]
    assert np.allclose(*apart), "a reflection keeps distances"


def test_a_body_that_is_not_the_same_on_both_sides_has_none():
    assert find_mirror(_make_body((0.0, 40.0))) is None
    assert find_mirror(_make_body((8.0, 8.0))) is not None
    sheet = np.stack([*np.meshgrid(np.arange(40) * 0.5, np.arange(40) * 0.5), np.zeros((40, 40))], -1) * SIDE
    sheet[..., 1] += sheet[..., 0] ** 2 * 4
    found = find_mirror(collect_surface_cells([prepare_surface_frame(sheet, np.ones((40, 40), int))], SIDE))
    assert found is None or abs(found.normal[2]) < 0.5, "no sheet is the mirror image of itself in its own plane"


def test_unknown_and_doubtful_cells_take_their_mirror_images_colour():
    surface = _make_body()
    mirror = find_mirror(surface)
    place, _ = unpack_cells(surface.cells)
    x = place[:, 0] * SIDE - 0.003
    colours = np.stack([place[:, 2] / 20.0 - 0.8, np.sign(place[:, 1]) * 0.5, 0.0 * x], 1)
    values = torch.from_numpy(np.concatenate([colours, np.ones((len(x), 1))], 1).astype(np.float32))
    known, doubtful = (x > 0) | (place[:, 2] > 20), (x < 0) & (place[:, 2] > 20)
    wrong = values.clone()
    wrong[torch.from_numpy(doubtful), :3] = 1.0
    rows = torch.from_numpy(np.flatnonzero(known))
    texture = SurfaceTexture(SIDE, torch.from_numpy(surface.cells)[rows], wrong[rows], torch.from_numpy(doubtful)[rows])
    found = mirror_texture(texture, surface, mirror)
    trusted = texture.select(texture.trusted)
    assert torch.equal(found.get_values(trusted.cells), trusted.values), "what is known stays, to the last bit"
    other = (x < -2 * SIDE) & (np.abs(place[:, 1]) > 2)
    back = found.get_values(torch.from_numpy(surface.cells[other]))
    assert (back[:, 3] > 0).float().mean() > 0.97
    there = back[:, 3] > 0
    off = (back[:, :3] - values[torch.from_numpy(np.flatnonzero(other)), :3])[there].abs()
    assert (off <= 0.16).float().mean() > 0.97
    nothing = replace(texture, doubtful=torch.ones(len(texture.cells), dtype=torch.bool))
    assert mirror_texture(nothing, surface, mirror) is nothing, "nothing is learnt from what is doubtful"
