"""Costumes: what is known of a surface, its image on the texture map and back, and the surfaces that a costume fits."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from latentman.backend.pictures import decode_rgba, encode_png
from latentman.backend.video.costume import (
    Costume,
    collect_surface,
    make_atlas,
    measure_known,
    measure_overlap,
    paint_texture,
    read_colours,
    sample_charts,
)
from latentman.backend.video.lattice import SurfaceTexture, find_corners, unpack_cells
from latentman.backend.video.source import MemoryPasses
from latentman.backend.video.surface_filling import fill_texture
from latentman.shared.charts import Charts, measure_likeness
from latentman.shared.costume_files import read_images, with_files, with_paint
from latentman.shared.png import encode_rgba, is_intact_png
from latentman.shared.shot import ShotError
from tests import samples

SIDE = 0.02


def _tube(turns=24, rings=12, radius=0.15, height=0.5, surface=1) -> Charts:
    """A tube whose map fills the middle of the unit square."""
    angle, z = (np.linspace(0, end, count + 1) for end, count in ((2 * np.pi, turns), (height, rings)))
    points = np.stack(
        [radius * np.cos(angle)[:, None] + 0 * z, radius * np.sin(angle)[:, None] + 0 * z, 0 * angle[:, None] + z], -1
    )
    uv = np.stack(np.broadcast_arrays(angle[:, None] / (2 * np.pi) * 0.8 + 0.1, z / height * 0.8 + 0.1), -1)

    def split(array):
        a, b, c, d = array[:-1, :-1], array[1:, :-1], array[1:, 1:], array[:-1, 1:]
        return np.concatenate(
            [np.stack([a, b, c], 2).reshape(-1, 3, array.shape[-1]), np.stack([a, c, d], 2).reshape(-1, 3, array.shape[-1])]
        )

    rest = split(points).astype(np.float32)
    return Charts(split(uv).astype(np.float32), rest, np.full(len(rest), surface, np.uint16), {surface: "Tube"}, 256)


def _colour(rest):
    """A smooth colour of every place, in [-1, 1]."""
    return np.stack([np.sin(9 * rest[:, 0]), np.cos(7 * rest[:, 1]), 4 * rest[:, 2] - 1], 1) * 0.9


def _texture(charts, where=lambda rest: np.ones(len(rest), bool)) -> SurfaceTexture:
    """The smooth colour in the cells of some points of the charts."""
    cells = []
    for points in sample_charts(charts, SIDE / 2):
        corners, weights = find_corners(points.rest, points.surface, SIDE)
        cells.append(corners[where(points.rest)][weights[where(points.rest)] > 1e-3])
    found = np.unique(np.concatenate(cells))
    values = np.concatenate([_colour(unpack_cells(found)[0] * SIDE), np.ones((len(found), 1))], 1)
    return SurfaceTexture(SIDE, torch.from_numpy(found), torch.from_numpy(values.astype(np.float32)))


def test_known_is_the_share_of_the_mesh_and_not_of_what_was_seen():
    charts = _tube()
    assert measure_known(_texture(charts), charts) == 1.0
    half = _texture(charts, lambda rest: rest[:, 2] < 0.25)
    assert measure_known(half, charts) == pytest.approx(0.5, abs=0.05)
    empty = SurfaceTexture(SIDE, torch.empty(0, dtype=torch.int64), torch.empty((0, 4)))
    assert measure_known(empty, charts) == 0.0
    filled = fill_texture(half, collect_surface(charts, SIDE)).texture
    assert measure_known(filled, charts) == 1.0
    kept = filled.get_values(half.cells)
    assert torch.equal(kept, half.values)


def test_the_image_has_the_colours_of_the_surface_and_no_seam():
    charts = _tube()
    atlas = make_atlas(_texture(charts), charts, 1)
    rows, cols = np.mgrid[40:216, 40:216]
    angle, z = ((cols + 0.5) / 256 - 0.1) / 0.8 * 2 * np.pi, ((1 - (rows + 0.5) / 256) - 0.1) / 0.8 * 0.5
    rest = np.stack([0.15 * np.cos(angle), 0.15 * np.sin(angle), z], -1).reshape(-1, 3)
    wanted = ((_colour(rest) + 1) * 127.5).reshape(176, 176, 3)
    assert np.abs(atlas[40:216, 40:216, :3] - wanted).mean() < 3
    # around the island the colours go on, and farther away there is nothing
    assert atlas[128, 24, 3] == 255 and atlas[128, 4, 3] == 0
    assert np.abs(atlas[128, 24, :3].astype(int) - atlas[128, 27, :3]).max() < 12


def test_what_is_painted_comes_back_and_all_else_stays_as_it_is():
    charts = _tube()
    texture = _texture(charts)
    atlas = make_atlas(texture, charts, 1)
    same, share = paint_texture(texture, charts, 1, atlas)
    assert same is texture and share == 0.0
    painted = atlas.copy()
    painted[80:140, 60:120, :3] = (250, 20, 20)
    texture_painted, share = paint_texture(texture, charts, 1, painted)
    assert 0.05 < share < 0.15
    back = make_atlas(texture_painted, charts, 1)
    inner = (slice(90, 130), slice(70, 110))
    assert np.abs(back[inner][..., :3].astype(int) - (250, 20, 20)).max() < 6
    assert np.corrcoef(back[40:216, 40:216, :3].ravel(), painted[40:216, 40:216, :3].ravel())[0, 1] > 0.97
    assert (back[160:210, 140:210] == atlas[160:210, 140:210]).all()
    # a larger copy of the same image says the same
    large = np.asarray(Image.fromarray(painted).resize((512, 512), Image.Resampling.NEAREST))
    assert np.abs(make_atlas(paint_texture(texture, charts, 1, large)[0], charts, 1)[inner][..., 0].astype(int) - 250).max() < 8
    with pytest.raises(ShotError, match="must be square"):
        paint_texture(texture, charts, 1, painted[:100])


def test_a_costume_is_a_file_and_a_damaged_one_is_refused():
    charts = _tube()
    costume = Costume(_texture(charts), charts, "a tin", unlit=True)
    image = encode_png(make_atlas(costume.texture, charts, 1))
    data = costume.encode({1: image})
    found = Costume.decode(data)
    assert torch.equal(found.texture.values, costume.texture.values) and found.prompt == "a tin"
    assert found.unlit and found.make_look().light is not None, "it is seen in the light of the shot that it is worn in"
    assert Costume(costume.texture, charts).make_look().light is None, "one of an earlier version holds its light itself"
    assert (found.charts.rest == charts.rest).all() and found.charts.names == charts.names
    assert read_images(data) == {1: image}
    other = encode_png(np.zeros((256, 256, 4), np.uint8))
    assert read_images(with_paint(data, {1: other})) == {1: other} and read_images(data, only_painted=True) == {}
    for damaged in (b"", data[:-40], b"PK" + data[2:300]):
        with pytest.raises(ShotError):
            Costume.decode(damaged)
    buffer = io.BytesIO()
    np.savez(buffer, cells=np.zeros(3))
    with pytest.raises(ShotError):
        Costume.decode(buffer.getvalue())


def test_a_png_written_by_the_extension_is_read_by_the_backend():
    rows = np.random.default_rng(1).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    data = encode_rgba(rows.tobytes(), 7, 5)
    assert is_intact_png(data) and (decode_rgba(data) == rows).all()


def test_a_map_with_overlaps_is_measured():
    charts = _tube()
    assert measure_overlap(charts, 1) < 0.01
    folded = charts.uv.copy()
    folded[..., 0] = np.abs(folded[..., 0] - 0.5)
    assert measure_overlap(Charts(folded, charts.rest, charts.surface, charts.names, 256), 1) > 0.8


def test_surfaces_are_told_by_their_form_and_not_by_their_names():
    passes = samples.passes(2)
    source = MemoryPasses(passes, None)
    seen = passes.rest_position[0][passes.mask[0] > 0]
    low, high = seen.min(0)[:2], seen.max(0)[:2]
    corners = np.array([[low[0], low[1], 0], [high[0], low[1], 0], [high[0], high[1], 0], [low[0], high[1], 0]], np.float32)
    rest = corners[[[0, 1, 2], [0, 2, 3]]]
    uv = ((rest[..., :2] - low) / (high - low)).astype(np.float32)
    plate = Charts(uv, rest, np.full(2, 7, np.uint16), {7: "Plate"}, 256)
    costume = Costume(_texture(plate), plate)
    fitted = costume.fit(source)
    assert list(fitted.charts.names) == [1] and set((fitted.texture.cells >> 54).tolist()) == {1}
    tube = _tube()
    with pytest.raises(ShotError, match="another surface"):
        Costume(_texture(tube), tube).fit(source)
    assert measure_likeness(plate, plate) == 1.0 and measure_likeness(plate, tube) < 0.5


def test_two_costumes_are_joined_in_the_finer_cells():
    one, two = _tube(), _tube(surface=2)
    coarse = Costume(_texture(two), two).resample(0.05)
    assert coarse.side == 0.05 and len(coarse.cells) < len(_texture(two).cells)
    both = Costume(_texture(one), one, unlit=True).join(Costume(coarse, two))
    assert not both.unlit
    assert both.texture.side == SIDE and set(both.charts.names) == {1, 2}
    assert measure_known(both.texture, both.charts) > 0.999
    rest = next(sample_charts(two, SIDE)).rest
    colour, known = read_colours(both.texture, rest, np.full(len(rest), 2, np.int64))
    assert known.min() > 0.99 and np.abs(colour - _colour(rest)).max() < 0.3


def test_colours_between_cells_are_blended():
    charts = _tube()
    rest = next(sample_charts(charts, SIDE)).rest
    colour, known = read_colours(_texture(charts), rest, np.ones(len(rest), np.int64))
    assert known.min() > 0.99 and np.abs(colour - _colour(rest)).max() < 0.1


def test_a_request_without_a_costume_is_as_it_was():
    request = samples.request(2, preset="surface")
    assert with_files(request, {}) == request
    assert with_files(request, {"costume": b"1"}).costume != with_files(request, {"costume": b"2"}).costume


def test_files_that_no_dressing_has_made_are_refused_at_once():
    from latentman.backend.jobs.dressing import check_costume
    from latentman.shared.charts import decode_arrays, encode_arrays
    from latentman.shared.costume_files import COSTUME

    charts = _tube()
    arrays = decode_arrays(Costume(_texture(charts), charts, "a knight").encode({1: encode_png(np.zeros((8, 8, 4), np.uint8))}))
    check_costume(samples.request(1), {COSTUME: encode_arrays(arrays)})
    count = len(charts.surface)
    changes = {
        "names": {"chart_names": np.array(["a", "b"])},
        "numbers": {"chart_numbers": np.array([1, 1]), "chart_names": np.array(["a", "b"])},
        "negative": {"chart_numbers": np.array([-1])},
        "large": {"chart_numbers": np.array([1 << 20])},
        "table": {"keyframes": np.zeros((2, 2), np.int64)},
        "far": {"rest": arrays["rest"] * np.float32(1e20)},
        "wide": {"uv": arrays["uv"] * np.float32(1e20)},
        "coarse": {
            "rest": np.tile(np.array([[0, 0, 0], [9e5, 0, 0], [0, 9e5, 0]], np.float32), (9000, 1, 1)),
            "uv": np.zeros((9000, 3, 2), np.float32),
            "surface": np.ones(9000, np.uint16),
        },
    }
    assert count < 9000
    for name, change in changes.items():
        with pytest.raises(ShotError, match=r"(Dress has made|dress the character again)\.$"):
            check_costume(samples.request(1), {COSTUME: encode_arrays({**arrays, **change})})
            raise AssertionError(name)
