"""A model's own settings: recognised, told by files beside it, put into requests, and overruled by whoever asks."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler, TCDScheduler  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from latentman.backend import __main__ as program  # noqa: E402
from latentman.backend.jobs.requests import read_request  # noqa: E402
from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.models import profiles  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.profiles import complete_request, find_base_profile, find_profile, list_scheduler_changes  # noqa: E402
from latentman.backend.models.registry import STARTER, find_model, fingerprint  # noqa: E402
from latentman.backend.models.settings_files import MAX_FILE, find_place_of_user, find_settings, read_settings_file  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.model_profile import PRESET_PROFILES, ModelProfile, list_unset, resolve_request  # noqa: E402
from latentman.shared.shot import NOTHING, ShotError, check_request, make_request  # noqa: E402
from tests import original_layout as original  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.tiny import write_sd, write_sdxl  # noqa: E402
from tests.checkout import ROOT  # noqa: E402


@pytest.fixture(scope="module")
def checkpoints():
    """Tensors of a shrunk checkpoint by family."""
    found = {}
    for family in ("sd1", "sd2", "sdxl"):
        torch.manual_seed(0)
        unet, vae = original.make_unet(family), original.make_vae()
        found[family] = original.checkpoint_to_original(family, unet, vae, original.make_text_encoders(family))
    return found


@pytest.fixture
def copy(tiny, tmp_path):
    """A tiny model's folder to write into."""
    return shutil.copytree(tiny, tmp_path / "copy")


@pytest.fixture
def in_users_folder(tmp_path, monkeypatch):
    """Writes settings files into a user's folder of the test's own."""
    monkeypatch.setenv("LATENTMAN_CONFIG", str(tmp_path / "config"))

    def write(name, **values):
        path = tmp_path / "config" / "models" / f"{name}.latentman.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    return write


def _write(path, **values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def _frames(model, request, passes):
    return np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames()))


def _request(model, **changes):
    return make_request("a man in a red shirt", (1, 2), 20.0, **{"model": str(model), "preset": "cross_frame", "seed": 3} | changes)


# -- what is recognised


def test_presets_are_known_to_both_sides_and_the_starter_is_as_it_was():
    for name, profile in PRESET_PROFILES.items():
        assert find_profile(name) == profile
    found = complete_request(make_request("x", (1,), 20.0))
    assert found == make_request("x", (1,), 20.0, steps=20, width=256, height=256, guidance_scale=1.5, scheduler="ddim")
    assert find_profile(str(STARTER)) == PRESET_PROFILES["starter"]
    assert [PRESET_PROFILES[name].get_size() for name in ("sd15", "sdxl")] == [(512, 512), (1024, 1024)]


@pytest.mark.parametrize(
    ("family", "name", "metadata", "size", "steps", "guidance", "scheduler", "spacing", "told"),
    [
        ("sd1", "dream", {}, 512, 30, 7.5, "ddim", "leading", {"steps": "family's usual", "width": "family's usual"}),
        ("sd2", "v2-1_768-v", {}, 768, 30, 7.5, "ddim", "leading", {"prediction": "name"}),
        ("sd2", "v2-1_512-base", {}, 512, 30, 7.5, "ddim", "leading", {"prediction": "name"}),
        ("sdxl", "base", {}, 1024, 30, 5.0, "ddim", "leading", {"prediction": "family's usual"}),
        ("sdxl", "base", {"modelspec.resolution": "768x768"}, 768, 30, 5.0, "ddim", "leading", {"width": "file"}),
        ("sdxl", "x_lightning_8step", {}, 1024, 8, 1.0, "euler", "trailing", {"steps": "name", "distilled": "name"}),
        ("sdxl", "Hyper-SDXL", {}, 1024, 8, 1.0, "tcd", "trailing", {"scheduler": "name"}),
        ("sd1", "dream LCM", {}, 512, 6, 1.0, "lcm", "trailing", {"guidance_scale": "name"}),
    ],
)
def test_checkpoints(checkpoints, tmp_path, family, name, metadata, size, steps, guidance, scheduler, spacing, told):
    path = tmp_path / f"{name}.safetensors"
    save_file(checkpoints[family], path, metadata)
    found = find_base_profile(str(path))
    assert found.get_size() == (size, size) and (found.steps, found.guidance_scale) == (steps, guidance)
    assert (found.scheduler, found.spacing, found.family) == (scheduler, spacing, family)
    assert {key: found.origins[key] for key in told} == told


def test_folders(tiny, tmp_path):
    found = find_profile(tiny)
    # 8 latents of 8 pixels each
    assert found.get_size() == (64, 64) and found.origins["width"] == "configuration"
    assert (found.steps, found.guidance_scale, found.scheduler, found.prediction) == (30, 7.5, "ddim", "epsilon")
    write_sdxl(tmp_path / "xl")
    xl = find_profile(str(tmp_path / "xl"))
    assert (xl.family, xl.guidance_scale, xl.get_size()) == ("sdxl", 5.0, (64, 64))


@pytest.mark.parametrize(
    ("scheduler", "changes", "wanted"),
    [
        (LCMScheduler, {}, ("lcm", "lcm", 6, 1.0)),
        (TCDScheduler, {}, ("tcd", "tcd", 8, 1.0)),
        (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}, ("turbo", "euler", 4, 1.0)),
        (EulerAncestralDiscreteScheduler, {}, ("", "ddim", 30, 7.5)),
    ],
)
def test_folders_of_few_step_models_are_known_by_their_scheduler(copy, scheduler, changes, wanted):
    scheduler(**changes).save_pretrained(copy / "scheduler")
    found = find_profile(str(copy))
    assert (found.distilled, found.scheduler, found.steps, found.guidance_scale) == wanted
    assert found.spacing == ("trailing" if wanted[0] == "turbo" else "linspace" if not wanted[0] else "leading")


def test_a_model_that_was_taught_guidance_is_told_its_scale(copy):
    LCMScheduler().save_pretrained(copy / "scheduler")
    path = copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time_cond_proj_dim": 256}))
    found = find_profile(str(copy))
    assert (found.distilled, found.steps, found.guidance_scale) == ("lcm", 6, 7.5)
    assert resolve_request(make_request("x", (1,), 20.0, scheduler="lcm"), found).sampling.guidance_scale == 7.5


@pytest.mark.parametrize(
    ("files", "family"),
    [
        ({"unet/config.json": {"cross_attention_dim": 768}}, "sd1"),
        ({"model_index.json": {"transformer": ["diffusers", "FluxTransformer2DModel"]}}, "flux"),
    ],
)
def test_a_model_that_came_from_the_hub_is_known_from_then_on(tmp_path, monkeypatch, files, family):
    here = {}
    monkeypatch.setattr(profiles, "find_cached_file", lambda name, revision, file: here.get(file))
    assert find_profile("someone/fresh").family == ""
    for file, values in files.items():
        here[file] = tmp_path / "config.json"
        _write(here[file], **values)
    assert find_profile("someone/fresh").family == family


def test_a_size_of_two_sides_and_a_damaged_configuration(copy):
    path = copy / "unet" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"sample_size": [6, 10]}))
    assert find_profile(str(copy)).get_size() == (80, 48)
    path.write_text("[" * 100_000)
    assert find_profile(str(copy)).origins["width"] == "family's usual"


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"sample_size": 10**12}),
        ("unet", {"sample_size": [8, -8]}),
        ("unet", {"sample_size": "64", "cross_attention_dim": [768]}),
        ("unet", {"sample_size": True, "cross_attention_dim": None}),
        ("vae", {"block_out_channels": 5}),
        ("vae", {"block_out_channels": [1] * 5000}),
        ("scheduler", {"timestep_spacing": ["trailing"], "prediction_type": {"a": 1}, "_class_name": [1]}),
        ("scheduler", {"timestep_spacing": "x" * 10**6, "prediction_type": "flow" * 10**5}),
    ],
)
def test_configurations_that_claim_anything_give_a_profile_that_can_be_sent(copy, part, changes):
    path = copy / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    found = find_profile(str(copy))
    answer = messages.ModelDescribed(ticket="a", profile=found)
    assert messages.decode([bytes(one) for one in messages.encode(answer)])[0] == answer
    request = resolve_request(_request(copy), found)
    check_request(request)


@pytest.mark.parametrize(
    ("name", "steps", "scheduler"),
    [
        ("lcm-lora-sdv1-5.safetensors", 6, "lcm"),
        ("Hyper-SD15-8steps-CFG-lora.safetensors", 8, "tcd"),
        ("sdxl_lightning_2step_lora.safetensors", 2, "euler"),
        ("my friend.safetensors", 30, "ddim"),
    ],
)
def test_a_lora_may_make_it_a_model_of_few_steps(name, steps, scheduler):
    found = find_profile(f"sd15|lora=/models/{name}@0.8")
    assert (found.steps, found.scheduler, found.get_size()) == (steps, scheduler, (512, 512))
    if steps != 30:
        assert (found.guidance_scale, found.spacing) == (1.0, "trailing")
        assert found.origins["steps"] == f"LoRA {name.removesuffix('.safetensors')}"
        assert find_profile("sd15").steps == 30


# -- settings files


def test_the_users_folder_wins_over_the_file_beside_the_model_and_a_request_over_both(checkpoints, tmp_path, in_users_folder):
    path = tmp_path / "dream.v1.safetensors"
    save_file(checkpoints["sd1"], path)
    beside = _write(tmp_path / "dream.v1.latentman.json", steps=22, guidance_scale=6, width=640, height=448, negative_prompt="fog")
    found = find_base_profile(str(path))
    assert (found.steps, found.guidance_scale, found.get_size(), found.negative_prompt) == (22, 6, (640, 448), "fog")
    assert found.origins["steps"] == str(beside) and found.files == (str(beside),)
    user = in_users_folder("dream.v1", steps=11, note="quick")
    found = find_base_profile(str(path))
    assert (found.steps, found.guidance_scale) == (11, 6) and found.origins["steps"] == str(user)
    assert found.files == (str(beside), str(user))
    request = resolve_request(make_request("x", (1,), 20.0, steps=5, width=64, height=64), found)
    assert (request.sampling.steps, request.sampling.guidance_scale, request.width) == (5, 6.0, 64)


def test_settings_of_folders_presets_and_hub_ids(copy, in_users_folder):
    _write(copy / "latentman.json", scheduler="euler", width=96)
    assert find_profile(str(copy)).scheduler == "euler" and find_profile(str(copy)).get_size() == (96, 96)
    in_users_folder("copy", scheduler="dpm++")
    assert find_profile(str(copy)).scheduler == "dpm++"
    in_users_folder("sd15", steps=25)
    assert find_profile("sd15").steps == 25 and find_profile("sd15|lora=/x/lcm.safetensors").steps == 6
    in_users_folder("someone--model", steps=26)
    assert find_profile("someone/model|someone/control").steps == 26
    in_users_folder("lcm", steps=3, negative_prompt="haze")
    found = find_profile("sd15|lora=/x/lcm.safetensors")
    assert (found.steps, found.negative_prompt) == (3, "haze")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"stepz": 3}', 'the key "stepz" is unknown; use width, height, steps'),
        ('{"steps": 0}', "'steps' cannot be 0; use a number from 1 to 1000"),
        ('{"steps": 2.5}', "'steps' cannot be 2.5"),
        ('{"steps": "20"}', "'steps' cannot be \"20\""),
        ('{"steps": true}', "'steps' cannot be true"),
        ('{"width": 4}', "'width' cannot be 4; use a number from 8 to 4096"),
        ('{"guidance_scale": -1}', "'guidance_scale' cannot be -1"),
        ('{"guidance_scale": null}', "'guidance_scale' cannot be null"),
        ('{"scheduler": "heun!"}', "'scheduler' cannot be \"heun!\"; use ddim"),
        ('{"scheduler": ["ddim"]}', "'scheduler' cannot be"),
        ('{"spacing": "karras"}', "use leading, trailing, linspace"),
        ('{"prediction": "v"}', "use epsilon, v_prediction, sample"),
        ('{"zero_terminal_snr": "yes"}', "use true or false"),
        ('{"distilled": "quick"}', "use none, lightning"),
        ('{"clip_skip": 99}', "a whole number from 0 to 32"),
        ('{"negative_prompt": 3}', "use a text in quotes"),
        ('{"negative_prompt": "\\u0000"}', "'negative_prompt' cannot be used"),
        ("[1, 2]", "it is not JSON with keys in braces"),
        ("steps = 20", "it is not JSON"),
        ("{" * 50_000, "it is not JSON"),
        ("", "it is not JSON"),
        ('{"note": "' + "x" * MAX_FILE + '"}', "more than the"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_one_sentence_with_file_and_key(copy, text, words):
    (copy / "latentman.json").write_text(text, encoding="utf-8")
    with pytest.raises(ShotError) as caught:
        find_profile(str(copy))
    assert words in str(caught.value) and str(copy / "latentman.json") in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.code == "model" and len(str(caught.value)) < 600


def test_settings_files_as_editors_write_them(copy):
    (copy / "latentman.json").write_bytes(b'\xef\xbb\xbf{\r\n  "steps": 9,\r\n  "negative_prompt": "Nebel, gr\xc3\xbcn"\r\n}\r\n')
    found = find_profile(str(copy))
    assert (found.steps, found.negative_prompt) == (9, "Nebel, grün")
    (copy / "latentman.json").write_bytes('{"steps": 9}'.encode("utf-16"))
    with pytest.raises(ShotError, match="UTF-8"):
        find_profile(str(copy))
    # a name too long for a file, and a folder in the place of one
    assert not find_settings("x" * 5000).values and not find_settings("\0").values
    (copy / "latentman.json").unlink()
    (copy / "latentman.json").mkdir()
    assert not find_settings(str(copy)).values


# -- what it does


def test_what_was_recognised_can_be_overruled(tmp_path):
    """The frames are those of a model whose configuration says the same."""
    write_sd(tmp_path / "plain")
    write_sd(
        tmp_path / "v",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    shutil.copy(
        tmp_path / "v" / "whole" / "unet" / "diffusion_pytorch_model.safetensors",
        tmp_path / "plain" / "whole" / "unet" / "diffusion_pytorch_model.safetensors",
    )
    plain, v = (str(tmp_path / name / "whole") for name in ("plain", "v"))
    passes, request = samples.passes(2, 32), dict(width=32, height=32, steps=3, guidance_scale=3.0, scheduler="euler")
    wanted = _frames(load(v), _request(v, **request), passes)
    before = fingerprint(plain)
    assert (_frames(load(plain), _request(plain, **request), passes) != wanted).any()
    place = tmp_path / "plain" / "whole" / "latentman.json"
    _write(place, prediction="v_prediction", zero_terminal_snr=True)
    assert find_profile(plain).spacing == "trailing" and "zero_terminal_snr" in find_profile(plain).origins["spacing"]
    assert (_frames(load(plain), _request(plain, **request), passes) == wanted).all()
    # what changes how the network is asked names another model; what a request holds anyway does not
    assert fingerprint(plain) != before
    _write(place, steps=4, negative_prompt="fog", note="x")
    assert fingerprint(plain) == before


def test_the_schedule_is_as_the_settings_file_or_a_lora_for_few_steps_wants_it(copy, tmp_path):
    assert not list_scheduler_changes(find_profile("starter")) and not list_scheduler_changes(find_profile(str(copy)))
    lightning = find_profile(f"{copy}|lora=/x/sd_lightning_4step.safetensors")
    assert list_scheduler_changes(lightning) == {"timestep_spacing": "trailing"}
    before = load(str(copy)).pipeline.scheduler.config.timestep_spacing
    _write(copy / "latentman.json", spacing="trailing")
    model = load(str(copy))
    assert (before, model.pipeline.scheduler.config.timestep_spacing) == ("leading", "trailing")
    assert model.make_scheduler(4).timesteps.tolist() == [999, 749, 499, 249]


def test_a_loaded_model_is_loaded_again_when_what_was_recognised_is_overruled(copy):
    models = ModelCache()
    first = models.get(str(copy))
    _write(copy / "latentman.json", steps=3)
    assert models.get(str(copy)) is first
    _write(copy / "latentman.json", steps=3, prediction="v_prediction")
    second = models.get(str(copy))
    assert second is not first and second.make_scheduler(3).config.prediction_type == "v_prediction"
    _write(copy / "latentman.json")
    assert models.get(str(copy)).make_scheduler(3).config.prediction_type == "epsilon"


def test_a_job_is_made_as_it_was_asked_for_whatever_a_loaded_model_knew(copy, tmp_path):
    """The negative prompt was there when the model was loaded, and is gone when the job is asked for, or the other way round."""
    passes = samples.passes(2, 32)
    request = _request(copy, steps=2, guidance_scale=6.0)
    made = {}
    for name, before, then in (("a", "a hat", ""), ("b", "", "a hat"), ("plain", "", ""), ("hat", "a hat", "a hat")):
        models = ModelCache()
        _write(copy / "latentman.json", **({"negative_prompt": before} if before else {}))
        models.get(str(copy))
        _write(copy / "latentman.json", **({"negative_prompt": then} if then else {}))
        job = JobStore(tmp_path / name).open(request, passes)
        assert run(job, models, RunCallbacks())["settings"]["text"]["negative_prompt"] == then
        made[name] = np.stack(list(job.images()))
    assert (made["a"] == made["plain"]).all() and (made["b"] == made["hat"]).all() and (made["plain"] != made["hat"]).any()


def test_not_distilled_whatever_the_name_says_and_the_other_way_round(checkpoints, tmp_path):
    path = tmp_path / "turbo bikes.safetensors"
    save_file(checkpoints["sd1"], path)
    assert find_base_profile(str(path)).steps == 4
    _write(tmp_path / "turbo bikes.latentman.json", distilled="none")
    found = find_base_profile(str(path))
    assert (found.distilled, found.steps, found.guidance_scale, found.scheduler) == ("", 30, 7.5, "ddim")
    assert found.spacing == "leading" and found.origins["steps"].startswith("follows from distilled in ")
    _write(tmp_path / "turbo bikes.latentman.json", distilled="lcm", steps=5)
    found = find_base_profile(str(path))
    assert (found.distilled, found.steps, found.guidance_scale, found.scheduler) == ("lcm", 5, 1.0, "lcm")


def test_the_size_of_2_x_goes_with_what_it_predicts(checkpoints, tmp_path):
    path = tmp_path / "two.safetensors"
    save_file(checkpoints["sd2"], path)
    assert find_base_profile(str(path)).get_size() == (768, 768)
    _write(tmp_path / "two.latentman.json", prediction="epsilon")
    assert find_base_profile(str(path)).get_size() == (512, 512)
    _write(tmp_path / "two.latentman.json", prediction="epsilon", width=896)
    assert find_base_profile(str(path)).get_size() == (896, 896)


def test_a_controlnets_kind_may_be_told_by_its_settings_file(tmp_path):
    path = tmp_path / "control.safetensors"
    assert find_model(f"sd15|{path}").controls == (("depth", str(path)),)
    _write(tmp_path / "control.latentman.json", control="normal")
    assert find_model(f"sd15|{path}").controls == (("normal", str(path)),)
    assert find_model(f"sd15|openpose={path}").controls == (("openpose", str(path)),)
    _write(tmp_path / "control.latentman.json", control="canny")
    with pytest.raises(ShotError, match="use depth, normal"):
        find_model(f"sd15|{path}")


def test_frames_with_what_is_left_to_the_model_are_those_with_its_values(copy):
    model = load(str(copy))
    passes = samples.passes(2, 64)
    wanted = _frames(model, _request(copy, steps=30, guidance_scale=7.5, scheduler="ddim", width=64, height=64), passes)
    assert (_frames(model, _request(copy), passes) == wanted).all()
    # passes that are there have their size
    small = samples.passes(2, 32)
    assert _frames(model, _request(copy, steps=1), small).shape == (2, 32, 32, 3)


def test_the_models_negative_prompt_and_none(copy):
    passes = samples.passes(2, 32)
    request = dict(steps=2, guidance_scale=6.0)
    plain = _frames(load(str(copy)), _request(copy, **request), passes)
    _write(copy / "latentman.json", negative_prompt="a green hat")
    model = load(str(copy))
    own = _frames(model, _request(copy, **request), passes)
    assert (own != plain).any()
    assert (_frames(model, _request(copy, **request, negative_prompt="a green hat"), passes) == own).all()
    assert (_frames(model, _request(copy, **request, negative_prompt=NOTHING), passes) == plain).all()
    profile = find_profile(str(copy))
    once = resolve_request(_request(copy, negative_prompt=NOTHING), profile)
    assert once.text.negative_prompt == NOTHING and resolve_request(once, profile) == once
    assert resolve_request(once, ModelProfile()).text.negative_prompt == ""


def test_a_few_step_scheduler_that_was_chosen_is_run_without_guidance():
    found = resolve_request(make_request("x", (1,), 20.0, scheduler="lcm"), PRESET_PROFILES["starter"])
    assert (found.sampling.guidance_scale, found.sampling.steps) == (1.0, 20)
    found = resolve_request(make_request("x", (1,), 20.0, scheduler="lcm", guidance_scale=2.0), PRESET_PROFILES["starter"])
    assert found.sampling.guidance_scale == 2.0


@pytest.mark.parametrize(
    ("changes", "aspect", "wanted"),
    [
        ({}, None, (512, 512)),
        ({}, 16 / 9, (683, 384)),
        ({}, 9 / 16, (384, 683)),
        ({}, 1000.0, (4096, 8)),
        ({"width": 256}, None, (256, 256)),
        ({"height": 256}, 2.0, (512, 256)),
        ({"width": 100, "height": 72}, 2.0, (100, 72)),
    ],
)
def test_the_models_own_size_is_an_area(changes, aspect, wanted):
    found = resolve_request(make_request("x", (1,), 20.0, **changes), PRESET_PROFILES["sd15"], aspect=aspect)
    sides = (found.width, found.height)
    assert all(abs(side - want) <= 4 for side, want in zip(sides, wanted, strict=True)), sides
    check_request(found)


def test_the_starter_makes_no_longer_sides_than_it_knows():
    profile = PRESET_PROFILES["starter"]
    for aspect, wanted in ((1.0, (256, 256)), (16 / 9, (256, 144)), (9 / 16, (144, 256)), (2.39, (256, 107))):
        assert profile.get_size(aspect) == wanted


# -- requests and jobs


def test_a_job_is_of_what_is_made_whoever_decided_it(copy, tmp_path):
    store, passes = JobStore(tmp_path / "jobs"), samples.passes(2, 64)
    left = store.open(_request(copy), passes)
    said = store.open(_request(copy, steps=30, guidance_scale=7.5, scheduler="ddim", width=64, height=64), passes)
    assert (
        left.name == said.name
        and left.request == said.request
        and not set(list_unset(left.request)) - {"negative_prompt", "clip_skip"}
    )
    assert read_request(left.folder / "request.json") == left.request
    _write(copy / "latentman.json", steps=3)
    other = store.open(_request(copy), passes)
    assert other.name != left.name and other.request.sampling.steps == 3
    # definite values mean what they meant
    assert complete_request(left.request) == left.request


def test_looks_of_earlier_versions_are_kept(copy, tmp_path):
    store, passes = JobStore(tmp_path / "jobs"), samples.passes(2, 64)
    job = store.open(_request(copy), passes)
    sampling = msgspec.structs.replace(job.request.sampling, guidance_scale=0.0, scheduler="")
    former = replace(job, request=msgspec.structs.replace(job.request, sampling=sampling))
    assert job.has_same_settings(former) and former.request != job.request
    other = msgspec.structs.replace(sampling, steps=7)
    assert not job.has_same_settings(replace(job, request=msgspec.structs.replace(job.request, sampling=other)))


def test_the_report_says_what_was_used(copy, tmp_path):
    _write(copy / "latentman.json", steps=2, guidance_scale=3, negative_prompt="fog")
    job = JobStore(tmp_path / "jobs").open(_request(copy), samples.passes(2, 64))
    told = run(job, ModelCache(), RunCallbacks())["settings"]
    assert (told["sampling"]["steps"], told["sampling"]["guidance_scale"]) == (2, 3.0)
    assert (told["width"], told["text"]["negative_prompt"]) == (64, "fog")


# -- over the wire


def test_a_client_asks_how_a_model_is_run(server, copy):
    client = server.connect()
    client.send(messages.DescribeModel(ticket="a", model=str(copy)))
    answer, _ = client.wait_for(messages.ModelDescribed, "a")
    assert answer.profile == find_profile(str(copy))
    _write(copy / "latentman.json", steps=2)
    client.send(messages.DescribeModel(ticket="b", model=str(copy)))
    assert client.wait_for(messages.ModelDescribed, "b")[0].profile.steps == 2
    _write(copy / "latentman.json", stepz=2)
    for ticket, model, words in (("c", str(copy), "stepz"), ("d", "nosuch", "There is no model"), ("e", "/x/y.safetensors", "")):
        client.send(messages.DescribeModel(ticket=ticket, model=model))
        assert words in client.wait_for(messages.Failed, ticket)[0].message
    assert server.alive


def test_a_slow_file_does_not_keep_the_socket(server, copy, monkeypatch):
    from latentman.backend.tasks import describe

    monkeypatch.setattr(describe, "find_profile", lambda *_, **__: time.sleep(1.0) or PRESET_PROFILES["starter"])
    client = server.connect()
    client.send(messages.DescribeModel(ticket="slow", model="starter"))
    client.send(messages.Hello())
    kinds = [type(client.receive()[0]).__name__ for _ in range(2)]
    assert kinds == ["Welcome", "ModelDescribed"]


def test_a_shot_that_leaves_all_to_its_model(server, copy):
    _write(copy / "latentman.json", steps=2, guidance_scale=2)
    client = server.connect()
    passes = samples.passes(2, 64)
    done, _ = client.run_shot("a", _request(copy), passes, messages.Finished)
    assert done.report["settings"]["width"] == 64 and done.report["settings"]["sampling"]["steps"] == 2


# -- the command


def _call(capsys, *arguments):
    capsys.readouterr()
    code = program.main(["models", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_shows_and_writes(checkpoints, tmp_path, in_users_folder, capsys):
    path = tmp_path / "my dream.safetensors"
    save_file(checkpoints["sd1"], path)
    place = tmp_path / "my dream.latentman.json"
    code, out, _ = _call(capsys, "settings", path)
    assert code == 0 and "own size: 512x512 (family's usual)" in out and "own steps: 30 (family's usual)" in out
    assert f"{place} (not there" in out
    code, out, _ = _call(capsys, "settings", path, "--steps", "25", "--negative-prompt", "fog", "--no-zero-terminal-snr")
    assert code == 0 and "With --write" in out and not place.exists()
    code, out, _ = _call(capsys, "settings", path, "--steps", "25", "--negative-prompt", "fog", "--write")
    assert code == 0 and f"own steps: 25 ({place})" in out
    assert json.loads(place.read_text()) == {"steps": 25, "negative_prompt": "fog"}
    code, out, _ = _call(capsys, "settings", path, "--guidance-scale", "6", "--unset", "steps", "--write", "--json")
    told = json.loads(out)
    assert code == 0 and told["settings"] == {"guidance_scale": 6.0, "negative_prompt": "fog"} and told["profile"]["steps"] == 30
    code, out, _ = _call(capsys, "settings", path, "--steps", "9", "--user", "--write")
    assert code == 0 and find_place_of_user(str(path)).is_file() and "own steps: 9" in out
    code, out, _ = _call(capsys, "inspect", path)
    assert code == 0 and "own steps: 9" in out and f"own guidance scale: 6 ({place})" in out
    code, out, _ = _call(capsys, "inspect", path, "--json")
    assert json.loads(out)["profile"]["origins"]["guidance_scale"] == str(place)
    code, _, _ = _call(capsys, "settings", path, "--unset", "guidance_scale", "--unset", "negative_prompt", "--write")
    assert code == 0 and not place.exists()


def test_the_command_for_what_makes_no_pictures_and_for_what_is_not_there(tmp_path, in_users_folder, capsys):
    torch.manual_seed(0)
    network = original.make_controlnet(original.make_unet("sd1"))
    path = tmp_path / "control.safetensors"
    save_file(
        original.under(
            "control_model.", original.unet_to_original(network.state_dict(), original.LAYERS, original.ATTENTION["sd1"])
        ),
        path,
    )
    code, out, _ = _call(capsys, "settings", path, "--control", "normal", "--write")
    assert code == 0 and "control: normal" in out and find_settings(str(path)).values == {"control": "normal"}
    code, out, _ = _call(capsys, "inspect", path)
    assert "control: normal" in out
    code, out, _ = _call(capsys, "settings", "sd15", "--steps", "28", "--write")
    assert code == 0 and find_profile("sd15").steps == 28
    for arguments, words in (
        ((tmp_path / "gone.safetensors",), "There is no file"),
        (("sd15", "--steps", "0"), "The value of 'steps' cannot be 0"),
        (("sd15", "--scheduler", "x"), 'cannot be "x"; use ddim'),
        (("sd15", "--guidance-scale", "nan"), "cannot be nan"),
        (("sd15", "--unset", "stepz"), "no key 'stepz'"),
    ):
        code, _, err = _call(capsys, "settings", *arguments)
        assert code == 2 and words in err and len(err.strip().splitlines()) == 1
        code, out, _ = _call(capsys, "settings", *arguments, "--json")
        failed = json.loads(out)
        assert code == 2 and failed["event"] == "failed" and failed["code"] and words in failed["message"]


def test_the_settings_file_of_the_guide_is_one(tmp_path):
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    example = text.split("```json\n")[1].split("```")[0]
    (tmp_path / "x.latentman.json").write_text(example, encoding="utf-8")
    assert {"width", "prediction", "note"} <= set(read_settings_file(tmp_path / "x.latentman.json"))
    row = next(line for line in text.splitlines() if line.startswith("| `sdxl` |"))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["1024", "30", "5"] and PRESET_PROFILES["sdxl"].guidance_scale == 5
