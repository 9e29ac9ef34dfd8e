"""Weights in fewer bits: what is asked for, what it takes, and frames with them where the library is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytest.importorskip("torch")

import torch

from latentman.backend.__main__ import main
from latentman.backend.models import loading, quantization
from latentman.backend.models.family_layouts import LAYOUTS
from latentman.backend.models.loading import load
from latentman.backend.models.memory_need import estimate_need
from latentman.backend.models.network_shapes import list_networks
from latentman.backend.models.placement import describe_plan
from latentman.backend.models.quantization import Quantization, choose_quantization
from latentman.backend.models.registry import find_model
from latentman.backend.models.transformer_plans import READ_ALONE
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.shared.load_options import LoadOptions
from latentman.shared.shot import ShotError
from tests import samples
from tests.backend import tiny
from tests.backend.test_transformer_files import make_place
from tools import transformer_layouts

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("z_image"), "z_image")


def test_what_is_not_possible_is_a_sentence(monkeypatch):
    """Before anything is loaded: other families, devices, and packages that are not there."""
    flux = next(layout for layout in LAYOUTS if layout.name == "flux")
    assert choose_quantization(LoadOptions(), flux, CPU, torch.float32) is None
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    for weights, layout, device, said in (
        ("8bit", None, CPU, "Only families of transformers"),
        ("4bit", flux, CPU, "4 bits need a CUDA device, and this is cpu; choose 8bit"),
        ("8bit", flux, CPU, "8 bits need the package torchao, which is not installed"),
        ("4bit", flux, CUDA, "4 bits need the package bitsandbytes, which is not installed"),
    ):
        with pytest.raises(ShotError, match=said):
            choose_quantization(LoadOptions(weights=weights), layout, device, torch.float32)
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    found = choose_quantization(LoadOptions(weights="4bit"), flux, CUDA, torch.bfloat16)
    assert found == Quantization("bitsandbytes", 4.5, torch.bfloat16)
    with pytest.raises(ShotError, match="from diffusers folders only"):
        choose_quantization(LoadOptions(weights="4bit"), flux, CUDA, torch.bfloat16, from_file=True)
    # a library that does nothing is no success
    with pytest.raises(ShotError, match="bitsandbytes left the weights as they are"):
        found.check(torch.nn.Linear(2, 2))


def test_a_model_with_a_unet_keeps_its_weights(tmp_path):
    tiny.write_sd(tmp_path)
    with pytest.raises(ShotError, match="leave the weights at auto"):
        load(f"{tmp_path / 'base'}|{tmp_path / 'control'}", CPU, LoadOptions(weights="8bit"))


def test_fewer_bits_take_less(place):
    """The matrices of the transformer and of the text encoder do, and nothing else."""
    networks = list_networks(find_model(f"{place.base}|depth={place.control}"))
    needs = {bits: estimate_need(networks, 64, 64, torch.bfloat16, bits=bits) for bits in (None, 8.0, 4.5)}
    plain = needs[None].weights
    with torch.device("meta"):
        matrices = sum(layer.weight.numel() for layer in networks["transformer"]().modules() if isinstance(layer, torch.nn.Linear))
    for bits in (8.0, 4.5):
        weights = needs[bits].weights
        assert plain["transformer"] - weights["transformer"] == pytest.approx(matrices * (2 - bits / 8), abs=1)
        assert weights["text_encoder"] < plain["text_encoder"]
        assert all(weights[part] == plain[part] for part in ("vae", "controlnet_0"))


def test_inspect_says_what_fits_where(place, capsys):
    """By part, and on usual GPUs."""
    assert main(["models", "inspect", str(place.base), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "Its parts are transformer" in said and "text_encoder" in said
    for how in ("bfloat16", "weights of 8 bits", "weights of 4 bits"):
        assert f"On a GPU in {how}" in said
    assert "all at once with 6, 8, 12, 16, 24 GB" in said
    with pytest.raises(ShotError, match="need a CUDA device"):
        describe_plan(str(place.base), LoadOptions(device="cpu", weights="4bit"), (64, 64))


def test_files_are_not_offered_what_only_folders_take(place, monkeypatch):
    """Weights of 4 bits; they are refused before anything is loaded."""
    path = place.write("alone.safetensors", transformer_layouts.to_original("z_image", place.state))
    said = "\n".join(describe_plan(str(path), LoadOptions(device="cpu"), (64, 64)))
    assert "weights of 8 bits" in said and "weights of 4 bits" not in said
    monkeypatch.setattr(loading, "_load_pipeline", None)
    options = LoadOptions(device="cpu", weights="4bit")
    for ask in (lambda: load(f"{path}|depth={place.control}", CPU, options), lambda: describe_plan(str(path), options, (64, 64))):
        with pytest.raises(ShotError, match="from diffusers folders only"):
            ask()


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
@pytest.mark.parametrize("family", READ_ALONE)
def test_frames_with_weights_of_8_bits_are_nearly_those_of_all(tmp_path, family):
    """From a folder and from a file, the same ones."""
    place = make_place(tmp_path, family)
    path = place.write("alone.safetensors", transformer_layouts.to_original(family, place.state))
    request, passes = samples.request(1, preset="surface", steps=2, guidance_scale=1.0), samples.passes(1, 64)
    made = []
    for base, weights in ((place.base, "auto"), (place.base, "8bit"), (path, "8bit")):
        model = load(f"{base}|depth={place.control}", CPU, LoadOptions(weights=weights))
        assert any("weights of 8 bits (torchao)" in sentence for sentence in model.warnings) == (weights == "8bit")
        made.append(ShotPipeline(model, request, passes, RunContext()).latents())
    whole, folder, file = made
    assert torch.allclose(folder, file, atol=1e-4)
    assert 0 < float((whole - folder).std()) < 0.1 * float(whole.std())
