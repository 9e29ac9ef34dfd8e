"""Figures on constructed clips whose right answers are known, and the evaluator around them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.metrics.baselines import bake_texture, blur, sample_bilinear  # noqa: E402
from latentman.backend.metrics.clip_measurer import measure_clip  # noqa: E402
from latentman.backend.metrics.consistency import background_error  # noqa: E402
from latentman.backend.metrics.evaluator import COLUMNS, Evaluator, Shot, compute_means  # noqa: E402
from latentman.backend.metrics.figures import OPTIONAL  # noqa: E402
from latentman.backend.metrics.pictures import (  # noqa: E402
    boundary_contrast,
    boundary_f_measure,
    detail,
    segment_characters,
    silhouette_iou,
)
from latentman.backend.metrics.report import format_table, make_flicker_maps, write_report  # noqa: E402
from latentman.backend.metrics.surface import (  # noqa: E402
    compute_cell_colours,
    hmse,
    reappearance,
    shading_std,
    surface_variance,
    warp_error,
)
from latentman.backend.metrics.variants import VARIANTS, make_sweep  # noqa: E402
from latentman.backend.models.loading import load  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.shot import Sampling  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend import tiny  # noqa: E402
from tests.checkout import ROOT  # noqa: E402

FRAMES = 6


@pytest.fixture
def passes():
    """A disc that moves by three pixels a frame."""
    return samples.passes(FRAMES, 64, 3)


def _paint(passes, background=30):
    """A checkered texture that sticks to the surface, (F, H, W, 3) uint8."""
    u, v = (np.floor(passes.rest_position[..., axis] * 100 / 2 + 0.5).astype(int) for axis in (0, 1))
    checks = np.where((u + v) % 2 == 0, 90, 160)
    image = np.where(passes.mask > 0, checks, background)
    return np.repeat(image[..., None], 3, -1).astype(np.uint8)


def _brightened(images, passes, amounts):
    out = images.astype(int)
    for n, amount in enumerate(amounts):
        out[n][passes.mask[n] > 0] += amount
    return out.clip(0, 255).astype(np.uint8)


def test_a_texture_that_sticks_does_not_flicker(passes):
    images = _paint(passes)
    colours = compute_cell_colours(images, passes)
    assert hmse(images, passes) == 0 and background_error(images, passes) == 0
    assert surface_variance(colours, "low", None) < 1 and surface_variance(colours, "high", 1) < 1 and shading_std(colours) < 1


def test_alternating_brightness_is_measured_in_floats(passes):
    """Steps of 20 are 400 squared, not 400 modulo 256: the uint8 trap."""
    images = _brightened(_paint(passes), passes, [0, 20] * 3)
    assert hmse(images, passes) == pytest.approx(400, rel=1e-6)
    big = _brightened(_paint(passes), passes, [-60, 60] * 3)
    assert hmse(big, passes) == pytest.approx(120**2, rel=1e-6)
    colours = compute_cell_colours(images, passes)
    # at each point half the frames are 10 above and half 10 below the mean: a low-band variance of 100
    assert surface_variance(colours, "low", None) == pytest.approx(100, rel=0.05)
    assert surface_variance(colours, "low", 1) == pytest.approx(200, rel=0.05)
    assert surface_variance(colours, "low", 2) == pytest.approx(0, abs=0.5)
    assert surface_variance(colours, "high", None) < 5 and shading_std(colours) == pytest.approx(10, rel=0.03)


def test_texture_that_swims_is_seen_in_the_high_band(passes):
    rows, cols = np.mgrid[0:64, 0:64]
    screen = np.where((rows // 2 + cols // 2) % 2 == 0, 90, 160)  # stays on the screen while the body moves on
    moved = np.repeat(np.where(passes.mask > 0, screen, 30)[..., None], 3, -1).astype(np.uint8)
    colours = compute_cell_colours(moved, passes)
    assert hmse(moved, passes) > 500 and surface_variance(colours, "high", None) > 100
    assert surface_variance(colours, "high", None) > 3 * surface_variance(colours, "low", None)


def test_the_cyclic_figure_counts_the_last_pair(passes):
    images = _brightened(_paint(passes), passes, [0, 0, 0, 0, 0, 30])
    assert hmse(images, passes) == pytest.approx(900 / 5, rel=0.02)
    assert measure_clip(images, passes)["hmse_cyclic"] == pytest.approx(2 * 900 / 6, rel=0.02)


def test_warping_along_motion_vectors(passes):
    motion = np.zeros((*passes.mask.shape, 2), np.float32)
    motion[passes.mask > 0] = (-3, 0)
    moving = replace(passes, motion_vectors=motion)
    images = _brightened(_paint(passes), passes, [0, 10] * 3)
    assert warp_error(images, moving) == pytest.approx(100, rel=1e-6)
    assert np.isnan(warp_error(images, passes))


def test_only_what_was_hidden_long_enough_reappears():
    passes = samples.passes(8, 64, 0)
    hidden = {name: array.copy() for name, array in passes.arrays().items()}
    for array in hidden.values():
        array[2:7] = 0  # five frames without the character
    shot = FramePasses(**hidden)
    images = _paint(passes)
    assert reappearance(compute_cell_colours(images, shot)) == pytest.approx(0, abs=1)
    images = _brightened(images, passes, [0] * 7 + [25])
    assert reappearance(compute_cell_colours(images, shot)) == pytest.approx(625, rel=0.02)
    assert np.isnan(reappearance(compute_cell_colours(images, passes)))


def test_a_blur_has_less_detail_and_wins_nothing_else(passes, rng):
    noisy = (_paint(passes).astype(int) + rng.integers(-40, 40, (FRAMES, 64, 64, 1))).clip(0, 255).astype(np.uint8)
    blurred = blur(noisy)
    assert detail(noisy, noisy, passes) == pytest.approx(1) and detail(blurred, noisy, passes) < 0.4
    assert hmse(blurred, passes) < hmse(noisy, passes), "flicker alone would like the blur better"


def test_a_bake_is_steady_and_dead(passes):
    lively = _brightened(_paint(passes), passes, [0, 10, 20, 30, 20, 10])
    baked = bake_texture(lively, passes)
    assert hmse(baked, passes) < 1 < 50 < hmse(lively, passes)
    assert shading_std(compute_cell_colours(baked, passes)) < 1.5 < 8 < shading_std(compute_cell_colours(lively, passes))
    assert (baked[passes.mask == 0] == lively[passes.mask == 0]).all()


def test_bilinear_reading():
    image = np.arange(12, dtype=float).reshape(2, 2, 3)
    np.testing.assert_allclose(sample_bilinear(image, np.array([[1.0, 1.0], [0.5, 0.5]])), [image.mean((0, 1)), image[0, 0]])


def test_the_silhouette_is_where_the_depth_says(passes, rng):
    images = _paint(passes)
    away = np.roll(images, 18, 1)
    noise = rng.integers(0, 255, images.shape).astype(np.uint8)
    found = {name: segment_characters(clip, passes) for name, clip in (("in place", images), ("away", away), ("noise", noise))}
    assert silhouette_iou(found["in place"], passes) > 0.95
    assert silhouette_iou(found["away"], passes) < 0.7 and silhouette_iou(found["noise"], passes) < 0.6
    assert boundary_f_measure(found["in place"], passes) > 0.95
    assert boundary_f_measure(found["away"], passes) < 0.6 and boundary_f_measure(found["noise"], passes) < 0.6
    flat = _paint(passes)
    flat[passes.mask > 0] = 120  # the checks themselves have edges
    assert boundary_contrast(flat, passes) > 5 and boundary_contrast(np.roll(flat, 18, 1), passes) < 2
    assert boundary_contrast(noise, passes) == pytest.approx(1, abs=0.1)


def test_the_boundary_f_measure_is_the_harmonic_mean_of_precision_and_recall():
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 10:50, 10:50] = True
    passes = samples.passes(1, 64, 0)
    square = FramePasses(**(passes.arrays() | {"mask": mask.astype(np.uint8), "part": mask.astype(np.uint8)}))
    assert boundary_f_measure(mask, square) == 1
    assert boundary_f_measure(np.roll(mask, 2, 2), square) == 1, "two pixels are within the tolerance"
    assert boundary_f_measure(np.zeros_like(mask), square) == 0
    # the left half of the square: of its 116 boundary pixels the 36 of the cut's inner part are wrong, and of the square's 156
    # boundary pixels the 74 beyond the cut and its tolerance are missed
    half = mask & (np.arange(64) < 30)
    precision, recall = 80 / 116, 82 / 156
    assert boundary_f_measure(half, square) == pytest.approx(2 * precision * recall / (precision + recall), abs=0.01)


def test_nothing_to_compare_is_not_a_number(passes):
    empty = FramePasses(**{name: np.zeros_like(array) for name, array in passes.arrays().items()})
    images = _paint(passes)
    assert np.isnan(hmse(images, empty)) and compute_cell_colours(images, empty) is None
    assert all(np.isnan(f(None)) for f in (shading_std, reappearance))
    nothing = segment_characters(images, empty)
    assert not nothing.any() and all(np.isnan(f(nothing, empty)) for f in (silhouette_iou, boundary_f_measure))
    assert np.isnan(boundary_contrast(images, empty))
    assert np.isnan(hmse(images[:1], FramePasses(**{n: a[:1] for n, a in passes.arrays().items()})))


PEAK = """
import numpy as np, torch
from latentman.backend.metrics.peak_memory import PeakMemory
with PeakMemory(torch.device("cpu")) as memory:
    held = np.ones(60_000_000, np.uint8)
    for _ in range(20):
        held += 1
print(memory.megabytes)
"""


def test_peak_memory_sees_an_allocation():
    """In a process of its own: what other tests free meanwhile would count against it."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120, check=True)
    assert 30 < float(done.stdout.split()[-1]) < 500


def test_flicker_maps_are_dark_where_nothing_changes(passes):
    images = _brightened(_paint(passes), passes, [0, 0, 60, 60, 60, 60])
    found = make_flicker_maps(images, passes)
    assert (found[1][passes.mask[1] > 0] == 0).all() and (found[2][passes.mask[2] > 0] == 255).mean() > 0.9


@pytest.mark.parametrize("suite", ["paper", "sweep", "parts", "surface", "motion"])
def test_stored_tables_name_figures_as_the_code_does(suite):
    head = (ROOT / "docs" / "results" / suite / "results.md").read_text().splitlines()[0].strip("| ").split(" | ")
    assert head[0] == "variant" and set(head[1:]) <= set(COLUMNS)


def test_tables_show_the_figures_and_those_of_other_packages(passes):
    figures = measure_clip(_paint(passes), passes)
    assert {"surface_variance_low_lag1", "surface_variance_high_lag8"} <= set(figures) - set(COLUMNS)
    head = format_table({"painted": figures | {"lpips": 0.25}}).splitlines()[0].strip("| ").split(" | ")
    assert head[-1] == "lpips" and set(head[1:-1]) <= set(COLUMNS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model's folder."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_sd(root)
    return root / "whole"


def test_the_evaluator_continues_where_it_was_stopped(model, tmp_path):
    said = []
    shot = Shot("disc", samples.passes(3, 64, 3))
    evaluator = Evaluator(tmp_path, load(str(model), torch.device("cpu")), Sampling(steps=2), said.append)
    chosen = {name: VARIANTS[name] for name in ("cross_frame", "latentman")}
    rows = evaluator.run([shot], ("a man", "a woman"), (1,), chosen)
    assert len(said) == 6 and {row["variant"] for row in rows} == {"cross_frame", "latentman", "blurred", "bake"}
    (folder,) = (tmp_path / "disc" / "2-1").glob("latentman-*")
    (folder / "0002.png").unlink()
    assert evaluator.run([shot], ("a man", "a woman"), (1,), chosen)[0]["hmse"] == rows[0]["hmse"]
    assert len(said) == 7, "only the run with a missing frame is made again"
    elsewhere = {"named_colours", *(figure.name for figure in OPTIONAL)}
    assert set(COLUMNS) - elsewhere <= set(rows[0]), "the report shows figures that are computed"
    table = compute_means(rows)
    assert table["blurred"]["detail"] < table["cross_frame"]["detail"] and table["latentman"]["seconds_per_frame"] > 0
    write_report(rows, {"disc": shot}, tmp_path, "<Test>", "command")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;Test&gt;" in page and "image/webp" in page and (tmp_path / "contact_sheet.png").exists()
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == len(rows)
    assert (tmp_path / "results.csv").read_text().count("\n") == len(rows) + 1


def test_the_command_evaluates_saved_shots(model, tmp_path, capsys):
    passes, _ = samples.passes(3, 64, 3), None
    manifest = PassesManifest(64, 64, 20.0, (1, 2, 3), 2.0, 4.0)
    passes_folder.save(tmp_path / "disc", passes, manifest)
    figures = tmp_path / "figures.json"
    arguments = [
        "evaluate",
        str(tmp_path / "disc"),
        "--model",
        str(model),
        "--steps",
        "2",
        "--prompt",
        "a man",
        "--seed",
        "4",
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(figures),
        "--variants",
    ]
    assert main([*arguments, "cross_frame,sla_until_0.2"]) == 0
    table = json.loads(figures.read_text())
    assert set(table) == {"cross_frame", "sla_until_0.2", "blurred", "bake"} and table["cross_frame"]["hmse"] >= 0
    assert main([*arguments, "nonsense"]) == 2
    assert "no variant 'nonsense'" in capsys.readouterr().err
    assert {"sla_until_0.4", "pwg_rho_0.01"} <= set(make_sweep())
