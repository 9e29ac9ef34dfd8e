"""The look of frames as one texture, against a texture that is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from latentman.backend.video.texture import gather_texture
from latentman.blender_addon.reference_shots.shots import render_clip

SIZE = 128


@pytest.fixture(scope="module")
def passes():
    """A walk, seen half from the side."""
    return render_clip("a person walks forward", 3, turn=-30.0, step=5)


def _paint(passes):
    image = np.zeros((*passes.mask.shape, 3))
    image[..., :2], image[..., 2] = passes.uv % 1, 0.3
    return np.round(image * 255 * (passes.mask[..., None] > 0)).astype(np.uint8)


def test_a_known_texture_comes_back(passes):
    texture = gather_texture(_paint(passes), passes, 1, SIZE)
    seen = texture[..., 3] == 255
    rows, columns = np.nonzero(seen)
    expected = np.stack([(columns + 0.5) / SIZE, 1 - (rows + 0.5) / SIZE, np.full(len(rows), 0.3)], 1) * 255
    off = np.abs(texture[seen][:, :3] - expected)
    assert texture.shape == (SIZE, SIZE, 4) and set(np.unique(texture[..., 3])) == {0, 255}
    assert np.median(off) < 255 / SIZE + 1 and np.percentile(off, 95) < 255 * 6 / SIZE and seen.mean() > 0.1


def test_what_no_frame_shows_stays_empty(passes):
    """One side only: the texels of the other side are not made up."""
    one, more = (
        gather_texture(_paint(passes)[:n], type(passes)(**{k: v[:n] for k, v in passes.arrays().items()}), 1, SIZE) for n in (1, 3)
    )
    assert 0.05 < (one[..., 3] > 0).mean() < 0.8 and (more[..., 3] > 0).sum() > (one[..., 3] > 0).sum()
    assert gather_texture(_paint(passes), passes, 7, SIZE) is None


def test_closer_sight_counts_more(passes):
    """Two frames of one pose: the second has every pixel twice as close on the surface, and another colour."""
    twice = type(passes)(**{k: np.concatenate([v[:1], v[:1]]) for k, v in passes.arrays().items()})
    twice.rest_position[1] *= 0.5
    images = np.zeros((*twice.mask.shape, 3), np.uint8)
    images[0], images[1] = 40, 200
    texture = gather_texture(images, twice, 1, SIZE)
    middle = np.median(texture[texture[..., 3] > 0][:, :3])
    even = (0.5 * (40 / 255) ** 2.2 + 0.5 * (200 / 255) ** 2.2) ** (1 / 2.2) * 255
    assert even + 10 < middle < 200
