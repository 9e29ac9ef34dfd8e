"""The evaluations' figure for the text, on pictures with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from tools.starter.wardrobe import PALETTE
from tools.studies.shots import shot
from tools.studies.words import BOTTOM, TOP, asked, named_colours, nearest_colour


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
    assert asked(prompt) == found


def test_named_colours_are_seen_where_they_are():
    assert all(nearest_colour(np.array(colour) * 255 * 0.9) == name for name, colour in PALETTE.items() if name != "grey")
    passes = shot("still", "a person waves with the right hand", 2).passes
    images = np.full((*passes.mask.shape, 3), 120, np.uint8)
    for (low, high), name in ((TOP, "red"), (BOTTOM, "blue")):
        images[(passes.mask > 0) & (passes.rest_position[..., 1] > low) & (passes.rest_position[..., 1] < high)] = (
            np.array(PALETTE[name]) * 200
        )
    assert named_colours(images, passes, "a man in a red shirt and blue jeans") == 1.0
    assert named_colours(images, passes, "a man in a red shirt and green jeans") == 0.5
    assert named_colours(images, passes, "a man in a green shirt and black jeans") == 0.0
    assert np.isnan(named_colours(images, passes, "a man"))
