"""Frames that share one texture: on constructed surfaces, and in the whole pipeline with the starter."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from latentman.backend.metrics.evaluator import Shot  # noqa: E402
from latentman.backend.metrics.surface import hmse  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.backend.video import lattice as lattice_module  # noqa: E402
from latentman.backend.video.lattice import SurfaceLattice  # noqa: E402
from latentman.backend.video.linear_decoder import LinearDecoder  # noqa: E402
from latentman.backend.video.pipeline import RunContext, ShotPipeline  # noqa: E402
from latentman.backend.video.sampling import Sampler  # noqa: E402
from latentman.backend.video.techniques.fusion import TextureFusion  # noqa: E402
from latentman.blender_addon.reference_shots.shots import render_clip  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.shot import METHODS, Fusion, Sampling  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402

CPU = torch.device("cpu")


def _paint(passes, colour=lambda x, y: np.stack([0.5 * x, 0.5 * y, x * 0], -1)):
    """(F, 3, H, W) pictures whose colours stick to the surface; the background is -1."""
    x, y = passes.rest_position[..., 0] / 0.12, passes.rest_position[..., 1] / 0.12
    picture = np.where(passes.mask[..., None] > 0, colour(x, y), -1.0)
    return torch.from_numpy(picture.astype(np.float32)).permute(0, 3, 1, 2)


def test_a_texture_comes_back_as_it_was():
    passes = samples.passes(4, 64, 3)
    pictures, lattice = _paint(passes), SurfaceLattice(passes, CPU)
    texture = lattice.texture(pictures, 3.0)
    for n in range(4):
        back = lattice.render(texture, n, pictures[n])
        assert (back - pictures[n]).abs().max() < 0.06
        assert torch.equal(back[:, passes.mask[n] == 0], pictures[n][:, passes.mask[n] == 0])


def test_frames_that_disagree_are_brought_together():
    passes = samples.passes(4, 64, 3)
    pictures = _paint(passes)
    off = pictures + torch.tensor([0.2, -0.2, 0.2, -0.2]).view(4, 1, 1, 1) * torch.from_numpy(passes.mask > 0)[:, None]
    lattice = SurfaceLattice(passes, CPU)
    texture = lattice.texture(off, 0.0)
    inner = F.avg_pool2d(torch.from_numpy((passes.mask > 0).astype(np.float32))[:, None], 9, 1, 4)[:, 0] > 0.99
    for n in range(4):
        back = lattice.render(texture, n, off[n])
        assert (back - pictures[n])[:, inner[n]].abs().max() < 0.08


def test_the_better_sight_wins_when_sharp():
    """The second frame sees the same disc from twice as near."""
    far, near = samples.passes(1, 64, 0), samples.passes(1, 64, 0)
    near = replace(near, rest_position=near.rest_position * 0.5)
    both = FramePasses(**{name: np.concatenate([far.arrays()[name], near.arrays()[name]]) for name in far.arrays()})
    pictures = torch.stack([torch.full((3, 64, 64), -0.5), torch.full((3, 64, 64), 0.5)])
    lattice = SurfaceLattice(both, CPU)
    middle = (slice(None), 32, 64 // 3)
    mean, sharp = (lattice.render(lattice.texture(pictures, k), 0, pictures[0])[middle].mean() for k in (0.0, 8.0))
    assert sharp > 0.45 and float(mean) < float(sharp)


def test_objects_and_missing_coordinates_do_not_matter():
    passes = samples.passes(2, 64, 0)
    half = (np.arange(64) < 64 // 3)[None, None] & (passes.mask > 0)
    split = replace(
        passes,
        uv=passes.uv * 0,
        object_index=np.where(half, 2, passes.mask).astype(np.uint16),
        rest_position=np.array([0.001, 0, 0], np.float32) * (np.arange(64) % 20)[None, None, :, None]
        + np.zeros_like(passes.rest_position),
    )
    lattice = SurfaceLattice(split, CPU)
    pictures = torch.from_numpy(np.where(half, 1.0, -1.0).astype(np.float32))[:, None].repeat(1, 3, 1, 1)
    back = lattice.render(lattice.texture(pictures, 0.0), 0, pictures[0])
    assert torch.allclose(back, pictures[0], atol=1e-5), "objects with the same rest positions have textures of their own"


def test_frames_without_a_character_are_left_alone():
    passes = samples.passes(3, 64, 3)
    arrays = {name: array.copy() for name, array in passes.arrays().items()}
    for array in arrays.values():
        array[1] = 0
    shown = FramePasses(**arrays)
    lattice, pictures = SurfaceLattice(shown, CPU), _paint(passes)
    texture = lattice.texture(pictures, 2.0)
    assert torch.equal(lattice.render(texture, 1, pictures[1]), pictures[1])
    nobody = FramePasses(**{name: array * 0 for name, array in arrays.items()})
    empty = SurfaceLattice(nobody, CPU)
    assert torch.equal(empty.render(empty.texture(pictures, 2.0), 0, pictures[0]), pictures[0])


def _upsample(latents):
    return F.interpolate(latents[:, :3], scale_factor=8)


def _pool(pictures):
    pooled = F.avg_pool2d(pictures, 8)
    return torch.cat([pooled, torch.zeros_like(pooled[:, :1])], 1)


@pytest.mark.parametrize("full_steps", [0, 1])
def test_corrected_latents_decode_to_one_texture(full_steps):
    passes = samples.passes(4, 64, 8)
    torch.manual_seed(0)
    clean = torch.randn(4, 4, 8, 8) * 0.3
    fusion = TextureFusion(Fusion(full_steps=full_steps, coarse=1.0, sharpness=0.0, finish=False))
    context = tiny.context(passes, _upsample, _pool, steps=5)
    context.batch_budget.frames = 2
    fusion.begin(context)
    assert all(fusion.is_active(step) for step in range(5))
    found = fusion.correct_clean(clean, 1)
    images = [((_upsample(x) / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy().astype(np.uint8) for x in (clean, found)]
    assert hmse(images[1], passes) < 0.35 * hmse(images[0], passes)
    outside = F.max_pool2d(torch.from_numpy((passes.mask > 0).astype(np.float32))[:, None], 8)[:, 0] == 0
    assert torch.allclose(found.permute(0, 2, 3, 1)[outside], clean.permute(0, 2, 3, 1)[outside], atol=1e-5)


def test_what_the_auto_encoder_does_not_show_of_the_texture_is_added():
    """An auto-encoder that shows four fifths of each change; frames that are made alone do without the second look."""
    passes = samples.passes(4, 64, 8)
    torch.manual_seed(0)
    clean, decoded = torch.randn(4, 4, 8, 8) * 0.3, []

    def decode(latents):
        decoded.append(len(latents))
        return 0.8 * _upsample(latents)

    fusion = TextureFusion(Fusion(full_steps=0, sharpness=0.0, finish=False))
    fusion.begin(tiny.context(passes, decode, _pool, steps=2))
    before = decode(clean)
    found = decode(fusion.correct_clean(clean, 0))
    texture = fusion._texture(fusion.lattice, list(before), 0.0)
    wanted = decode(_pool(torch.stack([fusion.lattice.render(texture, n, before[n]) for n in range(4)])) / 0.8)
    covered = F.avg_pool2d(torch.from_numpy((passes.mask > 0).astype(np.float32))[:, None], 8) == 1
    covered = F.interpolate(covered.float(), scale_factor=8).expand_as(found) > 0
    change, missed = (float(((one - wanted)[covered] ** 2).mean()) for one in (before, found))
    assert missed < 0.01 * change
    decoded.clear()
    fusion.begin(replace(tiny.context(passes, decode, _pool, steps=2), joint=False))
    fusion.correct_clean(clean, 1)
    assert sum(decoded) == 4


def test_the_last_fusion_leaves_joint_frames_what_is_fine():
    """Frames that differ in brightness and in a fine pattern: the brightness is brought together, the pattern stays."""
    passes = samples.passes(2, 64, 0)
    inside = torch.from_numpy(passes.mask[0] > 0)
    fine = 0.2 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1).float()
    pictures = [inside * (level + sign * fine).expand(3, 64, 64) for level, sign in ((0.2, 1), (-0.2, -1))]
    fusion = TextureFusion(Fusion(full_steps=0, sharpness=0.0))
    fusion.begin(tiny.context(passes, steps=2))
    texture = fusion._texture(fusion.lattice, pictures, 0.0)
    core = F.avg_pool2d(inside.float()[None], 9, 1, 4)[0] > 0.99

    def measure(is_last):
        shown = [fusion._show(texture, n, picture, is_last=is_last) for n, picture in enumerate(pictures)]
        assert all(torch.equal(one[:, ~inside], picture[:, ~inside]) for one, picture in zip(shown, pictures, strict=True))
        return [(float(one[:, core].mean()), float(one[:, core].std())) for one in shown]

    (bright, kept), (dark, kept_too) = measure(is_last=True)
    assert abs(bright - dark) < 0.02 and min(kept, kept_too) > 0.18
    assert max(std for _, std in measure(is_last=False)) < 0.05
    assert fusion._last == 1


def test_steps_are_chosen_from_the_range():
    passes = samples.passes(2)
    chosen = TextureFusion(Fusion(start=0.2, until=0.8, full_steps=3, coarse=0.4))
    chosen.begin(tiny.context(passes, steps=10))
    assert [step for step in range(10) if chosen.is_active(step)] == [2, 3, 5, 7]
    every = TextureFusion(Fusion(full_steps=0))
    every.begin(replace(tiny.context(passes, steps=4), wants_latents=True))
    assert all(every.is_active(step) for step in range(4))
    every.begin(tiny.context(passes, steps=8))
    assert [step for step in range(8) if every.is_active(step)] == list(range(7)), "the last one is finishing"
    every.begin(tiny.context(passes, steps=4))
    assert every.is_active(3), "a few steps are not enough"
    early = TextureFusion(Fusion(until=0.5, full_steps=0))
    early.begin(tiny.context(passes, steps=8))
    assert early.is_active(3), "which undoes nothing that steps after it have made"


def test_the_linear_decoder_can_be_undone():
    torch.manual_seed(2)
    decoder = LinearDecoder(torch.randn(5, 3))
    latents, change = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 4, 4)
    assert torch.allclose(decoder(latents + decoder.inverse(change)) - decoder(latents), change, atol=1e-2)


@pytest.mark.parametrize("name", ["ddim", "dpm++", "euler", "lcm", "tcd"])
def test_clean_predictions_can_be_undone(name):
    sampler = Sampler(load("starter", CPU).make_scheduler(8, name), 0)
    latents, output = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    for step in (1, 4, 7):
        clean = sampler.predict_clean(latents, output, step)
        assert torch.allclose(sampler.prediction_for(latents, clean, step), output, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def starter():
    """The project's own image model."""
    return load("starter", CPU)


def _frames(model, request, passes):
    return np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames()))


@pytest.mark.slow
def test_the_preset_is_several_times_steadier(starter):
    walk = Shot("walk", render_clip("a person walks forward", 4, turn=-30.0, step=2))
    made = {
        name: _frames(
            starter,
            walk.make_request("a man in a red shirt and blue jeans, on a beach", METHODS[name], Sampling(seed=1, steps=8)),
            walk.passes,
        )
        for name in ("cross_frame", "surface")
    }
    assert hmse(made["surface"], walk.passes) < 0.4 * hmse(made["cross_frame"], walk.passes)


@pytest.mark.parametrize("scheduler", ["dpm++", "euler", "lcm"])
def test_the_preset_runs_with_every_kind_of_scheduler(starter, scheduler):
    passes = samples.passes(2)
    assert _frames(starter, samples.request(2, steps=3, preset="surface", scheduler=scheduler), passes).std() > 1


def test_one_frame_and_empty_frames(starter):
    passes = samples.passes(1)
    assert _frames(starter, samples.request(1, preset="surface"), passes).shape == (1, 64, 64, 3)
    empty = FramePasses(**{name: array * 0 for name, array in passes.arrays().items()})
    assert _frames(starter, samples.request(1, preset="surface"), empty).shape == (1, 64, 64, 3)


def test_a_finished_frame_keeps_half_of_its_own_shading_and_none_of_its_own_hue():
    """The second of two frames is darker and bluer all over; the texture is the first's."""
    passes = samples.passes(2, 64, 0)
    surface = torch.from_numpy(passes.mask > 0)[:, None]
    colour = torch.tensor([0.6, 0.5, 0.3]).view(3, 1, 1)
    pictures = [torch.where(surface[0], 2 * colour - 1, -1.0), torch.where(surface[1], 2 * torch.flip(colour, [0]) * 0.6 - 1, -1.0)]
    lattice = SurfaceLattice(passes, CPU)
    texture = lattice.extract_texture(lattice.texture(pictures[:1] + pictures[:1], 0.0))
    fusion = TextureFusion(Fusion(shading=0.5))
    fusion.begin(replace(tiny.context(passes), joint=False, texture=texture))
    first, second = ((picture[:, 32, 32] + 1) / 2 for picture in fusion.finish_pictures(pictures))
    assert torch.allclose(first, colour[:, 0, 0], atol=1e-3)
    assert torch.allclose(second, 0.8 * colour[:, 0, 0], atol=0.02)


def test_shading_may_be_frozen(starter):
    passes = samples.passes(3, 64, 4)
    frozen = msgspec.structs.replace(METHODS["surface"], fusion=Fusion(shading=0.0, sharpness=0.0))
    a, b = (_frames(starter, samples.request(3, steps=3, method=method), passes) for method in (frozen, METHODS["surface"]))
    assert hmse(a, passes) <= hmse(b, passes)


def test_frames_that_only_show_a_texture_do_not_look_for_the_better_view(monkeypatch):
    passes = samples.passes(3, 64, 3)
    pictures, blending = _paint(passes), SurfaceLattice(passes, CPU)
    texture = blending.texture(pictures, 3.0)
    assert torch.equal(SurfaceLattice(passes, CPU, blends=False).texture(pictures, 3.0), texture)

    def refuse(frame, side):
        raise AssertionError("it is not needed")

    kept = []

    def prepare(passes):
        found = original(passes)
        kept.extend(weakref.ref(frame) for frame in found)
        return found

    original = lattice_module.prepare_surface_frames
    monkeypatch.setattr(lattice_module, "measure_quality", refuse)
    monkeypatch.setattr(lattice_module, "prepare_surface_frames", prepare)
    showing = SurfaceLattice(passes, CPU, blends=False)
    gc.collect()
    assert len(kept) == 3 and not any(frame() for frame in kept), "they are most of a long clip's memory"
    for n in range(3):
        assert torch.equal(showing.render(texture, n, pictures[n] * 0), blending.render(texture, n, pictures[n] * 0))
