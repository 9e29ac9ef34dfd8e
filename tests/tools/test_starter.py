"""The starter model's folder and the renders it was trained on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from backend.models.registry import STARTER  # noqa: E402
from blender_addon.character.body_model import MANNEQUIN, load  # noqa: E402
from tests.oracles.rasteriser import rasterise as oracle  # noqa: E402
from tools.motions.clips import CLIPS  # noqa: E402
from tools.motions.gait import perform  # noqa: E402
from tools.starter import captions  # noqa: E402
from tools.starter.dataset import render  # noqa: E402
from tools.starter.rasteriser import rasterise  # noqa: E402


def test_the_training_rasteriser_agrees_with_another():
    body = load(MANNEQUIN)
    points = body.v_template + [0.1, 0.0, -3.0]
    ours = rasterise(points, body.faces, 90.0, 96, 96)
    depth, values = oracle(points, body.faces, body.v_template[body.faces], 90.0, 96)
    assert (ours.mask != np.isfinite(depth)).sum() <= 2
    both = ours.mask & np.isfinite(depth)
    assert np.allclose(ours.depth[both], depth[both], atol=1e-4)
    found = np.zeros((96, 96, 3))
    found[ours.mask] = ours.interpolate(body.v_template[body.faces])
    assert np.percentile(np.abs(found - values)[both], 99.5) < 1e-4


def test_renders_are_seeded_and_hold_the_depth_convention():
    body = load(MANNEQUIN)
    one, same, other = render(body, 11), render(body, 11), render(body, 12)
    assert one.caption == same.caption and (one.image == same.image).all() and (one.image != other.image).any()
    assert (one.depth[~one.mask] == 0).all() and (one.depth[one.mask] > 0).all()


def test_captions_name_what_is_worn():
    generator = np.random.default_rng(2)
    for _ in range(60):
        look = captions.sample_look(generator)
        text = captions.describe(look, "beach", generator)
        assert any(place in text for place in captions.PLACE_WORDS["beach"])
        words = [look.suit] if look.suit else [look.top.kind, look.top.colour, look.bottom.kind, look.bottom.colour]
        assert all(word in text for word in words), text


def test_the_export_loads_unchanged_and_is_small():
    from diffusers import StableDiffusionControlNetPipeline

    assert sum(f.stat().st_size for f in STARTER.rglob("*") if f.is_file()) < 36e6
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    pipeline.set_progress_bar_config(disable=True)
    depth = torch.zeros(1, 3, 64, 64)
    depth[..., 16:60, 24:40] = 0.8
    made = [pipeline(prompt, image=depth, num_inference_steps=3, output_type="np", guidance_scale=scale,
                     generator=torch.Generator().manual_seed(1)).images[0]
            for prompt, scale in (("a robot on a stage", 4.0), ("a robot on a stage", 1.0), ("zyxgh qqq ☃", 4.0))]
    assert all(np.isfinite(m).all() and m.shape == (64, 64, 3) for m in made)
    assert np.abs(made[0] - made[1]).mean() > 0.01


def test_the_bundled_clips_can_be_made_again():
    from blender_addon.motion.readers import BUNDLED, read

    file = read(BUNDLED)
    assert list(file.texts) == list(CLIPS)
    for n, make in enumerate(CLIPS.values()):
        assert np.abs(file.motion(n).joints - perform(make())).max() < 1e-5
