"""AnimateDiff, a family of clips: a tiny random model of the real classes, compared with diffusers' own pipeline and taken through
the whole method. ``docs/models.md`` has a table of what is asserted here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from latentman.backend.__main__ import main
from latentman.backend.models.families import AnimateDiff, StableDiffusion
from latentman.backend.models.identity import identify
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.registry import find_model, fingerprint
from latentman.shared.shot import Sampling, ShotError
from tests.backend import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "module"
    tiny.write_motion_module(folder)
    return folder


@pytest.fixture(scope="module")
def name(tiny: str, module: Path) -> str:
    return f"{tiny}|motion={module}"


@pytest.fixture(scope="module")
def model(name: str) -> ImageModel:
    return load(name, CPU)


def test_a_motion_module_makes_a_model_of_clips(name, module, model, tmp_path):
    """It is in the UNet once, with the noise that it was trained with; a model without it is as ever."""
    assert isinstance(model.family, AnimateDiff) and model.family.kind == "clip"
    assert model.family.get_window(model.denoiser.config) == 16
    assert model.pipeline.motion_adapter is None and model.pipeline.scheduler.config.beta_schedule == "linear"
    check_model(name, 64, 64, Sampling(steps=3))
    plain = load(name.partition("|")[0], CPU)
    assert type(plain.family) is StableDiffusion and plain.family.kind == "frames"
    assert plain.pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert find_model(name).motion == str(module)
    copy = shutil.copytree(module, tmp_path / "animatediff-lightning-4step")
    other = name.replace(str(module), str(copy))
    # what it is counts elsewhere, where it lies counts here
    assert identify(name) == identify(other) != identify(name.partition("|")[0])
    assert fingerprint(name) != fingerprint(other)
    # modules for few steps say so in their names
    profile = find_profile(other)
    assert (profile.distilled, profile.steps, profile.guidance_scale) == ("lightning", 4, 1.0)
    assert profile.origins["steps"] == "motion module animatediff-lightning-4step" and not find_profile(name).distilled


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("sdxl")
    tiny.write_sdxl(root)
    return str(root)


def test_what_does_not_go_together_is_refused(tiny, sdxl, module, tmp_path):
    """In a sentence, before anything is loaded and when it is."""
    config = json.loads((module / "config.json").read_text(encoding="utf-8"))

    def write(folder: str, **changes: Any) -> Path:
        made = shutil.copytree(module, tmp_path / folder)
        (made / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        return made

    file = tmp_path / "mm_sd_v15.safetensors"
    shutil.copy(next(module.glob("*.safetensors")), file)
    for base, motion, said in (
        (sdxl, module, "is for Stable Diffusion 1.x, and the model .* is another kind"),
        (tiny, write("wide", block_out_channels=[16, 64]), r"its block_out_channels are \[16, 64\], the model's \[16, 32\]"),
        (tiny, write("pia", conv_in_channels=9), "it is one for animating pictures"),
        (tiny, write("unet", _class_name="UNet2DConditionModel"), "it is a UNet2DConditionModel"),
        (tiny, file, "there is no config.json"),
        (tiny, tmp_path / "nowhere", "nowhere"),
        (tiny, f"{module}|motion={module}", "several motion modules"),
    ):
        for ask in (lambda one: check_model(one, 64, 64), lambda one: load(one, CPU)):
            with pytest.raises(ShotError, match=said):
                ask(f"{base}|motion={motion}")


def test_inspect_says_what_it_is(module, tmp_path, capsys):
    """The folder of a module, one that cannot be used, and a module in a single file."""
    assert main(["models", "inspect", str(module)]) == 0
    said = capsys.readouterr().out
    assert "a motion module of AnimateDiff (MotionAdapter)" in said and "sd15|motion=module" in said
    tiny.write_motion_module(tmp_path / "pia", conv_in_channels=9)
    file = tmp_path / "mm_sd_v15.safetensors"
    shutil.copy(next(module.glob("*.safetensors")), file)
    for path, why in ((tmp_path / "pia", "one for animating pictures"), (file, "choose the module's diffusers folder")):
        assert main(["models", "inspect", str(path)]) == 1
        assert why in capsys.readouterr().out
