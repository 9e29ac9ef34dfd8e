"""Every scheduler with every prediction type, spacing and precision: against diffusers' own pipeline, and against a network that
knows the answer."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffusers  # noqa: E402
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline  # noqa: E402

from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.schedulers import SCHEDULERS, list_schedule_warnings  # noqa: E402
from latentman.backend.tasks.shot import check_shot  # noqa: E402
from latentman.backend.video.denoising import Denoising  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.sampling import Sampler  # noqa: E402
from latentman.backend.video.techniques import Technique  # noqa: E402
from latentman.shared.load_options import LoadOptions  # noqa: E402
from latentman.shared.settings import list_settings  # noqa: E402
from latentman.shared.shot import Guidance, Method, Sampling, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

CPU = torch.device("cpu")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
#: diffusers' class and options for each name, as its documentation has them
OFFICIAL = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "dpm++_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde_karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
STOCHASTIC = ("lcm", "tcd", "euler_a", "dpm++_sde", "dpm++_sde_karras")
MULTISTEP = ("dpm++", "dpm++_karras", "dpm++_sde", "dpm++_sde_karras", "unipc")


def _is_refused(name, prediction, zero, spacing):
    """What no scheduler can do: Euler a steps with no clean predictions, and noise alone says nothing of a picture."""
    begins_with_noise = spacing != "leading" or name in ("lcm", "tcd") or name.endswith("karras")
    return (name == "euler_a" and prediction == "sample") or (prediction == "epsilon" and zero and begins_with_noise)


def _list_combinations(predictions=PREDICTIONS):
    out = []
    for name, kind in SCHEDULERS.items():
        for spacing in kind.spacings or ("",):
            for prediction in predictions:
                out += [(name, prediction, zero, spacing) for zero in (False, True)]
    return out


COMBINATIONS = [case for case in _list_combinations() if not _is_refused(*case)]
#: with every precision, where schedules begin with noise alone, whose numbers are the largest; others with the usual one
PRECISE = [
    (*case, dtype)
    for case in COMBINATIONS
    for dtype in ("float32", "float16", "bfloat16")
    if dtype == "float32" or case[-1] in ("trailing", "")
]


def _make_config(prediction="epsilon", zero=False, **changes):
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction,
        rescale_betas_zero_snr=zero,
        **changes,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root


@pytest.fixture(scope="module")
def models(folder):
    """A tiny Stable Diffusion in each precision."""
    return {dtype: load(str(folder / "whole"), CPU, LoadOptions(dtype=dtype)) for dtype in ("float32", "float16", "bfloat16")}


@pytest.fixture(scope="module")
def model(models):
    return models["float32"]


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    root = tmp_path_factory.mktemp("xl")
    tiny.write_sdxl(root)
    return load(str(root), CPU)


def _run(model, request, count=1, run_context=None, **options):
    return ShotPipeline(model, request, samples.passes(count, request.width), run_context or RunContext(), **options)


def _make_theirs(model, name, prediction, zero, spacing, seed):
    """Diffusers' own pipeline and scheduler, whose random numbers are those of the shot's first frame."""
    kind = StableDiffusionXLControlNetPipeline if hasattr(model.pipeline, "text_encoder_2") else StableDiffusionControlNetPipeline
    options = {} if kind is StableDiffusionXLControlNetPipeline else {"requires_safety_checker": False}
    class_name, changes = OFFICIAL[name]
    if spacing:
        changes = changes | {"timestep_spacing": spacing}
    scheduler = getattr(diffusers, class_name).from_config(_make_config(prediction, zero).config, **changes)
    step, set_timesteps, count = scheduler.step, scheduler.set_timesteps, iter(range(1000))

    @functools.wraps(step)
    def step_with_our_numbers(*args, **options):
        if "generator" in options:
            entropy = np.random.SeedSequence((seed, next(count), 0)).generate_state(1)[0]
            options["generator"] = torch.Generator().manual_seed(int(entropy))
        return step(*args, **options)

    @functools.wraps(set_timesteps)
    def set_timesteps_and_begin(*args, **options):
        # where two steps have the same timestep, diffusers' begins with the second and runs over the end
        set_timesteps(*args, **options)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)

    scheduler.step, scheduler.set_timesteps = step_with_our_numbers, set_timesteps_and_begin
    theirs = kind(**model.pipeline.components, **options)
    theirs.scheduler = scheduler
    theirs.set_progress_bar_config(disable=True)
    return theirs


def _compare(model, monkeypatch, name, prediction, zero, spacing, steps=6):
    monkeypatch.setattr(model.pipeline, "scheduler", _make_config(prediction, zero))
    request = samples.request(
        1, steps=steps, preset="per_frame", scheduler=name, spacing=spacing, negative_prompt="dark", guidance_scale=3.0
    )
    ours = next(_run(model, request).frames())
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(request.sampling.seed))
    made = _make_theirs(model, name, prediction, zero, spacing, request.sampling.seed)(
        request.text.prompt,
        image=torch.from_numpy(samples.passes(1).depth)[:, None].expand(-1, 3, -1, -1),
        negative_prompt="dark",
        num_inference_steps=steps,
        guidance_scale=3.0,
        latents=noise,
        output_type="np",
        # the pipeline overrules the 0.3 of TCD's scheduler, which its documentation asks for, with 0
        eta=0.3 if name == "tcd" else 0.0,
    ).images[0]
    assert ours.std() > 1
    assert np.abs(ours - made * 255).max() <= 1.01


@pytest.mark.parametrize(
    "name, prediction, zero, spacing", [case for case in COMBINATIONS if case[1] != "sample" or case[-1] in ("trailing", "")]
)
def test_frames_are_those_of_diffusers_own_pipeline(model, monkeypatch, name, prediction, zero, spacing):
    """Without any part of the method, a frame is what diffusers makes of the same noise, and of the same later random numbers."""
    _compare(model, monkeypatch, name, prediction, zero, spacing)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_frames_of_sdxl_are_those_of_diffusers_own_pipeline(xl, monkeypatch, name):
    _compare(xl, monkeypatch, name, "epsilon", False, "", steps=5)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_one_step_and_many_are_those_of_diffusers_own_pipeline(model, monkeypatch, name):
    spacing = "trailing" if SCHEDULERS[name].spacings else ""
    for steps in (2, 3, 17):
        _compare(model, monkeypatch, name, "v_prediction", False, spacing, steps)


def _compute_signal(zero):
    """(1000,) the picture's share of the variance at each timestep, from the betas by hand."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)
    if zero:
        root = signal**0.5
        signal = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return signal


class _AllKnowing:
    """A network that knows the clean latents, and notes what it is shown."""

    def __init__(self, clean, prediction, zero):
        self.clean, self.prediction, self.signal, self.seen = clean, prediction, _compute_signal(zero), []

    def __call__(self, latents, timestep, **options):
        share = np.interp(float(timestep), np.arange(1000), self.signal)
        shown, clean = latents.double(), self.clean
        fit = float((shown * clean).sum() / clean.square().sum())
        self.seen.append((float(shown.std()), fit, share**0.5))
        noise = (shown - share**0.5 * clean) / max(1 - share, 1e-9) ** 0.5
        out = {
            "epsilon": noise,
            "v_prediction": share**0.5 * noise - (1 - share) ** 0.5 * clean,
            "sample": clean.expand_as(noise),
        }[self.prediction]
        return (out.to(latents.dtype),)


def _sample_with_known_answer(model, monkeypatch, name, prediction, zero, spacing, steps):
    clean, noise = torch.randn((2, 1, 4, 32, 32), generator=torch.Generator().manual_seed(7)).double()
    clean = (clean - clean.mean()) / clean.std()
    noise = noise - (noise * clean).sum() / clean.square().sum() * clean
    noise = (noise - noise.mean()) / noise.std()
    network = _AllKnowing(clean, prediction, zero)
    monkeypatch.setattr(model.pipeline, "scheduler", _make_config(prediction, zero))
    monkeypatch.setattr(model.unet, "forward", network)
    monkeypatch.setattr(type(model.family), "predict_controls", lambda *args: (None, None))
    request = samples.request(
        1, 256, steps=steps, preset="per_frame", scheduler=name, spacing=spacing, guidance_scale=1.0, prompt="a"
    )
    # a solver goes on with what it begins with, so that it begins with as much of the picture as the first timestep says
    share = np.interp(float(model.make_scheduler(steps, name, spacing).timesteps[0]), np.arange(1000), network.signal)
    first = (share**0.5 * clean + (1 - share) ** 0.5 * noise).float()
    return _run(model, request, noise=first).latents().double() - clean, network.seen


@pytest.mark.parametrize("name, prediction, zero, spacing, dtype", PRECISE)
def test_the_network_is_shown_unit_variance_at_the_level_that_it_is_told(
    models, monkeypatch, name, prediction, zero, spacing, dtype
):
    error, seen = _sample_with_known_answer(models[dtype], monkeypatch, name, prediction, zero, spacing, 7)
    assert len(seen) == 7
    # noise that is added on the way correlates with the picture by chance
    room = 0.07 if name in STOCHASTIC else 0.03
    for spread, found, told in seen:
        assert spread == pytest.approx(1, abs=room)
        assert found == pytest.approx(told, abs=room)
    assert float(error.square().mean().sqrt()) < 0.06


@pytest.mark.parametrize("name", [name for name, kind in SCHEDULERS.items() if "trailing" in kind.spacings])
@pytest.mark.parametrize("steps", [61, 103])
def test_trailing_steps_are_as_many_as_asked_for(model, monkeypatch, name, steps):
    """Counting them in floating point makes one too many of some numbers, at a timestep that is the noisiest of all."""
    error, seen = _sample_with_known_answer(model, monkeypatch, name, "v_prediction", True, "trailing", steps)
    assert len(seen) == steps and float(error.square().mean().sqrt()) < 0.06


@pytest.mark.parametrize("name, prediction, zero, spacing, dtype", PRECISE)
def test_clean_latents_and_predictions_mean_the_same(model, monkeypatch, name, prediction, zero, spacing, dtype):
    """The exact noise gives the clean latents back, a prediction for clean latents means these, and all agrees with diffusers."""
    monkeypatch.setattr(model.pipeline, "scheduler", _make_config(prediction, zero))
    dtype = getattr(torch, dtype)
    close = {torch.float32: 2e-3, torch.float16: 0.02, torch.bfloat16: 0.1}[dtype]
    scheduler = model.make_scheduler(8, name, spacing)
    sampler = Sampler(scheduler, 0)
    torch.manual_seed(1)
    clean, noise = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    for step in (0, 3, 7):
        latents = sampler.add_noise(clean.to(dtype), noise.to(dtype), step)
        shown = sampler.scale_model_input(latents, step)
        assert latents.dtype == shown.dtype == dtype and float(shown.float().std()) == pytest.approx(1, abs=0.05)
        share = float(_share(scheduler, step))
        exact = {
            "epsilon": noise,
            "v_prediction": share**0.5 * noise - (1 - share) ** 0.5 * clean,
            "sample": clean,
        }[prediction]
        # noise in few bits is magnified by as much as it drowns the picture
        room = close * (max(1, ((1 - share) / share) ** 0.5) if prediction == "epsilon" else 1)
        found = sampler.predict_clean(latents, exact.to(dtype), step)
        assert found.dtype == dtype and torch.allclose(found.float(), clean, atol=room)
        if dtype == torch.float32:
            wanted = torch.randn(2, 4, 16, 16)
            prediction_for = sampler.prediction_for(latents, wanted, step)
            assert torch.allclose(sampler.predict_clean(latents, prediction_for, step), wanted, atol=room)
            output = torch.randn(2, 4, 16, 16)
            own = Sampler(model.make_scheduler(8, name, spacing), 0)
            assert torch.allclose(
                own.predict_clean(latents, output, step), _convert(own, latents, output, step), rtol=1e-3, atol=room
            )
            if name not in MULTISTEP:
                times = scheduler.timesteps[step : step + 1].repeat(2)
                assert torch.allclose(scheduler.add_noise(clean, noise, times), latents, rtol=1e-3, atol=1e-3)


def _share(scheduler, step):
    """The picture's share of the variance, as the scheduler has it."""
    if hasattr(scheduler, "sigmas"):
        return 1 / (scheduler.sigmas[step].double() ** 2 + 1)
    return scheduler.alphas_cumprod[int(scheduler.timesteps[step])].double()


def _convert(sampler, latents, output, step):
    """The clean latents by the scheduler itself."""
    scheduler = sampler._scheduler
    sampler._turn_to(step)
    if hasattr(scheduler, "convert_model_output"):
        return scheduler.convert_model_output(output, sample=latents)
    found = scheduler.step(output, scheduler.timesteps[step], latents)
    if isinstance(scheduler, (diffusers.LCMScheduler, diffusers.TCDScheduler)):
        share = _share(scheduler, step).float()
        kind = scheduler.config.prediction_type
        if kind == "epsilon":
            return (latents - (1 - share).sqrt() * output) / share.sqrt()
        return share.sqrt() * latents - (1 - share).sqrt() * output if kind == "v_prediction" else output
    return found.pred_original_sample


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_corrected_clean_latents_come_out_in_half_precision(models, name, dtype):
    """Up to the last steps, where next to nothing is noise."""

    class Grey(Technique):
        def correct_clean(self, clean, step):
            return torch.full_like(clean, 0.5)

    request = samples.request(2, steps=8, preset="per_frame", scheduler=name)
    found = _run(models[dtype], request, 2, techniques=[Grey()]).latents().float()
    assert float((found - 0.5).abs().mean()) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_resuming_is_exact_or_not_offered(model, name):
    saved = {}
    request = samples.request(2, steps=6, scheduler=name)
    whole = list(_run(model, request, 2, RunContext(save=lambda c: saved.__setitem__(c.step, c))).frames())
    asked = []

    def resume():
        asked.append(True)
        return saved[3]

    again = list(_run(model, request, 2, RunContext(resume=resume)).frames())
    assert (np.stack(again) == np.stack(whole)).all()
    assert bool(asked) == (name not in MULTISTEP) == Sampler(model.make_scheduler(6, name), 0).resumable


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_that_is_added_belongs_to_its_frame(model, name):
    """Whatever the batch, and the same for frames that share it."""
    latents, output = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)

    def step(rows, sources):
        sampler = Sampler(model.make_scheduler(6, name), 5, sources)
        return sampler.step(latents[rows], output[rows], 0)

    whole = step([0, 1, 2], [0, 1, 2])
    for row in range(3):
        assert torch.equal(step([row], [row])[0], whole[row])
    assert torch.equal(step([1, 1], [4, 4])[0], step([1, 1], [4, 4])[1]) and not torch.equal(step([1], [4])[0], whole[1])


@pytest.mark.parametrize("name", MULTISTEP)
def test_all_that_a_solver_remembers_is_changed(model, name):
    """Frames that change places before a step come out as if they had been in these places all along."""

    def run(turned):
        torch.manual_seed(3)
        sampler = Sampler(model.make_scheduler(6, name), 0, [0, 0])
        latents, outputs = sampler.scale_noise(torch.randn(2, 4, 8, 8)), torch.randn(5, 2, 4, 8, 8)
        for step in range(5):
            if step == 3:
                latents, outputs = latents.flip(0), outputs.flip(1)
                if turned:
                    sampler.change_history(lambda x: x.flip(0))
                else:
                    latents, outputs = latents.flip(0), outputs.flip(1)
            latents = sampler.step(latents, outputs[step], step)
        return latents.flip(0) if turned else latents

    assert torch.allclose(run(True), run(False), atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_latents_that_are_moved_stay_moved(model, monkeypatch, name):
    """A move after a step, such as pixel guidance makes, comes to the next latents, also where a solver corrects its last step."""
    monkeypatch.setattr(model.pipeline, "scheduler", _make_config("v_prediction"))
    moves = {}

    class Move(Technique):
        def __init__(self, amount):
            super().__init__()
            self.amount = amount

        def correct_clean(self, clean, step):
            return torch.zeros_like(clean)

        def after_step(self, latents, step):
            if step == 2:
                latents = latents + self.amount
            if step == 3:
                moves[self.amount] = latents
            return latents

    for amount in (0.0, 1.0):
        _run(model, samples.request(1, steps=8, preset="per_frame", scheduler=name), techniques=[Move(amount)]).latents()
    change = moves[1.0] - moves[0.0]
    sampler = Sampler(model.make_scheduler(8, name), 0)
    assert name == "lcm" or float(change.mean()) > 0.2, sampler.timesteps
    assert float(change.std()) < 0.05


def test_nothing_is_copied_from_what_was_not_predicted():
    """Of a given frame a solver remembers nothing; its picture is copied, its memory not."""

    class FromFirst(Technique):
        def before_step(self, latents, step):
            return torch.cat([latents[:1], latents[:1], latents[2:] * 2])

    kept = torch.arange(3.0).view(3, 1, 1, 1) + 1
    change = functools.partial(Denoising._change_memory, technique=FromFirst(), step=0)
    assert change(SimpleNamespace(_given=0), kept=kept).flatten().tolist() == [1, 1, 6]
    assert change(SimpleNamespace(_given=1), kept=kept).flatten().tolist() == [1, 2, 6]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("preset", ["latentman", "surface"])
def test_the_method_runs_with_every_scheduler(model, name, preset):
    """Alignment, pixel guidance, and fusion with key frames and a shared background."""
    request = samples.request(4, steps=6, preset=preset, scheduler=name, guidance_scale=2.0)
    frames = np.stack(list(_run(model, request, 4).frames()))
    assert frames.shape == (4, 64, 64, 3) and frames.std() > 1


@pytest.mark.parametrize("name, most", [("lcm", 50), ("tcd", 50), ("ddim", 999), ("dpm++", 998), ("unipc", 998), ("euler", 999)])
def test_more_steps_than_there_are_is_a_sentence(model, name, most):
    with pytest.raises(ShotError, match=rf"cannot take 1000 steps with this model; choose at most {most}\.$") as error:
        _run(model, samples.request(1, steps=1000, preset="per_frame", scheduler=name))
    assert error.value.code == "steps"
    _run(model, samples.request(1, steps=most, preset="per_frame", scheduler=name))


@pytest.mark.parametrize(
    "changes, config, sentence",
    [
        ({"scheduler": "lcm", "spacing": "trailing"}, _make_config(), "'lcm' spaces its steps by itself; leave the spacing"),
        ({"scheduler": "tcd", "spacing": "leading"}, _make_config(), "'tcd' spaces its steps by itself"),
        ({"scheduler": "euler_karras", "spacing": "trailing"}, _make_config(), "or the scheduler 'euler'"),
        ({"scheduler": "dpm++_sde_karras", "spacing": "linspace"}, _make_config(), "or the scheduler 'dpm\\+\\+_sde'"),
        ({"scheduler": "ddim", "spacing": "linspace"}, _make_config(), "choose leading or trailing"),
        ({"spacing": "linspace"}, _make_config(), "'ddim' cannot space"),
        ({"scheduler": "euler_a"}, _make_config("sample"), "predicts the clean picture; choose 'ddim' or 'euler'"),
        ({"spacing": "trailing"}, _make_config("epsilon", True), "zero terminal SNR"),
        ({"scheduler": "dpm++_karras"}, _make_config("epsilon", True), "choose the spacing 'leading'"),
        ({}, diffusers.EDMEulerScheduler(), "its scheduler is EDMEulerScheduler"),
        ({}, diffusers.FlowMatchEulerDiscreteScheduler(), "its scheduler is FlowMatch"),
        ({}, diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "'flow_prediction'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(model, monkeypatch, changes, config, sentence):
    monkeypatch.setattr(model.pipeline, "scheduler", config)
    with pytest.raises(ShotError, match=sentence) as error:
        _run(model, samples.request(1, steps=4, preset="per_frame", **changes))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_every_combination_is_compared_or_refused(model, monkeypatch):
    for name, prediction, zero, spacing in _list_combinations():
        monkeypatch.setattr(model.pipeline, "scheduler", _make_config(prediction, zero))
        if _is_refused(name, prediction, zero, spacing):
            with pytest.raises(ShotError):
                model.make_scheduler(6, name, spacing)
        else:
            model.make_scheduler(6, name, spacing)


def test_a_schedule_that_begins_in_the_middle_of_the_noise_is_said(model):
    for steps, spacing, late in ((1, "leading", True), (2, "leading", False), (1, "trailing", False), (20, "leading", False)):
        assert bool(list_schedule_warnings(model.make_scheduler(steps, "euler", spacing))) == late
        context = RunContext()
        _run(model, samples.request(1, steps=steps, scheduler="euler", spacing=spacing), run_context=context)
        assert any("middle of the noise" in warning for warning in context.warnings) == late


def test_a_scheduler_is_what_its_name_says_whatever_the_folder_has(model, monkeypatch):
    """Options of the scheduler in the folder are its own, not those of another that is chosen by name."""
    own = diffusers.DPMSolverMultistepScheduler.from_config(
        _make_config().config,
        use_karras_sigmas=True,
        algorithm_type="sde-dpmsolver++",
        solver_order=3,
        final_sigmas_type="sigma_min",
    )
    monkeypatch.setattr(model.pipeline, "scheduler", own)
    for name in SCHEDULERS:
        scheduler = model.make_scheduler(6, name)
        assert bool(scheduler.config.get("use_karras_sigmas")) == name.endswith("karras") or name in (
            "ddim",
            "lcm",
            "tcd",
            "euler_a",
        )
        if name in MULTISTEP:
            assert scheduler.config.solver_order == 2
            assert (scheduler.config.get("algorithm_type") == "sde-dpmsolver++") == ("sde" in name) or name == "unipc"
        assert not hasattr(scheduler, "sigmas") or scheduler.sigmas[-1] == 0


def test_zero_terminal_snr_reaches_every_class():
    for kind in SCHEDULERS.values():
        scheduler = kind.scheduler_class.from_config(_make_config("v_prediction", True).config)
        assert float(scheduler.alphas_cumprod[-1]) < 1e-6


def test_the_choices_are_the_schedulers():
    """In the old order first, since .blend files remember a choice by its place."""
    declared = {one.name: one.setting for one in list_settings(Sampling)}
    names = [choice.value for choice in declared["scheduler"].choices]
    assert names[:6] == ["", "ddim", "dpm++", "euler", "lcm", "tcd"] and set(names[1:]) == {*SCHEDULERS} == {*OFFICIAL}
    assert {choice.value for choice in declared["spacing"].choices} == {"", *SCHEDULERS["euler"].spacings}


@pytest.mark.slow
def test_pixel_guidance_moves_frames_with_every_scheduler(model):
    for name in SCHEDULERS:
        made = [
            _run(
                model,
                samples.request(
                    2, steps=4, scheduler=name, method=Method(cross_frame_attention=False, guidance=Guidance(0.0, 1.0, rho))
                ),
                2,
            ).latents()
            for rho in (0.0, 0.05)
        ]
        assert not torch.allclose(made[0], made[1], atol=1e-4), name


def test_settings_are_checked_before_passes_are_rendered(folder):
    """From the configuration alone."""
    for name in ("starter", str(folder / "whole")):
        with pytest.raises(ShotError, match="'lcm' cannot take 51 steps with this model; choose at most 50"):
            check_shot(samples.request(1, 64, model=name, scheduler="lcm", steps=51))
        with pytest.raises(ShotError, match="spaces its steps by itself"):
            check_shot(samples.request(1, 64, model=name, scheduler="tcd", spacing="leading"))
        check_shot(samples.request(1, 64, model=name, scheduler="lcm", steps=50))
        check_shot(samples.request(1, 64, model=name, scheduler="unipc", spacing="linspace"))


def test_a_value_that_was_changed_is_not_taken_for_a_default(model, monkeypatch):
    """Diffusers forgets the defaults of one class for another, and with them what was put in their places."""
    own = diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True)
    monkeypatch.setattr(model.pipeline, "scheduler", own)
    assert model.make_scheduler(5, "euler").config.timestep_spacing == "linspace", "the class's own"
    own.register_to_config(timestep_spacing="trailing", prediction_type="v_prediction")
    found = model.make_scheduler(5, "euler").config
    assert (found.timestep_spacing, found.prediction_type, found.beta_end) == ("trailing", "v_prediction", 0.012)
