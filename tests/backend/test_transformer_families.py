"""Families of transformers that are trained by flow matching: tiny random models of the real classes, compared with diffusers' own
pipelines and taken through the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import msgspec
import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import CpuOffload
from diffusers import AutoencoderTiny, DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.metrics.rivals.making import make_frames
from latentman.backend.metrics.rivals.settings import TextToVideoZero
from latentman.backend.models.families import FAMILIES, family_of_layout
from latentman.backend.models.family_layouts import LAYOUTS
from latentman.backend.models.flow_family import pack
from latentman.backend.models.flow_profiles import describe_layout
from latentman.backend.models.flow_schedules import compute_shift
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.noise_lines import DiffusionLine, FlowLine, find_noise_line
from latentman.backend.models.placement import describe_plan
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.schedulers import make_scheduler
from latentman.backend.models.settings_files import find_place_of_user
from latentman.backend.models.shared_keys import share_keys
from latentman.backend.models.z_image import bring_to_device
from latentman.backend.tasks.shot import check_shot
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.backend.video.run_context import Checkpoint
from latentman.backend.video.sampling import Sampler
from latentman.shared.library import TAUGHT
from latentman.shared.load_options import LoadOptions
from latentman.shared.schedule import make_schedule
from latentman.shared.shot import PRESETS, Sampling, ShotError, with_schedule
from tests import samples
from tests.backend import tiny
from tests.backend.model_tables import has_table
from tools import tiny_transformers, transformer_layouts

CPU = torch.device("cpu")
PASSES = samples.passes(4, 64)
#: those that see the depth themselves, as clips, have tests of their own
CONTROLLED = [layout for layout in LAYOUTS if layout.control]
NAMES = [layout.name for layout in CONTROLLED]
#: what is said of ControlNets is asked of those with one
with_controlnet = pytest.mark.parametrize("case", NAMES, indirect=True)
#: latents, whose values are around 1, that are the same but for the last bits, and such that are not
SAME, OTHER = 2e-4, 2e-3


@dataclass(frozen=True)
class Case:
    """A family's tiny model."""

    root: Path
    name: str
    model: ImageModel


#: how people call each family's pipeline of diffusers: its own arguments, of the noise and of a guidance as we count it
ARGUMENTS: dict[str, Callable[[torch.Tensor, float], dict[str, Any]]] = {
    # its guidance is what is added to the conditional pass
    "z_image": lambda noise, guidance: dict(negative_prompt="", guidance_scale=guidance - 1, latents=noise.clone()),
    "qwen_image": lambda noise, guidance: dict(
        negative_prompt="" if guidance > 1 else None, true_cfg_scale=guidance, latents=pack(noise)
    ),
    "flux": lambda noise, guidance: dict(guidance_scale=guidance, control_mode=2, latents=pack(noise)),
    "flux_depth": lambda noise, guidance: dict(guidance_scale=guidance, latents=pack(noise)),
    "sd3": lambda noise, guidance: dict(negative_prompt="", guidance_scale=guidance, latents=noise),
}


def _run_diffusers(
    model: ImageModel, prompt: str, picture: torch.Tensor, noise: torch.Tensor, guidance: float, **more: Any
) -> np.ndarray:
    """(H, W, 3) in [0, 1] of diffusers' own pipeline."""
    with pytest.MonkeyPatch.context() as patch:
        # some draw what they see of the control picture at random; here it is the middle of that
        patch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
        made = model.pipeline(
            prompt,
            height=64,
            width=64,
            num_inference_steps=3,
            control_image=picture,
            output_type="np",
            **(dict(controlnet_conditioning_scale=0.8) if model.controlnets else {}),
            **ARGUMENTS[model.family.layout.name if model.controlnets else "flux_depth"](noise, guidance),
            **more,
        )
    return made.images[0]


@pytest.fixture(scope="module", params=[*NAMES, "flux_depth"])
def case(request, tmp_path_factory) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    getattr(tiny_transformers, f"write_{request.param}")(root)
    name = str(root / "base") if request.param == "flux_depth" else f"{root / 'base'}|{root / 'control'}"
    return Case(root, name, load(name, CPU))


def _request(count: int = 4, **changes):
    return samples.request(count, **(dict(steps=3, guidance_scale=1.0) | changes))


def _make(model: ImageModel, request, context: RunContext | None = None, count: int = 4, **options: Any) -> list[np.ndarray]:
    return list(ShotPipeline(model, request, PASSES.select(range(count)), context or RunContext(), **options).frames())


def _with_method(request, method):
    return msgspec.structs.replace(request, method=method)


def _make_latents(model: ImageModel, request, count: int = 4) -> np.ndarray:
    """Clean latents, which show small differences better than pictures do."""
    return ShotPipeline(model, request, PASSES.select(range(count)), RunContext()).latents().numpy()


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_frames_are_those_of_diffusers(case, guidance):
    """Each frame on its own, from the same noise, to one level of 255."""
    noise = torch.randn(2, case.model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(3))
    request = _request(2, preset="per_frame", guidance_scale=guidance, control_scale=0.8)
    ours = _make(case.model, request, count=2, noise=noise)
    for n, frame in enumerate(ours):
        picture = torch.from_numpy(PASSES.depth[n]).expand(1, 3, -1, -1) * 2 - 1
        theirs = _run_diffusers(case.model, request.text.prompt, picture, noise[n : n + 1], guidance)
        assert frame.std() > 5
        assert _difference(frame, np.round(theirs * 255)) <= 1


@pytest.mark.parametrize("family", ["z_image", "flux", "sd3"])
def test_small_auto_encoders_stand_in(family, tmp_path, monkeypatch):
    """Those of diffusers' class for them, with latents of as many channels; of others no."""
    if family == "sd3":
        # diffusers' pipeline asks them for what only the others have
        of_others = property(lambda self: SimpleNamespace(sample=lambda: self.latents))
        monkeypatch.setattr(AutoencoderTinyOutput, "latent_dist", of_others, raising=False)
    getattr(tiny_transformers, f"write_{family}")(tmp_path)
    base = tmp_path / "base"
    shutil.rmtree(base / "vae")
    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    (base / "model_index.json").write_text(json.dumps(index | {"vae": ["diffusers", "AutoencoderTiny"]}), encoding="utf-8")
    shape: dict[str, Any] = dict(num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1))
    shape |= dict(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8))
    torch.manual_seed(0)
    AutoencoderTiny(latent_channels=16, scaling_factor=0.9, shift_factor=0.1, **shape).save_pretrained(base / "vae")
    model = load(f"{base}|{tmp_path / 'control'}", CPU)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    request = _request(1, preset="per_frame", control_scale=0.8)
    (frame,) = _make(model, request, count=1, noise=noise)
    picture = torch.from_numpy(PASSES.depth[0]).expand(1, 3, -1, -1) * 2 - 1
    theirs = _run_diffusers(model, request.text.prompt, picture, noise, 1.0)
    assert frame.std() > 2 and _difference(frame, np.round(theirs * 255)) <= 1
    AutoencoderTiny(latent_channels=4, **shape).save_pretrained(base / "vae")
    with pytest.raises(ShotError, match="latents of 4 channels"):
        check_model(f"{base}|{tmp_path / 'control'}", 64, 64)


def test_small_auto_encoders_need_not_tell_all(tmp_path):
    """Published ones leave out of their configuration what their class knows."""
    tiny_transformers.write_z_image(tmp_path)
    base, name = tmp_path / "base", f"{tmp_path / 'base'}|{tmp_path / 'control'}"
    shape: dict[str, Any] = dict(num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1))
    shape |= dict(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8))
    shutil.rmtree(base / "vae")
    AutoencoderTiny(latent_channels=16, **shape).save_pretrained(base / "vae")
    _change_json(base / "vae" / "config.json", leave=("block_out_channels", "shift_factor"))
    _change_json(base / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    with pytest.raises(ShotError, match="multiples of 16"):
        check_model(name, 72, 64)
    assert load(name, CPU).size_multiple == 16


@pytest.mark.parametrize(("seen", "fits"), [(4, True), (9, True), (16, False), (33, False)])
def test_controlnets_of_other_latents_are_refused(tmp_path, seen, fits):
    """Those of 16 channels with a Z-Image of 4: zeros would fill up what they look at."""
    tiny_transformers.write_z_image(tmp_path)
    _change_json(tmp_path / "base" / "transformer" / "config.json", in_channels=4)
    _change_json(tmp_path / "base" / "vae" / "config.json", latent_channels=4)
    _change_json(tmp_path / "control" / "config.json", control_in_dim=seen)
    with nullcontext() if fits else pytest.raises(ShotError, match=f"it sees {seen} channels, .* that is 4 or 9"):
        check_model(f"{tmp_path / 'base'}|{tmp_path / 'control'}", 64, 64)


def test_tokenizers_have_words(case, tmp_path):
    """Without their files the libraries make tokenizers that know none, and nothing that is said counts."""
    layout = case.model.family.layout
    for part in layout.tokenizers:
        base = shutil.copytree(case.root / "base", tmp_path / part)
        shutil.rmtree(base / part)
        with pytest.raises(ShotError, match=f"{part} holds no words, as in a tokenizer.json; download the model again"):
            check_model(case.name.replace(str(case.root / "base"), str(base)), 64, 64)


def _change_json(path: Path, leave: tuple[str, ...] = (), **changes: Any) -> None:
    old = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: value for name, value in old.items() if name not in leave} | changes), encoding="utf-8")


def test_depth_and_text_count(case):
    """Frames follow the depth picture and what is said."""
    plain = _make_latents(case.model, _request(1, preset="per_frame"), 1)
    for change in (dict(control_scale=0.0), dict(prompt="a dog")):
        assert _difference(plain, _make_latents(case.model, _request(1, preset="per_frame", **change), 1)) > OTHER


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_make_frames(case, preset):
    """All of them, alignment and pixel guidance with its full gradient included."""
    context = RunContext()
    made = _make(case.model, _request(2, preset=preset, guidance_scale=2.0), context, count=2)
    assert len(made) == 2 and all(frame.std() > 5 for frame in made)
    if preset == "latentman":
        # the paper's guidance, through the network: without it the frames are others
        assert PRESETS[preset].method.guidance.gradient == "full"
        unguided = msgspec.structs.replace(PRESETS[preset].method, guidance=None)
        request = _with_method(_request(2, preset=preset, guidance_scale=2.0), unguided)
        assert not np.array_equal(made, _make(case.model, request, count=2))


def test_the_first_frame_is_shared(case):
    """Under cross-frame attention the first frame is as alone, and a frame that shows the same is the same."""
    same = PASSES.select([0, 0])
    request = _request(2, preset="cross_frame", guidance_scale=3.0)
    first, second = ShotPipeline(case.model, request, same, RunContext()).latents().numpy()
    assert _difference(first, second) < SAME
    alone = _make_latents(case.model, _request(1, preset="per_frame", guidance_scale=3.0), 1)
    assert _difference(first, alone[0]) < SAME
    method = msgspec.structs.replace(PRESETS["cross_frame"].method, cross_frame_attention=False)
    apart = PASSES.select([0, 3])
    shared, unshared = (
        ShotPipeline(case.model, asked, apart, RunContext()).latents().numpy() for asked in (request, _with_method(request, method))
    )
    # what a tiny network with few layers looks at counts for little, and far more than what rounding does
    assert _difference(shared[0], unshared[0]) < 1e-5 and _difference(shared[1], unshared[1]) > 1e-4


@pytest.mark.parametrize("preset", ["surface", "surface_fast"])
def test_looks_are_kept_and_shots_resumed(case, preset):
    """A stopped shot goes on to the same bits; a look is worn by a shot with another seed, and its part alone is the same."""
    looks: list[Look] = []
    kept: list[Checkpoint] = []
    request = _request(preset=preset)
    frames = _make(case.model, request, RunContext(save=kept.append, keep_look=looks.append))
    resumed = _make(case.model, request, RunContext(resume=lambda: kept[0]))
    assert np.array_equal(frames, resumed)
    look = looks[-1]
    again: list[Look] = []
    other = _make(case.model, _request(preset=preset, seed=9), RunContext(keep_look=again.append), look=look, same_settings=False)
    fresh = _make(case.model, _request(preset=preset, seed=9))
    shown = PASSES.mask > 0
    worn = np.abs(np.asarray(other, float) - frames)[shown].mean()
    assert worn < np.abs(np.asarray(fresh, float) - frames)[shown].mean()
    whole = dict(ShotPipeline(case.model, request, PASSES, RunContext(), look=look, finalized=True).iter_frames())
    last = max(whole)
    part = ShotPipeline(case.model, request, PASSES, RunContext(), look=look, finalized=True, part=[last])
    ((row, frame),) = part.iter_frames()
    assert row == last and _difference(frame, whole[last]) <= 1


def test_the_background_has_its_own_prompt(case):
    """What is said of the surroundings changes them; the same said twice changes nothing."""
    options = dict(preset="per_frame", guidance_scale=2.0)
    plain = _make_latents(case.model, _request(1, **options), 1)
    prompt = _request(1).text.prompt
    assert _difference(plain, _make_latents(case.model, _request(1, background_prompt=prompt, **options), 1)) < SAME
    assert _difference(plain, _make_latents(case.model, _request(1, background_prompt="snow", **options), 1)) > OTHER


def test_keys_are_shared_at_the_tokens_of_pictures():
    """Each run's first frame gives them, the text keeps its own, and gradients flow to the first frame unless they are held."""
    layers = SimpleNamespace(to_k=torch.nn.Linear(3, 4), to_v=torch.nn.Linear(3, 4))
    seen = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    plain = layers.to_k(seen)
    for held in (False, True):
        with share_keys([(layers, slice(2, None))] * 2, 2, held=held):
            keys, values = layers.to_k(seen), layers.to_v(seen)
        for frame in range(6):
            first = frame // 3 * 3
            assert torch.equal(keys[frame, :2], plain[frame, :2]) and torch.equal(keys[frame, 2:], plain[first, 2:])
            assert torch.equal(values[frame, 2:], values[first, 2:])
        (gradient,) = torch.autograd.grad(keys[1].sum(), seen)
        assert bool(gradient[0, 2:].any()) != held and bool(gradient[1, :2].any()) and not gradient[1, 2:].any()
    assert torch.equal(layers.to_k(seen), plain)


def test_prompts_change_within_a_shot(case):
    """At once with every preset, and as a mix where words can be mixed, or pictures are; so do the strengths of the control."""
    request = _request(preset="per_frame")
    plain = _make_latents(case.model, request)
    weak = 0.3 if case.model.controlnets else 0.0
    told = _make_latents(case.model, with_schedule(request, make_schedule([(3, "a dog")], [1.0, weak, 1.0, 1.0])))
    differences = [_difference(one, other) for one, other in zip(plain, told, strict=True)]
    assert differences[0] < SAME and min(differences[1:]) > OTHER
    blend = make_schedule([(3, "a dog")], prompt_blend=2)
    if case.model.family.mixes_texts:
        assert _difference(_make_latents(case.model, with_schedule(request, blend))[1], plain[1]) > OTHER
    else:
        with pytest.raises(ShotError, match="cannot mix the words"):
            _make(case.model, with_schedule(request, blend))
        with pytest.raises(ShotError, match="cannot mix the words"):
            check_shot(with_schedule(_request(preset="per_frame", model=case.name), blend))
    assert len(_make(case.model, with_schedule(_request(preset="surface_fast"), blend))) == 4


def test_steps_lie_on_the_straight_line(case):
    """Clean latents and predictions turn into each other, and noise is added as the network expects it."""
    scheduler = case.model.make_scheduler(8)
    line, sampler = find_noise_line(scheduler), Sampler(scheduler, 0)
    assert isinstance(line, FlowLine) and sampler.resumable
    clean, noise = torch.randn(2, 2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    for step in range(8):
        noisy = sampler.add_noise(clean, noise, step)
        way = noise - clean
        assert torch.allclose(sampler.predict_clean(noisy, way, step), clean, atol=2e-6)
        assert torch.allclose(sampler.prediction_for(noisy, clean, step), way, atol=2e-4)
        following = clean if step == 7 else sampler.add_noise(clean, noise, step + 1)
        assert torch.allclose(sampler.step(noisy, way, step), following, atol=2e-6)


def test_a_network_that_lends_layers_is_there_in_time(monkeypatch):
    """Of networks that take turns on a device, the one whose layers another borrows comes before that one."""
    brought: list[Any] = []
    monkeypatch.setattr(CpuOffload, "pre_forward", lambda self, module, *args, **kwargs: brought.append(module))
    network, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    cpu_offload_with_hook(network, "cpu")
    for each in (network, other):
        bring_to_device(each)
    assert brought == [network]


@with_controlnet
def test_other_schedulers_are_refused(case):
    """One sentence for a scheduler or a spacing that the family has not, before and after loading."""
    for name in ("ddim", "dpm++", "unipc", "lcm"):
        with pytest.raises(ShotError, match="flow matching") as error:
            _make(case.model, _request(1, preset="per_frame", scheduler=name), count=1)
        assert str(error.value).endswith("choose 'euler'.")
        with pytest.raises(ShotError, match="flow matching"):
            check_model(case.name, 64, 64, Sampling(steps=3, scheduler=name))
    with pytest.raises(ShotError, match="spaces its steps by itself"):
        case.model.make_scheduler(3, "euler", "trailing")
    check_model(case.name, 64, 64, Sampling(steps=3, scheduler="euler"))


@with_controlnet
def test_what_it_cannot_do_is_a_sentence(case):
    """Sizes, parts and settings of other families."""
    title, name = case.model.family.title, case.name
    with pytest.raises(ShotError, match="nearest size is 64x64"):
        check_model(name, 72, 64)
    with pytest.raises(ShotError, match="knows one layer"):
        _make(case.model, _request(1, preset="per_frame", clip_skip=2), count=1)
    for part, what in (
        ("embedding=a.pt", "textual inversion"),
        ("vae=a.safetensors", "auto-encoder"),
    ):
        for ask in (lambda part=part: load(f"{name}|{part}", CPU), lambda part=part: check_model(f"{name}|{part}", 64, 64)):
            with pytest.raises(ShotError, match=f"{title} takes no {what}|no file or folder"):
                ask()
    control = case.root / "control"
    for more, said in ((f"|depth={control}", "one ControlNet at a time"), (f"|normal={control}", "know no normal")):
        with pytest.raises(ShotError, match=said):
            check_model(name + more, 64, 64)
    with pytest.raises(ShotError, match=f"Name a depth ControlNet for {title}"):
        load(str(case.root / "base"), CPU)
    context = RunContext()
    _make(case.model, _request(1, preset="per_frame", prompt="a (red:1.3) shirt"), context, count=1)
    assert any(f"{title} reads texts as they stand" in sentence for sentence in context.warnings)
    long = RunContext()
    _make(case.model, _request(1, preset="per_frame", prompt="red " * 1200), long, count=1)
    assert any("its end was left out" in sentence for sentence in long.warnings)


@with_controlnet
def test_another_precision_than_was_asked_for_is_said(case):
    """Float16 cannot hold what it computes."""
    model = load(case.name, CPU, LoadOptions(dtype="float16"))
    assert model.dtype == torch.bfloat16
    said = f"{case.model.family.title} does not keep to what float16 can hold; it computes in bfloat16."
    assert said in model.warnings and said not in case.model.warnings


@with_controlnet
def test_rivals_are_not_for_it(case):
    """They are written for UNets; refused before anything is made."""
    with pytest.raises(ShotError, match="The rivals are made for Stable Diffusion and SDXL"):
        make_frames(TextToVideoZero(), case.model, _request(1, preset="per_frame"), PASSES.select([0]), RunContext())


@with_controlnet
def test_parts_of_two_families_are_refused(case, tmp_path):
    """Before anything is loaded, and where it is."""
    tiny.write_sd(tmp_path)
    title = case.model.family.title
    for name, said in (
        (f"{case.root / 'base'}|{tmp_path / 'control'}", f"is for Stable Diffusion or SDXL, and the base model is {title}"),
        (f"{tmp_path / 'base'}|{case.root / 'control'}", f"is for {title}, and the base model is Stable Diffusion or SDXL"),
    ):
        for ask in (check_model, lambda name, *_: load(name, CPU)):
            with pytest.raises(ShotError, match=said):
                ask(name, 64, 64)


@with_controlnet
def test_it_is_recognised(case, capsys):
    """By its parts, with how it likes to be run and whether it fits."""
    profile = find_profile(case.name)
    layout = case.model.family.layout
    assert (profile.family, profile.prediction, profile.scheduler) == (layout.name, "flow", "euler")
    assert (profile.steps, profile.guidance_scale, profile.get_size()) == (*layout.usual, (layout.side, layout.side))
    assert main(["models", "inspect", str(case.root / "base"), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert layout.title in said and f"ControlNet for {layout.title}" in said and "memory:" in said
    assert main(["models", "inspect", str(case.root / "control")]) == 0
    assert f"a ControlNet for {layout.title}" in capsys.readouterr().out
    need = describe_plan(str(case.root / "base"), LoadOptions(device="cpu"), (64, 64))
    assert "to denoise" in need[0]


def test_schnell_is_recognised_and_run_as_it_was_distilled(tmp_path):
    """By its configuration: few steps, no guidance, and the shorter text; its ControlNet is told the guidance that it knows."""
    tiny_transformers.write_flux(tmp_path, schnell=True)
    model = load(f"{tmp_path / 'base'}|{tmp_path / 'control'}", CPU)
    profile = model.profile
    assert (profile.distilled, profile.steps, profile.guidance_scale) == ("schnell", 4, 1.0)
    assert {profile.origins[name] for name in ("distilled", "steps", "guidance_scale")} == {"configuration"}
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    request = _request(1, preset="per_frame", control_scale=0.8)
    (ours,) = _make(model, request, count=1, noise=noise)
    picture = torch.from_numpy(PASSES.depth[0]).expand(1, 3, -1, -1) * 2 - 1
    theirs = _run_diffusers(model, request.text.prompt, picture, noise, 3.5, max_sequence_length=256)
    assert _difference(ours, np.round(theirs * 255)) <= 1
    context = RunContext()
    _make(model, _request(1, preset="per_frame", guidance_scale=4.0), context, count=1)
    assert any("was distilled to few steps (schnell)" in sentence for sentence in context.warnings)


@pytest.mark.parametrize(
    "family, denoiser, scheduler, name, found",
    [
        ("flux", {"guidance_embeds": False}, {"use_dynamic_shifting": False}, "copy", ("schnell", 4, 1.0)),
        # trained back: two passes, as many steps as others
        ("flux", {"guidance_embeds": False}, {"use_dynamic_shifting": True}, "flux-dev-de-distill", ("", 28, 3.5)),
        ("flux", {"guidance_embeds": True}, {"use_dynamic_shifting": True}, "FLUX.1-dev", ("", 28, 3.5)),
        # it is told the guidance whatever its steps are
        ("flux", {"guidance_embeds": True}, {"use_dynamic_shifting": True}, "merged-dev-schnell", ("schnell", 4, 3.5)),
        ("flux", {}, {}, "FLUX.1-schnell", ("schnell", 4, 1.0)),
        ("qwen_image", {}, dict(use_dynamic_shifting=True, base_shift=1.1, max_shift=1.1), "copy", ("lightning", 8, 1.0)),
        ("qwen_image", {}, dict(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9), "copy", ("", 50, 4.0)),
        ("qwen_image", {}, dict(use_dynamic_shifting=True), "copy", ("", 50, 4.0)),
        ("z_image", {}, {}, "Z-Image-Turbo", ("turbo", 8, 1.0)),
        ("z_image", {}, {}, "Z-Image-Turbo-dedistilled", ("", 50, 5.0)),
        ("sd3", {}, {}, "stable-diffusion-3.5-large-turbo", ("turbo", 4, 1.0)),
        # the mere word tells of steps in this family alone
        ("sd3", {}, {}, "stable-diffusion-3.5-distilled", ("", 28, 4.5)),
        ("ltx2", {}, dict(use_dynamic_shifting=True), "LTX-2-19b-distilled", ("distilled", 8, 1.0)),
        ("ltx2", {}, dict(use_dynamic_shifting=True), "LTX-2-de-distilled", ("", 30, 3.0)),
        ("ltx2", {}, dict(use_dynamic_shifting=False, shift=1.0), "copy", ("distilled", 8, 1.0)),
        ("ltx2", {}, dict(use_dynamic_shifting=True), "LTX-2", ("", 30, 3.0)),
    ],
)
def test_what_says_that_a_model_was_distilled(family, denoiser, scheduler, name, found):
    """Its name, or how its network and its scheduler are configured."""
    layout = next(layout for layout in LAYOUTS if layout.name == family)
    values, _ = describe_layout(layout, denoiser, scheduler, name)
    assert (values["distilled"], values["steps"], values["guidance_scale"]) == found


@with_controlnet
def test_settings_say_that_it_was_distilled(case, tmp_path, monkeypatch):
    """What follows from that is the family's own; what flow matching does not know is refused, not passed over."""
    monkeypatch.setenv("LATENTMAN_CONFIG", str(tmp_path))
    base = case.root / "base"
    path = find_place_of_user(str(base))
    path.parent.mkdir(parents=True)
    path.write_text('{"distilled": "turbo"}', encoding="utf-8")
    layout, profile = case.model.family.layout, find_profile(case.name)
    assert (profile.distilled, profile.steps, profile.guidance_scale) == ("turbo", *layout.distilled)
    assert (profile.scheduler, profile.spacing, profile.get_size()) == ("euler", "", (layout.side, layout.side))
    assert profile.origins["steps"].startswith("follows from distilled in ")
    path.write_text('{"zero_terminal_snr": true}', encoding="utf-8")
    with pytest.raises(ShotError, match="has no zero terminal SNR"):
        check_model(case.name, 64, 64, Sampling(steps=3))


def test_what_sees_the_picture_itself_takes_no_controlnet(tmp_path, capsys):
    """Its strength is all or nothing, it has settings of its own, and so it is in a file."""
    tiny_transformers.write_flux_depth(tmp_path)
    base, control = tmp_path / "base", tmp_path / "control"
    profile = find_profile(str(base))
    assert (profile.family, profile.steps, profile.guidance_scale, profile.distilled) == ("flux", 30, 10.0, "")
    for ask in (check_model, lambda name, *_: load(name, CPU)):
        with pytest.raises(ShotError, match="sees the picture for depth itself; leave the ControlNet out"):
            ask(f"{base}|depth={control}", 64, 64)
    check_model(str(base), 64, 64, Sampling(steps=3))
    assert main(["models", "inspect", str(base), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "takes no ControlNet" in said and "not here yet" not in said and "Neither it nor its name says" in said
    model, context = load(str(base), CPU), RunContext()
    whole = _make_latents(model, _request(1, preset="per_frame"), 1)
    half = ShotPipeline(model, _request(1, preset="per_frame", control_scale=0.5), PASSES.select([0]), context).latents().numpy()
    assert any("which picture it sees; depth is taken" in sentence for sentence in model.warnings)
    assert np.array_equal(whole, half) and any("a strength other than 0 counts as 1" in one for one in context.warnings)
    file = tmp_path / "flux1-depth-dev.safetensors"
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file(transformer_layouts.to_original("flux", state), file)
    check_model(str(file), 64, 64)
    assert find_profile(str(file)).guidance_scale == 10.0
    again = load(str(file), CPU)
    assert any("one for depth is taken from its name" in sentence for sentence in again.warnings)
    assert np.allclose(_make_latents(again, _request(1, preset="per_frame"), 1), whole, atol=1e-4)
    canny = file.rename(tmp_path / "flux1-canny-dev.safetensors")
    with pytest.raises(ShotError, match="a picture for canny; choose one that sees depth"):
        check_model(str(canny), 64, 64)
    assert main(["models", "inspect", str(canny)]) == 1
    # a folder of the hub's cache is called as its repository
    snapshot = tmp_path / "models--black-forest-labs--FLUX.1-Canny-dev" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    base.rename(snapshot)
    for ask in (check_model, lambda name, *_: load(name, CPU)):
        with pytest.raises(
            ShotError, match=r"FLUX.1-Canny-dev cannot be used\. .* a picture for canny; choose one that sees depth"
        ):
            ask(str(snapshot), 64, 64)
    assert main(["models", "inspect", str(snapshot)]) == 1


@pytest.mark.parametrize(
    ("pipeline", "file"), [("FluxKontextPipeline", "flux1-kontext-dev"), ("FluxPipeline", "Qwen_Image_Edit_2509")]
)
def test_what_was_made_for_editing_is_told(tmp_path, pipeline, file, capsys):
    """It is built as the plain model, and only names tell: of the pipeline, the folder and the file."""
    tiny_transformers.write_flux(tmp_path)
    base = (tmp_path / "base").rename(tmp_path / ("plain" if "Kontext" in pipeline else file))
    index = base / "model_index.json"
    plain = json.loads(index.read_text(encoding="utf-8"))
    index.write_text(json.dumps(plain | {"_class_name": pipeline}), encoding="utf-8")
    said = "made for editing a given picture; here it gets none. The plain FLUX.1 fits better"
    assert sum(said in sentence for sentence in load(f"{base}|{tmp_path / 'control'}", CPU).warnings) == 1
    assert main(["models", "inspect", str(base)]) == 0
    assert said in capsys.readouterr().out
    state = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    for name, count in ((file, 1), ("my-edited-credits", 0)):
        path = tmp_path / f"{name}.safetensors"
        save_file(state, path)
        assert sum(said in sentence for sentence in inspect_model_file(path).warnings) == count


def test_a_snapshot_of_the_hubs_cache_is_named_as_its_repository(tmp_path):
    """What a name says of few steps counts there, too."""
    tiny_transformers.write_z_image(tmp_path)
    snapshot = tmp_path / "models--Tongyi-MAI--Z-Image-Turbo" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    (tmp_path / "base").rename(snapshot)
    profile = find_profile(f"{snapshot}|{tmp_path / 'control'}")
    assert (profile.distilled, profile.steps, profile.guidance_scale) == ("turbo", 8, 1.0)
    assert load(f"{snapshot}|{tmp_path / 'control'}", CPU).distilled == "turbo"


# no model of one kind of diffusion is ever run as another


@with_controlnet
def test_a_flow_model_is_never_run_as_another_kind(case):
    """Its schedulers make no other line; those of other kinds make none for it."""
    family, flow = case.model.family, FlowMatchEulerDiscreteScheduler(shift=3.0)
    with pytest.raises(ShotError, match="FlowMatchEulerDiscreteScheduler"):
        make_scheduler(flow.config, type(flow).__name__, 4)
    for name in ("", "ddim", "euler"):
        with pytest.raises(ShotError, match="not supported"):
            FAMILIES[0].make_scheduler(flow.config, type(flow).__name__, 4, name, "", (8, 8))
    for other in (DDIMScheduler(), DDIMScheduler(prediction_type="v_prediction")):
        with pytest.raises(ShotError, match="trained by flow matching"):
            family.make_scheduler(other.config, type(other).__name__, 4, "", "", (8, 8))
    with pytest.raises(ShotError, match="predicts a flow, not 'epsilon'"):
        family.make_scheduler({**flow.config, "prediction_type": "epsilon"}, type(flow).__name__, 4, "", "", (8, 8))


def test_unknown_predictions_have_no_line():
    """A scheduler is of a kind that is known, or of none."""
    for scheduler in (
        DDIMScheduler(prediction_type="flow_prediction"),
        DDIMScheduler.from_config(FlowMatchEulerDiscreteScheduler().config, prediction_type="flow_prediction"),
        DPMSolverMultistepScheduler(use_flow_sigmas=True),
        FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        type("Other", (FlowMatchEulerDiscreteScheduler,), {})(),
    ):
        with pytest.raises(ShotError, match="are not known"):
            Sampler(scheduler, 0)
    assert isinstance(find_noise_line(DDIMScheduler()), DiffusionLine)


def test_larger_pictures_begin_nearer_to_the_noise():
    """The shift goes through the two points that the configuration names."""
    config = dict(base_image_seq_len=256, max_image_seq_len=4096, base_shift=0.5, max_shift=1.15)
    assert compute_shift(config, 256) == pytest.approx(0.5) and compute_shift(config, 4096) == pytest.approx(1.15)


def test_every_layout_has_its_family():
    """Each kind of folder is loaded by one family, which names it."""
    for layout in LAYOUTS:
        family = family_of_layout(layout)
        assert family.is_flow and family.title == layout.title
        assert not layout.control or family.controlnet_class.__name__ == layout.control
    # which the extension cannot ask
    assert {layout.name for layout in LAYOUTS if layout.is_taught} == set(TAUGHT)


#: columns of the table in ``docs/models.md`` -> the tests that they stand for
COLUMNS = {
    "recognised": test_it_is_recognised,
    "loads": test_depth_and_text_count,
    "equals diffusers' own": test_frames_are_those_of_diffusers,
    "all presets": test_presets_make_frames,
    "kept look": test_looks_are_kept_and_shots_resumed,
    "resume": test_looks_are_kept_and_shots_resumed,
    "background prompt": test_the_background_has_its_own_prompt,
}


def test_the_table_says_what_is_asserted():
    """A row for every family that these tests run with, and a column for each of them."""
    assert has_table(COLUMNS, [layout.title for layout in CONTROLLED]) and set(ARGUMENTS) == {*NAMES, "flux_depth"}
