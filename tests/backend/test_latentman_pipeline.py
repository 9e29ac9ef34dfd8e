"""The method as a diffusers pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import LCMScheduler  # noqa: E402

from latentman.backend.latentman_pipeline import LatentManPipeline, LatentManXLPipeline  # noqa: E402
from latentman.shared.shot import METHODS, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """From a tiny folder that diffusers wrote."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return LatentManPipeline.from_pretrained(root / "whole")


def _generator(seed=3):
    return torch.Generator().manual_seed(seed)


def test_a_clip_from_passes(pipe):
    passes = samples.passes(3)
    made = pipe("a man", passes, 4, generator=_generator(), output_type="np").frames
    assert made.shape == (3, 64, 64, 3) and made.dtype == np.float32 and 0 <= made.min() < made.max() <= 1
    again = pipe("a man", passes, 4, generator=_generator(), output_type="pil").frames
    assert np.abs(np.asarray(again[2]) / 255 - made[2]).max() < 0.003
    other = pipe("a man", passes, 4, generator=_generator(4), output_type="np").frames
    assert np.abs(other - made).max() > 0.01
    plain = pipe("a man", passes, 4, method=METHODS["per_frame"], generator=[_generator(n) for n in range(3)], output_type="latent")
    assert plain.frames.shape == (3, 4, 8, 8) and not torch.allclose(plain.frames[0], plain.frames[1])


def test_callbacks_and_interruption_are_diffusers_own(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append((step, int(timestep)))
        if step == 1:
            pipeline._interrupt = True
        return {"latents": tensors["latents"] * 1.0}

    options = dict(generator=_generator(), output_type="latent", callback_on_step_end=callback)
    made = pipe("a man", samples.passes(2), 5, method="latentman", **options)
    assert [step for step, _ in seen] == [0, 1] and made.frames.shape == (2, 4, 8, 8) and made.frame_indices == [0, 1]
    zeroed = pipe(
        "a man",
        samples.passes(2),
        2,
        generator=_generator(),
        output_type="latent",
        callback_on_step_end=lambda p, step, t, tensors: {"latents": tensors["latents"] * 0} if step == 1 else None,
    )
    assert float(zeroed.frames.abs().max()) == 0


def test_none_is_the_models_own(pipe, tmp_path):
    passes, path = samples.passes(2, 32), Path(pipe.config._name_or_path) / "latentman.json"
    path.write_text('{"steps": 2, "guidance_scale": 4, "negative_prompt": "a hat"}', encoding="utf-8")
    try:
        own = pipe("a man", passes, None, None, None, generator=_generator(), output_type="np").frames
        said = pipe("a man", passes, 2, 4.0, "a hat", generator=_generator(), output_type="np").frames
        none = pipe("a man", passes, 2, 4.0, "", generator=_generator(), output_type="np").frames
    finally:
        path.unlink()
    assert (own == said).all() and (own != none).any()
    # without the file, what suits its configuration; a scheduler that was exchanged is the one that is used
    plain = pipe("a man", passes, 2, None, generator=_generator(), output_type="np").frames
    assert (plain == pipe("a man", passes, 2, 7.5, generator=_generator(), output_type="np").frames).all()
    former = pipe.scheduler
    pipe.scheduler = LCMScheduler.from_config(former.config)
    try:
        quick = pipe("a man", passes, 2, None, generator=_generator(), output_type="np").frames
        said = pipe("a man", passes, 2, 1.0, scheduler="lcm", generator=_generator(), output_type="np").frames
    finally:
        pipe.scheduler = former
    assert (quick == said).all()
    with pytest.raises(ShotError, match="0 steps"):
        pipe("a man", passes, 0)


def test_bad_calls_are_one_sentence(pipe):
    with pytest.raises(ShotError, match="prompt is empty"):
        pipe(" ", samples.passes(2))
    with pytest.raises(ShotError, match="no method 'x'; choose surface, "):
        pipe("a man", samples.passes(2), method="x")
    with pytest.raises(ShotError, match="without the LoRA 'style' of the prompt"):
        pipe("a man<lora:style:1>", samples.passes(2))
    with pytest.raises(ShotError, match="changes the prompt between steps"):
        pipe("a [man:woman:0.5]", samples.passes(2))


def test_weights_and_layers_of_the_text(pipe):
    """Layers are counted as diffusers does: 0 leaves out none."""
    made = {}
    for name, prompt, skip in (
        ("own", "a man", None),
        ("none", "a man", 0),
        ("one", "a man", 1),
        ("weighted", "a (man:1.8)", None),
    ):
        options = dict(generator=_generator(), output_type="latent", clip_skip=skip)
        made[name] = pipe(prompt, samples.passes(2), 2, **options).frames
    assert torch.equal(made["own"], made["none"])
    assert not torch.equal(made["own"], made["one"]) and not torch.equal(made["own"], made["weighted"])


def test_sdxl(tmp_path):
    tiny.write_sdxl(tmp_path)
    pipe = LatentManXLPipeline.from_pretrained(tmp_path)
    assert len(pipe("a man", samples.passes(2), 2, generator=_generator()).frames) == 2


def test_controlnets_have_scales_and_parts_of_the_steps_as_in_diffusers(pipe):
    def make(**changes):
        return pipe("a man", samples.passes(1), 4, generator=_generator(), output_type="latent", **changes).frames

    plain = make()
    assert torch.equal(make(controlnet_conditioning_scale=[1.0], control_guidance_start=[0.0], control_guidance_end=1.0), plain)
    assert not torch.equal(make(control_guidance_end=0.5), plain) and not torch.equal(
        make(controlnet_conditioning_scale=0.5), plain
    )
    assert not torch.equal(make(spacing="trailing", scheduler="unipc"), make(spacing="leading", scheduler="unipc"))
    with pytest.raises(ShotError, match="1 ControlNets; give one scale"):
        make(controlnet_conditioning_scale=[1.0, 1.0])
    with pytest.raises(ShotError, match="to a larger one"):
        make(control_guidance_start=0.5, control_guidance_end=0.5)
