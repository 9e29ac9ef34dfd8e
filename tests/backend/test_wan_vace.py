"""Wan VACE, a family of clips with several frames in one row of latents: a tiny random model of the real classes, compared with
diffusers' own pipeline and taken through the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import msgspec
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.pipelines.wan import pipeline_wan_vace
from PIL import Image
from scipy.ndimage import distance_transform_edt

from latentman.backend.__main__ import main
from latentman.backend.maps import MAPS
from latentman.backend.models.clip_rows import count_rows, join_frames, list_first_frames, spread_rows
from latentman.backend.models.families import QwenImage, WanVace
from latentman.backend.models.flow_schedules import make_shifted_scheduler
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.memory_need import estimate_need
from latentman.backend.models.memory_plan import plan_memory
from latentman.backend.models.network_shapes import list_networks
from latentman.backend.models.noise_lines import FlowLine, find_noise_line
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.registry import find_model
from latentman.backend.models.wan_vace import clean_text
from latentman.backend.tasks.shot import check_shot
from latentman.backend.video import denoising
from latentman.backend.video.clips import Window, plan_windows
from latentman.backend.video.lattice import find_corners
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline
from latentman.backend.video.run_context import Checkpoint
from latentman.backend.video.shown_look import draw_view
from latentman.shared.manifest import PassesManifest, PersonEntry
from latentman.shared.passes import FramePasses
from latentman.shared.schedule import make_schedule
from latentman.shared.shot import METHODS, Fusion, Sampling, ShotError, ShotRequest, with_schedule
from tests import samples
from tools.tiny_transformers import write_wan_vace

CPU = torch.device("cpu")
SIDE = 32
_MOVING = samples.passes(14, SIDE, 1)
#: as pictures of 8 bits hold it, which are what diffusers' pipeline takes
PASSES = replace(_MOVING, depth=np.round(_MOVING.depth * 255).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    write_wan_vace(folder)
    return folder


@pytest.fixture(scope="module")
def name(root: Path) -> str:
    return str(root / "base")


@pytest.fixture(scope="module")
def model(name: str) -> ImageModel:
    return load(name, CPU)


def _request(count: int = 6, **changes: Any) -> ShotRequest:
    return samples.request(count, SIDE, **(dict(steps=3, guidance_scale=1.0, preset="surface") | changes))


def _make(model: ImageModel, request: ShotRequest, context: RunContext | None = None, **options: Any) -> np.ndarray:
    passes = options.pop("passes", PASSES).select(range(len(request.frames)))
    return np.stack(list(ShotPipeline(model, request, passes, context or RunContext(), **options).frames()))


def _make_latents(model: ImageModel, request: ShotRequest, passes: Any = PASSES) -> np.ndarray:
    return ShotPipeline(model, request, passes.select(range(len(request.frames))), RunContext()).latents().numpy()


def _with_method(request: ShotRequest, **changes: Any) -> ShotRequest:
    return msgspec.structs.replace(request, method=msgspec.structs.replace(request.get_method(), **changes))


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


def test_frames_share_rows():
    """The first has its own; means count, which are what was there before where that is the same."""
    assert [count_rows(n, 4) for n in (1, 2, 5, 6, 9, 81)] == [1, 2, 2, 3, 3, 21]
    assert list_first_frames(7, 4) == [0, 1, 1, 1, 1, 5, 5] and list_first_frames(3, 1) == [0, 1, 2]
    for frames in range(1, 11):
        for factor in (1, 2, 4):
            rows = torch.randn(count_rows(frames, factor), 3, 2, generator=torch.Generator().manual_seed(frames))
            spread = spread_rows(rows, frames, factor)
            assert len(spread) == frames and torch.equal(join_frames(spread, factor), rows)
            assert all(torch.equal(spread[n], spread[first]) for n, first in enumerate(list_first_frames(frames, factor)))
    assert join_frames(torch.arange(7.0), 4).tolist() == [0, 2.5, 5.5]


def test_a_folder_is_a_model_of_clips(name, model, root, tmp_path):
    """With its own steps, whose scheduler may be either of the two that models like it have."""
    assert isinstance(model.family, WanVace) and model.family.kind == "clip" and model.controls == ("depth",)
    assert (model.row_frames, model.latent_factor, model.size_multiple, model.latent_channels) == (4, 8, 16, 16)
    check_model(name, SIDE, SIDE, Sampling(steps=3))
    profile = find_profile(name)
    assert (profile.steps, profile.guidance_scale, profile.scheduler, profile.family) == (50, 5.0, "unipc", "wan_vace")
    assert isinstance(model.make_scheduler(3), UniPCMultistepScheduler)
    assert isinstance(model.make_scheduler(3, "euler"), FlowMatchEulerDiscreteScheduler)
    straight = shutil.copytree(root / "base", tmp_path / "wan-lightning-4step")
    FlowMatchEulerDiscreteScheduler(shift=5.0).save_pretrained(straight / "scheduler")
    index = json.loads((straight / "model_index.json").read_text(encoding="utf-8"))
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (straight / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    profile = find_profile(str(straight))
    assert (profile.distilled, profile.steps, profile.guidance_scale, profile.scheduler) == ("lightning", 4, 1.0, "euler")
    check_model(str(straight), SIDE, SIDE, Sampling(steps=3, scheduler="unipc"))


def test_what_a_configuration_leaves_out_is_as_usual(root, tmp_path):
    """As diffusers, which loads such folders, has it."""
    folder = shutil.copytree(root / "base", tmp_path / "short")
    for part, names in (("vae", ["temperal_downsample"]), ("transformer", ["patch_size", "in_channels", "vace_in_channels"])):
        file = folder / part / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({name: value for name, value in config.items() if name not in names}), encoding="utf-8")
    family, row_frames = check_model(str(folder), SIDE, SIDE, Sampling(steps=3))
    model = load(str(folder), CPU)
    assert (isinstance(family, WanVace), row_frames) == (True, 4) and (model.row_frames, model.size_multiple) == (4, 16)
    with pytest.raises(ShotError, match="the nearest size is 32x32"):
        check_model(str(folder), 40, SIDE)
    assert QwenImage().read_vae_factor({}) == 8


def test_inspect_says_what_it_is(name, capsys):
    assert main(["models", "inspect", name]) == 0
    said = capsys.readouterr().out
    assert "a diffusers folder of Wan VACE (WanVACEPipeline" in said and "sees the picture for depth itself" in said


def test_what_does_not_go_together_is_refused(name, model, root, tmp_path):
    """In a sentence, before anything is loaded and when it is."""
    other = shutil.copytree(root / "base", tmp_path / "other")
    config = json.loads((other / "transformer" / "config.json").read_text(encoding="utf-8"))
    (other / "transformer" / "config.json").write_text(json.dumps(config | {"in_channels": 36}), encoding="utf-8")
    for wrong, said in (
        (f"{name}|openpose={name}", "sees the depth itself; leave the ControlNet out"),
        (f"{name}|lora={next(root.rglob('*.safetensors'))}", "is a transformer|holds a transformer|no LoRA"),
        (str(other), "latents of 36 channels .* choose Wan 2.1 VACE"),
    ):
        with pytest.raises(ShotError, match=said):
            check_model(wrong, SIDE, SIDE)
    pair = shutil.copytree(root / "base", tmp_path / "pair")
    index = json.loads((pair / "model_index.json").read_text(encoding="utf-8"))
    for more in ({}, {"boundary_ratio": None}, {"boundary_ratio": "0.9"}, {"boundary_ratio": 2}):
        two = index | {"transformer_2": index["transformer"]} | more
        (pair / "model_index.json").write_text(json.dumps(two), encoding="utf-8")
        with pytest.raises(ShotError, match="WanVACEPipeline of two transformers that take turns"):
            check_model(str(pair), SIDE, SIDE)
    for sampling, said in (
        (Sampling(steps=3, scheduler="ddim"), "choose 'euler' or 'unipc'"),
        (Sampling(steps=3, spacing="trailing"), "spaces its steps by itself"),
    ):
        with pytest.raises(ShotError, match=said):
            check_model(name, SIDE, SIDE, sampling)
    with pytest.raises(ShotError, match="the nearest size is 32x32"):
        check_model(name, 40, SIDE)
    for preset, said in (
        # before passes are rendered, and by whoever has them
        ("latentman", "one latent for 4 frames, so that there is none of each frame's own to align or to guide"),
        ("latentman_exact", "to align or to guide"),
        ("cross_frame", "has no attention that frames could share"),
    ):
        with pytest.raises(ShotError, match=said):
            _make(model, _request(preset=preset))
        with pytest.raises(ShotError, match=said):
            check_shot(_request(preset=preset, model=name))
    check_shot(_request(model=name))
    guided = _with_method(_request(preset="per_frame"), guidance=METHODS["latentman"].guidance)
    with pytest.raises(ShotError, match="to align or to guide"):
        _make(model, guided)
    with pytest.raises(ShotError, match="is told one prompt for a whole clip"):
        _make(model, with_schedule(_request(preset="per_frame"), make_schedule([(3, "a dog")])))
    # a prompt that none of the frames has is none
    plain = _make(model, _request(2, preset="per_frame"))
    assert np.array_equal(plain, _make(model, with_schedule(_request(2, preset="per_frame"), make_schedule([(40, "a dog")]))))
    with pytest.raises(ShotError, match="are not made in parts"):
        _make(model, _request(), part=[1])


@pytest.mark.parametrize("config", [{"use_flow_sigmas": False}, {"prediction_type": "epsilon"}, {"use_dynamic_shifting": True}])
def test_steps_of_another_kind_are_refused(model, config):
    own = {**model.pipeline.scheduler.config, **config}
    with pytest.raises(ShotError):
        make_shifted_scheduler(own, "UniPCMultistepScheduler", "", "", 3, None, "Wan VACE")


@pytest.mark.parametrize(("guidance", "count"), [(1.0, 6), (4.0, 5), (4.0, 1)])
def test_clips_are_those_of_diffusers(model, monkeypatch, guidance, count):
    """All frames together, from the same noise, to one level of 255, whether or not they fill their rows."""
    noise = torch.randn(count_rows(count, 4), 16, 4, 4, generator=torch.Generator().manual_seed(3))
    request = _request(count, preset="per_frame", guidance_scale=guidance, control_scale=0.8)
    ours = _make(model, request, noise=spread_rows(noise, count, 4))
    # diffusers' pipeline makes whole rows, of which the last frames are those behind ours
    whole = (len(noise) - 1) * 4 + 1
    pictures = [Image.fromarray(np.uint8(np.round(PASSES.depth[min(n, count - 1)] * 255))).convert("RGB") for n in range(whole)]
    theirs = _call_diffusers(model, request, pictures, noise, monkeypatch, conditioning_scale=0.8)
    assert ours[0].std() > 5 and _difference(ours, np.round(theirs[:count] * 255)) <= 1


def _call_diffusers(
    model: ImageModel, request: ShotRequest, pictures: list[Any], noise: torch.Tensor, monkeypatch: Any, **options: Any
) -> np.ndarray:
    """(F, H, W, 3) frames in [0, 1] of its own pipeline from the same noise."""
    monkeypatch.setattr(pipeline_wan_vace, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    model.pipeline.set_progress_bar_config(disable=True)
    found: np.ndarray = model.pipeline(
        request.text.prompt,
        negative_prompt="",
        video=pictures,
        height=SIDE,
        width=SIDE,
        num_frames=len(pictures),
        num_inference_steps=3,
        guidance_scale=request.sampling.guidance_scale,
        latents=noise.transpose(0, 1)[None],
        **{"output_type": "np"} | options,
    ).frames[0]
    return found


@pytest.fixture(scope="module")
def walker() -> PassesManifest:
    """A skeleton whose points move."""
    points = np.random.default_rng(0).uniform(4, SIDE - 8, (18, 2))
    poses = tuple(tuple((x + n, y, 2.0) for x, y in points.tolist()) for n in range(5))
    return PassesManifest(SIDE, SIDE, 20.0, tuple(range(1, 6)), 1.0, 2.0, people=(PersonEntry(1, poses),))


@pytest.mark.parametrize("sees", ["openpose", "depth_openpose"])
def test_it_sees_a_skeleton_by_itself_or_in_the_depth(name, model, walker, monkeypatch, sees):
    """Which its name says; diffusers makes the same clip of the pictures that are exported."""
    count = len(walker.frames)
    check_model(f"{name}|sees={sees}", SIDE, SIDE)
    seeing = load(f"{name}|sees={sees}", CPU)
    assert seeing.controls == (sees,)
    # so strong that it shows
    request = _request(count, manifest=walker, preset="per_frame", guidance_scale=4.0, control_scale=8.0)
    noise = torch.randn(count_rows(count, 4), 16, 4, 4, generator=torch.Generator().manual_seed(3))
    passes = PASSES.select(range(count))

    def draw(each: ImageModel) -> torch.Tensor:
        started = ShotPipeline(each, request, passes, RunContext(), noise=spread_rows(noise, count, 4))
        return started.latents()[sorted(set(list_first_frames(count, 4)))]

    ours, pictures = draw(seeing), list(map(Image.fromarray, MAPS[sees](passes, walker)))
    options: dict[str, Any] = dict(conditioning_scale=8.0, output_type="latent")
    theirs = _call_diffusers(seeing, request, pictures, noise, monkeypatch, **options)
    assert _difference(ours, draw(model)) > 20 * _difference(ours, torch.as_tensor(theirs).transpose(0, 1))


def test_what_it_does_not_see_is_refused(name, walker):
    """Before anything is loaded and when it is; a shot without a skeleton when it begins."""
    for wrong, said in (
        (f"{name}|sees=normal", "does not see 'normal'; use sees= with depth, depth_openpose or openpose"),
        (f"{name}|sees=", "names nothing"),
        (f"{name}|sees=depth|sees=openpose", "several pictures that it sees"),
        ("starter|sees=depth", "Stable Diffusion or SDXL cannot choose what it sees"),
    ):
        for ask in (lambda one: check_model(one, SIDE, SIDE), lambda one: load(one, CPU)):
            with pytest.raises(ShotError, match=said):
                ask(wrong)
    bare = msgspec.structs.replace(walker, people=())
    with pytest.raises(ShotError, match="hold no skeleton"):
        _make(load(f"{name}|sees=openpose", CPU), _request(5, manifest=bare, preset="per_frame"))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_two_transformers_take_turns_as_in_diffusers(tmp_path, model, monkeypatch, guidance):
    """The second below the boundary; a clip is neither the first's nor the second's alone."""
    write_wan_vace(tmp_path, boundary=0.8)
    name, count = str(tmp_path / "base"), 5
    check_model(name, SIDE, SIDE, Sampling(steps=3))
    pair = load(name, CPU)
    noise = torch.randn(count_rows(count, 4), 16, 4, 4, generator=torch.Generator().manual_seed(3))
    request = _request(count, preset="per_frame", guidance_scale=guidance)
    ours = _make(pair, request, noise=spread_rows(noise, count, 4))
    monkeypatch.setattr(pipeline_wan_vace, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    pair.pipeline.set_progress_bar_config(disable=True)
    theirs = pair.pipeline(
        request.text.prompt,
        negative_prompt="",
        video=[Image.fromarray(np.uint8(np.round(depth * 255))).convert("RGB") for depth in PASSES.depth[:count]],
        height=SIDE,
        width=SIDE,
        num_frames=count,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=noise.transpose(0, 1)[None],
        output_type="np",
    ).frames[0]
    assert ours[0].std() > 5 and _difference(ours, np.round(theirs * 255)) <= 1
    for part in ("transformer", "transformer_2"):
        pair.pipeline.register_modules(transformer=getattr(load(name, CPU).pipeline, part), transformer_2=None)
        assert _difference(_make(pair, request, noise=spread_rows(noise, count, 4)), ours) > 1
    need = estimate_need(list_networks(find_model(name)), SIDE, SIDE, torch.float32)
    assert need.weights["transformer_2"] == need.weights["transformer"]


def test_a_file_does_not_stand_for_two_transformers(tmp_path, root):
    write_wan_vace(tmp_path, boundary=0.8)
    file = tmp_path / "one.safetensors"
    shutil.copy(next((root / "base" / "transformer").glob("*.safetensors")), file)
    with pytest.raises(ShotError, match="has two transformers, and the file is one"):
        check_model(f"{file}|parts={tmp_path / 'base'}", SIDE, SIDE)


def test_texts_are_read_as_the_model_knows_them(model, monkeypatch):
    """As diffusers' pipeline encodes them, spaces and signs included; one that is too long is cut, which is said."""
    monkeypatch.setattr(pipeline_wan_vace, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    for text in ("a  man \n in red", "fish &amp; chips", ""):
        theirs, _ = model.pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=512)
        ours = model.encode_text(text, "", False, SIDE, SIDE)
        assert torch.allclose(ours.embeddings, theirs, atol=1e-6) and not ours.warnings
    assert clean_text(" fish &amp;amp;\tchips ") == "fish & chips"
    assert "its end was left out" in model.encode_text("a " * 600, "", False, SIDE, SIDE).warnings[0]


def test_each_frame_of_a_row_begins_alike(model):
    """And rows begin with noise of their own, whatever the preset says of noise."""
    found: list[torch.Tensor] = []
    context = RunContext(after_step=lambda step, time, latents, predictor: found.append(latents) or latents)
    _make(model, _request(preset="per_frame"), context)
    first = found[0]
    assert torch.equal(first[1], first[4]) and not torch.equal(first[0], first[1]) and not torch.equal(first[4], first[5])


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_looks_are_kept_and_shots_resumed(model, scheduler):
    """A stopped shot goes on to the same bits; frames share a texture; a look is worn by a shot with another seed."""
    looks: list[Look] = []
    kept: list[Checkpoint] = []
    request, context = _request(scheduler=scheduler), RunContext(save=kept.append, keep_look=looks.append)
    frames = _make(model, request, context)
    assert [sentence for sentence in context.warnings if "key frames and the shared background are not used" in sentence]
    assert np.array_equal(frames, _make(model, request, RunContext(resume=lambda: kept[1])))
    unfused = _make(model, _request(scheduler=scheduler, preset="per_frame"))
    assert samples.measure_drift(PASSES, frames) < 0.3 * samples.measure_drift(PASSES, unfused)
    worn, fresh = (
        _make(model, _request(scheduler=scheduler, seed=9), **more) for more in (dict(look=looks[-1], same_settings=False), {})
    )
    shown = PASSES.mask[:6] > 0
    assert np.abs(worn.astype(float) - frames)[shown].mean() < 0.5 * np.abs(fresh.astype(float) - frames)[shown].mean()
    again = dict(ShotPipeline(model, request, PASSES.select(range(6)), RunContext(), look=looks[-1]).iter_frames({0}, {0}))
    assert set(again) >= {1, 2, 3, 4, 5}


def test_surroundings_have_a_prompt_and_frames_strengths_of_their_own(model):
    """What is said beside the character, and how strongly the depth works in each frame."""
    request = _request(preset="per_frame", steps=2)
    plain = _make_latents(model, request)
    for changed in (
        with_schedule(request, make_schedule([], [1.0] * 5 + [0.2])),
        _request(preset="per_frame", steps=2, background_prompt="snow"),
        _request(preset="per_frame", steps=2, control_scale=0.0),
        _request(preset="per_frame", steps=2, control_scale=0.5),
        _request(preset="per_frame", steps=2, prompt="a dog"),
    ):
        assert _difference(_make_latents(model, changed), plain) > 1e-3
    # the same strength said of each frame is that of all
    alike = with_schedule(request, make_schedule([], [0.5] * 6))
    assert (
        _difference(_make_latents(model, alike), _make_latents(model, _request(preset="per_frame", steps=2, control_scale=0.5)))
        < 1e-4
    )


def test_windows_keep_rows_whole():
    """They begin where rows do, cover all frames, and only the last is shorter."""
    for count in (82, 90, 100, 162, 163, 240, 1001):
        windows = plan_windows(range(count), 81, 4)
        sums = np.zeros(count)
        for window in windows:
            assert window.frames[0] % 4 == 0 and window.frames == tuple(range(window.frames[0], window.frames[-1] + 1))
            sums[list(window.frames)] += window.weights
        assert np.allclose(sums, 1) and {len(window.frames) for window in windows[:-1]} == {81}
        assert 77 < len(windows[-1].frames) <= 81


def test_long_shots_wear_their_look(model, monkeypatch):
    """In windows that overlap: of a still scene from one noise frames differ less where they meet than without overlap, and all
    wear one texture."""
    monkeypatch.setattr("latentman.backend.models.wan_vace.TRAINED_FRAMES", 9)
    still = PASSES.select([0] * 14)
    request = _request(14, preset="per_frame")
    noise = spread_rows(torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0)).expand(5, -1, -1, -1), 14, 4)

    def measure_changes() -> np.ndarray:
        latents = ShotPipeline(model, request, still, RunContext(), noise=noise).latents().numpy()
        return np.abs(np.diff(latents, axis=0)).mean((1, 2, 3))

    assert [window.frames[0] for window in plan_windows(range(14), 9, 4)] == [0, 8]
    smooth = measure_changes()
    monkeypatch.setattr(denoising, "plan_windows", _cut)
    # a window's first frame is of another kind than those behind it
    assert 0 < smooth[7] < 0.6 * measure_changes()[7]
    monkeypatch.undo()
    monkeypatch.setattr("latentman.backend.models.wan_vace.TRAINED_FRAMES", 9)
    long = _make(model, _request(14, steps=2))
    assert len(long) == 14 and samples.measure_drift(PASSES, long) < 0.3 * samples.measure_drift(
        PASSES, _make(model, _request(14, steps=2, preset="per_frame"))
    )


def _cut(frames: Any, length: int, row_frames: int) -> list[Window]:
    return [Window(tuple(part), (1.0,) * len(part)) for part in (frames[:8], frames[8:])]


@pytest.fixture(scope="module")
def look(model) -> Look:
    """One that another shot's frames agreed on."""
    looks: list[Look] = []
    _make(model, _request(seed=3), RunContext(keep_look=looks.append))
    return looks[-1]


def _show(request: ShotRequest, how: str) -> ShotRequest:
    """Frames with a look that they are only shown: nothing of it is put into them."""
    return _with_method(request, fusion=Fusion(start=1.0, until=1.0, finish=False, light=0.0, show_look=how))


@pytest.mark.parametrize(
    ("how", "count", "guidance"), [("view", 6, 4.0), ("surface", 6, 1.0), ("surface", 9, 1.0), ("both", 5, 1.0), ("both", 1, 4.0)]
)
def test_looks_are_shown_as_diffusers_shows_them(model, look, monkeypatch, how, count, guidance):
    """A view of the character is diffusers' reference picture, known surface what its mask keeps; nearly all of what it
    changes is what diffusers makes of it."""
    request = _show(_request(count, guidance_scale=guidance), how)
    noise = torch.randn(count_rows(count, 4), 16, 4, 4, generator=torch.Generator().manual_seed(3))
    spread, passes = spread_rows(noise, count, 4), PASSES.select(range(count))
    ours, plain = (
        ShotPipeline(model, one, passes, RunContext(), noise=spread, look=look, same_settings=False).latents()
        for one in (request, _show(request, "nothing"))
    )
    whole = (len(noise) - 1) * 4 + 1
    frames = [min(n, count - 1) for n in range(whole)]
    video = torch.from_numpy(PASSES.depth[frames])[:, None].expand(-1, 3, -1, -1).clone()
    made = torch.ones(whole, 1, SIDE, SIDE)
    if how != "view":
        texture = look.worn_texture
        for n, frame in enumerate(frames):
            # by other means: pixels three within the outline, each with the colour of the cells around its point
            inside = distance_transform_edt(PASSES.mask[frame] > 0) >= 3.5
            for y, x in zip(*np.nonzero(inside), strict=True):
                point = PASSES.rest_position[frame, y, x][None]
                cells, weights = find_corners(point, np.array([PASSES.surface_index[frame, y, x]], np.int64), texture.side)
                found = (texture.get_values(torch.from_numpy(cells))[0] * torch.from_numpy(weights[0])[:, None]).sum(0)
                if found[3] > 1e-3:
                    made[n, :, y, x] = 0
                    video[n, :, y, x] = ((found[:3] / found[3]).clamp(-1, 1) + 1) / 2
        assert 0.02 < float((1 - made).mean()) < 0.6
    view = draw_view(look, (SIDE, SIDE), CPU)
    assert view is not None
    picture = Image.fromarray(np.uint8(np.round((view.permute(1, 2, 0).numpy() + 1) * 127.5)))
    monkeypatch.setattr(pipeline_wan_vace, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    model.pipeline.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"latents": noise.transpose(0, 1)[None]}
    if how != "surface":
        # diffusers lets a reference's own latents be guessed from noise; what they are is known
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
        clean = model.encode(shown)
        own = torch.randn(clean.shape, generator=torch.Generator().manual_seed(request.sampling.seed + 7919))
        model.pipeline.scheduler.set_timesteps(3)
        times = [*(model.pipeline.scheduler.timesteps / 1000).tolist(), 0.0]
        rows = [((1 - time) * clean + time * own).transpose(0, 1)[None] for time in times]
        options["latents"] = torch.cat([rows[0], options["latents"]], 2)
        options["reference_images"] = [picture]
        options["callback_on_step_end"] = lambda pipeline, step, time, given: {
            "latents": torch.cat([rows[step + 1], given["latents"][:, :, 1:]], 2)
        }
    theirs = model.pipeline(
        request.text.prompt,
        negative_prompt="",
        video=video[None],
        mask=made.expand(-1, 3, -1, -1)[None],
        height=SIDE,
        width=SIDE,
        num_frames=whole,
        num_inference_steps=3,
        guidance_scale=guidance,
        output_type="latent",
        **options,
    ).frames
    # references come first, and stay among latents
    theirs = spread_rows(theirs[0, :, -len(noise) :].transpose(0, 1), count, 4)
    # a picture of 8 bits is not quite the view
    assert _difference(ours, theirs) < max(0.05 * _difference(theirs, plain), 1e-4) and _difference(theirs, plain) > 0.01


def test_a_kept_look_is_shown_as_is_asked(model, look, monkeypatch):
    """Each way changes the clip; without a look, or with none of it to be shown, nothing does. Stopped shots go on to the same
    bits, in windows, and with strengths of each frame's own."""

    def make(how: str, context: RunContext | None = None, **more: Any) -> torch.Tensor:
        request = _show(_request(14, seed=9), how)
        if more.pop("varying", False):
            request = with_schedule(request, make_schedule([], [1.0] * 13 + [0.2]))
        options = dict(look=look, same_settings=False) | more
        return ShotPipeline(model, request, PASSES, context or RunContext(), **options).latents()

    found = {how: make(how) for how in ("nothing", "view", "surface", "both")}
    for (one, a), (other, b) in itertools.combinations(found.items(), 2):
        assert _difference(a, b) > 0.01, (one, other)
    plain = [make(how, look=None) for how in ("nothing", "both")]
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[0], found["nothing"])
    monkeypatch.setattr("latentman.backend.models.wan_vace.TRAINED_FRAMES", 9)
    kept: list[Checkpoint] = []
    whole = make("both", RunContext(save=kept.append), varying=True)
    assert torch.equal(whole, make("both", RunContext(resume=lambda: kept[1]), varying=True))
    assert _difference(whole, make("both")) > 0.01


def test_a_look_of_another_size_gives_a_view(model, look):
    """The character fills the view, on white; where the look's first frame shows none, there is no view."""
    for size in ((48, 32), (32, 64)):
        view = draw_view(look, size, CPU)
        assert view is not None and view.shape == (3, *size)
        edge = torch.cat([view[:, 0], view[:, -1], view[:, :, 0], view[:, :, -1]], 1)
        assert bool((edge == 1).all(0).float().mean() > 0.5)
        covered = (view != 1).any(0)
        rows, columns = (torch.nonzero(covered.any(axis)).flatten() for axis in (1, 0))
        filled = max((rows[-1] - rows[0] + 1) / size[0], (columns[-1] - columns[0] + 1) / size[1])
        assert 0.75 < float(filled) <= 1
    passes = look.anchor.passes
    empty = replace(look, anchor=replace(look.anchor, passes=replace(passes, mask=np.zeros_like(passes.mask))))
    assert draw_view(empty, (SIDE, SIDE), CPU) is None
    assert _make(model, _request(2), look=empty, same_settings=False).std() > 5


def test_a_view_shows_what_the_shot_calls_its_own(model, look):
    """Whatever number the character has in the shot, and nothing of others with its number."""
    shown = look.anchor.passes
    numbered = replace(look, surfaces={1: "Hero"}, anchor=replace(look.anchor, passes=replace(shown, object_index=None)))
    view = draw_view(numbered, (SIDE, SIDE), CPU)
    assert view is not None and bool((view != 1).any())
    renumbered = numbered.renumber({2: "Hero", 1: "Other"})
    same = draw_view(renumbered, (SIDE, SIDE), CPU)
    assert same is not None and torch.equal(same, view)
    away = numbered.renumber({1: "Other"})
    assert draw_view(away, (SIDE, SIDE), CPU) is None


def test_a_costume_is_viewed_as_the_shot_shows_it(model, look):
    """It has no key frames: the frame is taken that shows most of the character, and without what the costume does not know."""
    pixel = {name: np.zeros((1, 1, 1, *array.shape[3:]), array.dtype) for name, array in PASSES.arrays().items()}
    worn = replace(look, anchor=replace(look.anchor, passes=FramePasses(**pixel)), filled=None, surroundings=None, keyframes=())
    assert draw_view(worn, (SIDE, SIDE), CPU) is None
    there = np.arange(6)[:, None, None] > 2
    late = replace(PASSES.select(range(6)), mask=PASSES.mask[:6] * there, object_index=(PASSES.mask[:6] * there).astype(np.uint16))
    view = draw_view(worn, (SIDE, SIDE), CPU, late)
    assert view is not None and 0.1 < float((view != 1).any(0).float().mean()) < 1
    beside = late.object_index.copy()
    beside[:, :4, :4] = 9
    assert torch.equal(draw_view(worn, (SIDE, SIDE), CPU, replace(late, object_index=beside)), view)
    made = {
        how: ShotPipeline(model, _show(_request(6, seed=9), how), late, RunContext(), look=worn, same_settings=False).latents()
        for how in ("nothing", "view")
    }
    assert _difference(made["nothing"], made["view"]) > 0.01


def test_a_clip_can_be_cancelled(model):
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Interrupted):
        _make(model, _request(preset="per_frame"), RunContext(should_stop=stop))


def test_steps_lie_on_the_straight_line(model):
    """Of both schedulers, which end at the picture when told the way there."""
    clean, noise = torch.randn(2, 2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    for scheduler in (model.make_scheduler(4), model.make_scheduler(4, "euler")):
        line = find_noise_line(scheduler)
        assert isinstance(line, FlowLine)
        moved = noise
        for step, time in enumerate(scheduler.timesteps):
            assert torch.allclose(line.predict_clean(line.add_noise(clean, noise, step), noise - clean, step), clean, atol=1e-5)
            moved = scheduler.step(noise - clean, time, moved).prev_sample
        assert torch.allclose(moved, clean, atol=1e-4)


def test_memory_is_planned_for_whole_clips(name):
    """All of a window's frames are counted, and both passes of guidance go one after the other."""
    need = estimate_need(list_networks(find_model(name)), 64, 64, torch.float32)
    assert need.together == 81 and not need.is_guided
    # pictures of all frames are there at once
    assert need.decoding > 81 * 3 * 64 * 64 * 4
    with pytest.raises(ShotError, match=r"the 81 frames that it denoises together .* a model that makes frames one by one"):
        plan_memory(need, need.resident, gpu=False)


#: columns of the table in ``docs/models.md`` -> the tests that they stand for
COLUMNS = {
    "recognised": test_inspect_says_what_it_is,
    "loads": test_a_folder_is_a_model_of_clips,
    "equals diffusers' own": test_clips_are_those_of_diffusers,
    "surface presets": test_looks_are_kept_and_shots_resumed,
    "kept look": test_looks_are_kept_and_shots_resumed,
    "resume": test_looks_are_kept_and_shots_resumed,
    "background prompt": test_surroundings_have_a_prompt_and_frames_strengths_of_their_own,
    "long shots": test_long_shots_wear_their_look,
}
