"""Diffusers folders as people have them: in half precision only, in shards, without parts that nobody needs, with odd weights."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from latentman.backend.models.loading import load
from latentman.backend.models.registry import find_model
from latentman.backend.models.weight_forms import choose_form, list_forms
from latentman.shared.load_options import LoadOptions
from latentman.shared.shot import ShotError
from tests.backend import tiny

CPU = torch.device("cpu")
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
STEMS |= {"controlnet": "diffusion_pytorch_model"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A whole model, and its base and its ControlNet apart."""
    root = tmp_path_factory.mktemp("originals")
    tiny.write_sd(root)
    return root


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of the whole model."""
    return shutil.copytree(originals / "whole", tmp_path / "whole")


def _weights(folder, part):
    return folder / part / f"{STEMS[part]}.safetensors"


def _list_weights(model):
    networks = {"unet": model.unet, "vae": model.pipeline.vae, "text_encoder": model.pipeline.text_encoder}
    networks["controlnet"] = model.controlnet
    return {f"{part}.{name}": value for part, network in networks.items() for name, value in network.state_dict().items()}


def _compare(folder, originals, tolerance=0.0, options=None):
    """Load a folder and compare all its weights with the original's; the model."""
    truth, found = _list_weights(load(str(originals / "whole"), CPU)), load(str(folder), CPU, options)
    made = _list_weights(found)
    assert made.keys() == truth.keys()
    assert all((made[name].float() - truth[name].float()).abs().max() <= tolerance for name in truth)
    return found


def test_a_folder_in_half_precision_only(folder, originals):
    for part in STEMS:
        state = load_file(_weights(folder, part))
        save_file({name: value.half() for name, value in state.items()}, folder / part / f"{STEMS[part]}.fp16.safetensors")
        _weights(folder, part).unlink()
    assert not _compare(folder, originals, 2e-3).warnings


def test_the_precision_that_suits_is_taken_where_there_are_both(folder, originals):
    for part in STEMS:
        state = load_file(_weights(folder, part))
        save_file({name: value.half() + 1 for name, value in state.items()}, folder / part / f"{STEMS[part]}.fp16.safetensors")
    _compare(folder, originals)
    half = _list_weights(load(str(folder), CPU, LoadOptions(dtype="bfloat16")))
    truth = _list_weights(load(str(originals / "whole"), CPU))
    name = "unet.conv_in.bias"
    assert half[name].dtype == torch.bfloat16 and (half[name].float() - truth[name] - 1).abs().max() < 0.02


@pytest.mark.parametrize("part", STEMS)
@pytest.mark.parametrize("variant", ["", "fp16"])
def test_weights_in_shards(folder, originals, part, variant):
    network = load(str(originals / "whole"), CPU)
    network = {**network.pipeline.components}[part]
    shutil.rmtree(folder / part)
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    network.save_pretrained(folder / part, max_shard_size=size // 3, **({"variant": variant} if variant else {}))
    assert len(list((folder / part).glob("*.safetensors"))) > 1
    assert not _compare(folder, originals).warnings
    sorted((folder / part).glob("*-of-*"))[0].unlink()
    with pytest.raises(ShotError, match=r"1 of \d+ files are missing, such as number 1; download the model again"):
        load(str(folder), CPU)


@pytest.mark.parametrize("part", STEMS)
def test_pickled_weights(folder, originals, part):
    state = load_file(_weights(folder, part))
    torch.save(state, folder / part / ("pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"))
    _weights(folder, part).unlink()
    assert not _compare(folder, originals).warnings


def test_parts_that_nothing_uses_may_be_missing(originals, tmp_path):
    base = shutil.copytree(originals / "base", tmp_path / "base")
    index = json.loads((base / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["requires_safety_checker"] = True
    (base / "model_index.json").write_text(json.dumps(index))
    model = load(f"{base}|{originals / 'control'}", CPU)
    assert model.pipeline.safety_checker is None and not model.warnings


@pytest.mark.parametrize("part", STEMS)
def test_a_missing_weight_is_an_error_and_one_too_many_a_warning(folder, part):
    state = load_file(_weights(folder, part))
    victim = sorted(name for name in state if name.endswith("weight"))[1]
    save_file(state | {"more.weight": torch.zeros(3)}, _weights(folder, part))
    (said,) = load(str(folder), CPU).warnings
    assert "1 of the weights of the" in said and "'more.weight'" in said
    del state[victim]
    save_file(state, _weights(folder, part))
    with pytest.raises(ShotError, match=r"lacks 1 weights, such as '.*'; download the model again"):
        load(str(folder), CPU)


@pytest.mark.parametrize("part", STEMS)
def test_a_weight_of_another_shape_is_an_error(folder, part):
    state = load_file(_weights(folder, part))
    victim = sorted(name for name in state if name.endswith("weight"))[1]
    state[victim] = torch.zeros(2, *state[victim].shape)
    save_file(state, _weights(folder, part))
    with pytest.raises(ShotError, match=r"cannot be loaded|has other shapes"):
        load(str(folder), CPU)


@pytest.mark.parametrize("part", STEMS)
def test_a_part_without_weights_is_an_error(folder, part):
    _weights(folder, part).unlink()
    with pytest.raises(ShotError, match="has no weights; download the model again"):
        load(str(folder), CPU)
    shutil.rmtree(folder / part)
    with pytest.raises(ShotError, match=r"lacks the folder|Name a depth ControlNet"):
        load(str(folder), CPU)


@pytest.mark.parametrize("text", ["", "[]", '{"unet": ["diffusers", "os"]}', '{"unet": ["os", "system"]}', " " * 2**21])
def test_an_index_that_is_none(folder, text):
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ShotError, match=r"download the model again|which is not known|cannot be loaded"):
        load(str(folder), CPU)


def _write_base(path, width):
    """The configurations of a base model, and a ControlNet file for it."""
    shape = dict(
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    )
    (path / "unet").mkdir(parents=True)
    (path / "model_index.json").write_text("{}")
    (path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
    return shape


@pytest.mark.parametrize(
    "place",
    [
        "models/ControlNet/control_v11f1p_sd15_depth.safetensors",
        "models/controlnet/1.5/Depth/mine_depth.safetensors",
        "extensions/sd-webui-controlnet/models/control_sd15_depth.safetensors",
    ],
)
def test_the_depth_controlnet_of_a_web_ui_is_found(tmp_path, place):
    base = tmp_path / "models" / "Stable-diffusion" / "mine"
    shape = _write_base(base, 768)
    assert find_model(str(base)).controls == (("depth", "lllyasviel/control_v11f1p_sd15_depth"),)
    with torch.device("meta"):
        UNet2DConditionModel(**shape, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    control = ControlNetModel(**shape, conditioning_embedding_out_channels=(4, 8))
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    # one for something else, one for another family, and no model at all
    for other in ("canny.safetensors", "a_depth_that_is_none.safetensors"):
        (path.parent / other).write_bytes(b"nothing")
    save_file(control.state_dict(), path)
    assert find_model(str(base)).controls == (("depth", str(path)),)
    (base / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 2048}))
    assert find_model(str(base)).controls == (("depth", "diffusers/controlnet-depth-sdxl-1.0"),)


def test_forms_of_weights():
    names = [
        "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
        "diffusion_pytorch_model-00001-of-00003.bin",
        "diffusion_pytorch_model.non_ema.safetensors",
        "config.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "sd_xl_base_1.0.safetensors",
    ]
    forms = {(form.variant, form.safe): form for form in list_forms(names)}
    assert set(forms) == {("fp16", True), ("", False), ("non_ema", True)}
    assert len(forms["fp16", True].files) == 2 and forms["", False].missing == (2, 3)
    assert choose_form(names, half=True).variant == choose_form(names, half=False).variant == "fp16"
    assert choose_form(["model.fp16.safetensors", "pytorch_model.bin"], half=False).safe
    assert choose_form(["model.safetensors", "model.fp16.safetensors"], half=False).variant == ""
    assert choose_form(["readme.md"], half=False) is None
