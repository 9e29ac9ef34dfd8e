"""Wan Animate, a family of clips that moves a character that it is shown: a tiny random model of the real classes, compared with
diffusers' own pipeline and taken through the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from diffusers.pipelines.wan import pipeline_wan_animate
from PIL import Image

from latentman.backend.__main__ import main
from latentman.backend.maps import draw_openpose
from latentman.backend.models.clip_rows import count_rows, spread_rows
from latentman.backend.models.families import WanAnimate
from latentman.backend.models.flow_family import read_statistics
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.memory_need import estimate_need
from latentman.backend.models.network_shapes import list_networks
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.registry import find_model
from latentman.backend.models.wan_animate import pack_words, unpack_words
from latentman.backend.tasks.shot import check_shot
from latentman.backend.video.look import Look
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.backend.video.run_context import Checkpoint
from latentman.backend.video.shown_look import draw_view
from latentman.shared.manifest import PassesManifest, PersonEntry
from latentman.shared.shot import Fusion, Sampling, ShotError, ShotRequest
from tests import samples
from tools.tiny_transformers import write_wan_animate, write_wan_vace

CPU = torch.device("cpu")
SIDE = 32
PASSES = samples.passes(14, SIDE, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("animate")
    write_wan_animate(folder)
    return folder


@pytest.fixture(scope="module")
def name(root: Path) -> str:
    return str(root / "base")


@pytest.fixture(scope="module")
def model(name: str) -> ImageModel:
    return load(name, CPU)


@pytest.fixture(scope="module")
def look(tmp_path_factory) -> Look:
    """One that another model's shot agreed on."""
    folder = tmp_path_factory.mktemp("vace")
    write_wan_vace(folder)
    looks: list[Look] = []
    _make(load(str(folder / "base"), CPU), _request(6, seed=3), RunContext(keep_look=looks.append))
    return looks[-1]


def _request(count: int = 6, **changes: Any) -> ShotRequest:
    """With a skeleton whose points move as the disc does."""
    points = np.random.default_rng(0).uniform(4, 20, (18, 2))
    poses = tuple(tuple((x + n, y, 2.0) for x, y in points.tolist()) for n in range(count))
    manifest = PassesManifest(SIDE, SIDE, 20.0, tuple(range(1, count + 1)), 1.0, 2.0, people=(PersonEntry(1, poses),))
    return samples.request(count, SIDE, manifest=manifest, **(dict(steps=3, guidance_scale=1.0, preset="surface") | changes))


def _make(model: ImageModel, request: ShotRequest, context: RunContext | None = None, **options: Any) -> np.ndarray:
    passes = PASSES.select(range(len(request.frames)))
    return np.stack(list(ShotPipeline(model, request, passes, context or RunContext(), **options).frames()))


def _show(request: ShotRequest, how: str) -> ShotRequest:
    """Frames with a look that they are only shown: nothing of it is put into them."""
    shown = Fusion(start=1.0, until=1.0, finish=False, light=0.0, show_look=how)
    return msgspec.structs.replace(request, method=msgspec.structs.replace(request.get_method(), fusion=shown))


def _make_latents(model: ImageModel, request: ShotRequest, look: Look, **options: Any) -> torch.Tensor:
    passes = PASSES.select(range(len(request.frames)))
    return ShotPipeline(model, request, passes, RunContext(), look=look, same_settings=False, **options).latents()


def _difference(one: Any, other: Any) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


def test_a_folder_is_a_model_of_clips(name, model):
    assert isinstance(model.family, WanAnimate) and model.family.kind == "clip" and model.controls == ("openpose",)
    assert (model.row_frames, model.latent_factor, model.size_multiple, model.latent_channels) == (4, 8, 16, 16)
    check_model(name, SIDE, SIDE, Sampling(steps=3))
    profile = find_profile(name)
    assert (profile.steps, profile.guidance_scale, profile.scheduler, profile.family) == (20, 1.0, "unipc", "wan_animate")
    assert not model.warnings


def test_inspect_says_what_it_is(name, capsys):
    assert main(["models", "inspect", name]) == 0
    said = capsys.readouterr().out
    assert "a diffusers folder of Wan Animate (WanAnimatePipeline" in said and "image_encoder" in said
    assert "sees the picture for openpose itself" in said


def test_what_does_not_go_together_is_refused(name, model, root, tmp_path, look):
    """In a sentence, before passes are rendered where that is known."""
    other = shutil.copytree(root / "base", tmp_path / "other")
    config = json.loads((other / "transformer" / "config.json").read_text(encoding="utf-8"))
    (other / "transformer" / "config.json").write_text(json.dumps(config | {"in_channels": 16}), encoding="utf-8")
    blind = shutil.copytree(root / "base", tmp_path / "blind")
    index = json.loads((blind / "model_index.json").read_text(encoding="utf-8"))
    (blind / "model_index.json").write_text(json.dumps(index | {"image_encoder": [None, None]}), encoding="utf-8")
    for wrong, said in (
        (f"{name}|depth={name}", "sees the skeleton itself; leave the ControlNet out"),
        (f"{name}|lora=a.safetensors", "no file or folder"),
        (str(other), "takes 16 channels, .* choose Wan 2.2 Animate"),
        (str(blind), "without its picture encoder"),
    ):
        with pytest.raises(ShotError, match=said):
            check_model(wrong, SIDE, SIDE)
    check_shot(_request(model=name))
    for request in (
        _request(model=name, preset="per_frame"),
        _request(model=name, control_scale=0.0),
        _request(model=name, control_end=0.6),
        _request(model=name, control_start=0.2),
        _show(_request(model=name), "nothing"),
        _show(_request(model=name), "surface"),
    ):
        with pytest.raises(ShotError, match="moves a character that it is shown"):
            check_shot(request)
    with pytest.raises(ShotError, match="moves a character that it is shown"):
        _make(model, _request())
    with pytest.raises(ShotError, match="render them again"):
        _make(model, msgspec.structs.replace(_request(), manifest=None), look=look, same_settings=False)


@pytest.mark.parametrize(("how", "count", "guidance"), [("view", 6, 1.0), ("view", 5, 4.0), ("both", 6, 1.0), ("both", 9, 4.0)])
def test_clips_are_those_of_diffusers(model, look, monkeypatch, how, count, guidance):
    """From the same noise: the view is diffusers' picture of the character, the skeleton its poses, known surface what it is not to
    replace, and nothing is said of faces. Nearly all that the view changes is what diffusers makes of it."""
    request = _show(_request(count, guidance_scale=guidance), how)
    noise = torch.randn(count_rows(count, 4), 16, 4, 4, generator=torch.Generator().manual_seed(3))
    ours = _make_latents(model, request, look, noise=spread_rows(noise, count, 4))
    whole = (len(noise) - 1) * 4 + 1
    frames = [min(n, count - 1) for n in range(whole)]
    poses = [Image.fromarray(picture) for picture in draw_openpose(PASSES.select(range(count)), request.manifest)[frames]]
    view = draw_view(look, (SIDE, SIDE), CPU)
    assert view is not None
    picture = Image.fromarray(np.uint8(np.round((view.permute(1, 2, 0).numpy() + 1) * 127.5)))
    pipeline = model.pipeline
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(pipeline_wan_animate, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False)
    options: dict[str, Any] = {}
    if how == "both":
        known = _draw_known(model, request, look, count)
        shown = [
            Image.fromarray(np.uint8(np.round((known.pictures[n] * known.known[n] + 1).permute(1, 2, 0).numpy() * 127.5)))
            for n in frames
        ]
        masks = [Image.fromarray(np.uint8(255 * (1 - known.known[n, 0].numpy()))) for n in frames]
        options |= {"mode": "replace", "background_video": shown, "mask_video": masks}
    # the row of the view is what it shows, and no guess
    clean = model.encode(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1)
    own = torch.randn(clean.shape, generator=torch.Generator().manual_seed(request.sampling.seed + 7919))
    pipeline.scheduler.set_timesteps(3)
    times = [*(pipeline.scheduler.timesteps / 1000).tolist(), 0.0]
    rows = [((1 - time) * clean + time * own).transpose(0, 1)[None] for time in times]

    def pin(pipeline: Any, step: int, time: Any, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": torch.cat([rows[step + 1], given["latents"][:, :, 1:]], 2)}

    side = model.denoiser.config.motion_encoder_size
    theirs = pipeline(
        image=picture,
        pose_video=poses,
        face_video=[Image.new("RGB", (side, side))] * whole,
        prompt=request.text.prompt,
        negative_prompt="",
        height=SIDE,
        width=SIDE,
        segment_frame_length=whole,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=torch.cat([rows[0], noise.transpose(0, 1)[None]], 2),
        callback_on_step_end=pin,
        output_type="latent",
        max_sequence_length=512,
        **options,
    ).frames
    mean, spread = read_statistics(pipeline.vae, theirs)
    expected = spread_rows((theirs[0, :, 1:].transpose(0, 1) - mean) / spread, count, 4)
    other = _make_latents(model, request, look, noise=spread_rows(-noise, count, 4))
    assert _difference(ours, expected) < 0.02 * _difference(ours, other) and _difference(ours, other) > 0.1


def _draw_known(model: ImageModel, request: ShotRequest, look: Look, count: int) -> Any:
    """What the shot's frames know of the surface, as the family is given it."""
    found: list[Any] = []
    prepare = type(model.family).prepare_controls
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(model.family),
            "prepare_controls",
            lambda self, model, pictures, surface=None: found.append(surface) or prepare(self, model, pictures, surface),
        )
        _make_latents(model, request, look)
    return found[0]


@pytest.mark.parametrize("count", [1, 2])
def test_a_frame_alone_is_a_clip(model, look, count):
    assert _make(model, _request(count), look=look, same_settings=False).std() > 3


def test_looks_are_kept_and_shots_resumed(model, look):
    """Frames share the look's texture; a stopped shot goes on to the same bits; another seed wears the same."""
    kept: list[Checkpoint] = []
    request = _request()
    options: dict[str, Any] = dict(look=look, same_settings=False)
    frames = _make(model, request, RunContext(save=kept.append), **options)
    assert np.array_equal(frames, _make(model, request, RunContext(resume=lambda: kept[1]), **options))
    other = _make(model, _request(seed=9), **options)
    shown = PASSES.mask[:6] > 0
    assert np.abs(other.astype(float) - frames)[shown].mean() < 0.5 * np.abs(other.astype(float) - frames)[~shown].mean()


def test_pose_view_and_words_count(model, look):
    """Each changes the clip, and so does what is said of the surroundings."""
    request = _show(_request(), "view")
    plain = _make_latents(model, request, look)
    still = msgspec.structs.replace(request.manifest, people=(PersonEntry(1, (request.manifest.people[0].keypoints[0],) * 6),))
    for changed in (
        msgspec.structs.replace(request, manifest=still),
        _show(_request(prompt="a dog"), "view"),
        _show(_request(background_prompt="snow"), "view"),
    ):
        assert _difference(_make_latents(model, changed, look), plain) > 1e-4
    forward = model.denoiser.forward
    for part in ("encoder_hidden_states_image", "hidden_states"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model.denoiser, "forward", partial(_forward_without, forward, part))
            assert _difference(_make_latents(model, request, look), plain) > 1e-4, part


def _forward_without(forward: Any, part: str, **given: torch.Tensor) -> Any:
    """A network's call that sees nothing of the view: what the picture encoder says of it, or its latents."""
    seen = given[part].clone()
    if part == "hidden_states":
        seen[:, 20:, 0] = 0
    else:
        seen[:] = 0
    return forward(**{**given, part: seen})


def test_long_shots_wear_their_look(model, look, monkeypatch):
    monkeypatch.setattr("latentman.backend.models.wan_animate.TRAINED_FRAMES", 9)
    made = _make(model, _request(14, steps=2), look=look, same_settings=False)
    apart = _make_latents(model, _show(_request(14, steps=2), "view"), look)
    pictures = ((model.decode(apart).clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert len(made) == 14 and samples.measure_drift(PASSES, made) < 0.5 * samples.measure_drift(PASSES, pictures)


@pytest.mark.parametrize("size", [(4, 4), (3, 7)])
def test_words_lie_beside_latents(size):
    words, latents = torch.randn(5, 8), torch.zeros(1, 16, *size)
    packed = pack_words(words, latents)
    assert packed.shape[2:] == size and torch.equal(unpack_words(packed[0], 5, 8), words)


def test_memory_is_planned_for_whole_clips(name):
    need = estimate_need(list_networks(find_model(name)), 64, 64, torch.float32)
    assert need.together == 77 and not need.is_guided and "image_encoder" in dict(need.weights)


#: columns of the table in ``docs/models.md`` -> the tests that they stand for
COLUMNS = {
    "recognised": test_inspect_says_what_it_is,
    "loads": test_a_folder_is_a_model_of_clips,
    "equals diffusers' own": test_clips_are_those_of_diffusers,
    "surface presets": test_looks_are_kept_and_shots_resumed,
    "kept look": test_looks_are_kept_and_shots_resumed,
    "resume": test_looks_are_kept_and_shots_resumed,
    "background prompt": test_pose_view_and_words_count,
    "long shots": test_long_shots_wear_their_look,
}
