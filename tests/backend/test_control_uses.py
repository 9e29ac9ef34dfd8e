"""ControlNets with strengths and parts of the steps; auto-encoders' precision; guidance of few-step models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import AutoencoderKL, LCMScheduler, StableDiffusionControlNetPipeline, TCDScheduler, UNet2DConditionModel  # noqa: E402

from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.registry import PRESETS, find_model, fingerprint  # noqa: E402
from latentman.backend.models.vae_precision import choose_vae_dtype  # noqa: E402
from latentman.backend.video.controls import make_control_pictures  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared.control_uses import ControlUse  # noqa: E402
from latentman.shared.load_options import LoadOptions  # noqa: E402
from latentman.shared.manifest import CameraEntry, PassesManifest, PersonEntry  # noqa: E402
from latentman.shared.shot import ShotError, check_request  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny Stable Diffusion, and a ControlNet apart."""
    root = tmp_path_factory.mktemp("models")
    tiny.write_sd(root)
    return root


def _make_shot():
    passes = samples.passes(1)
    normal = np.zeros((*passes.mask.shape, 3), np.float16)
    normal[passes.mask > 0] = (0, 0, 1)
    camera = CameraEntry(tuple(np.eye(4).ravel().tolist()), tuple(np.eye(4).ravel().tolist()))
    points = tuple((x, y, 2.0) for x, y in np.random.default_rng(0).uniform(5, 60, (18, 2)).tolist())
    manifest = PassesManifest(64, 64, 20.0, (1,), 1.0, 2.0, cameras=(camera,), people=(PersonEntry(1, (points,)),))
    return replace(passes, normal=normal), manifest


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler_a"])
@pytest.mark.parametrize(
    "parts, changes, scales, starts, ends",
    [
        (("depth={}@0.8",), {}, [0.8], [0.0], [1.0]),
        (("depth={}@0-0.6",), {}, [1.0], [0.0], [0.6]),
        (("{}@0.7@0.25-0.75",), {"control_scale": 0.5}, [0.35], [0.25], [0.75]),
        (("depth={}",), {"control_start": 0.3, "control_end": 0.9}, [1.0], [0.3], [0.9]),
        (("depth={}@0.8@0-0.6", "normal={}@1.5", "openpose={}@0.4@0.5-1"), {}, [0.8, 1.5, 0.4], [0.0, 0.0, 0.5], [0.6, 1.0, 1.0]),
        (("depth={}", "normal={}@0@0-0.5"), {"control_scale": 0.6}, [0.6, 0.0], [0.0, 0.0], [1.0, 0.5]),
        (("depth={}@.8@0.2-0.8", "normal={}"), {"control_start": 0.5}, [0.8, 1.0], [0.5, 0.5], [0.8, 1.0]),
    ],
)
def test_strengths_and_parts_of_the_steps_are_diffusers_own(folders, scheduler, parts, changes, scales, starts, ends):
    passes, manifest = _make_shot()
    model = load("|".join([str(folders / "base"), *(part.format(folders / "control") for part in parts)]), CPU)
    request = samples.request(1, steps=7, preset="per_frame", manifest=manifest, scheduler=scheduler, guidance_scale=3.0, **changes)
    check_request(request)
    ours = next(ShotPipeline(model, request, passes, RunContext()).frames())
    theirs = StableDiffusionControlNetPipeline(**model.pipeline.components, requires_safety_checker=False)
    theirs.scheduler = model.make_scheduler(7, scheduler)
    step, count = theirs.scheduler.step, iter(range(99))
    if scheduler == "euler_a":

        def step_with_our_numbers(output, time, latents, generator=None, return_dict=True):
            entropy = np.random.SeedSequence((request.sampling.seed, next(count), 0)).generate_state(1)[0]
            return step(output, time, latents, generator=torch.Generator().manual_seed(int(entropy)), return_dict=return_dict)

        theirs.scheduler.step = step_with_our_numbers
    theirs.set_progress_bar_config(disable=True)
    pictures = [torch.from_numpy(picture) for picture in make_control_pictures(passes, request, model.controls)]
    one = len(pictures) == 1
    made = theirs(
        request.text.prompt,
        image=pictures[0] if one else pictures,
        num_inference_steps=7,
        guidance_scale=3.0,
        latents=torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(request.sampling.seed)),
        controlnet_conditioning_scale=scales[0] if one else scales,
        control_guidance_start=starts[0] if one else starts,
        control_guidance_end=ends[0] if one else ends,
        output_type="np",
    ).images[0]
    assert np.abs(ours - made * 255).max() <= 1.01
    plain = load("|".join([str(folders / "base"), *(part.split("@")[0].format(folders / "control") for part in parts)]), CPU)
    same = samples.request(1, steps=7, preset="per_frame", manifest=manifest, scheduler=scheduler, guidance_scale=3.0)
    assert (next(ShotPipeline(plain, same, passes, RunContext()).frames()) != ours).any()


def test_what_stands_behind_a_path_is_read_as_people_write_it(tmp_path):
    folder = tmp_path / "my models"
    folder.mkdir()
    plain, odd, numbered = folder / "depth.safetensors", folder / "depth@2x.safetensors", folder / "depth@0.5"
    for path in (plain, odd):
        path.write_bytes(b"")
    numbered.mkdir()
    commit = "539f99181d33db39cf1af2e517cd8056785f0a87"
    for text, path, use in (
        (f"depth={plain}", plain, ControlUse()),
        (f"depth={plain}@0.8", plain, ControlUse(0.8)),
        (f'depth="{plain}"@0.8', plain, ControlUse(0.8)),
        (f'depth="{plain}@0.8@0-0.6"', plain, ControlUse(0.8, 0.0, 0.6)),
        (f"depth={plain}@0.8@0-0.6", plain, ControlUse(0.8, 0.0, 0.6)),
        (f"depth={plain} @ 0.8 @ 0.1 - 0.6", plain, ControlUse(0.8, 0.1, 0.6)),
        (f"{plain}@.5-1", plain, ControlUse(1.0, 0.5, 1.0)),
        (f"normal={plain}@2", plain, ControlUse(2.0)),
        (f"depth={odd}", odd, ControlUse()),
        (f"depth={odd}@0.3", odd, ControlUse(0.3)),
        (f"depth={odd}@0-0.5", odd, ControlUse(1.0, 0.0, 0.5)),
        (f"depth={numbered}", numbered, ControlUse()),
        (f"depth={numbered}@0.25", numbered, ControlUse(0.25)),
        ("depth=/gone@home/depth", "/gone@home/depth", ControlUse()),
        ("depth=/gone/a@b.safetensors", "/gone/a@b.safetensors", ControlUse()),
        ("depth=/gone/a@b.safetensors@0.5", "/gone/a@b.safetensors", ControlUse(0.5)),
        (f"depth=owner/name@{commit}", f"owner/name@{commit}", ControlUse()),
        (f"depth=owner/name@{commit}@0.5@0.5-1", f"owner/name@{commit}", ControlUse(0.5, 0.5, 1.0)),
        (f"depth=file://{str(plain).replace(' ', '%20')}@0.8", plain, ControlUse(0.8)),
    ):
        found = find_model(f"starter|{text}|lora={plain}@0.2")
        assert [str(path)] == [source for _, source in found.controls], text
        assert found.control_uses == (() if use == ControlUse() else (use,)) and found.loras == ((str(plain), 0.2),), text
    assert find_model("sd15").controls == PRESETS["sd15"].controls and not find_model("sd15").control_uses
    assert fingerprint(f"starter|{plain}@0.8") != fingerprint(f"starter|{plain}@0.9") != fingerprint(f"starter|{plain}@0.9@0-0.5")


@pytest.mark.parametrize(
    "end, sentence",
    [
        ("@much", "'much' is not the strength"),
        ("@", "'@' is not the strength"),
        ("@-1", "not the strength"),
        ("@inf", "not the strength"),
        ("@nan", "not the strength"),
        ("@1e9", "not the strength"),
        ("@2000", "not the strength"),
        ("@0.8@", "not the strength"),
        ("@0.8@0.5", "'0.8@0.5' are two strengths"),
        ("@much@0-0.5", "'much@0-0.5' is not the strength"),
        ("@0.8@0.6-0.2", "'0.6-0.2' is no part of the steps"),
        ("@0.8@0.5-0.5", "no part of the steps"),
        ("@0-60", "'0-60' is no part of the steps"),
        ("@0.8@0-1.5", "no part of the steps"),
    ],
)
def test_nonsense_behind_a_path_is_one_sentence(tmp_path, end, sentence):
    path = tmp_path / "depth.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ShotError, match=sentence) as error:
        find_model(f"starter|depth={path}{end}")
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_controls_that_never_work_are_said(folders):
    model = load(f"{folders / 'base'}|{folders / 'control'}@1@0.3-0.35", CPU)
    for steps, said in ((4, True), (40, False)):
        context = RunContext()
        ShotPipeline(model, samples.request(1, steps=steps), samples.passes(1), context)
        assert any(f"works at none of the {steps} steps" in warning for warning in context.warnings) == said
    for changes in ({"control_start": 0.6, "control_end": 0.4}, {"control_start": 1.0}, {"control_end": 0.0}):
        with pytest.raises(ShotError, match="let control end be the larger"):
            check_request(samples.request(1, **changes))


@pytest.mark.parametrize("told", [None, True, False])
@pytest.mark.parametrize("sdxl", [False, True])
def test_only_sdxl_s_auto_encoder_runs_in_single_precision(told, sdxl):
    own = AutoencoderKL(**({} if told is None else {"force_upcast": told}))
    expected = torch.float32 if sdxl and told is not False else torch.float16
    assert choose_vae_dtype(torch.float16, own.config, sdxl=sdxl) == expected
    assert choose_vae_dtype(torch.bfloat16, own.config, sdxl=sdxl) == torch.bfloat16
    assert choose_vae_dtype(torch.float32, own.config, sdxl=sdxl) == torch.float32


def test_the_auto_encoder_of_a_loaded_model_runs_as_its_family_needs(folders, tmp_path):
    half = LoadOptions(dtype="float16")
    assert load(str(folders / "whole"), CPU, half).pipeline.vae.dtype == torch.float16
    assert load("starter", CPU, half).pipeline.vae.dtype == torch.float16
    tiny.write_sdxl(tmp_path)
    assert load(str(tmp_path), CPU, half).pipeline.vae.dtype == torch.float32
    config = tmp_path / "vae" / "config.json"
    config.write_text(config.read_text().replace('"force_upcast": true', '"force_upcast": false'))
    assert load(str(tmp_path), CPU, half).pipeline.vae.dtype == torch.float16


def test_a_frame_that_overflows_in_half_precision_is_decoded_in_single(folders, monkeypatch):
    model = load(str(folders / "whole"), CPU, LoadOptions(dtype="float16"))
    vae = model.pipeline.vae
    decode, kinds = vae.decode, []

    def overflow(latents, **options):
        kinds.append(vae.dtype)
        found = decode(latents, **options)
        if latents.dtype == torch.float16 and len(kinds) == 2:
            found.sample = found.sample * torch.inf
        return found

    monkeypatch.setattr(vae, "decode", overflow)
    frames = np.stack(list(ShotPipeline(model, samples.request(3, preset="per_frame"), samples.passes(3), RunContext()).frames()))
    assert frames.std() > 1 and kinds == [torch.float16, torch.float16, torch.float32, torch.float16] and vae.dtype == torch.float16
    monkeypatch.setattr(vae, "decode", lambda latents: type("Sample", (), {"sample": latents * torch.nan})())
    with pytest.raises(ShotError, match="could not be decoded"):
        list(ShotPipeline(model, samples.request(1, preset="per_frame"), samples.passes(1), RunContext()).frames())


def test_few_step_models_with_much_guidance_are_warned_of(folders, monkeypatch):
    model = load(str(folders / "whole"), CPU)
    turbo = folders / "my-turbo-2"
    if not turbo.exists():
        turbo.symlink_to(folders / "whole")

    def list_warnings(model, scale, **changes):
        context = RunContext()
        ShotPipeline(model, samples.request(1, steps=4, guidance_scale=scale, **changes), samples.passes(1), context)
        return [warning for warning in context.warnings if "takes little guidance" in warning]

    assert not list_warnings(model, 9.0) and not model.distilled
    named = load(str(turbo), CPU)
    assert named.distilled == "turbo" and list_warnings(named, 2.5)
    # its own is 1
    assert not list_warnings(named, 0.0) and not list_warnings(named, 2.0)
    assert replace(model, file_distilled="lightning").distilled == "lightning"
    assert list_warnings(replace(model, file_distilled="lightning"), 7.5)
    lora = replace(model, source=replace(model.source, loras=(("/somewhere/lcm-lora-sdv1-5.safetensors", 1.0),)))
    assert lora.distilled == "lcm" and list_warnings(lora, 5.0)
    for kind, name in ((LCMScheduler, "lcm"), (TCDScheduler, "tcd")):
        monkeypatch.setattr(model.pipeline, "scheduler", kind.from_config(model.pipeline.scheduler.config))
        other = replace(model, profile=None)
        assert other.distilled == name and list_warnings(other, 2.5) and not list_warnings(other, 0.0)
    config = dict(model.unet.config) | {"time_cond_proj_dim": 32}
    monkeypatch.setattr(model.pipeline, "unet", UNet2DConditionModel.from_config(config))
    assert model.takes_guidance_scale and not list_warnings(model, 8.0), "it is told the scale"
