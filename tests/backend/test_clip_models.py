"""AnimateDiff, a family of clips: a tiny random model of the real classes, compared with diffusers' own pipeline and taken through
the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import msgspec
import torch
from diffusers import MotionAdapter
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models import UNetMotionModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.jobs.look_making import make_look
from latentman.backend.jobs.runner import ModelCache, RunCallbacks
from latentman.backend.jobs.store import JobStore
from latentman.backend.models.families import FAMILIES, AnimateDiff, StableDiffusion
from latentman.backend.models.identity import identify
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.library.inspection import inspect_candidate
from latentman.backend.models.library.layouts import list_places
from latentman.backend.models.library.scanning import Candidate
from latentman.backend.models.loading import load
from latentman.backend.models.memory_figures import MemoryNeed
from latentman.backend.models.memory_need import estimate_need
from latentman.backend.models.memory_plan import plan_memory
from latentman.backend.models.motion_adapters import _graft_motion
from latentman.backend.models.network_shapes import list_networks
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import PRESETS, STARTER, find_model, fingerprint
from latentman.backend.tasks.shot import check_shot
from latentman.backend.video import clips, denoising
from latentman.backend.video.clips import Window, plan_blocks, plan_windows
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline
from latentman.backend.video.run_context import Checkpoint
from latentman.backend.video.techniques import Technique
from latentman.backend.workers.maker import UnitMaker
from latentman.backend.workers.port import UnitPort
from latentman.backend.workers.units import KeyUnit, ShotWork, UnitFailed
from latentman.blender_addon.model_file_kind import guess_kind
from latentman.shared.manifest import PassesHeader
from latentman.shared.schedule import make_schedule
from latentman.shared.shot import METHODS, Sampling, ShotError, ShotRequest, with_schedule
from tests import ip_adapter_files, samples
from tests.backend import test_ltx2, test_wan_animate, test_wan_vace, tiny
from tests.backend.model_tables import has_table
from tests.backend.tiny import write_motion_module
from tools.stand_in_hub import StandInHub

CPU = torch.device("cpu")
#: the disc moves by a pixel a frame, so that it stays in the picture
PASSES = samples.passes(24, 64, 1)
#: configurations of schedulers that are none
TORN = (
    "[1",
    "[]",
    "null",
    '"linear"',
    '{"beta_schedule": "nonsense"}',
    '{"beta_end": "high"}',
    '{"num_train_timesteps": -4}',
    '{"trained_betas": {}}',
    '{"trained_betas": [0.1, 0.2]}',
    '{"num_train_timesteps": 300000000}',
    '{"num_train_timesteps": "1000"}',
    '{"beta_end": NaN}',
    '{"beta_end": 2.0}',
    '{"prediction_type": "nonsense"}',
)


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "module"
    write_motion_module(folder)
    return folder


@pytest.fixture(scope="module")
def name(tiny: str, module: Path) -> str:
    return f"{tiny}|motion={module}"


@pytest.fixture(scope="module")
def model(name: str) -> ImageModel:
    return load(name, CPU)


def test_a_motion_module_makes_a_model_of_clips(name, module, model, tmp_path):
    """It is in the UNet once, with the noise that it was trained with; a model without it is as ever."""
    assert isinstance(model.family, AnimateDiff) and model.family.kind == "clip"
    assert model.family.get_window(model.denoiser.config) == 16
    assert model.pipeline.motion_adapter is None and model.pipeline.scheduler.config.beta_schedule == "linear"
    check_model(name, 64, 64, Sampling(steps=3))
    plain = load(name.partition("|")[0], CPU)
    assert type(plain.family) is StableDiffusion and plain.family.kind == "frames"
    assert plain.pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert find_model(name).motion == str(module)
    copy = shutil.copytree(module, tmp_path / "animatediff-lightning-4step")
    other = name.replace(str(module), str(copy))
    # what it is counts elsewhere, where it lies counts here
    assert identify(name) == identify(other) != identify(name.partition("|")[0])
    assert fingerprint(name) != fingerprint(other)
    # modules for few steps say so in their names
    profile = find_profile(other)
    assert (profile.distilled, profile.steps, profile.guidance_scale) == ("lightning", 4, 1.0)
    assert profile.origins["steps"] == "motion module animatediff-lightning-4step" and not find_profile(name).distilled


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("sdxl")
    tiny.write_sdxl(root)
    return str(root)


def test_what_does_not_go_together_is_refused(tiny, sdxl, module, tmp_path):
    """In a sentence, before anything is loaded and when it is."""
    config = json.loads((module / "config.json").read_text(encoding="utf-8"))

    def write(folder: str, schedule: str = "", **changes: Any) -> Path:
        made = shutil.copytree(module, tmp_path / folder)
        (made / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        if schedule:
            (made / "scheduler_config.json").write_text(schedule, encoding="utf-8")
        return made

    for base, motion, said in (
        ("starter", module, r"its block_out_channels are \[16, 32\], the model's \[64, 128, 192\]"),
        *((tiny, write(f"torn{n}", schedule=text), "scheduler_config.json cannot be used") for n, text in enumerate(TORN)),
        (sdxl, module, "is for Stable Diffusion 1.x, and the model .* is another kind"),
        ("starter_clip", module, "'starter_clip' brings a motion module; leave motion= out"),
        (tiny, write("wide", block_out_channels=[16, 64]), r"its block_out_channels are \[16, 64\], the model's \[16, 32\]"),
        (tiny, write("pia", conv_in_channels=9), "it is one for animating pictures"),
        (tiny, write("unet", _class_name="UNet2DConditionModel"), "it is a UNet2DConditionModel"),
        (tiny, Path(find_model(tiny).base) / "model_index.json", "model_index.json"),
        (tiny, tmp_path / "nowhere", "nowhere"),
        (tiny, f"{module}|motion={module}", "several motion modules"),
    ):
        for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
            with pytest.raises(ShotError, match=said):
                ask(f"{base}|motion={motion}")


@pytest.mark.parametrize("name", ["starter_flow", "starter_clip"])
def test_models_that_the_extension_leaves_out_are_named_there(name, monkeypatch):
    """With parts, too: the hub is not asked for them."""
    monkeypatch.delitem(PRESETS, name)
    for whole in (name, f"{name}|lora=style.safetensors"):
        with pytest.raises(ShotError, match=f"'{name}' does not come with the extension; use starter"):
            check_model(whole, 64, 64)


def test_a_module_may_bring_the_scheduler_that_it_was_trained_with(tiny, module, tmp_path):
    """In its folder; without one it is the published modules'."""
    own = shutil.copytree(module, tmp_path / "own")
    config = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_end": 0.02, "prediction_type": "v_prediction"}
    (own / "scheduler_config.json").write_text(json.dumps(config), encoding="utf-8")
    name = f"{tiny}|motion={own}"
    check_model(name, 64, 64, Sampling(steps=3))
    found = load(name, CPU).pipeline.scheduler
    base = load(tiny, CPU).pipeline.scheduler
    assert {key: found.config[key] for key in config if key[0] != "_"} == {
        key: value for key, value in config.items() if key[0] != "_"
    }
    # the class is the model's own
    assert type(found) is type(base) and found.config.beta_start == base.config.beta_start


def test_the_layers_of_a_unet_stay_what_they_are(tiny, module, tmp_path):
    """Those of one with cross-attention alone, too, for which diffusers has no class: a module that changes nothing leaves its
    frames as they are. Of other UNets our way makes what diffusers' does."""
    adapter = MotionAdapter.from_pretrained(module)
    unet = load(tiny, CPU).denoiser
    ours, theirs = _graft_motion(adapter, unet), UNetMotionModel.from_unet2d(unet, adapter)
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())
    idle = tmp_path / "idle"
    shape = dict(block_out_channels=[64, 128, 192], motion_layers_per_block=1, motion_norm_num_groups=16)
    write_motion_module(idle, stirred=False, **shape)
    silent = MotionAdapter.from_pretrained(idle)
    for key, layer in silent.named_modules():
        if key.endswith("proj_out"):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    silent.save_pretrained(idle)
    shutil.copy(STARTER / "scheduler" / "scheduler_config.json", idle)
    request, passes = _request(4, preset="per_frame", steps=2), PASSES.select(range(4))
    frames = [
        np.stack(list(ShotPipeline(load(one, CPU), request, passes, RunContext()).frames())).astype(int)
        for one in ("starter", f"starter|motion={idle}")
    ]
    assert np.abs(frames[0] - frames[1]).max() <= 1 and frames[0].std() > 5


def test_inspect_says_what_it_is(module, tmp_path, capsys):
    """The folder of a module, and one that cannot be used."""
    assert main(["models", "inspect", str(module)]) == 0
    said = capsys.readouterr().out
    assert "a motion module of AnimateDiff (MotionAdapter)" in said and "sd15|motion=module" in said
    write_motion_module(tmp_path / "pia", conv_in_channels=9)
    assert main(["models", "inspect", str(tmp_path / "pia")]) == 1
    assert "one for animating pictures" in capsys.readouterr().out


def _name_as_authors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a module under the names of AnimateDiff's authors."""
    found = {}
    for name, value in state.items():
        name = re.sub(r"(motion_modules\.\d+)\.", r"\1.temporal_transformer.", name)
        name = re.sub(r"\.attn([12])\.", lambda match: f".attention_blocks.{int(match[1]) - 1}.", name)
        name = re.sub(r"\.norm([12])\.", lambda match: f".norms.{int(match[1]) - 1}.", name)
        name = name.replace(".norm3.", ".ff_norm.")
        # each of the two attentions has the places of its own
        places = name.endswith("pos_embed.pe")
        for one in [name.replace("pos_embed", f"attention_blocks.{n}.pos_encoder") for n in (0, 1)] if places else [name]:
            found[one] = value.clone()
    return found


@pytest.mark.parametrize("middle", [True, False])
def test_files_are_written_as_diffusers_reads_them(middle, tmp_path):
    """Its own converter gives the weights back."""
    write_motion_module(tmp_path / "module", use_motion_mid_block=middle)
    state = load_file(next((tmp_path / "module").glob("*.safetensors")))
    found = convert_animatediff_checkpoint_to_diffusers(_name_as_authors(state))
    assert found.keys() == {name for name in state if not name.endswith("pos_embed.pe")}
    assert all(torch.equal(value, state[name]) for name, value in found.items())


@pytest.mark.parametrize("middle", [True, False])
def test_modules_in_files_make_the_frames_of_their_folders(tiny, middle, tmp_path, capsys):
    """Under both kinds of names, pickled by a trainer or not, of the first version, which has 24 places and nothing in the middle,
    and of the later ones."""
    folder = tmp_path / "module"
    # what the published ones are, which no file says
    write_motion_module(folder, frames=32 if middle else 24, motion_num_attention_heads=8, use_motion_mid_block=middle)
    state = load_file(next(folder.glob("*.safetensors")))
    whole = load(f"{tiny}|motion={folder}", CPU)
    request, passes = _request(8, preset="per_frame", steps=2), PASSES.select(range(8))
    wanted = ShotPipeline(whole, request, passes, RunContext()).latents()
    original, few = _name_as_authors(state), tmp_path / "animatediff_lightning_4step_comfyui.safetensors"
    save_file(original, few)
    pickled, plain = tmp_path / "mm_sd_v15.ckpt", tmp_path / "diffusers.safetensors"
    torch.save({"state_dict": {f"module.{name}": value for name, value in original.items()}, "epoch": 3}, pickled)
    save_file({name: value for name, value in state.items() if not name.endswith("pos_embed.pe")}, plain)
    for path in (pickled, plain, few):
        name = f"{tiny}|motion={path}"
        check_model(name, 64, 64, Sampling(steps=2))
        assert main(["models", "inspect", str(path)]) == 0
        assert "a motion module of AnimateDiff for Stable Diffusion 1.x" in capsys.readouterr().out
        model = load(name, CPU)
        window = 32 if path == plain else model.denoiser.config.motion_max_seq_length
        assert window == (32 if middle or path == plain else 24) and model.denoiser.config.use_motion_mid_block is middle
        assert not any("no place" in sentence for sentence in model.warnings)
        # the last one takes other steps, as its name says
        assert path == few or torch.equal(ShotPipeline(model, request, passes, RunContext()).latents(), wanted)
        assert estimate_need(list_networks(find_model(name)), 64, 64, torch.float32).together == 16
    assert (find_profile(name).distilled, find_profile(name).steps) == ("lightning", 4)
    candidates = [(few, False), (folder, True)]
    found = [inspect_candidate(Candidate(path, 0, "", is_folder)) for path, is_folder in candidates]
    assert [(one.kind, one.family, one.problem) for one in found] == [("motion_module", "sd1", "")] * 2
    assert guess_kind(few) == "motion_module" and guess_kind(plain) == "motion_module"


def test_files_that_are_no_whole_module_are_refused(tiny, tmp_path):
    """One that was cut, one for SDXL, one for pictures, a whole network, and a LoRA of movements."""
    write_motion_module(tmp_path / "module")
    state = load_file(next((tmp_path / "module").glob("*.safetensors")))
    original = _name_as_authors(state)
    first = "down_blocks.0.motion_modules.0"
    wide = MotionAdapter(block_out_channels=(320, 640, 1280), motion_layers_per_block=1, use_motion_mid_block=False)
    for n, (tensors, said) in enumerate(
        (
            (dict(list(original.items())[:-3]), "lacks 1 of the .* weights of its motion module"),
            ({name: value for name, value in original.items() if "down_blocks.1" not in name}, "other model|block_out_channels"),
            ({name: value.half() for name, value in wide.state_dict().items()}, "it is for SDXL"),
            (original | {"conv_in.weight": torch.ones(16, 9, 3, 3)}, "it is one for animating pictures"),
            (state | {"down_blocks.0.resnets.0.norm1.weight": torch.ones(16)}, "a whole network with a motion module"),
            ({f"{first}.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 16)}, "for AnimateDiff's motion modules"),
            ({name.replace("motion_modules", "temporal_attentions"): value for name, value in state.items()}, "of Hotshot-XL"),
            # numbers of layers that nothing holds, and shapes that nothing has
            (original | {"down_blocks.0.motion_modules.99999999.norm.weight": torch.ones(2)}, "lacks .* of its motion module"),
            (original | {"mid_block.motion_modules.99999999.norm.weight": torch.ones(2)}, "lacks .* of its motion module"),
            (original | {f"{first}.temporal_transformer.norm.weight": torch.tensor(1.0)}, "is not complete"),
            ({"conv_in.weight": torch.ones(3)}, "is no motion module"),
        )
    ):
        save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / f"{n}.safetensors")
        with pytest.raises(ShotError, match=said):
            load(f"{tiny}|motion={tmp_path / f'{n}.safetensors'}", CPU)


def test_modules_say_which_models_they_are_for(tiny, tmp_path):
    """One for SDXL is not called one for Stable Diffusion 1.x, and what else is in a file, or before its names, does not count."""
    wide = MotionAdapter(block_out_channels=(320, 640, 1280), motion_layers_per_block=1, use_motion_mid_block=False)
    path = tmp_path / "mm_sdxl_v10_beta.safetensors"
    save_file({name: value.half() for name, value in wide.state_dict().items()}, path)
    found = inspect_model_file(path)
    assert found.family == "sdxl" and "for SDXL" in found.sentence and "of AnimateDiff for Stable Diffusion" not in found.sentence
    write_motion_module(tmp_path / "module", motion_num_attention_heads=8)
    state = load_file(next((tmp_path / "module").glob("*.safetensors")))
    path = tmp_path / "module.safetensors"
    more = {"conv_in.weight": torch.ones(3)}
    save_file({f"unet.{name}": value for name, value in (_name_as_authors(state) | more).items()}, path)
    assert guess_kind(path) == "motion_module" and not inspect_model_file(path).problem
    model = load(f"{tiny}|motion={path}", CPU)
    name = "down_blocks.0.motion_modules.0.proj_out.weight"
    assert torch.equal(model.denoiser.state_dict()[name], state[name])
    assert any("1 of the weights" in sentence for sentence in model.warnings)


def test_the_library_looks_where_other_programs_keep_modules(tmp_path):
    """ComfyUI and AUTOMATIC1111's web interface."""
    for layout, place in (("comfyui", "models/animatediff_models"), ("a1111", "extensions/sd-webui-animatediff/model")):
        (tmp_path / layout / place).mkdir(parents=True)
        assert list_places(tmp_path / layout, layout)[0] == [tmp_path / layout / place]


def _request(count: int = 8, **changes: Any) -> ShotRequest:
    return samples.request(count, **(dict(steps=3, guidance_scale=1.0, preset="surface") | changes))


def _make(model: ImageModel, request: ShotRequest, context: RunContext | None = None, **options: Any) -> np.ndarray:
    passes = PASSES.select(range(len(request.frames)))
    return np.stack(list(ShotPipeline(model, request, passes, context or RunContext(), **options).frames()))


def _make_latents(model: ImageModel, request: ShotRequest) -> np.ndarray:
    """Clean latents, which show small differences better than pictures do."""
    return ShotPipeline(model, request, PASSES.select(range(len(request.frames))), RunContext()).latents().numpy()


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_clips_are_those_of_diffusers(model, guidance):
    """All frames together, from the same noise, to one level of 255."""
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    request = _request(preset="per_frame", guidance_scale=guidance, control_scale=0.8)
    ours = _make(model, request, noise=noise)
    pictures = list(torch.from_numpy(PASSES.depth[:8])[:, None, None].expand(-1, 1, 3, -1, -1))
    model.pipeline.set_progress_bar_config(disable=True)
    theirs = model.pipeline(
        request.text.prompt,
        negative_prompt="",
        num_frames=8,
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=noise.transpose(0, 1)[None],
        conditioning_frames=pictures,
        controlnet_conditioning_scale=0.8,
        output_type="np",
    ).frames[0]
    assert ours[0].std() > 5 and _difference(ours[0], ours[7]) > 5
    assert _difference(ours, np.round(theirs * 255)) <= 1
    # a frame by itself is another
    assert _difference(ours[:1], _make(model, _request(1, **_list_changes(request)), noise=noise[:1])) > 2


def _list_changes(request: ShotRequest) -> dict[str, Any]:
    sampling = request.sampling
    return dict(preset="per_frame", guidance_scale=sampling.guidance_scale, control_scale=sampling.control_scale)


@pytest.mark.parametrize(
    ("preset", "keyframes"), [("per_frame", None), ("surface", None), ("surface", METHODS["surface"].keyframes)]
)
def test_a_module_that_does_nothing_changes_nothing(tiny, tmp_path, preset, keyframes, monkeypatch):
    """Through windows, blocks and key frames every frame is that of the model without it, as far as numbers of 32 bits go."""
    monkeypatch.setattr(clips, "BLOCK", 12)
    monkeypatch.setattr(clips, "MARGIN", 3)
    write_motion_module(tmp_path / "module", stirred=False)
    moving, still = load(f"{tiny}|motion={tmp_path / 'module'}", CPU), load(tiny, CPU)
    still.pipeline.scheduler.register_to_config(beta_schedule="linear")
    method = msgspec.structs.replace(METHODS[preset], cross_frame_attention=False, keyframes=keyframes)
    request, looks = _with_method(_request(24, steps=4, guidance_scale=3.0), method), list[Look]()
    frames = _make(moving, request, RunContext(keep_look=looks.append), keyframes=[0, 9, 20])
    assert keyframes is None or looks[0].keyframes == (0, 9, 20)
    assert _difference(frames, _make(still, request, keyframes=[0, 9, 20])) <= 1


@pytest.mark.parametrize("preset", ["surface", "surface_fast"])
def test_looks_are_kept_and_shots_resumed(model, preset):
    """A stopped shot goes on to the same bits; frames share a texture; a look is worn by a shot with another seed."""
    looks: list[Look] = []
    kept: list[Checkpoint] = []
    request, context = _request(preset=preset), RunContext(save=kept.append, keep_look=looks.append)
    frames = _make(model, request, context, keyframes=[5, 0, 3])
    assert sum("see each other in the motion module" in sentence for sentence in context.warnings) == 1
    assert np.array_equal(frames, _make(model, request, RunContext(resume=lambda: kept[0]), keyframes=[5, 0, 3]))
    # in the order in which they follow each other
    assert looks[-1].keyframes == (0, 3, 5) and len(kept[0].latents) == 3
    unfused = _make(model, _with_method(request, msgspec.structs.replace(METHODS["per_frame"], shared_noise=True)))
    assert samples.measure_drift(PASSES, frames) < 0.3 * samples.measure_drift(PASSES, unfused)
    worn = _make(model, _request(preset=preset, seed=9), look=looks[-1], same_settings=False)
    shown = PASSES.mask[:8] > 0
    fresh = _make(model, _request(preset=preset, seed=9), keyframes=[5, 0, 3])
    assert _measure(worn, frames, shown) < 0.5 * _measure(fresh, frames, shown)
    # what is done is not made again, and the others come out as they were
    done = [n for n in range(8) if n not in looks[-1].keyframes][:1]
    finished = ShotPipeline(model, request, PASSES.select(range(8)), RunContext(), look=looks[-1], finalized=True)
    again = dict(finished.iter_frames(done))
    assert set(again) == set(range(8)) - {*done, *looks[-1].keyframes}
    assert all(np.array_equal(frame, frames[n]) for n, frame in again.items())


def _with_method(request: ShotRequest, method: Any) -> ShotRequest:
    return msgspec.structs.replace(request, method=method)


def _measure(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other)[where].mean())


def test_frames_that_are_made_alone_see_the_others(model):
    """Of a shot whose other frames come from an earlier one, with key frames and without any."""
    for preset in ("per_frame", "surface_fast"):
        request, looks = _request(preset=preset), list[Look]()
        whole = _make(model, request, RunContext(keep_look=looks.append), keyframes=[0, 5])
        options = dict(look=looks[0]) if looks else {}
        shot = ShotPipeline(model, request, PASSES.select(range(8)), RunContext(), **options)
        found = dict(shot.iter_frames({*range(8)} - {3}, {*range(8)} - {3}))
        assert _difference(found[3], whole[3]) <= (0 if preset == "per_frame" else 1)
        assert preset == "per_frame" or set(found) == {3}
        untouched = ShotPipeline(model, request, PASSES.select(range(8)), RunContext(), **options)
        assert not dict(untouched.iter_frames(range(8), range(8)))


def test_frames_have_texts_and_strengths_of_their_own(model):
    """What is said and how strongly the depth works may change within a clip, and beside the character."""
    request = _request(preset="per_frame")
    plain = _make_latents(model, request)
    for changed in (
        with_schedule(request, make_schedule([(6, "a dog")], prompt_blend=2)),
        with_schedule(request, make_schedule([], [1.0] * 5 + [0.2] * 3)),
        _request(preset="per_frame", background_prompt="snow"),
        _request(preset="per_frame", control_scale=0.0),
    ):
        told = _make_latents(model, changed)
        assert told.shape == plain.shape and _difference(told, plain) > 2e-3
    assert len(_make(model, with_schedule(_request(preset="surface_fast"), make_schedule([(6, "a dog")], prompt_blend=2)))) == 8


def test_guidance_in_pixels_goes_through_the_decoder(model):
    """It moves the frames; through the networks it is refused."""
    method = METHODS["latentman_exact"]
    assert method.guidance is not None
    decoder = msgspec.structs.replace(
        method, cross_frame_attention=False, guidance=msgspec.structs.replace(method.guidance, gradient="decoder")
    )
    guided = _make_latents(model, _with_method(_request(), decoder))
    unguided = _make_latents(model, _with_method(_request(), msgspec.structs.replace(decoder, guidance=None)))
    assert _difference(guided, unguided) > 1e-3
    full = msgspec.structs.replace(decoder, guidance=msgspec.structs.replace(method.guidance, gradient="full"))
    with pytest.raises(ShotError, match="denoises whole clips, through which no gradient goes; switch the pixel guidance's"):
        _make(model, _with_method(_request(), full))


def test_what_clips_cannot_do_is_refused(model, name):
    """Parts of a shot, and attention to the first frame without a look, which is said before passes are rendered."""
    for preset in ("cross_frame", "latentman"):
        with pytest.raises(ShotError, match=r"no attention that frames could share|no gradient goes"):
            check_shot(_request(preset=preset, model=name))
    check_shot(_request(model=name))
    with pytest.raises(ShotError, match="AnimateDiff has no attention that frames could share"):
        _make(model, _request(preset="cross_frame"))
    with pytest.raises(ShotError, match="are not made in parts; generate the whole shot at once"):
        _make(model, _request(), part=[1])
    method = msgspec.structs.replace(METHODS["per_frame"], keyframes=None)
    with pytest.raises(ShotError, match="The technique Looking has all frames look at some, which AnimateDiff cannot do"):
        _make(model, _with_method(_request(), method), techniques=[Looking()])


class Looking(Technique):
    """All frames are to see the second."""

    def reference_frames(self, step: int) -> tuple[int, ...]:
        return (1,)


def test_windows_cover_a_clip():
    """All of a length, evenly spread, with weights that sum up to 1 and fade in and out."""
    assert plan_windows(range(3, 8), 16) == [Window((3, 4, 5, 6, 7), (1.0,) * 5)]
    for count in (17, 24, 28, 29, 61):
        for length in (16, 6, 2, 1):
            windows = plan_windows(range(count), length)
            sums = np.zeros(count)
            for window in windows:
                assert len(window.frames) == length and window.frames == tuple(range(window.frames[0], window.frames[0] + length))
                sums[list(window.frames)] += window.weights
            assert np.allclose(sums, 1) and windows[0].frames[0] == 0 and windows[-1].frames[-1] == count - 1
            starts = np.diff([window.frames[0] for window in windows])
            assert starts.min() > 0 and np.ptp(starts) <= 1 and starts.max() <= length - (length > 1)
    first, second = plan_windows(range(24), 16)
    assert second.frames[0] == 8 and np.allclose(first.weights[8:], np.arange(8, 0, -1) / 9) and first.weights[:8] == (1.0,) * 8
    assert np.allclose(second.weights[:8], np.arange(1, 9) / 9)


def test_blocks_cover_a_shot():
    """Each frame is kept once, and has others on both sides where the shot has any."""
    for count in (1, 72, 73, 200, 1001):
        blocks = plan_blocks(range(count))
        assert [row for _, kept in blocks for row in kept] == list(range(count))
        assert max(len(made) for made, _ in blocks) <= 80
        for made, kept in blocks:
            assert made[0] == max(0, kept[0] - (len(blocks) > 1) * 8) and made[-1] == min(count - 1, kept[-1] + 8)
    assert len(plan_blocks(range(72))) == 1 and not plan_blocks(())


@pytest.fixture(scope="module")
def long_clip(model) -> tuple[np.ndarray, list[Checkpoint]]:
    """24 frames in two windows, and where they stood after every step."""
    kept: list[Checkpoint] = []
    return _make(model, _request(24, preset="per_frame"), RunContext(save=kept.append)), kept


def test_long_clips_have_no_seams(model, monkeypatch):
    """Of a still scene from one noise, frames differ no more where windows begin and end than elsewhere; without overlaps they
    jump."""
    still = PASSES.select([0] * 24)
    request = _with_method(_request(24), msgspec.structs.replace(METHODS["per_frame"], shared_noise=True))

    def measure_changes() -> np.ndarray:
        latents = ShotPipeline(model, request, still, RunContext()).latents().numpy()
        return np.abs(np.diff(latents, axis=0)).mean((1, 2, 3))

    changes = measure_changes()
    inside = [n for n in range(23) if n not in (7, 15)]
    assert changes[[7, 15]].max() <= changes[inside].max()
    monkeypatch.setattr(denoising, "plan_windows", _cut)
    jump = measure_changes()[15]
    assert jump > 10 * changes.max()


def _cut(frames: Any, length: int, row_frames: int) -> list[Window]:
    return [Window(tuple(part), (1.0,) * len(part)) for part in (frames[:length], frames[length:])]


def test_long_clips_are_resumed(model, long_clip):
    """To the last bit: a checkpoint has the frames of all windows."""
    frames, kept = long_clip
    assert len(kept) == 3 and len(kept[0].latents) == 24
    assert np.array_equal(frames, _make(model, _request(24, preset="per_frame"), RunContext(resume=lambda: kept[1])))


def test_long_shots_wear_their_look(model, monkeypatch):
    """The others than the key frames go in windows and blocks, and share the texture; progress is told on the way."""
    monkeypatch.setattr(clips, "BLOCK", 12)
    monkeypatch.setattr(clips, "MARGIN", 3)
    told: list[tuple[str, int, int]] = []
    looks: list[Look] = []
    method = METHODS["surface"]
    assert method.keyframes is not None
    # three steps of the ten
    strong = msgspec.structs.replace(method, keyframes=msgspec.structs.replace(method.keyframes, strength=0.3))
    request = _with_method(_request(24, steps=10), strong)
    context = RunContext(progress=lambda *moved: told.append(moved), keep_look=looks.append)
    frames = _make(model, request, context, keyframes=[0, 9, 20])
    assert frames.shape == (24, 64, 64, 3)
    unfused = _make(model, _with_method(request, METHODS["per_frame"]))
    assert samples.measure_drift(PASSES, frames) < 0.3 * samples.measure_drift(PASSES, unfused)
    numbers = [step for stage, step, _ in told if stage == "frames"]
    assert numbers == sorted(numbers) and numbers[-1] == 21 and len(set(numbers)) > 3
    # of a block that is there nothing is made again, and another comes out the same
    shot = ShotPipeline(model, request, PASSES, RunContext(), look=looks[0], finalized=True)
    again = dict(shot.iter_frames(range(12)))
    assert set(again) == set(range(12, 24)) - {*looks[0].keyframes}
    assert all(np.array_equal(frame, frames[n]) for n, frame in again.items())


def test_workers_refuse_clips_before_anything_is_made(model, name, monkeypatch):
    """Key frames need not be made where nobody could make the others."""
    maker = UnitMaker()
    monkeypatch.setattr(maker, "_load", lambda work, port: model)
    ends = {}
    for preset in ("surface", "per_frame"):
        work = ShotWork("job", _request(preset=preset), PassesHeader(), name, "")
        monkeypatch.setattr("latentman.backend.workers.maker.FetchedPasses", _raise_not_found)
        *_, ends[preset] = maker.run(KeyUnit(work), UnitPort())
    assert isinstance(ends["surface"], UnitFailed) and "are not made in parts" in str(ends["surface"])
    # what is made in one piece may be made by a worker
    assert "passes are asked for" in str(ends["per_frame"])


def test_no_look_is_made_that_frames_of_a_clip_cannot_be_made_from(model, name, tmp_path, monkeypatch):
    monkeypatch.setattr(ModelCache, "get", lambda *_: model)
    monkeypatch.setattr(ShotPipeline, "iter_frames", _raise_not_found)
    job = JobStore(tmp_path).open(_request(2, model=name), PASSES.select(range(2)))
    with pytest.raises(ShotError, match="are not made in parts"):
        make_look(job, ModelCache(), RunCallbacks())


def _raise_not_found(*_: Any) -> None:
    raise ShotError("passes", "The passes are asked for.")


def test_loras_and_references_go_into_it(model, name, tmp_path):
    """As into the model without the motion module: the same layers change by the same numbers."""
    plain = load(name.partition("|")[0], CPU)
    lora, layer = tmp_path / "lora.safetensors", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    title = f"lora_unet_{layer.replace('.', '_')}"
    generator = torch.Generator().manual_seed(0)
    shapes = {"lora_down": (4, 32), "lora_up": (32, 4)}
    save_file({f"{title}.{end}.weight": torch.randn(*shape, generator=generator) for end, shape in shapes.items()}, lora)
    ip_adapter_files.write_adapter(tmp_path / "ip.safetensors", ip_adapter_files.make_adapter(plain.unet))
    ip_adapter_files.make_encoder().save_pretrained(tmp_path / "image_encoder")
    parts = f"lora={lora}@0.5|ip={tmp_path / 'ip.safetensors'}|encoder={tmp_path / 'image_encoder'}"
    check_model(f"{name}|{parts}", 64, 64)
    still, moving = (load(f"{one}|{parts}", CPU) for one in (name.partition("|")[0], name))
    same = [torch.equal(still.unet.get_submodule(layer).weight, one.unet.get_submodule(layer).weight) for one in (moving, model)]
    assert same == [True, False] and not moving.warnings
    assert list(moving.adapter.layers) == list(still.adapter.layers)
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    request = _request(preset="surface_fast", reference="picture", reference_strength=1.0, guidance_scale=3.0)
    seen = _make(moving, request, reference=picture)
    blind = _make(moving, _request(preset="surface_fast", guidance_scale=3.0))
    assert _difference(seen, blind) > 2
    assert all(type(one).__name__ == "AttnProcessor2_0" for one in moving.unet.attn_processors.values())


def test_a_clip_can_be_cancelled(model):
    """Between two windows and between two steps."""
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Interrupted):
        _make(model, _request(preset="per_frame"), RunContext(should_stop=stop))


def test_memory_is_planned_for_whole_windows(name, model, monkeypatch):
    """All of its frames are counted, refused with figures where they do not fit, and said where memory was short after all."""
    source = find_model(name)
    plain = find_model(name.partition("|")[0])
    need, single = (estimate_need(list_networks(one), 64, 64, torch.float32) for one in (source, plain))
    assert need.together == 16 and single.together == 1
    assert need.weights["unet"] > single.weights["unet"] and need.denoising > 8 * single.denoising
    own = sum(weights.numel() * weights.element_size() for weights in model.unet.parameters())
    assert need.weights["unet"] == own
    roomy = MemoryNeed({"unet": 10**9, "vae": 10**8}, 4 * 10**8, 10**8, together=16)
    assert plan_memory(roomy, 10**10, gpu=False).frames == 8
    # all of a window are denoised together, but not decoded
    tight = plan_memory(replace(roomy, decoding=3 * 10**8), 24 * 10**8, gpu=False)
    assert tight.frames == 2 and not tight.tiling and "2 frames at a time go through the auto-encoder" in tight.sentence
    with pytest.raises(ShotError, match="and the 16 frames that it denoises together 954 MiB more, and there are"):
        plan_memory(roomy, 11 * 10**8, gpu=False)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(type(model.unet), "forward", fail)
    with pytest.raises(ShotError, match="not enough memory for 8 frames, which the model denoises together"):
        _make(model, _request(preset="per_frame"))


def test_a_module_of_the_hub_is_downloaded(tiny, module, tmp_path, monkeypatch):
    """By its name, at a commit; what is wrong with it is said before its weights come."""
    commit, other = "0123456789abcdef" * 2 + "01234567", tmp_path / "other"
    shutil.copytree(module, other)
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"conv_in_channels": 9}), encoding="utf-8")
    hub = StandInHub()
    try:
        hub.repositories = {"me/module": (commit, module), "me/other": (commit, other)}
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        check_model(f"{tiny}|motion=me/module@{commit}", 64, 64)
        with pytest.raises(ShotError, match="one for animating pictures"):
            check_model(f"{tiny}|motion=me/other", 64, 64)
        assert set(hub.files_sent()) == {"config.json"}
        assert load(f"{tiny}|motion=me/module@{commit}", CPU).family.kind == "clip"
    finally:
        hub.close()


#: columns of the table in ``docs/models.md`` -> the tests that they stand for
COLUMNS = {
    "recognised": test_inspect_says_what_it_is,
    "loads": test_a_motion_module_makes_a_model_of_clips,
    "equals diffusers' own": test_clips_are_those_of_diffusers,
    "surface presets": test_looks_are_kept_and_shots_resumed,
    "kept look": test_looks_are_kept_and_shots_resumed,
    "resume": test_looks_are_kept_and_shots_resumed,
    "background prompt": test_frames_have_texts_and_strengths_of_their_own,
    "long shots": test_long_shots_wear_their_look,
}


def test_the_table_says_what_is_asserted():
    """A row for every family of clips, and a column for each of the tests."""
    assert all(list(other.COLUMNS) == list(COLUMNS) for other in (test_wan_vace, test_wan_animate, test_ltx2))
    assert has_table(COLUMNS, [family.title for family in FAMILIES if family.kind == "clip"])
