"""Small pictures of frames that are being made."""

from __future__ import annotations

import numpy as np
import pytest

from latentman.shared.drafts import MOST, SIDE, choose_shown, is_draft, make_sheet, shrink


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 10, 11, 25, 1000])
def test_a_few_frames_are_shown_from_first_to_last(count):
    shown = choose_shown(count)
    assert len(shown) == min(count, MOST) == len(set(shown))
    if count > 1:
        assert shown[0] == 0 and shown[-1] == count - 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (128, 128), (129, 128), (144, 256), (512, 512), (300, 701), (2000, 64)])
def test_a_picture_is_shrunk_by_whole_pixels(height, width):
    rng = np.random.default_rng(height * 7 + width)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    small = shrink(picture)
    assert small.dtype == np.uint8 and max(small.shape[:2]) <= SIDE and min(small.shape[:2]) >= 1
    step = -(-max(height, width) // SIDE)
    expected = picture[-1 - (height - 1) % step :, -1 - (width - 1) % step :].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(small[-1, -1], expected, atol=0.51)
    assert is_draft(small[None], 1)


@pytest.mark.parametrize("count", range(1, MOST + 1))
@pytest.mark.parametrize(("height", "width"), [(10, 10), (9, 16), (16, 9)])
def test_a_sheet_holds_every_picture_once(count, height, width):
    sheet = make_sheet([np.full((height, width, 3), n + 1, np.uint8) for n in range(count)])
    for n in range(count):
        assert (sheet == n + 1).sum() == height * width * 3
    assert max(sheet.shape[:2]) <= 3 * min(sheet.shape[:2]) or count <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 0, 8, 3), np.uint8),
        np.zeros((1, 8, SIDE + 1, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_what_is_no_draft(wrong):
    assert not is_draft(wrong, 1)
