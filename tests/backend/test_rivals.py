"""Rivals are what they are called: their frames are those of diffusers' own pipelines."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    AnimateDiffControlNetPipeline,
    MotionAdapter,
    StableDiffusionControlNetImg2ImgPipeline,
)
from diffusers.models import UNetMotionModel  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.metrics.rivals.img2img import render_grey  # noqa: E402
from latentman.backend.metrics.rivals.making import describe_rival, make_frames  # noqa: E402
from latentman.backend.metrics.rivals.settings import AnimateDiff, FixedSeedImg2Img, TextToVideoZero  # noqa: E402
from latentman.backend.metrics.rivals.text_to_video_zero import choose_steps, move_latents  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.motion_adapters import check_motion_module  # noqa: E402
from latentman.backend.video.run_context import RunContext  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.shot import METHODS, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.tiny import write_motion_module  # noqa: E402

FRAMES, SIDE, SEED, GUIDANCE = 4, 64, 5, 4.0
PROMPT, NEGATIVE = "a man in a red shirt", "a hat"


@pytest.fixture(scope="module")
def model(tiny):
    return load(tiny, torch.device("cpu"))


@pytest.fixture(scope="module")
def passes():
    """A disc whose normals are those of a ball."""
    found = samples.passes(FRAMES, SIDE, 4)
    normal = np.zeros((*found.mask.shape, 3), np.float16)
    inside = found.mask > 0
    normal[inside] = np.concatenate([found.rest_position[inside][:, :2] * 7, np.full((inside.sum(), 1), 0.5)], 1)
    return replace(found, normal=normal)


@pytest.fixture(scope="module")
def motion_module(tmp_path_factory):
    """A tiny random motion module that does something."""
    folder = tmp_path_factory.mktemp("motion") / "module"
    write_motion_module(folder, frames=6)
    return folder


def _request(steps, count=FRAMES, **changes):
    settings = dict(guidance_scale=GUIDANCE, prompt=PROMPT, negative_prompt=NEGATIVE)
    return samples.request(count, SIDE, method=METHODS["per_frame"], steps=steps, seed=SEED, **(settings | changes))


def _make(rival, model, passes, steps, **changes):
    request = model.complete_request(_request(steps, passes.frame_count, **changes), (SIDE, SIDE))
    return make_frames(rival, model, request, passes, RunContext())


def _difference(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def _to_levels(pictures):
    return (np.asarray(pictures) * 255).round().astype(np.uint8)


def _run_theirs(pipeline, steps, **more):
    """What a pipeline of diffusers makes of the same words, seed and guidance."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    return pipeline(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=generator, **more
    )


class _WithControls(torch.nn.Module):
    """A UNet and its ControlNet as diffusers' pipeline for Text2Video-Zero, which knows none, calls a UNet."""

    def __init__(self, unet, controlnet, pictures):
        super().__init__()
        self.unet, self.controlnet, self.pictures = unet, controlnet, pictures

    @property
    def config(self):
        return self.unet.config

    @property
    def device(self):
        return self.unet.device

    @property
    def dtype(self):
        return self.unet.dtype

    @property
    def attn_processors(self):
        return self.unet.attn_processors

    def set_attn_processor(self, processor):
        self.unet.set_attn_processor(dict(processor) if isinstance(processor, dict) else processor)
        if not isinstance(processor, dict):
            self.controlnet.set_attn_processor(processor)

    def forward(self, latents, timestep, encoder_hidden_states, cross_attention_kwargs=None):
        shown = torch.cat([self.pictures[: len(latents) // 2]] * 2)
        down, middle = self.controlnet(latents, timestep, encoder_hidden_states, shown, return_dict=False)
        return self.unet(
            latents, timestep, encoder_hidden_states, down_block_additional_residuals=down, mid_block_additional_residual=middle
        )


@pytest.mark.parametrize(("steps", "noisier", "cleaner", "chosen"), [(10, 801, 501, (1, 4)), (4, 941, 881, (0, 1))])
def test_text2video_zero_is_diffusers(model, passes, steps, noisier, cleaner, chosen):
    zero = pytest.importorskip("diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero")
    rival = TextToVideoZero(motion=(40.0, -25.0), noisier=noisier, cleaner=cleaner)
    own = _make(rival, model, passes, steps)
    parts = model.pipeline
    before = dict(model.controlnet.attn_processors)
    wrapped = _WithControls(model.unet, model.controlnet, torch.from_numpy(passes.depth)[:, None].expand(-1, 3, -1, -1))
    theirs = zero.TextToVideoZeroPipeline(
        parts.vae, parts.text_encoder, parts.tokenizer, wrapped, model.make_scheduler(steps), None, None, False
    )
    try:
        made = _run_theirs(
            theirs,
            steps,
            video_length=FRAMES,
            height=SIDE,
            width=SIDE,
            motion_field_strength_x=40.0,
            motion_field_strength_y=-25.0,
            t0=steps - 1 - chosen[1],
            t1=steps - 1 - chosen[0],
        ).images
    finally:
        model.controlnet.set_attn_processor(before)
    assert _difference(own, _to_levels(made)) <= 1
    assert _difference(own[0], own[2]) > 20, "the frames are not one"
    still = _make(TextToVideoZero((0.0, 0.0), noisier, cleaner), model, passes, steps)
    assert _difference(own[0], still[0]) <= 1 and _difference(own[2], still[2]) > 5, "the motion is seen"


def test_the_way_back_begins_where_diffusers_has_it():
    zero = TextToVideoZero()
    # 50 leading steps: diffusers' t1 and t0 are 47 and 44, counted from the end
    assert choose_steps(zero, torch.arange(981, 0, -20), 1000) == (49 - 47, 49 - 44)
    # what is pure noise keeps nothing of what was moved
    assert choose_steps(zero, torch.arange(999, 0, -125), 1000) == (1, 2)
    assert choose_steps(zero, torch.tensor([999, 499]), 1000) == (0, 1)


def test_latents_move_as_diffusers_moves_them():
    zero = pytest.importorskip("diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero")
    for height, width in ((8, 8), (64, 64), (24, 40), (32, 96)):
        latents = torch.randn(1, 4, height, width)
        for motion in ((12.0, 12.0), (-30.0, 7.0), (0.0, 200.0)):
            theirs = zero.create_motion_field_and_warp_latents(*motion, list(range(1, 9)), latents.repeat(8, 1, 1, 1))
            own = move_latents(latents, motion, range(1, 9))
            # sizes of which 512 is no multiple are resampled there, and places on the edge between two fall either way
            assert (own == theirs).float().mean() > (0.97 if 512 % width or 512 % height else 0.9999)


def test_img2img_is_diffusers(model, passes):
    own = _make(FixedSeedImg2Img(0.6), model, passes, 5)
    parts = {name: value for name, value in model.pipeline.components.items() if name != "scheduler"}
    theirs = StableDiffusionControlNetImg2ImgPipeline(**parts, scheduler=model.make_scheduler(5), requires_safety_checker=False)
    grey = render_grey(passes)
    assert grey.shape == (FRAMES, SIDE, SIDE, 3) and np.ptp(grey[passes.mask > 0]) > 0.2 and np.ptp(grey[passes.mask == 0]) == 0
    for n in range(FRAMES):
        made = _run_theirs(
            theirs,
            5,
            image=torch.from_numpy(grey[n]).permute(2, 0, 1)[None],
            control_image=torch.from_numpy(passes.depth[n])[None, None].expand(-1, 3, -1, -1),
            strength=0.6,
            controlnet_conditioning_scale=1.0,
            output_type="np",
        ).images
        assert _difference(own[n], _to_levels(made)[0]) <= 1
    # without normals what is near is bright, which is said
    flat = replace(passes, normal=None)
    assert np.allclose(render_grey(flat)[flat.mask > 0], 0.25 + 0.75 * 0.7)
    for shown, told in ((passes, False), (flat, True)):
        run_context = RunContext()
        request = model.complete_request(_request(1, 1), (SIDE, SIDE))
        make_frames(FixedSeedImg2Img(), model, request, shown.select([0]), run_context)
        assert any("no normal pass" in warning for warning in run_context.warnings) == told


def test_animatediff_is_diffusers(model, passes, motion_module):
    own = _make(AnimateDiff(str(motion_module)), model, passes, 3)
    adapter = MotionAdapter.from_pretrained(motion_module)
    scheduler = model.make_scheduler(3)
    parts = model.pipeline
    theirs = AnimateDiffControlNetPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=UNetMotionModel.from_unet2d(model.unet, adapter),
        motion_adapter=adapter,
        controlnet=model.controlnet,
        scheduler=type(scheduler).from_config(scheduler.config, beta_schedule="linear"),
    )
    pictures = [Image.fromarray(_to_levels(np.repeat(depth[..., None], 3, -1))) for depth in passes.depth]
    made = _run_theirs(
        theirs,
        3,
        num_frames=FRAMES,
        height=SIDE,
        width=SIDE,
        conditioning_frames=pictures,
        output_type="np",
    ).frames[0]
    # pictures have 8 bits there
    assert _difference(own, _to_levels(made)) <= 1
    assert model.pipeline.unet is model.unet and type(model.unet).__name__ == "UNet2DConditionModel", "the model is as it was"
    with pytest.raises(ShotError, match="takes 6 frames at once, and the shot has 7"):
        _make(AnimateDiff(str(motion_module)), model, samples.passes(7, SIDE, 2), 2)


def test_without_guidance_and_of_one_frame(model, passes, motion_module):
    for rival in (TextToVideoZero(), FixedSeedImg2Img(), AnimateDiff(str(motion_module))):
        one = _make(rival, model, passes.select([0]), 2, guidance_scale=1.0)
        assert one.shape == (1, SIDE, SIDE, 3) and np.ptp(one) > 20
    for scheduler in ("euler", "dpm++", "unipc"):
        clip = _make(TextToVideoZero(), model, passes, 4, scheduler=scheduler)
        assert clip.shape == (FRAMES, SIDE, SIDE, 3) and np.ptp(clip[1]) > 20
    with pytest.raises(ShotError, match="needs two of them"):
        _make(TextToVideoZero(), model, passes, 1)


def test_what_is_no_motion_module_is_a_sentence(model, passes, motion_module, tmp_path):
    config = json.loads((motion_module / "config.json").read_text())

    def write(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config | changes))
        for path in motion_module.glob("*.safetensors"):
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    no_weights = write("weights")
    next(no_weights.glob("*.safetensors")).rename(no_weights / "diffusion_pytorch_model.bin")
    damaged = write("damaged")
    next(damaged.glob("*.safetensors")).write_bytes(b"x" * 40)
    other = tmp_path / "other"
    MotionAdapter(
        block_out_channels=(8, 8, 8), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2
    ).save_pretrained(other)
    for folder, said in (
        (tmp_path / "nowhere", "no config.json"),
        (write("unet", _class_name="UNet2DConditionModel"), "it is a UNet2DConditionModel"),
        (no_weights, "no safetensors"),
        (damaged, "is no safetensors file, or cut off"),
        (other, "it is for another model"),
    ):
        with pytest.raises(ShotError, match=said):
            _make(AnimateDiff(str(folder)), model, passes, 2)
    check_motion_module(motion_module)
    # its weights belong to what it is, its place does not
    first, other = (describe_rival(AnimateDiff(str(folder))) for folder in (motion_module, damaged))
    assert (
        first
        == describe_rival(AnimateDiff(str(shutil.copytree(motion_module, tmp_path / "copy"))))
        != describe_rival(AnimateDiff(str(damaged)))
    )
    assert describe_rival(TextToVideoZero()) != describe_rival(TextToVideoZero((0.0, 0.0)))
    files = [Path(shutil.copy(next(motion_module.glob("*.safetensors")), tmp_path / f"{n}.safetensors")) for n in range(3)]
    weights = load_file(files[2])
    save_file({name: value + 1 for name, value in weights.items()}, files[2])
    found = [describe_rival(AnimateDiff(str(file))) for file in files]
    assert found[0] == found[1] != found[2]
    assert _make(AnimateDiff(str(files[0])), model, passes, 2).std() > 1


def test_rivals_stand_in_the_same_table(tiny, passes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    passes_folder.save(tmp_path / "shot", passes.select([0, 1]), PassesManifest(SIDE, SIDE, 20.0, (1, 2), 2.0, 4.0))
    usual = ["evaluate", "shot", "--model", tiny, "--steps", "2", "--prompt", "a man", "--seed", "4", "--out", "out"]
    assert main([*usual, "--variants", "cross_frame,img2img"]) == 0
    rows = {row["variant"]: row for row in json.loads((tmp_path / "out" / "results.json").read_text())["runs"]}
    assert rows["img2img"]["hmse"] != rows["cross_frame"]["hmse"] and rows["img2img"]["key"] != rows["cross_frame"]["key"]
    assert all(rows["img2img"][name] == rows["cross_frame"][name] for name in ("model_fingerprint", "passes", "steps", "scheduler"))
    assert "rivals" in json.loads((tmp_path / "out" / "made_of.json").read_text())
