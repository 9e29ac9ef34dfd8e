"""The starter model's folder and the renders it was trained on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

torch = pytest.importorskip("torch")

from latentman.backend.models.registry import STARTER  # noqa: E402
from latentman.blender_addon.character.body_model import MANNEQUIN, load  # noqa: E402
from latentman.blender_addon.reference_shots.rasteriser import rasterise  # noqa: E402
from tests.oracles.rasteriser import rasterise as oracle  # noqa: E402
from tools.motions.clips import CLIPS  # noqa: E402
from tools.motions.gait import perform  # noqa: E402
from tools.starter import captions, dataset  # noqa: E402
from tools.starter.dataset import render  # noqa: E402
from tools.starter.scenery import SCENES  # noqa: E402


def test_the_reference_rasteriser_agrees_with_another():
    body = load(MANNEQUIN)
    points = body.v_template + [0.1, 0.0, -3.0]
    ours = rasterise(points, body.faces, 90.0, 96, 96)
    depth, values = oracle(points, body.faces, body.v_template[body.faces], 90.0, 96)
    assert (ours.mask != np.isfinite(depth)).sum() <= 2
    both = ours.mask & np.isfinite(depth)
    assert np.allclose(ours.depth[both], depth[both], atol=1e-4)
    found = np.zeros((96, 96, 3))
    found[ours.mask] = ours.interpolate(body.v_template[body.faces])
    assert np.percentile(np.abs(found - values)[both], 99.5) < 1e-4


def test_renders_are_seeded_and_hold_the_depth_convention():
    body = load(MANNEQUIN)
    one, same, other = render(body, 11), render(body, 11), render(body, 12)
    assert one.caption == same.caption and (one.image == same.image).all() and (one.image != other.image).any()
    assert (one.depth[~one.mask] == 0).all() and (one.depth[one.mask] > 0).all()


def test_only_what_is_far_from_the_character_is_out_of_focus(monkeypatch):
    from tools.starter import scenery

    rows, columns = np.mgrid[0:128, 0:128] / 64.0 - 1
    rays = np.stack([columns, -rows, np.full_like(rows, -1.5)], -1)

    def seen(aperture):
        monkeypatch.setattr(scenery, "APERTURE", (aperture, aperture))
        return scenery.render_background("city", rays, 1.2, lambda x, z: np.ones(len(x)), 3.0, np.random.default_rng(3))

    sharp, blurred = seen(0.0), seen(0.03)
    assert blurred.shape == (128, 128, 3) and blurred.min() >= 0 and blurred.max() <= 1
    # the ground 3 metres away, 1.2 below the camera, lies on one row
    focused = round(64 * (1 + 1.5 * 1.2 / 3.0))
    change = np.abs(blurred - sharp).mean((1, 2))
    assert (
        change[focused] < 0.1 * change[:60].mean()
        and np.abs(np.diff(blurred[:60], axis=1)).mean() < 0.5 * np.abs(np.diff(sharp[:60], axis=1)).mean()
    )


@pytest.mark.slow
def test_a_light_from_behind_parts_the_outline_from_the_dark():
    body, found = load(MANNEQUIN), []
    for seed in range(800, 1400):
        example = render(body, seed, 96)
        if example.outfit.suit == "skeleton" and example.scene in ("night", "moon"):
            inner = binary_erosion(example.mask, iterations=2)
            found.append(np.median(example.image[example.mask & ~inner]) - np.median(example.image[inner]))
    assert len(found) > 3 and np.mean(found) > 8


def test_captions_name_what_is_worn():
    generator = np.random.default_rng(2)
    for _ in range(60):
        outfit = captions.sample_outfit(generator)
        text = captions.describe(outfit, "beach", generator)
        assert any(place in text for place in captions.PLACE_PHRASES["beach"])
        words = (
            [outfit.suit]
            if outfit.suit
            else [
                word
                for item in (outfit.top, outfit.bottom)
                for word in (item.kind, item.colour if item.pattern != "camouflage" else item.pattern)
            ]
        )
        assert all(word in text for word in words), text


def test_the_export_loads_unchanged_and_is_small():
    from diffusers import StableDiffusionControlNetPipeline

    assert sum(f.stat().st_size for f in STARTER.rglob("*") if f.is_file()) < 36e6
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    pipeline.set_progress_bar_config(disable=True)
    depth = torch.zeros(1, 3, 64, 64)
    depth[..., 16:60, 24:40] = 0.8
    made = [
        pipeline(
            prompt,
            image=depth,
            num_inference_steps=3,
            output_type="np",
            guidance_scale=scale,
            generator=torch.Generator().manual_seed(1),
        ).images[0]
        for prompt, scale in (("a robot on a stage", 4.0), ("a robot on a stage", 1.0), ("zyxgh qqq ☃", 4.0))
    ]
    assert all(np.isfinite(m).all() and m.shape == (64, 64, 3) for m in made)
    assert np.abs(made[0] - made[1]).mean() > 0.01


@pytest.fixture(scope="module")
def pipeline():
    """The starter as diffusers loads it."""
    from diffusers import StableDiffusionControlNetPipeline

    pipeline = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _made(pipeline, prompt, depth, seed=3):
    image = torch.from_numpy(depth)[None, None].expand(1, 3, -1, -1).float() / 255
    return pipeline(
        prompt,
        image=image,
        num_inference_steps=10,
        guidance_scale=4.0,
        output_type="np",
        generator=torch.Generator().manual_seed(seed),
    ).images[0]


def _person(start):
    """A rendered person in plain clothes who shows enough of the shirt."""
    from tools.evaluate_starter import find_garment_pixels

    body = load(MANNEQUIN)
    return next(
        example
        for example in (render(body, seed) for seed in range(start, start + 400))
        if find_garment_pixels(example, "top").sum() > 2500
    )


@pytest.mark.slow
def test_swapping_the_prompt_changes_the_clothes_and_the_place(pipeline):
    from tools.evaluate_starter import find_garment_pixels

    example = _person(500)
    shirt = find_garment_pixels(example, "top")
    red, blue = (
        _made(pipeline, f"a man in a {colour} shirt and grey trousers, on a beach", example.depth) for colour in ("red", "blue")
    )
    assert red[shirt].mean(0)[0] > blue[shirt].mean(0)[0] + 0.15 and blue[shirt].mean(0)[2] > red[shirt].mean(0)[2] + 0.15
    snow, night = (
        _made(pipeline, f"a man in a red shirt and grey trousers {place}", example.depth) for place in ("in the snow", "at night")
    )
    assert snow[~example.mask].mean() > night[~example.mask].mean() + 0.3


@pytest.mark.slow
def test_swapping_the_depth_moves_the_character(pipeline):
    first = _person(500)
    other = first.depth[:, ::-1].copy()
    prompt = "a man in a red shirt and red trousers, in the snow"
    here, there = (_made(pipeline, prompt, depth) for depth in (first.depth, other))

    def redness(picture, mask):
        return float((picture[..., 0] - picture[..., 2])[mask].mean())

    only_here, only_there = first.mask & ~first.mask[:, ::-1], ~first.mask & first.mask[:, ::-1]
    assert redness(here, only_here) > redness(here, only_there) + 0.1
    assert redness(there, only_there) > redness(there, only_here) + 0.1


def test_held_out_looks_are_never_trained_on():
    body = load(MANNEQUIN)
    for seed in range(40):
        for held_out in (False, True):
            example = render(body, seed, 32, held_out)
            assert captions.is_held_out(example.outfit, example.scene) == held_out


@pytest.mark.slow
def test_the_judge_and_the_colours_are_right_about_renders(tmp_path):
    """The measurement itself: what it says of pictures that are right by construction."""
    from diffusers import AutoencoderTiny

    from tools.evaluate_starter import find_garment_pixels, score_garment_colours
    from tools.starter import judge as judging

    body = load(MANNEQUIN)
    seeds = list(range(3_000_000, 3_000_012))
    examples = [render(body, seed, held_out=True) for seed in seeds]
    assert score_garment_colours(examples, seeds, np.stack([e.image for e in examples])).mean() > 0.9
    swapped = []
    for example, seed in zip(examples, seeds, strict=True):
        other = "blue" if example.outfit.top.colour != "blue" else "red"
        swapped.append(render(body, seed, held_out=True, recolour=("top", other)).image)
    changed = [e for e in examples if find_garment_pixels(e, "top").any()]
    assert changed and score_garment_colours(examples, seeds, np.stack(swapped)).mean() < 0.7
    dataset.write_renders(tmp_path, 24, 0, 1)
    renders = dataset.load_renders(tmp_path, "cpu")
    vae = AutoencoderTiny.from_pretrained(STARTER / "vae")
    judging.save(judging.train(renders, vae, 6, "cpu", batch=8), tmp_path / "judge.safetensors")
    judge = judging.load(tmp_path / "judge.safetensors")
    pictures, masks = np.stack([e.image for e in examples]), np.stack([e.mask for e in examples])
    iou = judging.silhouette_iou(judge, pictures, masks)
    assert iou.shape == (12,) and (iou >= 0).all() and (iou <= 1).all()
    assert judging.silhouette_iou(judging.load(), pictures, masks).mean() > 0.95


def test_renders_on_disk_are_those_of_their_seeds(tmp_path):
    dataset.write_renders(tmp_path, 3, 40, 1)
    renders, example = dataset.load_renders(tmp_path, "cpu"), render(load(MANNEQUIN), 41)
    image, depth = renders.rows(torch.tensor([1]))
    assert (image[0].numpy() == example.image).all() and (depth[0].numpy() == example.depth).all()
    assert SCENES[int(renders.scenes[1])] == example.scene and renders.captions[1][0] == example.caption
    assert len(renders.captions[1]) == dataset.CAPTIONS and all(
        any(place in text for place in captions.PLACE_PHRASES[example.scene]) for text in renders.captions[1]
    )


@pytest.mark.slow
def test_a_training_goes_on_where_it_stopped(tmp_path):
    """A whole small training of the image model: stopped and gone on with, it ends where an uninterrupted one does."""
    from tools.starter import training

    dataset.write_renders(tmp_path / "data", 8, 0, 1)
    renders, latents = dataset.load_renders(tmp_path / "data", "cpu"), torch.randn(8, 2, 4, 32, 32).half()
    tokenizer = training.learn_tokenizer(tmp_path)
    ends = []
    for name, stops in (("once", (2,)), ("twice", (1, 2))):
        (tmp_path / name).mkdir()
        for steps in stops:
            config = training.TrainingConfig("cpu", 0, 2, 2, 1, text_steps=2)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    training,
                    "iter_steps",
                    lambda start, end, label, seconds=0.0, steps=steps: ((n, n / end) for n in range(start, steps)),
                )
                models = training.train_diffusion(renders, latents, tokenizer, tmp_path / name, config)
        ends.append(models["unet"].conv_in.weight.clone())
        assert training.read_step_count(tmp_path / name / "diffusion.pt") == 2
    assert torch.allclose(*ends, atol=1e-6)


def test_an_auto_encoder_taught_further_goes_on_where_it_stopped_and_keeps_its_latents(tmp_path):
    from diffusers import AutoencoderTiny

    from tools.starter import training

    dataset.write_renders(tmp_path / "data", 8, 0, 1)
    renders, ends = dataset.load_renders(tmp_path / "data", "cpu"), []
    former = AutoencoderTiny.from_pretrained(STARTER / "vae")
    pictures = renders.images[:2].permute(0, 3, 1, 2).float() / 127.5 - 1
    for name, stops in (("once", (2,)), ("twice", (1, 2))):
        (tmp_path / name).mkdir()
        for steps in stops:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    training,
                    "iter_steps",
                    lambda start, end, label, seconds=0.0, steps=steps: ((n, n / end) for n in range(start, steps)),
                )
                ends.append(training.train_vae(renders, tmp_path / name, training.TrainingConfig("cpu", 2, 0, 2, 1), former))
    once, _, twice = (vae.encode(pictures).latents for vae in ends)
    before = former.encode(pictures).latents
    assert torch.allclose(once, twice, atol=1e-5) and not torch.equal(once, before)
    assert (once - before).square().mean().sqrt() < 0.1 * before.std()
    assert ends[0].config.scaling_factor == former.config.scaling_factor
    assert not any(p.requires_grad for p in ends[0].parameters())


def test_an_outline_is_within_two_pixels_of_the_bodys_edge():
    from scipy.ndimage import binary_dilation

    from tools.starter.training import find_outline

    body = render(load(MANNEQUIN), 11, 96).mask
    body[:20, 90:] = True
    square = np.ones((5, 5), bool)
    expected = binary_dilation(body, square) & binary_dilation(~body, square)
    assert (find_outline(torch.from_numpy(body)[None, None].float())[0, 0].numpy() == expected).all()


def test_the_judge_sees_a_mirrored_picture_as_the_picture_mirrored():
    from tools.starter import judge as judging

    pictures = judging.resize_pictures(torch.from_numpy(np.stack([render(load(MANNEQUIN), seed).image for seed in (21, 22)])))
    found = judging.predict_silhouettes(judging.load(), pictures)
    assert found.any() and torch.equal(judging.predict_silhouettes(judging.load(), pictures.flip(-1)), found.flip(-1))


def test_a_window_follows_the_body():
    """Latents and depth are cut at the same place, and the body's middle is in it."""
    from tools.starter.training import crop_around_body

    columns = torch.arange(32.0).expand(6, 4, 32, 32)
    depth = torch.zeros(6, 1, 256, 256)
    centres = torch.tensor([4, 40, 100, 128, 200, 252])
    for n, centre in enumerate(centres):
        depth[n, :, 60:200, max(0, centre - 12) : centre + 12] = 1 + n
    clean, seen = crop_around_body(depth, torch.tensor([0.0, 0.5, 1.0, 0.0, 0.5, 1.0]), columns, depth)
    assert clean.shape == (6, 4, 32, 16) and seen.shape == (6, 1, 256, 128)
    for n, centre in enumerate(centres):
        first = int(clean[n, 0, 0, 0])
        assert first * 8 <= centre < first * 8 + 128
        assert torch.equal(seen[n], depth[n, :, :, first * 8 : first * 8 + 128])
    moved = {int(crop_around_body(depth[3:4], torch.tensor([chance]), columns[:1])[0][0, 0, 0, 0]) for chance in (0.0, 0.5, 0.99)}
    assert len(moved) == 3


def test_the_body_and_its_outline_weigh_more():
    """Latent pixels with any of the body, and their neighbours, weigh alike, windows too; the rest weighs one."""
    from tools.starter.training import FOREGROUND_WEIGHT, weigh_pixels

    depth = torch.zeros(2, 1, 256, 128)
    depth[0, 0, 79, 48] = 0.1
    expected = torch.ones(2, 1, 32, 16)
    expected[0, 0, 8:11, 5:8] = FOREGROUND_WEIGHT
    assert torch.equal(weigh_pixels(depth), expected)


def test_the_optimiser_turns_matrices_and_leaves_the_rest_to_adamw():
    """Muon's first step is the gradient made orthogonal, by singular values; embeddings take AdamW's own step."""
    from tools.starter.optimiser import MuonAdamW

    torch.manual_seed(0)
    module = torch.nn.ModuleDict(
        {"conv": torch.nn.Conv2d(6, 8, 3), "linear": torch.nn.Linear(12, 5), "embedding": torch.nn.Embedding(7, 4)}
    ).to(memory_format=torch.channels_last)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    twin = torch.nn.Parameter(before["embedding.weight"].clone())
    optimiser = MuonAdamW(module, 0.01, (0.9, 0.99))
    gradients = {}
    for name, parameter in module.named_parameters():
        gradients[name] = torch.randn(parameter.shape)
        parameter.grad = gradients[name].clone()
    twin.grad = gradients["embedding.weight"].clone()
    optimiser.step()
    torch.optim.AdamW([twin], 0.01, betas=(0.9, 0.99), weight_decay=0.01).step()
    after = dict(module.named_parameters())
    assert torch.allclose(after["embedding.weight"], twin, atol=1e-7)
    for name in ("conv.weight", "linear.weight"):
        rows = len(before[name])
        gone = (before[name] * (1 - 0.01 * 0.01) - after[name].detach()).reshape(rows, -1)
        u, _, v = torch.linalg.svd(gradients[name].reshape(rows, -1), full_matrices=False)
        along = (u.T @ gone @ v.T).diagonal() / (0.01 * 0.2 * max(gone.shape) ** 0.5)
        assert along.min() > 0.6 and along.max() < 1.3
        assert gone.norm() == pytest.approx(float(along.norm() * 0.01 * 0.2 * max(gone.shape) ** 0.5), rel=0.05)
    optimiser.zero_grad()
    assert all(p.grad is None for p in module.parameters())


def test_the_clock_ends_a_training():
    from tools.starter.training import decay_cosine, iter_steps

    shares = [share for _, share in iter_steps(0, 100_000_000, "clock", 0.05)]
    assert shares == sorted(shares) and shares[-1] < 1 and len(shares) < 10_000_000
    assert [share for _, share in iter_steps(2, 4, "count")] == [0.5, 0.75]
    assert decay_cosine(0.0, 0.1) == 1 and decay_cosine(1.0, 0.1) == pytest.approx(0.1)


def test_the_bundled_clips_can_be_made_again():
    from latentman.blender_addon.motion.readers import BUNDLED, read

    file = read(BUNDLED)
    assert list(file.texts) == list(CLIPS)
    for n, make in enumerate(CLIPS.values()):
        assert np.abs(file.get_motion(n).joints - perform(make())).max() < 1e-5
