"""The evaluations' figure for how well frames follow their text, on pictures with known answers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from latentman.backend.metrics.named_colours import (
    BOTTOM_HEIGHTS,
    PALETTE,
    TOP_HEIGHTS,
    compute_text_metrics,
    find_nearest_colour,
    measure_named_colours,
    parse_colours,
)
from latentman.blender_addon.reference_shots.shots import render_clip


@pytest.mark.parametrize(
    "prompt, found",
    [
        ("a man in a red shirt and blue jeans, on a beach", {"top": "red", "bottom": "blue"}),
        ("a woman in a green jacket and black trousers, in a forest", {"top": "green", "bottom": "black"}),
        ("an astronaut in a white suit, on the moon", {"top": "white", "bottom": "white"}),
        ("a girl in a yellow striped T-shirt, in a red city", {"top": "yellow"}),
        ("somebody", {}),
    ],
)
def test_prompts_name_colours(prompt, found):
    assert parse_colours(prompt) == found


def test_named_colours_are_seen_where_they_are():
    assert all(find_nearest_colour(np.array(colour) * 255 * 0.9) == name for name, colour in PALETTE.items() if name != "grey")
    passes = render_clip("a person waves with the right hand", 2)
    images = np.full((*passes.mask.shape, 3), 120, np.uint8)
    for (low, high), name in ((TOP_HEIGHTS, "red"), (BOTTOM_HEIGHTS, "blue")):
        images[(passes.mask > 0) & (passes.rest_position[..., 1] > low) & (passes.rest_position[..., 1] < high)] = (
            np.array(PALETTE[name]) * 200
        )
    assert measure_named_colours(images, passes, "a man in a red shirt and blue jeans") == 1.0
    assert compute_text_metrics(images, passes, "a man in a red shirt and blue jeans") == {"named_colours": 1.0}
    assert measure_named_colours(images, passes, "a man in a red shirt and green jeans") == 0.5
    assert measure_named_colours(images, passes, "a man in a green shirt and black jeans") == 0.0
    assert np.isnan(measure_named_colours(images, passes, "a man"))
