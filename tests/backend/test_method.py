"""The method's options on tiny models: gradients against finite differences, schedulers against diffusers' own pipeline."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import DDIMScheduler  # noqa: E402

from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.schedulers import SCHEDULERS  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.correspondence import match_background  # noqa: E402
from latentman.backend.video.denoising import Denoising, loss_scale  # noqa: E402
from latentman.backend.video.linear_decoder import LinearDecoder  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.prediction import soften_region  # noqa: E402
from latentman.backend.video.sampling import Sampler  # noqa: E402
from latentman.backend.video.techniques.background import SharedBackground  # noqa: E402
from latentman.backend.video.techniques.guidance import PixelGuidance  # noqa: E402
from latentman.shared.settings import with_settings  # noqa: E402
from latentman.shared.shot import METHODS, Background, Guidance, Method, ShotError, check_request  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

DETERMINISTIC = ("ddim", "dpm++", "euler")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny epsilon-predicting Stable Diffusion."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return load(str(root / "whole"), torch.device("cpu"))


def _make_denoising(model, request, passes):
    """All frames of a shot together."""
    pipeline = ShotPipeline(model, request, passes, RunContext())
    return pipeline._make_denoising(list(range(passes.frame_count)), None, None, joint=True)


def _frames(model, request, passes, run_context=None):
    return np.stack(list(ShotPipeline(model, request, passes, run_context or RunContext()).frames()))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_clean_predictions_are_the_schedulers(model, name, rng):
    scheduler = model.make_scheduler(8, name)
    sampler = Sampler(model.make_scheduler(8, name), 0)
    latents, output = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    for step in (0, 3, 6):
        found = sampler.predict_clean(latents, output, step)
        scheduler._step_index = step
        if name == "dpm++":
            wanted = scheduler.convert_model_output(output, sample=latents)
        else:
            wanted = scheduler.step(output, scheduler.timesteps[step], latents).pred_original_sample
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_runs_the_whole_method_in_any_chunk(model, monkeypatch, name):
    passes, request = samples.passes(3), samples.request(3, steps=5, scheduler=name)
    whole = _frames(model, request, passes)
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 1)
    assert np.abs(whole.astype(int) - _frames(model, request, passes)).max() <= 2 and whole.std() > 1


def test_what_a_multistep_solver_remembers_is_aligned(model):
    sampler = Sampler(model.make_scheduler(6, "dpm++"), 0)
    latents = sampler.scale_noise(torch.randn(2, 4, 8, 8))
    latents = sampler.step(latents, torch.randn_like(latents), 0)
    kept = sampler._scheduler.model_outputs[-1].clone()
    sampler.change_history(lambda x: x.flip(0))
    assert torch.equal(sampler._scheduler.model_outputs[-1], kept.flip(0)) and not sampler.resumable


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_going_on_after_a_stop_gives_the_same_frames(model, name):
    passes, request, saved = samples.passes(2), samples.request(2, steps=5, scheduler=name), {}
    whole = _frames(model, request, passes, RunContext(save=lambda checkpoint: saved.__setitem__(checkpoint.step, checkpoint)))
    assert (_frames(model, request, passes, RunContext(resume=lambda: saved[3])) == whole).all()


def test_the_full_gradient_agrees_with_finite_differences(tmp_path):
    """Through decoder, clean prediction, guidance, UNet and ControlNet, in float64."""
    tiny.write_sd(tmp_path)
    model = tiny.to_double(load(str(tmp_path / "whole"), torch.device("cpu")))
    method = Method(cross_frame_attention=False, guidance=Guidance(0.0, 1.0, 1.0))
    request, passes = samples.request(2, 32, steps=4, method=method), samples.passes(2, 32, 2)
    run = _make_denoising(model, request, passes)
    guide, predictor = run.find_technique(PixelGuidance), run._predictor
    latents = run._sampler.scale_noise(torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    guide.begin_step(2)
    _, (gradient,) = run._predict_batch(latents, [0, 1], [guide], 2)

    def loss(moved):
        """The reference frame's picture comes from the unmoved latents: it is held fixed."""
        guide.begin_step(2)
        with torch.no_grad():
            fixed = run._sampler.predict_clean(latents, predictor(latents, latents, [0, 1], [0, 1], 2), 2)
            clean = run._sampler.predict_clean(moved, predictor(moved, moved, [0, 1], [0, 1], 2), 2)
            guide.loss([0], fixed[:1], 2)
            return float(guide.loss([1], clean[1:], 2))

    for index in ((1, 0, 1, 1), (1, 2, 2, 0), (1, 3, 3, 3)):
        step = torch.zeros_like(latents)
        step[index] = 1e-5
        numeric = (loss(latents + step) - loss(latents - step)) / 2e-5
        assert float(gradient[index]) == pytest.approx(numeric, rel=1e-4, abs=1e-9)
    assert float(gradient[0].abs().max()) == 0.0


@pytest.mark.parametrize("kind", ["decoder", "linear"])
def test_cheap_gradients_lower_the_same_loss(model, kind):
    """The network is not differentiated, and a step against the gradient still brings matched pixels together."""
    request = samples.request(
        3, steps=4, method=Method(cross_frame_attention=False, shared_noise=False, guidance=Guidance(0.0, 1.0, 1.0, gradient=kind))
    )
    run = _make_denoising(model, request, samples.passes(3))
    guide = run.find_technique(PixelGuidance)
    latents = run._sampler.scale_noise(torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2)))
    guide.begin_step(2)
    output, (gradient,) = run._predict_batch(latents, [0, 1, 2], [guide], 2)

    def loss(moved):
        guide.begin_step(2)
        return float(guide.loss([0, 1, 2], run._sampler.predict_clean(moved, output, 2), 2))

    assert gradient.abs().max() > 0 and not output.requires_grad
    assert loss(latents - 1e-3 * gradient / gradient.norm()) < loss(latents)


def test_the_linear_decoder_finds_a_linear_map(rng):
    weight = torch.randn(5, 3)
    latents = torch.randn(2, 4, 8, 8)
    exact = LinearDecoder(weight)(latents)
    pictures = torch.nn.functional.interpolate(exact, scale_factor=8)
    found = LinearDecoder.fit(latents, pictures)
    assert torch.allclose(found(latents), exact, atol=2e-2)


def test_half_precision_scales_the_loss():
    assert loss_scale(torch.float16) > 1 and loss_scale(torch.bfloat16) == 1


def test_the_background_has_a_prompt_of_its_own(model):
    passes = samples.passes(2)
    request = samples.request(2, steps=4, preset="per_frame")
    both = _frames(model, with_settings(request, dict(background_prompt=request.text.prompt)), passes)
    plain = _frames(model, request, passes)
    assert np.abs(both.astype(int) - plain).max() <= 1
    other = _frames(model, with_settings(request, dict(background_prompt="under the stars at night")), passes)
    assert (other != plain).any()
    region = soften_region(torch.from_numpy(passes.mask > 0), (8, 8))
    assert region.shape == (2, 1, 8, 8) and float(region.max()) <= 1 and float(region.min()) == 0 and 0 < float(region.mean()) < 0.5


def test_a_still_background_is_shared(model):
    passes = samples.passes(3, 64, 4)
    method = msgspec.structs.replace(METHODS["per_frame"], background=Background(until=1.0))
    request = samples.request(3, steps=3, method=method)
    matches = match_background(passes, 8, 8)
    assert matches.reference == (-1, 0, 0) and len(matches.target_pixels[2]) > 30
    assert (matches.target_pixels[2] == matches.reference_pixels[2]).all()
    latents = ShotPipeline(model, request, passes, RunContext()).latents()
    aligned = _make_denoising(model, request, passes).find_technique(SharedBackground).before_step(latents, 0).flatten(2)
    here = torch.from_numpy(matches.target_pixels[2])
    assert torch.equal(aligned[2][:, here], aligned[0][:, here])
    free = ShotPipeline(model, samples.request(3, steps=3, preset="per_frame"), passes, RunContext()).latents().flatten(2)
    held = latents.flatten(2)
    assert (held[2][:, here] - held[0][:, here]).abs().mean() < 0.7 * (free[2][:, here] - free[0][:, here]).abs().mean()


def test_a_moving_camera_carries_the_background_along():
    """A rendered wall behind the character, seen four pixels farther to the right on the second frame."""
    passes = samples.passes(2, 64, 0)
    rows, cols = np.mgrid[0:64, 0:64]
    wall = np.stack([np.stack([(cols + 4 * n) * 0.01, -rows * 0.01, np.ones_like(cols) * 1.0], -1) for n in range(2)])
    index = np.full((2, 64, 64), 2, np.uint16)
    index[passes.mask > 0] = 1
    shot = replace(passes, position=wall.astype(np.float32), object_index=index)
    found = match_background(shot, 64, 64)
    cols_here, cols_there = found.target_pixels[1] % 64, found.reference_pixels[1] % 64
    inner = (cols_here > 2) & (cols_here < 58)
    assert len(cols_here) > 2000 and (cols_there - cols_here == 4)[inner].mean() > 0.99


def test_a_long_prompt_is_read_in_pieces(model):
    short = model.encode_text("a man", "", True, 64, 64)
    long = model.encode_text("a man in a red shirt " * 20, "", True, 64, 64)
    assert not short.warnings and "read in" in long.warnings[0]
    assert long.embeddings.shape[0] == 2 and long.embeddings.shape[1] > 2 * short.embeddings.shape[1]
    theirs, _ = model.pipeline.encode_prompt("a man", "cpu", 1, False)
    assert torch.allclose(short.embeddings[1], theirs[0], atol=1e-5)
    run_context = RunContext()
    _frames(model, samples.request(1, steps=2, prompt="a man in a red shirt " * 20), samples.passes(1), run_context)
    assert "read in" in run_context.warnings[0]


def test_divergence_is_an_error_that_names_the_step(model):
    method = Method(guidance=Guidance(0.0, 1.0, 1e6))
    with pytest.raises(ShotError, match=r"diverged at step \d.*lower rho"):
        _frames(model, samples.request(2, steps=4, method=method), samples.passes(2))
    broken = RunContext(after_step=lambda step, timestep, latents, predictor: latents * float("nan"))
    with pytest.raises(ShotError, match="step 2"):
        _frames(model, samples.request(2, steps=4, preset="cross_frame"), samples.passes(2), broken)


def test_short_memory_means_smaller_chunks(model, monkeypatch):
    passes, request = samples.passes(4), samples.request(4, steps=2)
    whole, real = _frames(model, request, passes), Denoising._predict_batch

    def hungry(self, latents, rows, *rest):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, latents, rows, *rest)

    monkeypatch.setattr(Denoising, "_predict_batch", hungry)
    run_context = RunContext()
    assert np.abs(_frames(model, request, passes, run_context).astype(int) - whole).max() <= 2
    assert any("1 frames" in warning for warning in run_context.warnings)
    monkeypatch.setattr(Denoising, "_predict_batch", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory")))
    with pytest.raises(ShotError, match="not enough memory for one frame"):
        _frames(model, request, passes)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"scheduler": "heun"}, "scheduler 'heun'"),
        ({"method": Method(matching="x")}, "matching 'x'"),
        ({"method": Method(guidance=Guidance(gradient="x"))}, "gradient 'x'"),
        ({"method": Method(background=Background(until=2.0))}, "out of range"),
        ({"method": Method(guidance=Guidance(rho=float("nan")))}, "rho nan"),
    ],
)
def test_unknown_options_are_named(change, sentence):
    with pytest.raises(ShotError, match=sentence):
        check_request(samples.request(**change))


def test_ddim_is_the_default(model):
    assert isinstance(model.make_scheduler(4), DDIMScheduler)
