"""The mannequin with hair and clothes that have a shape, the pictures of it, and the training that is one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.blender_addon.character.body_model import MANNEQUIN, load  # noqa: E402
from tests.checkout import ROOT  # noqa: E402
from tests.oracles.rasteriser import rasterise as oracle  # noqa: E402
from tools.starter import captions, few_steps, sewing  # noqa: E402
from tools.starter.dressed import render  # noqa: E402
from tools.starter.lighting import LightMap  # noqa: E402
from tools.starter.tailoring import HAIR_STYLES, Cut, Layer, dress  # noqa: E402
from tools.starter.wardrobe import SUITS, Garment, Outfit  # noqa: E402


@pytest.fixture(scope="module")
def mannequin():
    """The mannequin to dress."""
    return sewing.Mannequin(load(MANNEQUIN))


def _outfit(**changes):
    usual = {
        "suit": None,
        "suit_colour": "grey",
        "top": Garment("jacket", "red"),
        "bottom": Garment("trousers", "blue"),
        "footwear": Garment("boots", "black"),
        "hair": "brown",
        "skin": 1,
    }
    return Outfit(**(usual | changes))


def _area(points, faces):
    corners = points[faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2


@pytest.mark.parametrize("threshold", [0.3, -0.36, 0.735])
def test_a_cut_follows_its_line_and_loses_nothing(mannequin, threshold):
    body = mannequin.body
    above = mannequin.cut(lambda rest: rest[:, 1] - threshold)
    below = mannequin.cut(lambda rest: threshold - rest[:, 1])
    assert _area(above.points, above.faces) + _area(below.points, below.faces) == pytest.approx(_area(body.v_template, body.faces))
    for piece in (above, below):
        edge = piece.points[sewing.find_edge(piece.faces).ravel()]
        assert len(edge) and np.allclose(edge[:, 1], threshold, atol=1e-6)
    assert above.points[:, 1].min() > threshold - 1e-6 and below.points[:, 1].max() < threshold + 1e-6


def test_what_is_cut_from_the_body_stays_on_it_in_every_pose_and_shape(mannequin):
    body = mannequin.body
    patch = mannequin.cut(lambda rest: rest[:, 1] - 0.1)
    sewn = sewing.sew(body, [patch])
    generator = np.random.default_rng(4)
    from scipy.spatial.transform import Rotation

    rotations = Rotation.from_rotvec(generator.normal(0, 0.4, (24, 3))).as_matrix()
    betas, at = generator.normal(0, 1, 10), np.array([0.3, 1.0, -2.0])
    whole, alone = sewn.pose_vertices(rotations, betas, at), body.pose_vertices(rotations, betas, at)
    assert np.allclose(whole[: len(alone)], alone)
    # vertices of the body move with it; those on its edges stay between the ends of theirs
    expected = patch.binding @ alone
    own = np.asarray(patch.binding.max(1).todense()).ravel() > 1 - 1e-9
    assert own.sum() > 1000 and np.allclose(whole[len(alone) :][own], expected[own])
    assert np.abs(whole[len(alone) :] - expected).max() < 0.01


@pytest.mark.parametrize("smoothing", [0, 4])
def test_a_shell_lies_above_the_body_and_is_closed_down_to_it(mannequin, smoothing):
    def field(rest):
        return 0.2 - np.abs(rest[:, 1])

    flat, shell = mannequin.cut(field), mannequin.grow(field, lambda rest: np.full(len(rest), 0.02), smoothing)
    outer = shell.points[: len(flat.points)]
    normals = sewing.normalise(flat.binding @ mannequin.normals)
    height = ((outer - flat.points) * normals).sum(1)
    assert height.min() > 0.01 and (smoothing or np.allclose(height, 0.02))
    # the strip ends on the body, at the edge of what was cut
    edge = shell.points[sewing.find_edge(shell.faces).ravel()]
    distance, _ = sewing.cKDTree(flat.points).query(edge)
    assert len(edge) and distance.max() < 1e-9


@pytest.mark.parametrize("style", HAIR_STYLES)
@pytest.mark.parametrize("headgear", [None, Garment("cap", "red"), Garment("helmet", "red")])
def test_every_outfit_has_its_layers_and_follows_every_body(mannequin, style, headgear):
    figure = dress(mannequin, _outfit(headgear=headgear, gloves=Garment("gloves", "white")), Cut(style, 1.0, 1.0, frozenset()))
    layers = set(figure.layer.tolist())
    assert {Layer.BODY, Layer.TOP, Layer.BOTTOM, Layer.FOOTWEAR, Layer.GLOVES, Layer.EYES, Layer.SKIN} <= layers
    assert (Layer.HAIR in layers) == (headgear is None or style in ("bob", "long", "ponytail"))
    assert (Layer.HEADGEAR in layers) == (headgear is not None)
    body = figure.body
    assert len(figure.rest) == len(body.v_template) and len(figure.layer) == len(body.faces)
    assert np.allclose(body.weights.sum(1), 1) and body.weights.min() >= 0
    posed = body.pose_vertices(np.tile(np.eye(3), (24, 1, 1)), np.full(10, 0.5), np.zeros(3))
    assert np.isfinite(posed).all() and np.abs(posed).max() < 2


@pytest.mark.parametrize("suit", SUITS)
def test_suits_are_larger_than_the_body_where_they_have_a_shape(mannequin, suit):
    figure = dress(mannequin, _outfit(suit=suit), Cut("short", 1.0, 1.0, frozenset()))
    grown = np.ptp(figure.body.v_template, axis=0).prod() > np.ptp(mannequin.body.v_template, axis=0).prod() * 1.01
    assert grown == (suit != "skeleton")
    painted = dress(mannequin, _outfit(suit=suit), Cut("short", 1.0, 1.0, frozenset({"suit"})))
    assert set(painted.layer.tolist()) == {Layer.BODY}


def test_pictures_are_seeded_and_hold_the_depth_convention(mannequin):
    for seed in range(4):
        example, same = render(mannequin, seed, 96), render(mannequin, seed, 96)
        assert (example.image == same.image).all() and example.caption == same.caption
        assert (example.depth[~example.mask] == 0).all() and (example.depth[example.mask] > 0).all()
        # no pixel of the place is taken for the figure: its rest positions lie about the mannequin
        assert np.abs(example.rest_position[example.mask]).max() < 1.2


def test_a_dressed_figure_is_rasterised_as_another_rasteriser_does(mannequin):
    from latentman.blender_addon.reference_shots.rasteriser import rasterise

    figure = dress(mannequin, _outfit(bottom=Garment("skirt", "red")), Cut("long", 1.2, 1.0, frozenset()))
    points = figure.body.v_template + [0.1, 0.0, -3.0]
    ours = rasterise(points, figure.body.faces, 60.0, 64, 64)
    depth, _ = oracle(points, figure.body.faces, figure.rest[figure.body.faces], 60.0, 64)
    assert (ours.mask != np.isfinite(depth)).sum() <= 3
    both = ours.mask & np.isfinite(depth)
    assert np.percentile(np.abs(ours.depth[both] - depth[both]), 99) < 1e-4


def test_hair_is_named_as_it_is_worn():
    generator = np.random.default_rng(1)
    for style in HAIR_STYLES:
        texts = [captions.describe(_outfit(), "beach", generator, style=style) for _ in range(40)]
        named = [text for text in texts if style in text.split()]
        assert 8 < len(named) < 32 and all("brown" in text for text in named)
    assert not any(style in captions.describe(_outfit(), "beach", generator).split() for style in HAIR_STYLES)


def test_the_lamp_reaches_what_no_triangle_hides():
    """A square above the ground, and a slanting light: its shadow is the square, moved."""
    square = np.array([[-0.5, 1, -0.5], [0.5, 1, -0.5], [0.5, 1, 0.5], [-0.5, 1, 0.5]], float)
    light = np.array([0.6, 0.8, 0.0])
    lamp = LightMap(square, np.array([[0, 1, 2], [0, 2, 3]]), light)
    x, z = (axis.ravel() for axis in np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81)))
    reached = lamp.reach(np.stack([x, np.zeros_like(x), z], 1), 0.0)
    # a point of the ground sees the lamp past the square, 0.75 to the side for a height of 1
    distance = np.maximum(np.abs(x + 0.75), np.abs(z)) - 0.5
    clear = np.abs(distance) > 0.04
    assert (reached[clear] == (distance[clear] > 0)).all() and (distance[clear] < 0).sum() > 200
    soft = lamp.reach(np.stack([x, np.zeros_like(x), z], 1), 8.0)
    assert ((soft > 0.1) & (soft < 0.9)).sum() > ((reached > 0.1) & (reached < 0.9)).sum()
    assert (lamp.reach(square * 0.9 + [0, 0.1, 0], 0.0) == 1).all(), "what is lit does not shade itself"


def test_a_step_of_the_student_is_diffusers_step():
    from diffusers import DDIMScheduler

    from tools.starter import networks

    scheduler: DDIMScheduler = networks.make_scheduler()
    alphas = scheduler.alphas_cumprod
    noisy, velocity = torch.randn(2, 1, 4, 6, 6, dtype=torch.float64)
    for count in (4, 8, 20):
        scheduler.set_timesteps(count)
        steps = few_steps.list_timesteps(count)
        assert steps.tolist() == scheduler.timesteps.tolist()
        for now, after in pairwise([*steps.tolist(), -1]):
            expected = scheduler.step(velocity, now, noisy).prev_sample
            t, s = torch.tensor([now]), torch.tensor([after])
            made = few_steps.step_ddim(noisy, velocity, alphas.double(), t, s)
            assert torch.allclose(made, expected, atol=1e-5), (count, now)
            back = few_steps.find_velocity(noisy, made, alphas.double(), t, s)
            assert torch.allclose(back, velocity, atol=1e-8)


def test_the_students_target_is_where_several_steps_of_its_teacher_end():
    """For a teacher that knows the picture, that is the picture's own v: every path ends there."""
    from tools.starter import networks

    alphas = networks.make_scheduler().alphas_cumprod.double()
    generator = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 6, 4, 4, 4, generator=generator, dtype=torch.float64)
    path, counts = few_steps.sample_steps(6, generator, "cpu")
    assert path.shape == (few_steps.SUBSTEPS + 1, 6) and set(counts.tolist()) <= set(few_steps.STEP_COUNTS)
    assert (path[:-1] > path[1:]).all()
    for one, count in zip(path.T.tolist(), counts.tolist(), strict=True):
        own = [*few_steps.list_timesteps(count).tolist(), -1]
        assert one[0] in own and own[own.index(one[0]) + 1] == one[-1]

    def predict(noisy, timestep, ids, depth):
        alpha = alphas[timestep][:, None, None, None]
        both = torch.cat([clean, clean])
        known = torch.cat([noise, noise])
        return alpha.sqrt() * known - (1 - alpha).sqrt() * both

    alpha = alphas[path[0]][:, None, None, None]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    ids, empty, depth = torch.zeros(6, 3, dtype=torch.long), torch.zeros(3, dtype=torch.long), torch.zeros(6, 1, 32, 32)
    target = few_steps.compute_target(predict, noisy, path, ids, empty, depth, 1.5, alphas)
    # predictions are turned into float32 on their way
    assert torch.allclose(target, alpha.sqrt() * noise - (1 - alpha).sqrt() * clean, atol=1e-4)


def test_pictures_arrive_while_others_are_rendered_and_are_kept(tmp_path, mannequin):
    from tools.starter import streaming

    renders = streaming.StreamedRenders(tmp_path / "data", 64, 40, 900, "cpu")
    assert len(renders) == 0
    with renders.make(1):
        renders.wait_for(16)
        assert len(renders) >= 16
    count = len(renders)
    again = streaming.StreamedRenders(tmp_path / "data", 64, 40, 900, "cpu")
    assert len(again) == count and again.captions == renders.captions
    with again.make(1):
        again.wait_for(40)
        again.collect()
    assert len(again) == 40 and len(again.captions) == 40 and len(again.scenes) == 40
    images, depths = again.rows(torch.arange(40))
    first = {row: n for n, row in enumerate(again._rows)}
    for row in (0, 17, 39):
        example = render(mannequin, 900 + row, 64)
        assert (images[first[row]].numpy() == example.image).all() and (depths[first[row]].numpy() == example.depth).all()
        assert again.captions[first[row]][0] == example.caption
    with pytest.raises(ValueError, match="another kind"):
        streaming.StreamedRenders(tmp_path / "data", 128, 40, 900, "cpu")


@pytest.mark.slow
def test_one_run_ends_with_a_model_that_diffusers_and_the_backend_take(tmp_path):
    """Two tiny runs: the second goes on from the first's folder."""
    from diffusers import StableDiffusionControlNetPipeline

    from latentman.backend.models.loading import load as load_model

    def run(name, *more):
        command = [sys.executable, "-m", "tools.train_dressed_starter", "--device", "cpu", "--size", "128", "--pictures", "64"]
        command += [
            "--batch",
            "2",
            "--steps",
            "2",
            "--shown",
            "1",
            "--workers",
            "1",
            "--minutes",
            "5",
            "--work",
            str(tmp_path / name),
        ]
        command += ["--out", str(tmp_path / name / "model"), *more]
        subprocess.run(command, cwd=ROOT, check=True, timeout=900)
        return json.loads((tmp_path / name / "figures.json").read_text())

    figures = run("first", "--parts", str(tmp_path / "parts"))
    assert figures["steps"] == 2 and figures["pictures"] == 64 and figures["bytes"] < 60e6
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "parts").glob("model.tar.*")))
    (tmp_path / "model.tar").write_bytes(whole)
    with tarfile.open(tmp_path / "model.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = tmp_path / "unpacked" / "model"
    again = run("second", "--start", str(folder))
    assert again["steps"] == 2
    for made in (folder, tmp_path / "second" / "model"):
        pipeline = StableDiffusionControlNetPipeline.from_pretrained(made)
        pipeline.load_lora_weights(made, weight_name="few_steps.safetensors")
        assert pipeline.unet.peft_config
        assert load_model(str(made), torch.device("cpu")).latent_channels == 4
