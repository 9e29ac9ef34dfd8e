"""The method's parts against brute force, finite differences and diffusers' own processors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.metrics.consistency import measure_consistency  # noqa: E402
from latentman.backend.models.caller_options import CallerOptions  # noqa: E402
from latentman.backend.models.first_frame_attention import FirstFrameAttention, first_frame_attention  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.correspondence.matches import Matches, get_pixel_centres  # noqa: E402
from latentman.backend.video.noise import draw_noise, list_noise_sources  # noqa: E402
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.techniques.alignment import LatentAlignment, MatchedCopy  # noqa: E402
from latentman.backend.video.techniques.guidance import MatchedPixels  # noqa: E402
from latentman.backend.video.techniques.shared_noise import SharedNoise  # noqa: E402
from latentman.shared.picture_size import COMMON_MULTIPLE, find_size_multiple  # noqa: E402
from latentman.shared.shot import METHODS, Alignment, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402


@pytest.fixture(scope="module")
def starter():
    """The project's own image model."""
    return load("starter", torch.device("cpu"))


def _matches():
    sources = (np.array([], int), np.array([0, 3]), np.array([1]))
    return Matches(
        (-1, 0, 1),
        (np.array([], int), np.array([1, 2]), np.array([2])),
        sources,
        tuple(get_pixel_centres(pixels, 2) for pixels in sources),
        2,
        2,
    )


def test_alignment_chains_through_the_clip():
    latents = torch.arange(3 * 1 * 4, dtype=torch.float32).view(3, 1, 2, 2)
    out = MatchedCopy(_matches(), latents.device)(latents).flatten(2)[:, 0]
    assert out[0].tolist() == [0, 1, 2, 3] and out[1].tolist() == [4, 0, 3, 7]
    assert out[2].tolist() == [8, 9, 0, 11], "frame 2 takes what frame 1 had been given"


def test_alignment_works_on_the_first_steps():
    latents, alignment = torch.randn(3, 4, 8, 8), LatentAlignment(Alignment(until=0.4))
    alignment.begin(tiny.context(samples.passes(3, 64, 8), steps=10))
    assert not torch.equal(alignment.before_step(latents, 3), latents)
    assert alignment.before_step(latents, 4) is latents


def test_guidance_gradient_agrees_with_finite_differences(rng):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.Tanh()).double()
    clips = torch.randn(3, 2, 2, 2, dtype=torch.float64)

    def loss(x):
        guide = MatchedPixels(_matches(), x.device)
        # references are held fixed, so they come from the unperturbed clip
        fixed = ((network(clips).detach() / 2 + 0.5) * 25).flatten(2)
        pictures = network(x)
        flat = (pictures / 2 + 0.5).flatten(2) * 25
        expected = ((flat[1][:, [1, 2]] - fixed[0][:, [0, 3]]) ** 2).mean()
        expected = expected + ((flat[2][:, [2]] - fixed[1][:, [1]]) ** 2).mean()
        return guide, pictures, expected

    x = clips.clone().requires_grad_(True)
    guide, pictures, _ = loss(x)
    (gradient,) = torch.autograd.grad(guide.loss([0, 1, 2], pictures), x)
    for index in ((1, 0, 0, 1), (2, 1, 1, 0), (0, 0, 0, 0)):
        step = torch.zeros_like(clips)
        step[index] = 1e-5
        numeric = (loss(clips + step)[2] - loss(clips - step)[2]) / 2e-5
        assert float(gradient[index]) == pytest.approx(float(numeric.detach()), rel=1e-6, abs=1e-8)
    assert float(gradient[0].abs().max()) == 0.0


def test_cross_frame_attention_of_one_frame_is_ordinary(starter):
    x, words = torch.randn(2, 4, 16, 16), torch.randn(2, 40, starter.unet.config.cross_attention_dim)
    with torch.no_grad():
        plain = starter.unet(x, 500, words).sample
        with first_frame_attention([starter.unet], groups=2):
            one = starter.unet(x, 500, words).sample
        with first_frame_attention([starter.unet], groups=1):
            two = starter.unet(x, 500, words).sample
        after = starter.unet(x, 500, words).sample
    assert torch.allclose(plain, one, atol=1e-4) and torch.equal(plain, after)
    assert torch.allclose(plain[0], two[0], atol=1e-4) and not torch.allclose(plain[1], two[1], atol=1e-3)


@pytest.mark.parametrize("held", [False, True])
def test_frames_look_at_the_first_of_their_run_with_its_gradient(starter, held):
    """To the last bit as if each frame's keys and values were made for it alone."""
    layer = next(module for name, module in starter.unet.named_modules() if name.endswith("attn1"))
    groups, frames, tokens = 2, 3, 16
    x = torch.randn(groups * frames, tokens, layer.to_q.in_features, generator=torch.Generator().manual_seed(3))

    def attend_one_by_one(x):
        first = x.view(groups, frames, tokens, -1)[:, :1].expand(-1, frames, -1, -1).reshape(x.shape)
        first = first.detach() if held else first

        def heads(values):
            return values.view(len(x), tokens, layer.heads, -1).transpose(1, 2)

        query, key, value = heads(layer.to_q(x)), heads(layer.to_k(first)), heads(layer.to_v(first))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return layer.to_out[0](mixed.transpose(1, 2).reshape(x.shape))

    ours = FirstFrameAttention(groups, held=held)
    made = []
    for attend in (lambda x: ours(layer, x), attend_one_by_one):
        given = x.clone().requires_grad_()
        out = attend(given)
        made.append((out.detach(), *torch.autograd.grad((out * x).sum(), given)))
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    with torch.no_grad():
        assert torch.equal(ours(layer, x), made[0][0])


def test_cross_frame_attention_goes_with_guess_mode(starter):
    """ControlNets then see the conditional run alone: its frames look at its first frame, not at one of another run."""
    model = replace(starter, options=CallerOptions(guess_mode=True))
    passes = samples.passes(3, 64).select([0, 0, 1])
    first, second, third = ShotPipeline(model, samples.request(3, preset="cross_frame"), passes, RunContext()).frames()
    (alone,) = ShotPipeline(model, samples.request(1, preset="per_frame"), passes.select([0]), RunContext()).frames()
    assert np.abs(first.astype(int) - alone).max() <= 1 and np.abs(first.astype(int) - second).max() <= 1
    assert np.abs(first.astype(int) - third).max() > 1


def test_noise_is_seeded_and_shared_on_request():
    def draw(techniques, frames=(0, 1, 2)):
        return draw_noise(list_noise_sources(techniques, range(3)), frames, (4, 8, 8), torch.Generator().manual_seed(7))

    shared, apart = draw([SharedNoise()]), draw([])
    assert torch.equal(shared[0], shared[2]) and not torch.equal(apart[0], apart[2])
    assert torch.equal(draw([]), apart) and torch.equal(draw([], [2, 1]), apart[[2, 1]])
    assert torch.equal(shared[0], torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))[0])


def _frames(starter, request, passes, run_context=None):
    return np.stack(list(ShotPipeline(starter, request, passes, run_context or RunContext()).frames()))


def test_frames_do_not_depend_on_the_chunk(starter, monkeypatch):
    passes, request = samples.passes(5), samples.request(5, steps=4)
    whole = _frames(starter, request, passes)
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 2)
    assert np.abs(whole.astype(int) - _frames(starter, request, passes)).max() <= 2


def test_every_part_changes_the_result(starter):
    passes, base = samples.passes(3), samples.request(3, steps=5)
    full = _frames(starter, base, passes)
    import msgspec

    for change in ({"alignment": None}, {"guidance": None}, {"cross_frame_attention": False}, {"shared_noise": False}):
        other = msgspec.structs.replace(METHODS["latentman"], **change)
        assert (_frames(starter, samples.request(3, steps=5, method=other), passes) != full).any(), change


def test_depth_moves_the_character_and_the_prompt_changes_the_picture(starter):
    still, moved = samples.passes(1, 64), samples.passes(2, 64, 20)
    other = type(still)(**{name: array[1:] for name, array in moved.arrays().items()})
    request = samples.request(1, steps=6, preset="per_frame")
    a, b = _frames(starter, request, still), _frames(starter, request, other)
    changed = np.abs(a.astype(float) - b).mean((0, 3))
    touched = (still.mask[0] > 0) | (other.mask[0] > 0)
    assert changed[touched].mean() > 1.5 * changed[~touched].mean()
    night = samples.request(1, steps=6, preset="per_frame", prompt="a skeleton at night")
    assert np.abs(a.astype(float) - _frames(starter, night, still)).mean() > 10


def test_stopping_and_going_on_gives_the_same_frames(starter):
    passes, request = samples.passes(2), samples.request(2, steps=6)
    whole, saved = _frames(starter, request, passes), {}

    run_context = RunContext(
        save=lambda checkpoint: saved.update(last=checkpoint), should_stop=lambda: "last" in saved and saved["last"].step >= 3
    )
    with pytest.raises(Interrupted):
        _frames(starter, request, passes, run_context)
    assert saved["last"].step == 3
    resumed = _frames(starter, request, passes, RunContext(resume=lambda: saved["last"]))
    assert (resumed == whole).all()


def test_unknown_models_and_sizes(starter):
    with pytest.raises(ShotError, match="no model 'nonsense'"):
        load("nonsense")
    with pytest.raises(ShotError, match="nearest size is 96x64"):
        starter.check_size(100, 70)
    assert starter.size_multiple == find_size_multiple("starter") and COMMON_MULTIPLE % starter.size_multiple == 0


def test_consistency_sees_flicker_and_ignores_motion(rng):
    passes = samples.passes(4, 64, 3)
    texture = (passes.rest_position[..., :1] * 100 * 6 + 120).astype(np.uint8)
    steady = np.repeat(np.where(passes.mask[..., None] > 0, texture, 30), 3, -1).astype(np.uint8)
    assert measure_consistency(steady, passes)["hmse"] == 0 and measure_consistency(steady, passes)["background_mse"] == 0
    flicker = steady.copy()
    flicker[1::2] = np.clip(flicker[1::2].astype(int) + 20, 0, 255)
    found = measure_consistency(flicker, passes)
    assert found["hmse"] == pytest.approx(400) and found["background_mse"] == pytest.approx(400)
    still = type(passes)(**{n: np.repeat(a[:1], 4, 0) for n, a in passes.arrays().items()})
    assert measure_consistency(steady[[0] * 4], still)["matched_fraction"] == pytest.approx(1.0)
