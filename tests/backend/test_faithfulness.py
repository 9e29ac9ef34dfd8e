"""``as_released``: each departure from the authors' code, switched back, is what ``docs/faithfulness.md`` says it is.

The gradients are compared with a plain forward pass of the same networks, written from that description: one call of ControlNet and
UNet for each half of the batch, the classic attention of diffusers, and ``detach`` where something is left out.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import permutations

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers.models.attention_processor import AttnProcessor  # noqa: E402

from latentman.backend.metrics.variants import VARIANTS  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.schedulers import SCHEDULERS  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.correspondence import match_hungarian, match_pair  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.techniques.guidance import PixelGuidance  # noqa: E402
from latentman.shared.shot import (  # noqa: E402
    METHODS,
    AsReleased,
    Guidance,
    Method,
    describe_method,
    describe_request,
)
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

SWITCHES = AsReleased.__struct_fields__
#: those of the guidance's gradient
OMISSIONS = ("omit_direct", "omit_conditional", "omit_controlnet", "omit_attention", "clamp")
FRAMES, SIZE, STEPS, STEP, SCALE = 3, 32, 5, 2, 9.0


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A tiny epsilon-predicting Stable Diffusion with leading steps and an offset of 1, as Stable Diffusion 1.5 has them."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return load(str(root / "whole"), torch.device("cpu"))


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """The same in float64, with an auto-encoder whose pictures leave their range here and there."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    model = tiny.to_double(load(str(root / "whole"), torch.device("cpu")))
    with torch.no_grad():
        for parameter in model.pipeline.vae.decoder.conv_out.parameters():
            parameter *= 8
    return model


def _release(*names: str) -> AsReleased:
    return AsReleased(**{name: name in names for name in SWITCHES})


def _make_run(model, *names: str):
    method = Method(guidance=Guidance(0.0, 1.0, 1.0), as_released=_release(*names) if names else None)
    request = samples.request(FRAMES, SIZE, steps=STEPS, guidance_scale=SCALE, method=method)
    pipeline = ShotPipeline(model, request, samples.passes(FRAMES, SIZE, 2), RunContext())
    return pipeline._make_denoising(list(range(FRAMES)), None, None, joint=True)


def _make_latents(run):
    noise = torch.randn(FRAMES, 4, SIZE // 8, SIZE // 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return run._sampler.scale_noise(noise)


def _find_gradient(model, *names: str):
    """(F, C, h, w) ours, as the loop takes it."""
    run = _make_run(model, *names)
    guide, latents = run.find_technique(PixelGuidance), _make_latents(run)
    guide.begin_step(STEP)
    with ExitStack() as stack:
        for technique in run._techniques:
            stack.enter_context(technique.attention([model.unet, *model.controlnets], run._predictor.groups))
        _, ((_, gradient),) = run._predict(latents, STEP)
    return gradient


class _PlainAttention:
    """Keys and values of the first frame by diffusers' own classic attention."""

    def __init__(self, *, detached: bool) -> None:
        self.detached = detached

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        if encoder_hidden_states is None:
            first = hidden_states[0:1].detach() if self.detached else hidden_states[0:1]
            encoder_hidden_states = torch.cat([first] * len(hidden_states))
        return AttnProcessor()(attn, hidden_states, encoder_hidden_states)


def _describe_gradient(model, names):
    """(F, C, h, w) the gradient as it is described, and the pictures (F, 3, H, W) in [0, 1] before any clamping."""
    run = _make_run(model)
    pipe, control = model.pipeline, run._controls[0]
    start = _make_latents(run)
    time = pipe.scheduler.timesteps[STEP] if len(pipe.scheduler.timesteps) == STEPS else run._sampler.timesteps[STEP]
    alpha = pipe.scheduler.alphas_cumprod[time].double()
    wanted, unwanted = pipe.encode_prompt(samples.request().text.prompt, model.device, 1, True, "")
    nets = (pipe.unet, pipe.controlnet)
    before = [dict(net.attn_processors) for net in nets]
    x = start.clone().requires_grad_()

    def predict(seen, words):
        words = torch.cat([words] * FRAMES)
        shown = seen.detach() if "omit_controlnet" in names else seen
        down, middle = pipe.controlnet(shown, time, words, control, return_dict=False)
        return pipe.unet(seen, time, words, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample

    try:
        for net in nets:
            net.set_attn_processor(_PlainAttention(detached="omit_attention" in names))
        without, with_words = predict(x, unwanted), predict(x.detach() if "omit_conditional" in names else x, wanted)
    finally:
        for net, processors in zip(nets, before, strict=True):
            net.set_attn_processor(processors)
    noise = without + SCALE * (with_words - without)
    direct = x.detach() if "omit_direct" in names else x
    clean = (direct - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    pictures = pipe.vae.decode(clean / pipe.vae.config.scaling_factor).sample / 2 + 0.5
    compared = pictures.clamp(0, 1) if "clamp" in names else pictures
    # the pixels whose centres are nearest to those of half the size
    small = (25 * compared)[:, :, 1::2, 1::2].flatten(2)
    matches = match_hungarian(samples.passes(FRAMES, SIZE, 2), SIZE // 2, SIZE // 2, "prev_new")
    loss = sum(
        ((small[n][:, matches.target_pixels[n]] - small[n - 1].detach()[:, matches.reference_pixels[n]]) ** 2).mean()
        for n in range(1, FRAMES)
    )
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient, pictures.detach()


@pytest.mark.parametrize("names", [(), *((name,) for name in OMISSIONS), OMISSIONS], ids=lambda names: "+".join(names) or "full")
def test_the_gradient_is_the_one_described(double, names):
    found, (wanted, pictures) = _find_gradient(double, *names), _describe_gradient(double, names)
    assert 0.02 < ((pictures < 0) | (pictures > 1)).double().mean() < 0.98, "clamping has something to do"
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10 * float(wanted.abs().max())) and wanted.abs().max() > 0
    # the first frame is compared with none: whatever gradient it has, others have through its keys and values
    assert bool(found[0].any()) == ("omit_attention" not in names) and found[1].any() and found[2].any()


def test_every_omission_changes_the_gradient_and_nothing_else(double):
    full = _find_gradient(double)
    for name in OMISSIONS:
        assert float((_find_gradient(double, name) - full).norm() / full.norm()) > 1e-3, name
    latents = _make_latents(_make_run(double))
    outputs = [_make_run(double, *names)._predict(latents, STEP)[0] for names in ((), OMISSIONS)]
    assert torch.equal(*outputs)


def test_as_released_the_gradient_does_not_depend_on_the_batches(double, monkeypatch):
    together = _find_gradient(double, *OMISSIONS)
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 1)
    assert torch.allclose(_find_gradient(double, *OMISSIONS), together, rtol=1e-9, atol=1e-10 * float(together.abs().max()))


def test_switched_off_it_changes_no_bit(single):
    for name in ("latentman", "cross_frame"):
        frames = [
            torch.stack(
                list(ShotPipeline(single, samples.request(3, steps=5, method=method), samples.passes(3), RunContext()).pictures())
            )
            for method in (METHODS[name], msgspec.structs.replace(METHODS[name], as_released=_release()))
        ]
        assert torch.equal(*frames)


def test_every_switch_changes_the_frames(single):
    """The passes' right part is half hidden in the first frame, so that centring moves its matches."""
    passes = samples.passes(3)
    hidden = passes.mask[0] * (np.arange(64) < 64 // 3 + 6)
    shown = {name: array.copy() for name, array in passes.arrays().items()}
    for array in shown.values():
        array[0] *= hidden.reshape(64, 64, *[1] * (array.ndim - 3)).astype(array.dtype)
    passes = type(passes)(**shown)
    usual = msgspec.structs.replace(METHODS["latentman"], guidance=Guidance(0.0, 1.0, 1.0))

    def make(released):
        request = samples.request(3, steps=3, method=msgspec.structs.replace(usual, as_released=released))
        return ShotPipeline(single, request, passes, RunContext()).latents()

    plain = make(None)
    found = {name: make(_release(name)) for name in SWITCHES}
    same = [name for name, latents in found.items() if torch.equal(latents, plain)]
    # this auto-encoder's pictures hardly leave their range
    assert set(same) <= {"clamp"}


def test_centred_coordinates_shift_a_half_hidden_part():
    """A row of six pixels of which the reference shows the last three: by hand, the cheapest of all assignments."""
    whole, half, width = np.arange(6), np.arange(3, 6), 6
    part = np.ones(6, np.uint8)
    # not evenly spaced, so that no two assignments cost the same
    uv = np.stack([(whole / 5) ** 1.3, np.zeros(6)], 1)

    def local(pixels):
        middle = (pixels.min() + pixels.max()) / 2
        return np.abs(pixels - middle) / np.abs(pixels - middle).max() * 63.75

    for centred, wanted in ((False, {3: 3, 4: 4, 5: 5}), (True, None)):
        u = 255 * uv[:, 0] - (255 * uv[:, 0].mean() if centred else 0)
        v = 255 * uv[half, 0] - (255 * uv[half, 0].mean() if centred else 0)
        cost = np.hypot(u[:, None] - v, local(whole)[:, None] - local(half))
        best = min(permutations(whole, 3), key=lambda order: cost[list(order), range(3)].sum())
        found = dict(zip(*match_pair(part, uv, part * (whole > 2), uv, width, centred=centred), strict=True))
        assert found == dict(zip(best, half, strict=True))
        assert wanted is None or found == wanted
    assert max(found) < 5, "the part's end is matched with its middle"
    # where all of a part is seen in both, centring changes nothing
    pairs = [match_pair(part, uv, part, uv, width, centred=centred) for centred in (False, True)]
    assert all((a == b).all() for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("name", [name for name, kind in SCHEDULERS.items() if "leading" in kind.spacings])
def test_steps_from_zero_are_one_earlier(single, name):
    usual, other = (single.make_scheduler(4, name, "leading", from_zero=from_zero).timesteps for from_zero in (False, True))
    assert (usual - other == 1).all()
    trailing = [single.make_scheduler(4, name, "trailing", from_zero=from_zero).timesteps for from_zero in (False, True)]
    assert torch.equal(*trailing)


def test_the_loop_takes_the_steps_that_it_is_told(single):
    times = [_make_run(single, *names)._sampler.timesteps.tolist() for names in ((), ("omit_direct",), ("steps_from_zero",))]
    assert times == [[801, 601, 401, 201, 1]] * 2 + [[800, 600, 400, 200, 0]]


def _list_warnings(model, **changes):
    run_context = RunContext()
    ShotPipeline(model, samples.request(2, **{"steps": 4, **changes}), samples.passes(2), run_context)
    return [warning for warning in run_context.warnings if "authors' code" in warning]


def test_what_changes_nothing_is_said(single):
    released = VARIANTS["latentman_released"]
    replace = msgspec.structs.replace
    assert _list_warnings(single, method=released) == _list_warnings(single) == []
    for changes, idle in (
        ({"spacing": "trailing"}, "Steps from 0"),
        ({"guidance_scale": 1.0}, "Omit Conditional Half"),
        ({"method": replace(released, matching="surface")}, "Centred Coordinates"),
        ({"method": replace(released, cross_frame_attention=False)}, "Omit Attention"),
        (
            {"method": replace(released, guidance=Guidance(gradient="decoder"))},
            "Omit Direct Term, Omit Conditional Half, Omit ControlNet, Omit Attention",
        ),
        (
            {"method": replace(METHODS["surface"], as_released=AsReleased())},
            "Centred Coordinates, Omit Direct Term, Omit Conditional Half, Omit ControlNet, Omit Attention, Clamp Pictures",
        ),
    ):
        (warning,) = _list_warnings(single, **({"method": released} | changes))
        assert warning.endswith(f"with these settings: {idle}.")


def test_names_of_jobs_and_runs_are_those_of_before():
    absent, present = METHODS["latentman"], VARIANTS["latentman_released"]
    for method in (None, absent, present):
        request = samples.request(method=method)
        without = msgspec.json.encode(request).replace(b',"as_released":null', b"").replace(b',"shadows":null', b"")
        assert msgspec.json.encode(describe_request(request)) == without
    assert "as_released" not in describe_method(absent) and describe_method(present)["as_released"] == dict.fromkeys(SWITCHES, True)
    # what was stored before is read
    assert msgspec.convert(describe_method(absent), Method) == absent


def test_variants_switch_each_back():
    assert VARIANTS["latentman_released"].as_released == AsReleased()
    for name in SWITCHES:
        assert VARIANTS[f"released_{name}"] == msgspec.structs.replace(METHODS["latentman"], as_released=_release(name))
