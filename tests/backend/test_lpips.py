"""LPIPS along exact matches, against a plain forward pass with random weights."""

from __future__ import annotations

import importlib.machinery

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.metrics import lpips  # noqa: E402
from latentman.backend.metrics.clip_measurer import measure_clip  # noqa: E402
from latentman.backend.metrics.frames import prepare_frame  # noqa: E402
from tests import samples  # noqa: E402

SHAPES = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights as torchvision's file and the package's have them; the latter is from before torch 1.6."""
    folder, random = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    network = {}
    for at, (out, channels, kernel) in zip((0, 3, 6, 8, 10), SHAPES, strict=True):
        network[f"features.{at}.weight"] = torch.randn((out, channels, kernel, kernel), generator=random) / kernel / channels**0.5
        network[f"features.{at}.bias"] = torch.randn(out, generator=random) * 0.1
    network["classifier.6.bias"] = torch.zeros(1000)
    vectors = {f"lin{n}.model.1.weight": torch.rand((1, shape[0], 1, 1), generator=random) for n, shape in enumerate(SHAPES)}
    checkpoints, weights = folder / "hub" / "checkpoints", folder / "lpips" / "weights" / "v0.1"
    checkpoints.mkdir(parents=True)
    weights.mkdir(parents=True)
    torch.save(network, checkpoints / "alexnet-owt-7be5be79.pth")
    torch.save(vectors, weights / "alex.pth", _use_new_zipfile_serialization=False)
    return folder, network, vectors


@pytest.fixture
def at_hand(files, monkeypatch):
    """The files are where torch and Python would look for them."""
    folder = files[0]
    spec = importlib.machinery.ModuleSpec("lpips", None, origin=str(folder / "lpips" / "__init__.py"))
    monkeypatch.setattr(lpips.importlib.util, "find_spec", lambda name: spec if name == "lpips" else None)
    monkeypatch.setattr(lpips.torch.hub, "get_dir", lambda: str(folder / "hub"))
    lpips.find_distance.cache_clear()
    yield folder
    lpips.find_distance.cache_clear()


def compute_plainly(one: np.ndarray, other: np.ndarray, network, vectors) -> float:
    """The distance by the paper's formula, layer by layer, in float64."""
    functional, total, features = torch.nn.functional, 0.0, []
    for image in (one, other):
        x = torch.from_numpy(image.astype(np.float64) / 127.5 - 1).permute(2, 0, 1)[None]
        x = (x - torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]) / torch.tensor(
            [0.458, 0.448, 0.450], dtype=torch.float64
        )[:, None, None]
        found = []
        for at, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            if at in (3, 6):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = (network[f"features.{at}.{kind}"].double() for kind in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, stride, padding).clamp(min=0)
            found.append(x[0].numpy() / (np.linalg.norm(x[0].numpy(), axis=0) + 1e-10))
        features.append(found)
    for n, (a, b) in enumerate(zip(*features, strict=True)):
        weight = vectors[f"lin{n}.model.1.weight"].double().numpy().reshape(-1)
        total += float(np.einsum("c,chw->hw", weight, (a - b) ** 2).mean())
    return total


def test_the_distance_is_the_papers(at_hand, files, rng):
    one, other = rng.integers(0, 256, (2, 80, 96, 3)).astype(np.float64)
    found = lpips.find_distance()
    assert found(one, other) == pytest.approx(compute_plainly(one, other, *files[1:]), rel=1e-4)
    assert found(one, one) == 0


def test_a_texture_that_sticks_to_the_surface_has_not_changed_and_one_that_flickers_has(at_hand, rng):
    passes = samples.passes(4, 96, 0)
    rest = passes.rest_position.astype(np.float64)
    sticking = np.clip(128 + 90 * np.sin(rest * 9), 0, 255).astype(np.uint8)
    flickering = np.clip(sticking + rng.normal(0, 30, sticking.shape), 0, 255).astype(np.uint8)
    away = np.where(passes.mask[..., None] > 0, sticking, rng.integers(0, 256, sticking.shape)).astype(np.uint8)
    values = [
        measure_clip(clip, passes, only=("hmse",), more=lpips.make_perceptual_change())["lpips"]
        for clip in (sticking, flickering, away)
    ]
    assert values[0] < 0.1 * values[1]
    assert values[2] == pytest.approx(values[0], abs=0.02 * values[1]), "what is off the surface takes no part"


def test_frames_without_a_common_surface_are_not_compared(at_hand, rng):
    passes = samples.passes(2, 64, 0)
    empty = type(passes)(**{name: np.zeros_like(array) for name, array in passes.arrays().items()})
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert lpips.lay_over(prepare_frame(1, image, passes.select([1])), prepare_frame(0, image, empty.select([0]))) is None


def test_small_pictures_are_large_enough_for_the_network(at_hand, rng):
    passes = samples.passes(2, 32, 0)
    image = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    laid = lpips.lay_over(*(prepare_frame(n, image[n], passes.select([n])) for n in (1, 0)))
    assert min(laid[0].shape[:2]) >= lpips.LEAST_SIDE and np.isfinite(lpips.find_distance()(*laid))


@pytest.mark.parametrize("lacking", ["package", "backbone", "other", "damaged"])
def test_without_its_files_it_is_left_out(at_hand, lacking, monkeypatch, tmp_path, caplog):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    if lacking == "package":
        monkeypatch.setattr(lpips.importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(lpips.torch.hub, "get_dir", lambda: str(tmp_path))
    if lacking == "other":
        torch.save({"features.0.weight": torch.zeros(3)}, checkpoints / "alexnet-owt-00000000.pth")
    if lacking == "damaged":
        (checkpoints / "alexnet-owt-00000000.pth").write_bytes(b"PK\x03\x04 cut off")
    lpips.find_distance.cache_clear()
    assert lpips.make_perceptual_change() == {}
    assert ("lpips is left out" in caplog.text) == (lacking in ("other", "damaged"))
