"""Other models than the starter: tiny random ones of the real classes, in every way a model can be named."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    TCDScheduler,
    UNet2DConditionModel,
)

from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.profiles import describe_pipeline  # noqa: E402
from latentman.backend.models.registry import STARTER, find_model, fingerprint  # noqa: E402
from latentman.backend.video import memory  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared.load_options import LoadOptions  # noqa: E402
from latentman.shared.manifest import CameraEntry, PassesManifest, PersonEntry  # noqa: E402
from latentman.shared.model_profile import PRESET_PROFILES, resolve_request  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An epsilon-predicting Stable Diffusion with `AutoencoderKL`, whole and as base and ControlNet apart."""
    root = tmp_path_factory.mktemp("models")
    tiny.write_sd(root)
    return root


def test_epsilon_models_run_the_whole_method(folders):
    model = load(str(folders / "whole"), torch.device("cpu"))
    assert model.size_multiple == 16
    frames = np.stack(list(ShotPipeline(model, samples.request(3, steps=5), samples.passes(3), RunContext()).frames()))
    assert frames.shape == (3, 64, 64, 3) and frames.std() > 1


@pytest.mark.parametrize("scheduler", [LCMScheduler, TCDScheduler])
@pytest.mark.parametrize("embedded", [False, True])
def test_few_step_models_share_their_noise_between_frames(folders, monkeypatch, scheduler, embedded):
    model = load(str(folders / "whole"), torch.device("cpu"))
    pipeline = model.pipeline
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    if embedded:
        torch.manual_seed(1)
        guided = UNet2DConditionModel.from_config(dict(pipeline.unet.config) | {"time_cond_proj_dim": 32}).eval()
        pipeline.unet = guided.requires_grad_(False)
    passes = samples.passes(1)
    same = FramePasses(**{name: np.repeat(array, 3, 0) for name, array in passes.arrays().items()})

    def frames(**changes):
        request = samples.request(3, steps=4, preset="cross_frame", **changes)
        return np.stack(list(ShotPipeline(model, request, same, RunContext()).frames())).astype(int)

    made = frames(guidance_scale=1.0)
    assert isinstance(model.make_scheduler(4), scheduler) and made.std() > 1
    assert np.abs(made - made[:1]).max() <= 1
    monkeypatch.setattr(memory, "MAX_BATCH_FRAMES", 1)
    assert np.abs(frames(guidance_scale=1.0) - made).max() <= 1
    assert np.abs(frames(guidance_scale=1.0, seed=9) - made).max() > 3
    assert np.abs(frames(guidance_scale=8.0) - made).max() > 0


def test_every_model_has_a_guidance_scale_of_its_own(folders):
    """A request that names none is guided as diffusers would guide that model, the starter as its profile says."""
    model = load(str(folders / "whole"), torch.device("cpu"))
    default = inspect.signature(StableDiffusionControlNetPipeline.__call__).parameters["guidance_scale"].default
    starter = load("starter", torch.device("cpu"))
    assert starter.profile.guidance_scale == PRESET_PROFILES["starter"].guidance_scale != default
    assert find_model(str(STARTER)) == find_model("starter") and model.profile.guidance_scale == default
    resolved = resolve_request(samples.request(2, guidance_scale=0.0, scheduler="lcm"), starter.profile)
    assert resolved.sampling.guidance_scale == 1
    made = {}
    for scale in (0.0, default, 1.0):
        run = ShotPipeline(model, samples.request(2, guidance_scale=scale), samples.passes(2), RunContext())
        made[scale] = np.stack(list(run.frames()))
    assert (made[0.0] == made[default]).all() and (made[0.0] != made[1.0]).any()
    model.pipeline.scheduler = LCMScheduler.from_config(model.pipeline.scheduler.config)
    assert describe_pipeline(model.pipeline).guidance_scale == 1


def test_a_fingerprint_changes_with_the_files_of_a_model(tmp_path):
    for name in ("base", "control", "one.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    name = f"starter|depth={tmp_path / 'control'}|lora={tmp_path / 'one.safetensors'}@0.5"
    first = fingerprint(name)
    assert fingerprint(name) == first != fingerprint(name.replace("@0.5", "@0.6"))
    for file in ("control", "one.safetensors"):
        (tmp_path / file).write_bytes(b"other weights")
        assert fingerprint(name) != first
        first = fingerprint(name)
    assert fingerprint("sd15") != fingerprint("sdxl")
    with pytest.raises(ShotError, match="There is no model"):
        fingerprint("nothing")


def test_base_and_controlnet_may_lie_apart(folders):
    whole = load(str(folders / "whole"), torch.device("cpu"))
    apart = load(f"{folders / 'base'} | {folders / 'control'}", torch.device("cpu"))
    request, passes = samples.request(2, steps=2), samples.passes(2)
    made = [np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames())) for model in (whole, apart)]
    assert (made[0] == made[1]).all()


def test_a_model_without_controlnet_is_refused(folders):
    with pytest.raises(ShotError, match="Name a depth ControlNet"):
        load(str(folders / "base"), torch.device("cpu"))
    with pytest.raises(ShotError, match="cannot be loaded"):
        load(f"{folders / 'base'}|{folders / 'absent'}", torch.device("cpu"))


def test_sdxl_runs_the_whole_method(tmp_path):
    tiny.write_sdxl(tmp_path)
    model = load(str(tmp_path), torch.device("cpu"))
    request = samples.request(2, steps=3, background_prompt="a beach")
    made = np.stack(list(ShotPipeline(model, request, samples.passes(2), RunContext()).frames()))
    assert made.shape == (2, 64, 64, 3) and made.std() > 1
    plain = np.stack(list(ShotPipeline(model, samples.request(2, steps=3), samples.passes(2), RunContext()).frames()))
    assert (plain != made).any()
    assert model.encode_text("word " * 200, "", True, 64, 64).warnings


def test_v_prediction_models_run(tmp_path):
    tiny.write_sd(tmp_path, prediction_type="v_prediction")
    model = load(str(tmp_path / "whole"), torch.device("cpu"))
    for scheduler in ("", "dpm++", "euler"):
        request = samples.request(2, steps=4, scheduler=scheduler)
        assert np.stack(list(ShotPipeline(model, request, samples.passes(2), RunContext()).frames())).std() > 1


def _shot_with_manifest():
    passes = samples.passes(2)
    normal = np.zeros((*passes.mask.shape, 3), np.float16)
    normal[passes.mask > 0] = (0, 0, 1)
    camera = CameraEntry(tuple(np.eye(4).ravel().tolist()), tuple(np.eye(4).ravel().tolist()))
    points = tuple((x, y, 2.0) for x, y in np.random.default_rng(0).uniform(5, 60, (18, 2)).tolist())
    manifest = PassesManifest(64, 64, 20.0, (1, 2), 1.0, 2.0, cameras=(camera,) * 2, people=(PersonEntry(1, (points,) * 2),))
    return replace(passes, normal=normal), manifest


def test_several_controlnets_at_once(folders):
    passes, manifest = _shot_with_manifest()
    control = folders / "control"
    model = load(f"{folders / 'base'}|depth={control}|normal={control}|openpose={control}", torch.device("cpu"))
    assert model.controls == ("depth", "normal", "openpose") and len(model.controlnets) == 3
    request = samples.request(2, steps=2, manifest=manifest)
    three = np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames()))
    one = load(f"{folders / 'base'}|{control}", torch.device("cpu"))
    assert (three != np.stack(list(ShotPipeline(one, request, passes, RunContext()).frames()))).any()
    with pytest.raises(ShotError, match="render them again"):
        list(ShotPipeline(model, samples.request(2, steps=2), passes, RunContext()).frames())


def test_a_controlnet_for_another_model_is_refused(folders, tmp_path):
    tiny.write_sdxl(tmp_path)
    with pytest.raises(ShotError, match="does not fit the base model: its cross_attention_dim"):
        load(f"{folders / 'base'}|{tmp_path / 'controlnet'}".replace("base|", "base|depth="), torch.device("cpu"))


def test_loras_and_textual_inversions_change_the_picture(folders, tmp_path):
    peft = pytest.importorskip("peft")
    from safetensors.torch import save_file

    base = load(str(folders / "whole"), torch.device("cpu"))
    unet = UNet2DConditionModel.from_pretrained(folders / "whole" / "unet")
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    torch.manual_seed(3)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    state = peft.get_peft_model_state_dict(unet)
    type(base.pipeline).save_lora_weights(tmp_path / "lora", unet_lora_layers=state)
    width = base.pipeline.text_encoder.config.hidden_size
    save_file({"<hero>": torch.randn(1, width) * 3}, tmp_path / "hero.safetensors")

    def frames(name, prompt="a man"):
        model = load(name, torch.device("cpu"))
        return np.stack(
            list(ShotPipeline(model, samples.request(1, steps=3, prompt=prompt), samples.passes(1), RunContext()).frames())
        )

    plain = frames(str(folders / "whole"))
    strong, weak = (frames(f"{folders / 'whole'}|lora={tmp_path / 'lora'}@{s}") for s in (1.0, 0.0))
    assert (strong != plain).any() and np.abs(weak.astype(int) - plain).max() <= 1
    known = frames(f"{folders / 'whole'}|embedding={tmp_path / 'hero.safetensors'}", "<hero>")
    assert (known != frames(str(folders / "whole"), "<hero>")).any()
    with pytest.raises(ShotError, match="cannot be loaded"):
        load(f"{folders / 'whole'}|lora={tmp_path / 'absent'}", torch.device("cpu"))
    with pytest.raises(ShotError, match="not the strength"):
        load(f"{folders / 'whole'}|lora=x@much", torch.device("cpu"))


def test_a_model_that_is_nowhere_names_the_hub():
    sentence = r"the hub at .* for 'nobody/nothing'; check the connection .* give a folder or a file instead"
    with pytest.raises(ShotError, match=sentence):
        load("nobody/nothing|lora=x", torch.device("cpu"))


def test_reduced_precision_and_compilation_are_options(folders):
    model = load(str(folders / "whole"), torch.device("cpu"), LoadOptions(dtype="bfloat16"))
    assert model.dtype == torch.bfloat16 and model.unet.dtype == torch.bfloat16
    made = np.stack(list(ShotPipeline(model, samples.request(2, steps=2), samples.passes(2), RunContext()).frames()))
    assert made.std() > 1


def test_names_are_taken_as_people_paste_them(tmp_path, monkeypatch):
    """Quotes, addresses, signs of equality and at-signs, Windows' backslashes, bars at the end: all mean the same files."""
    folder = tmp_path / "my models"
    folder.mkdir()
    base, control, lora = folder / "base@v1=final.safetensors", folder / "a=b@2.pth", folder / "style@0.5.safetensors"
    for path in (base, control, lora):
        path.write_bytes(b"")
    wanted = replace(find_model("sd15"), base=str(base), controls=(("depth", str(control)),), loras=((str(lora), 1.0),))
    address = "file://" + str(base).replace(" ", "%20").replace("@", "%40")
    slashed = str(base).replace(" ", "\\ ")
    for first in (str(base), f'"{base}"', f"'{base}'", address, f" {base} ", slashed, str(base).replace("/", "\\")):
        for second in (str(control), f"depth={control}", f'depth="{control}"', f"Depth = '{control}'"):
            for third in (f"lora={lora}", f'lora="{lora}"', f"lora={lora}@1", f'lora="{lora}"@1.0'):
                for end in ("", "|", " | "):
                    found = find_model(f"{first}|{second}|{third}{end}")
                    assert found == wanted, (first, second, third)
    assert find_model(f'"{base}|{control}|lora={lora}"') == wanted
    assert find_model(f"{base}|{control}|lora={folder / 'gone@home.safetensors'}").loras[0][1] == 1
    assert find_model("starter|") == find_model("starter") == find_model("'starter'")
    monkeypatch.setenv("HOME", str(folder))
    assert find_model(f"~/{base.name}|~/{control.name}|lora=~/{lora.name}") == wanted
    for name, word in (
        ("//models/a.safetensors|b", "begins at the .blend file"),
        (f"{base}|lora={lora}@inf", "not the strength"),
        (f"{base}|lora={lora}@", "not the strength"),
        (f"{base}|colour=x", "'colour=' is not a part"),
        ("", "There is no model"),
        (" | ", "There is no model"),
        ("x" * 5000, "There is no model"),
        ("a\0b", "There is no model"),
    ):
        with pytest.raises(ShotError, match=word):
            find_model(name)
