"""The training of the flow-matching starter, at a few steps, and the folder that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import AutoencoderTiny, ZImageControlNetPipeline  # noqa: E402

from latentman.backend.models.families import ZImage  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.registry import FLOW_NAME, FLOW_STARTER, STARTER  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.blender_addon.character.body_model import MANNEQUIN  # noqa: E402
from latentman.blender_addon.character.body_model import load as load_body  # noqa: E402
from tests import samples  # noqa: E402
from tools.starter import dataset, flow_export, flow_networks, flow_training, text_pretraining, training  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Any:
    texts = text_pretraining.sample_sentences(600, 0)[0]
    return flow_networks.learn_tokenizer(texts, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer) -> tuple[Path, Any, list[float]]:
    """An exported folder, the networks that it is of, and the error before and after some steps on one picture."""
    work = tmp_path_factory.mktemp("flow")
    dataset.write_renders(work, 1, 5_000_000, 1)
    renders = dataset.load_renders(work, "cpu")
    vae = AutoencoderTiny.from_pretrained(STARTER, subfolder="vae").float().eval()
    encoded = flow_training.encode_pictures(vae, renders, work, "cpu")
    errors = []
    for steps in (0, 12):
        config = training.TrainingConfig("cpu", 0, steps, 2, 1, text_steps=2, rate=3e-3, mirrored=False, checkpoint_every=6)
        models = flow_training.train_flow(renders, encoded, tokenizer, work, config)
        errors.append(flow_training.measure_error(models, renders, encoded, tokenizer)["body"])
    out = work / "out"
    flow_export.export_pipeline(vae, models, tokenizer, out)
    return out, models, errors


@pytest.mark.slow
def test_training_goes_on_and_lowers_the_error(trained):
    folder, _, errors = trained
    assert errors[1] < 0.9 * errors[0]
    assert training.read_step_count(folder.parent / "flow.pt") == 12


def test_networks_in_another_type_learn_for_their_own(tokenizer):
    """In the same type gradients are those without the copy; in another one near them."""
    torch.manual_seed(0)
    picture = flow_networks.PictureNetworks()
    clean, noise = torch.randn(2, 2, 4, 8, 8)
    depth, states, part = torch.randn(2, 4, 8, 8), torch.randn(2, 6, flow_networks.TEXT_WIDTH), torch.tensor([0.3, 0.8])
    given = (states, [4, 6], clean, depth, noise, part)
    flow_training.compute_error(picture, *given).square().mean().backward()
    expected = {name: value.grad.clone() for name, value in picture.named_parameters() if value.grad is not None}
    for kind, near in ((torch.float32, 1e-6), (torch.bfloat16, 0.1)):
        picture.zero_grad(set_to_none=True)
        lower = flow_training.LowerPrecision(picture, kind)
        lower.update()
        flow_training.compute_error(lower.copy, *given).square().mean().backward()
        found = {name: value.grad for name, value in picture.named_parameters() if value.grad is not None}
        assert set(found) == set(expected) and all(value.dtype == torch.float32 for value in found.values())
        off = sum(float((found[name] - expected[name]).square().sum()) for name in found)
        assert off < near**2 * sum(float(value.square().sum()) for value in expected.values())


def test_noise_is_drawn_more_often_where_words_decide():
    chance, which = torch.linspace(0, 1, 10_001), torch.rand(10_001, generator=torch.Generator().manual_seed(0))
    even, noisiest = (flow_training.sample_noise_parts(chance, which, share) for share in (0.0, 0.35))
    assert even.min() == 0 and even.max() == 1 and even.median() > 0.5
    assert (even > 0.8).float().mean() < 0.4 < (noisiest > 0.8).float().mean()


def test_words_have_one_spelling(tokenizer):
    """At the beginning of a text and within it, and none of a caption is lost in training."""
    red = tokenizer(" red").input_ids
    assert len(red) == 1 and red[0] in tokenizer("a red shirt").input_ids
    texts = text_pretraining.sample_sentences(300, 3)[0]
    ids = flow_training.tokenize(tokenizer, texts)
    assert ids.shape == (300, flow_training.TOKENS)
    assert float((ids[:, -1] == tokenizer.pad_token_id).float().mean()) > 0.95
    for text in ("zyxgh ☃", ""):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_what_fills_up_a_text_changes_nothing(tokenizer):
    torch.manual_seed(0)
    encoder = flow_networks.make_text_encoder(len(tokenizer)).eval()
    ids = flow_training.tokenize(tokenizer, ["a man in a red shirt"])
    count = int((ids != tokenizer.pad_token_id).sum())
    whole, cut = flow_networks.read_states(encoder, ids), flow_networks.read_states(encoder, ids[:, :count])
    assert torch.allclose(whole[:, :count], cut, atol=1e-5)


@pytest.mark.slow
def test_the_folder_is_a_z_image(trained):
    """diffusers loads it unchanged, and its frames are ours."""
    folder, models, _ = trained
    model = load(str(folder), CPU)
    assert isinstance(model.family, ZImage) and model.latent_channels == 4
    networks = flow_export.load_networks(folder)
    for name, value in networks.named_parameters():
        assert torch.allclose(value, models.get_parameter(name).float(), atol=2e-3), name
    pipeline = ZImageControlNetPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    passes = samples.passes(1, 64, 1)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    request = samples.request(1, 64, steps=3, guidance_scale=2.0, preset="per_frame")
    (ours,) = ShotPipeline(model, request, passes, RunContext(), noise=noise).frames()
    theirs = pipeline(
        request.text.prompt,
        negative_prompt="",
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=1.0,
        control_image=torch.from_numpy(passes.depth[0]).expand(1, 3, -1, -1) * 2 - 1,
        controlnet_conditioning_scale=1.0,
        latents=noise.clone(),
        output_type="np",
    ).images[0]
    assert np.abs(ours.astype(float) - np.round(theirs * 255)).max() <= 1


def test_the_bundled_folder_is_small_and_makes_what_is_said():
    """Of frames that differ in their prompt alone, those of red clothes are redder where the body is."""
    assert sum(file.stat().st_size for file in FLOW_STARTER.rglob("*") if file.is_file()) < 30e6
    model = load(FLOW_NAME, CPU)
    assert model.profile is not None and model.profile.guidance_scale == flow_networks.GUIDANCE
    assert isinstance(model.family, ZImage) and model.size_multiple == 16
    example = dataset.render(load_body(MANNEQUIN), 6)
    depth = (example.depth / 255).astype(np.float32)[None]
    passes = replace(samples.passes(1, 256), depth=depth, mask=(depth > 0).astype(np.uint8))
    found = []
    for colour in ("red", "blue"):
        prompt = f"a man in a {colour} shirt and {colour} trousers, on a beach"
        request = samples.request(1, 256, steps=8, guidance_scale=1.0, preset="per_frame", prompt=prompt)
        (frame,) = ShotPipeline(model, request, passes, RunContext()).frames()
        body = frame[depth[0] > 0].astype(float)
        found.append(float((body[:, 0] - body[:, 2]).mean()))
    assert found[0] > found[1] + 40
