"""Other models than the starter: tiny random ones of the real classes, in every way a model can be named."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    TCDScheduler,
    UNet2DConditionModel,
)

from backend.models.loading import load  # noqa: E402
from backend.models.registry import STARTER  # noqa: E402
from backend.video import pipeline as video_pipeline  # noqa: E402
from backend.video.pipeline import ShotPipeline, Watch  # noqa: E402
from shared.shot import FramePasses, ShotError  # noqa: E402
from tests import samples  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An epsilon-predicting Stable Diffusion with `AutoencoderKL`, whole and as base and ControlNet apart."""
    torch.manual_seed(0)
    words = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=words.text_encoder.config.hidden_size, attention_head_dim=4)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    vae = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, latent_channels=4)
    parts = dict(vae=vae, text_encoder=words.text_encoder, tokenizer=words.tokenizer, unet=unet, safety_checker=None,
                 scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                         steps_offset=1, clip_sample=False),
                 feature_extractor=None, requires_safety_checker=False)
    root = tmp_path_factory.mktemp("models")
    StableDiffusionControlNetPipeline(controlnet=control, **parts).save_pretrained(root / "whole")
    StableDiffusionPipeline(**parts).save_pretrained(root / "base")
    control.save_pretrained(root / "control")
    return root


def test_epsilon_models_run_the_whole_method(folders):
    model = load(str(folders / "whole"), torch.device("cpu"))
    assert model.size_multiple == 16
    frames = np.stack(list(ShotPipeline(model, samples.request(3, steps=5), samples.passes(3), Watch()).frames()))
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
        return np.stack(list(ShotPipeline(model, request, same, Watch()).frames())).astype(int)

    made = frames(guidance_scale=1.0)
    assert isinstance(model.new_scheduler(4), scheduler) and made.std() > 1
    assert np.abs(made - made[:1]).max() <= 1
    monkeypatch.setattr(video_pipeline, "CHUNK", 1)
    assert np.abs(frames(guidance_scale=1.0) - made).max() <= 1
    assert np.abs(frames(guidance_scale=1.0, seed=9) - made).max() > 3
    assert np.abs(frames(guidance_scale=8.0) - made).max() > 0


def test_base_and_controlnet_may_lie_apart(folders):
    whole = load(str(folders / "whole"), torch.device("cpu"))
    apart = load(f"{folders / 'base'} | {folders / 'control'}", torch.device("cpu"))
    request, passes = samples.request(2, steps=2), samples.passes(2)
    made = [np.stack(list(ShotPipeline(model, request, passes, Watch()).frames())) for model in (whole, apart)]
    assert (made[0] == made[1]).all()


def test_a_model_without_controlnet_is_refused(folders):
    with pytest.raises(ShotError, match="has no ControlNet"):
        load(str(folders / "base"), torch.device("cpu"))
    with pytest.raises(ShotError, match="cannot be loaded"):
        load(f"{folders / 'base'}|{folders / 'absent'}", torch.device("cpu"))
