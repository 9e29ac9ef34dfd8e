"""Stable Diffusion 1.5 at its real shape, with random weights, in one file beside its ControlNet: recognised at once, loaded
without a connection, and its picture is that of diffusers' own pipeline. Takes minutes and 10 GB."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from latentman.backend.models.loading import load
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.schedulers import make_own_scheduler
from latentman.backend.models.tokenizers import make_clip_tokenizer
from latentman.backend.video.controls import make_control_pictures
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.shared.load_options import LoadOptions
from tests import original_layout as original
from tests import samples
from tests.model_layouts import without_connection

pytestmark = pytest.mark.slow

SIZE, STEPS, GUIDANCE = 256, 2, 4.0
ATTENTION = (True, True, True, False)


def _fill(make):
    """A network in bfloat16 with random weights that keep numbers in bounds."""
    with torch.device("meta"):
        network = make()
    network = torch.nn.Module.to_empty(torch.nn.Module.to(network, torch.bfloat16), device="cpu").eval()
    for name, value in network.named_parameters():
        if value.ndim > 1:
            value.data.normal_(std=0.7 / value[0].numel() ** 0.5)
        else:
            value.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    for module in network.modules():
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(77)[None]
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def networks():
    """The networks of the published shapes."""
    torch.manual_seed(0)
    places = dict(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    return {
        "unet": _fill(lambda: UNet2DConditionModel(cross_attention_dim=768, sample_size=64)),
        "controlnet": _fill(lambda: ControlNetModel(cross_attention_dim=768)),
        "vae": _fill(
            lambda: AutoencoderKL(
                block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, scaling_factor=0.18215, **places
            )
        ),
        "text_encoder": _fill(lambda: CLIPTextModel(text)),
    }


def test_it_is_recognised_loaded_and_makes_the_picture_of_diffusers(networks, tmp_path):
    unet = original.unet_to_original(networks["unet"].state_dict(), 2, ATTENTION)
    state = original.under("model.diffusion_model.", unet)
    state |= original.under("first_stage_model.", original.vae_to_original(networks["vae"].state_dict(), 4))
    words = {name.removeprefix("text_model."): value for name, value in networks["text_encoder"].state_dict().items()}
    state |= original.under("cond_stage_model.transformer.text_model.", words)
    path, control = tmp_path / "random.safetensors", tmp_path / "random depth.safetensors"
    save_file(state, path)
    save_file(original.unet_to_original(networks["controlnet"].state_dict(), 2, ATTENTION), control)
    del state, unet
    started = time.process_time()
    found = inspect_model_file(path)
    assert (found.kind, found.family, found.problem) == ("checkpoint", "sd1", "") and found.parameters > 1.05e9
    assert time.process_time() - started < 5, "nothing is loaded for it"
    with without_connection():
        model = load(f"{path}|{control}", torch.device("cpu"), LoadOptions(dtype="bfloat16"), size=(SIZE, SIZE))
    for name, network in networks.items():
        own = model.pipeline.components[name].state_dict()
        assert all(torch.equal(own[key], value) for key, value in network.state_dict().items() if "position_ids" not in key), name
    request = samples.request(
        1, SIZE, steps=STEPS, preset="per_frame", guidance_scale=GUIDANCE, prompt="a cat", negative_prompt="bad", scheduler="ddim"
    )
    passes = samples.passes(1, SIZE)
    noise = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(1))
    (ours,) = ShotPipeline(model, request, passes, RunContext(), noise=noise).frames()
    theirs = StableDiffusionControlNetPipeline(
        tokenizer=make_clip_tokenizer(),
        scheduler=make_own_scheduler(found),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **networks,
    )
    theirs.set_progress_bar_config(disable=True)
    (picture,) = make_control_pictures(passes, request, ("depth",))
    with torch.no_grad():
        wanted = theirs(
            prompt="a cat",
            negative_prompt="bad",
            image=torch.from_numpy(picture).float(),
            latents=noise.to(torch.bfloat16),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            width=SIZE,
            height=SIZE,
            output_type="np",
        ).images[0]
    difference = np.abs(ours.astype(float) - wanted * 255)
    # numbers of 8 bits: what the sampler does in float32, diffusers does in them
    assert ours.std() > 2 and difference.mean() < 1.5, (ours.std(), difference.mean(), difference.max())
