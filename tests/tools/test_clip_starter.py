"""Clips for training, the training of the starter's motion module at a few steps, and the folder that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import MotionAdapter  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

from latentman.backend.metrics.making import describe_making  # noqa: E402
from latentman.backend.models.families import AnimateDiff  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.models.registry import CLIP_NAME, CLIP_STARTER, STARTER  # noqa: E402
from latentman.blender_addon.character.body_model import MANNEQUIN  # noqa: E402
from latentman.blender_addon.character.body_model import load as load_body  # noqa: E402
from tools.starter import clip_export, clip_training, clips, networks, training  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made() -> list[clips.Clip]:
    body = load_body(MANNEQUIN)
    return [clips.render_clip(body, seed, 6) for seed in range(6)]


def test_a_clip_shows_one_character_in_one_place(made):
    """Its pixels that no frame covers stay as they are, but for the shadow and what is out of focus; the character moves."""
    for clip in made:
        assert clip.images.shape == (6, 256, 256, 3) and clip.depths.shape == (6, 256, 256) and len(set(clip.captions)) > 1
        body = clip.depths > 0
        assert 0.005 < body.mean() < 0.5
        free = ~body.any(0)
        changes = np.abs(clip.images[1:].astype(int) - clip.images[:-1])
        still, moving = changes[:, free].mean(), np.mean([changes[n][body[n] != body[n + 1]].mean() for n in range(5)])
        assert still < 0.2 * moving, (still, moving)
        # shared by the whole clip, so that who comes nearer is brighter
        assert clip.depths.max() > 150
    assert len({clip.captions[0] for clip in made}) == len(made)


def test_the_same_seed_renders_the_same_clip(made):
    again = clips.render_clip(load_body(MANNEQUIN), 3, 6)
    assert np.array_equal(again.images, made[3].images) and np.array_equal(again.depths, made[3].depths)


def test_times_lie_within_what_is_performed():
    generator = np.random.default_rng(0)
    for _ in range(300):
        most = float(generator.choice([15.0, 20.0, 79.0]))
        times = clips._sample_times(generator, most, 16)
        assert times.shape == (16,) and times.min() >= 0 and times.max() <= most + 1e-9 and (np.diff(times) >= 0).all()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, made) -> tuple[Path, MotionAdapter, list[dict[str, float]]]:
    """A work folder, the module that was trained on one clip, and its errors before and after."""
    work = tmp_path_factory.mktemp("motion")
    _, models = networks.load_networks(STARTER)
    vae, _ = networks.load_networks(STARTER)
    tokenizer = CLIPTokenizer.from_pretrained(STARTER, subfolder="tokenizer")
    clip = made[0]
    seen = clips.Clips(torch.from_numpy(clip.images)[None], torch.from_numpy(clip.depths)[None], [clip.captions])
    latents = clip_training.encode_clips(vae.eval(), seen, work, "cpu")
    errors = []
    before = {key: value.clone() for key, value in models.state_dict().items()}
    for steps in (0, 12):
        config = training.TrainingConfig("cpu", 0, steps, 1, 1, rate=3e-2, checkpoint_every=6)
        module = clip_training.train_motion_module(seen, latents, models, tokenizer, work, config)
        errors.append(clip_training.measure_error(models, module, seen, latents, tokenizer))
    # the starter's own networks are not touched
    assert all(torch.equal(value, before[key]) for key, value in models.state_dict().items())
    return work, module, errors


@pytest.mark.slow
def test_training_goes_on_and_lowers_the_error(learnt):
    work, _, errors = learnt
    assert errors[1]["body"] < 0.995 * errors[0]["body"] and errors[1]["restlessness"] < errors[0]["restlessness"]
    assert training.read_step_count(work / "motion.pt") == 12


def test_a_new_module_changes_nothing():
    """The prediction of the UNet by itself, frame by frame."""
    _, models = networks.load_networks(STARTER)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator)

    noisy, states, depth = draw(1, 4, 4, 32, 32), draw(1, 5, networks.TEXT_WIDTH), torch.rand(1, 4, 256, 256, generator=generator)
    pictures = clip_training.ClipNetworks(models, clip_training.make_motion_module())
    with torch.no_grad():
        found = pictures(noisy, torch.tensor([400]), states, depth)[0]
        texts, control = states.expand(4, -1, -1), depth[0, :, None].expand(-1, 3, -1, -1)
        down, middle = models["control"](noisy[0], 400, texts, control, return_dict=False)
        wanted = models["unet"](
            noisy[0], 400, texts, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
    assert float((found - wanted).abs().max()) < 1e-4
    trainable = {name for name, parameter in pictures.named_parameters() if parameter.requires_grad}
    assert trainable and all(clip_training.MOTION in name for name in trainable)


@pytest.mark.slow
def test_the_folder_is_a_motion_module_for_the_starter(learnt, tmp_path):
    _, module, _ = learnt
    clip_export.export_motion_module(module, tmp_path / "module")
    read = MotionAdapter.from_pretrained(tmp_path / "module").state_dict()
    assert all(torch.allclose(value.float(), read[key].float(), atol=2e-3) for key, value in module.state_dict().items())
    model = load(f"starter|motion={tmp_path / 'module'}", CPU)
    assert isinstance(model.family, AnimateDiff) and model.family.get_window(model.denoiser.config) == clips.FRAMES
    scheduler = load("starter", CPU).pipeline.scheduler
    assert (
        dict(model.pipeline.scheduler.config).items()
        >= {key: value for key, value in scheduler.config.items() if not key.startswith("_")}.items()
    )


def test_the_bundled_module_steadies_the_frames_of_a_clip(made):
    """Beside the starter by itself, on a clip that it was not trained with."""
    assert sum(file.stat().st_size for file in CLIP_STARTER.rglob("*") if file.is_file()) < 12e6
    model = load(CLIP_NAME, CPU)
    assert isinstance(model.family, AnimateDiff) and model.size_multiple == 32
    assert describe_making(CLIP_NAME)["model"] == CLIP_NAME
    _, models = networks.load_networks(STARTER)
    vae, _ = networks.load_networks(STARTER)
    tokenizer = CLIPTokenizer.from_pretrained(STARTER, subfolder="tokenizer")
    seen = clips.Clips(
        torch.from_numpy(np.stack([clip.images for clip in made[:3]])),
        torch.from_numpy(np.stack([clip.depths for clip in made[:3]])),
        [clip.captions for clip in made[:3]],
    )
    with torch.no_grad():
        latents = torch.stack(
            [
                vae.encode(images.permute(0, 3, 1, 2).float() / 127.5 - 1).latents * vae.config.scaling_factor
                for images in seen.images
            ]
        )
    bundled = MotionAdapter.from_pretrained(CLIP_STARTER).float()
    without, trained = (
        clip_training.measure_error(models, each, seen, latents, tokenizer)
        for each in (clip_training.make_motion_module(), bundled)
    )
    assert trained["restlessness"] < without["restlessness"] and trained["body"] < without["body"]
    assert trained["beside"] < 0.9 * without["beside"]
