"""Transformers and their ControlNets in single files, written as others write them: found, loaded to the same weights as their
folders, or refused in a sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from diffusers import SD3ControlNetModel, WanVACETransformer3DModel, ZImageControlNetModel
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.models import transformer_files
from latentman.backend.models.families import family_of_layout
from latentman.backend.models.family_layouts import LAYOUTS
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.library.inspection import Inspected, inspect_candidate, inspect_configuration
from latentman.backend.models.library.scanning import Candidate
from latentman.backend.models.loading import load
from latentman.backend.models.placement import describe_plan
from latentman.backend.models.preflight import check_model
from latentman.backend.models.profiles import find_profile
from latentman.backend.models.quantization import Quantization
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import find_model, fingerprint
from latentman.backend.models.transformer_files import load_transformer_file
from latentman.backend.models.transformer_plans import READ_ALONE, find_transformer, plan_transformer
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.blender_addon.model_file_kind import guess_kind
from latentman.shared.load_options import LoadOptions
from latentman.shared.shot import Sampling, ShotError
from tests import samples
from tests.backend import tiny
from tools import tiny_transformers, transformer_layouts

CPU = torch.device("cpu")
PASSES = samples.passes(1, 64)
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Place:
    """Folders as web interfaces lay them out, with a tiny model of a family: files go into ``files``."""

    root: Path
    family: str
    state: State
    control_state: State

    @property
    def files(self) -> Path:
        return self.root / "models" / "diffusion_models"

    @property
    def base(self) -> Path:
        return self.root / "models" / "diffusers" / "base"

    @property
    def control(self) -> Path:
        return self.root / "control"

    def name(self, base: Path) -> str:
        """The name of a model with a base, and with its ControlNet where it takes one."""
        return f"{base}|depth={self.control}" if self.control_state else str(base)

    def write(self, name: str, state: State) -> Path:
        """A file, alone in its folder."""
        for old in self.files.iterdir():
            old.unlink()
        return write(self.files / name, state)


def write(path: Path, state: State) -> Path:
    """A file of weights."""
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    return path


def make_place(root: Path, family: str, **options: Any) -> Place:
    (root / "models" / "diffusion_models").mkdir(parents=True)
    getattr(tiny_transformers, f"write_{family}")(root, **options)
    (root / "models" / "diffusers").mkdir()
    (root / "base").rename(root / "models" / "diffusers" / "base")
    weights = "diffusion_pytorch_model.safetensors"
    state = load_file(root / "models" / "diffusers" / "base" / "transformer" / weights)
    control = root / "control" / weights
    return Place(root, family, state, load_file(control) if control.exists() else {})


@pytest.fixture(scope="module", params=READ_ALONE)
def place(request, tmp_path_factory) -> Place:
    return make_place(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def flux(tmp_path_factory) -> Place:
    return make_place(tmp_path_factory.mktemp("flux"), "flux")


def assert_same(network: torch.nn.Module, state: State, tolerance: float = 0.0) -> None:
    """Whether a network has these weights, and no others of its own."""
    own = network.state_dict()
    # those of Z-Image and Stable Diffusion 3 borrow layers of the base's
    borrowed = ("t_embedder", "all_x_embedder", "cap_", "noise_refiner", "context_refiner", "x_pad_token", "pos_embed.")
    is_control = "ControlNet" in type(network).__name__
    assert {name for name in own if not (is_control and name.startswith(borrowed) and name not in state)} == state.keys()
    for name, value in state.items():
        difference = (own[name].float() - value.float()).abs().max()
        assert difference <= tolerance * value.float().abs().max(), name


def assert_same_frame(*models: ImageModel) -> None:
    """Whether models make the same frame, but for what rounding does where weights lie elsewhere in memory."""
    request = samples.request(1, preset="per_frame", steps=2, guidance_scale=1.0)
    one, other = (ShotPipeline(model, request, PASSES, RunContext()).latents().numpy() for model in models)
    assert np.allclose(one, other, atol=1e-4)


# the files are those of others


@pytest.mark.parametrize("family", ["z_image", "sd3", "wan_vace"])
def test_files_are_written_as_diffusers_reads_them(family, tmp_path):
    """Its own converters give the weights back."""
    place = make_place(tmp_path, family)
    convert = {
        "z_image": single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
        "sd3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
        "wan_vace": single_file_utils.convert_wan_transformer_to_diffusers,
    }[family]
    found = convert(dict(transformer_layouts.to_original(family, place.state)))
    assert found.keys() == place.state.keys()
    assert all(torch.equal(found[name], value) for name, value in place.state.items())


def test_flux_is_read_as_diffusers_reads_it(flux):
    """Its converter knows FLUX.1's own width alone, so that names and shapes are compared, of weights without numbers."""
    config = {"axes_dims_rope": (16, 56, 56)}
    wide = {
        name: torch.empty([96 * side if side % 16 == 0 else side for side in value.shape], device="meta")
        for name, value in flux.state.items()
    }
    # every side is a multiple of the width but for those of what goes in and out, which nothing here looks at
    original = transformer_layouts.to_original("flux", wide)
    theirs = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    found = find_transformer({name: tuple(value.shape) for name, value in original.items()})
    ours = plan_transformer(found, config)
    assert ours.sources.keys() == theirs.keys()
    rows = {"attn.to_q": (0, 3072), "attn.to_k": (3072, 6144), "attn.to_v": (6144, 9216), "proj_mlp": (9216, None)}
    for name, kept in rows.items():
        assert ours.sources[f"single_transformer_blocks.0.{name}.weight"].rows == kept
        assert len(theirs[f"single_transformer_blocks.0.{name}.weight"]) == (kept[1] or 21504) - kept[0]


# transformers


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_a_transformer_alone_is_loaded(place, names, prefix):
    """To the last bit, and every weight has its place."""
    state = transformer_layouts.to_original(place.family, place.state) if names == "original" else place.state
    path = place.write("model.safetensors", {prefix + name: value for name, value in state.items()})
    network, _, warnings = load_transformer_file(path, place.base, torch.float32)
    assert_same(network, place.state)
    assert not any("no place" in sentence for sentence in warnings)


def test_all_else_is_from_a_folder(place):
    """The one that web interfaces keep such folders in; frames are those of that folder's own transformer."""
    path = place.write("model.safetensors", transformer_layouts.to_original(place.family, place.state))
    name = place.name(path)
    check_model(name, 64, 64, Sampling(steps=2))
    model = load(name, CPU)
    assert model.family is family_of_layout(next(one for one in LAYOUTS if one.name == place.family))
    assert any(str(place.base.resolve()) in sentence for sentence in model.warnings)
    assert_same_frame(model, load(place.name(place.base), CPU))


def test_the_folder_needs_no_transformer_of_its_own(flux, tmp_path):
    """Its configuration does; the folder may be named."""
    other = make_place(tmp_path, "flux")
    (other.base / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    path = write(tmp_path / "alone.safetensors", transformer_layouts.to_original("flux", flux.state))
    name = f"{path}|parts={other.base}|depth={other.control}"
    check_model(name, 64, 64)
    model = load(name, CPU)
    assert_same(model.denoiser, flux.state)
    assert not any(str(other.base) in sentence for sentence in model.warnings)
    before = fingerprint(name)
    (other.base / "scheduler" / "scheduler_config.json").write_text("{}", encoding="utf-8")
    assert fingerprint(name) != before


def test_weights_of_8_and_16_bits(place):
    """Rounded ones are taken as they are, scaled ones with their scales, whichever way these are written."""
    original = transformer_layouts.to_original(place.family, place.state)
    for name, state, tolerance in (
        ("bf16", {name: value.to(torch.bfloat16) for name, value in original.items()}, 0.01),
        ("fp8", {name: value.to(torch.float8_e4m3fn) if value.ndim == 2 else value for name, value in original.items()}, 0.07),
        ("scaled", transformer_layouts.scale_to_8_bits(original), 0.07),
        ("scaled_anew", transformer_layouts.scale_to_8_bits(original, new=True), 0.07),
    ):
        path = place.write(f"{name}.safetensors", {f"model.diffusion_model.{key}": value for key, value in state.items()})
        network, _, warnings = load_transformer_file(path, place.base, torch.float32)
        assert_same(network, place.state, tolerance)
        assert not any("no place" in sentence for sentence in warnings)
    assert inspect_model_file(
        place.write("bf16.safetensors", {name: value.bfloat16() for name, value in original.items()})
    ).precision == ("bfloat16")


def test_scales_count(flux):
    """Without them the weights would be others: some are far from 1."""
    state = transformer_layouts.scale_to_8_bits(flux.state)
    scales = [value for name, value in state.items() if name.endswith("scale_weight")]
    assert scales and max(float(scale) for scale in scales) < 0.01
    path = flux.write("a.safetensors", state)
    weights = load_transformer_file(path, flux.base, torch.float32)[0].state_dict()
    name = "transformer_blocks.0.attn.to_q.weight"
    assert weights[name].std() == pytest.approx(float(flux.state[name].std()), rel=0.02)


def test_other_quantizations_are_refused(flux):
    name = "transformer_blocks.0.attn.to_q"
    for added, said in (
        ({f"{name}.weight.absmax": torch.ones(4)}, "quantized, which is not supported"),
        # a scale for each row, or for blocks
        ({f"{name}.weight_scale": torch.ones(32, 1)}, "quantized, which is not supported"),
        ({f"{name}.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)}, "quantized as nvfp4"),
        ({f"{name}.comfy_quant": torch.tensor(list(b"?"), dtype=torch.uint8)}, "quantized as None"),
    ):
        path = flux.write("a.safetensors", {**flux.state, **added})
        with pytest.raises(ShotError, match=said):
            check_model(f"{path}|depth={flux.control}", 64, 64)


def write_gguf(path: Path, state: State, architecture: str = "flux") -> Path:
    """A GGUF file with the matrices in blocks of 32 numbers of 8 bits, where they can be, as converters write them."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(state), 3)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    # values of other kinds are passed over
    head += text("general.file_type") + struct.pack("<II", 4, 7)
    head += text("some.names") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
    body = b""
    for name, value in state.items():
        value = value.float()
        is_held = value.ndim == 2 and value.shape[1] % 32 == 0 and ("blocks" in name or "layers" in name)
        head += text(name) + struct.pack("<I", value.ndim) + struct.pack(f"<{value.ndim}Q", *reversed(value.shape))
        head += struct.pack("<IQ", 8 if is_held else 0, len(body))
        if is_held:
            rows = value.reshape(-1, 32)
            scales = (rows.abs().amax(1, keepdim=True) / 127).half()
            numbers = (rows / scales.float().clamp(min=1e-12)).round().clamp(-127, 127).to(torch.int8)
            data = np.concatenate([scales.numpy().view(np.uint8), numbers.numpy().view(np.uint8)], 1).tobytes()
        else:
            data = value.contiguous().numpy().tobytes()
        body += data + bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def test_files_of_gguf_are_recognised(place, capsys):
    """With how they hold weights, and what they take; without the package for them they are refused before anything is loaded."""
    path = write_gguf(place.files / "a.gguf", transformer_layouts.to_original(place.family, place.state))
    layout = next(layout for layout in LAYOUTS if layout.name == place.family)
    assert main(["models", "inspect", str(path), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"the transformer alone of {layout.title}" in said and "file: gguf" in said and "weights of 8 bits" not in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer_files, "find_spec", lambda name: object())
        check_model(place.name(path), 64, 64)
        patch.setattr(transformer_files, "find_spec", lambda name: None)
        for ask in (check_model, lambda name, *_: load(name, CPU)):
            with pytest.raises(ShotError, match="the package gguf is needed, which is not installed"):
                ask(place.name(path), 64, 64)
        assert main(["models", "inspect", str(path)]) == 0
        assert "the package gguf is needed" in capsys.readouterr().out
    with pytest.raises(ShotError, match="held in fewer bits already"):
        load_transformer_file(path, place.base, torch.float32, Quantization("torchao", 8.0, torch.float32))
    path.unlink()


def test_damaged_and_other_files_of_gguf_are_refused(flux, tmp_path):
    path = write_gguf(tmp_path / "a.gguf", flux.state)
    whole = path.read_bytes()
    for n, content in enumerate((whole[:4], whole[:30], whole[:500], whole[:4] + b"\xff" * 40, b"GGUF" + bytes(60))):
        broken = tmp_path / f"broken{n}.gguf"
        broken.write_bytes(content)
        with pytest.raises(ShotError, match="is a GGUF file that cannot be read"):
            inspect_model_file(broken)
    words = write_gguf(tmp_path / "b.gguf", {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(2, 2)}, "t5")
    assert inspect_model_file(words).problem
    control = write_gguf(tmp_path / "c.gguf", flux.control_state)
    assert "only transformers alone are read" in inspect_model_file(control).problem


@pytest.mark.skipif(find_spec("gguf") is None, reason="gguf is not installed")
def test_files_of_gguf_are_loaded(place):
    """To nearly the same weights; diffusers reads FLUX.1 in its own width alone."""
    if place.family == "flux":
        pytest.skip("diffusers knows FLUX.1's own width alone")
    path = write_gguf(place.files / "a.gguf", transformer_layouts.to_original(place.family, place.state))
    model, whole = load(place.name(path), CPU), load(place.name(place.base), CPU)
    assert any(type(weights).__name__ == "GGUFParameter" for weights in model.denoiser.parameters())
    request = samples.request(1, preset="per_frame", steps=2, guidance_scale=1.0)
    one, other = (ShotPipeline(each, request, PASSES, RunContext()).latents() for each in (model, whole))
    assert float((one - other).std()) < 0.1 * float(other.std())
    path.unlink()


def test_it_is_recognised(place, capsys):
    """With what it is run with, where all else is from, and how it lies in memory."""
    path = place.write("plain.safetensors", transformer_layouts.to_original(place.family, place.state))
    layout = next(layout for layout in LAYOUTS if layout.name == place.family)
    assert main(["models", "inspect", str(path), "--memory", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"the transformer alone of {layout.title}" in said and str(place.base.resolve()) in said and "memory:" in said
    profile = find_profile(place.name(path))
    assert (profile.family, profile.prediction, profile.scheduler) == (layout.name, "flow", layout.solver)
    assert (profile.steps, profile.guidance_scale) == layout.usual
    turbo = path.rename(path.with_name("plain-turbo-8step.safetensors"))
    profile = find_profile(place.name(turbo))
    assert (profile.distilled, profile.steps) == ("turbo", 8)
    assert "to denoise" in describe_plan(str(turbo), LoadOptions(device="cpu"), (64, 64))[0]


def test_what_lies_beside_it_in_a_file_is_said(flux):
    """Files that hold whole models are read as far as the transformer goes."""
    whole = {f"model.diffusion_model.{name}": value for name, value in transformer_layouts.to_original("flux", flux.state).items()}
    more = {"vae.decoder.conv_in.weight": torch.ones(1), "text_encoders.t5xxl.transformer.shared.weight": torch.ones(1)}
    path = flux.write("whole.safetensors", whole | more)
    network, _, warnings = load_transformer_file(path, flux.base, torch.float32)
    assert_same(network, flux.state)
    assert warnings == ("Its auto-encoder and text encoders are not read; those of a folder are taken.",)


def test_weights_that_are_missing_or_left_over_are_named(flux):
    original = transformer_layouts.to_original("flux", flux.state)
    lacking = dict(original)
    del lacking["double_blocks.0.img_mod.lin.weight"]
    path = flux.write("a.safetensors", lacking)
    with pytest.raises(ShotError, match=r"lacks 1 of the \d+ weights of its transformer"):
        load_transformer_file(path, flux.base, torch.float32)
    path = flux.write("b.safetensors", original | {"odd.weight": torch.ones(1)})
    (said,) = load_transformer_file(path, flux.base, torch.float32)[2]
    assert "'odd.weight'" in said
    del lacking["txt_in.weight"]
    path = flux.write("c.safetensors", lacking)
    with pytest.raises(ShotError, match="are not complete"):
        check_model(f"{path}|depth={flux.control}", 64, 64)


def test_schnell_in_a_file_takes_its_own_steps(flux, tmp_path):
    """Also with a folder of the other kind, and the other way round; one whose distillation was undone keeps the folder's."""
    few = make_place(tmp_path, "flux", schnell=True)
    path = flux.write("mine.safetensors", transformer_layouts.to_original("flux", few.state))
    name = f"{path}|depth={flux.control}"
    check_model(name, 64, 64, Sampling(steps=4))
    model = load(name, CPU)
    assert (model.distilled, model.profile.steps, model.profile.guidance_scale) == ("schnell", 4, 1.0)
    assert (model.pipeline.scheduler.config.shift, model.pipeline.scheduler.config.use_dynamic_shifting) == (1.0, False)
    assert any("The steps are those of FLUX.1-schnell" in sentence for sentence in model.warnings)
    undone = path.rename(path.with_name("mine-dedistilled.safetensors"))
    model = load(f"{undone}|depth={flux.control}", CPU)
    assert not model.distilled and model.pipeline.scheduler.config.use_dynamic_shifting
    path = few.write("dev.safetensors", flux.state)
    model = load(f"{path}|depth={flux.control}", CPU)
    assert not model.distilled and model.pipeline.scheduler.config.use_dynamic_shifting


def test_wan_vace_of_another_size_takes_the_folder_of_a_smaller_one(tmp_path):
    """Layers that see the depth are spread evenly, as in the published sizes; heads are as wide as the folder's."""
    place = make_place(tmp_path, "wan_vace")
    config = json.loads((place.base / "transformer" / "config.json").read_text(encoding="utf-8"))
    large = WanVACETransformer3DModel.from_config(config | {"num_layers": 8, "vace_layers": [0, 2, 4, 6], "num_attention_heads": 4})
    path = place.write("wan2.1_vace_large.safetensors", transformer_layouts.to_original("wan_vace", large.state_dict()))
    check_model(str(path), 64, 64, Sampling(steps=2))
    network, _, warnings = load_transformer_file(path, place.base, torch.float32)
    assert_same(network, large.state_dict())
    assert (network.config.vace_layers, network.config.num_attention_heads) == ([0, 2, 4, 6], 4)
    assert not any("no place" in sentence for sentence in warnings)


def test_files_of_wan_vace_that_lost_some_are_refused(tmp_path):
    """Of a model as long as the folder's, fewer layers that see the depth are not spread over it; numbers of layers that nothing
    holds and weights without numbers are said."""
    place = make_place(tmp_path, "wan_vace")
    state = transformer_layouts.to_original("wan_vace", place.state)
    fewer = {name: value for name, value in state.items() if not name.startswith("vace_blocks.1.")}
    for n, (tensors, said) in enumerate(
        (
            (fewer, r"are not complete \(vace_blocks\)"),
            (state | {"vace_blocks.99999999.before_proj.weight": torch.ones(2)}, r"are not complete \(vace_blocks\)"),
            (state | {"blocks.99999999.self_attn.q.weight": torch.ones(2)}, "lacks .* of its transformer"),
            (state | {"patch_embedding.weight": torch.ones(0, 16, 1, 2, 2)}, "not those of any known size"),
        )
    ):
        with pytest.raises(ShotError, match=said):
            load(str(place.write(f"{n}.safetensors", tensors)), CPU)


@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_halves_of_wan_are_refused(tmp_path, names):
    """One of Wan 2.2's two by its name; what sees the depth without the rest, and the rest without it."""
    place = make_place(tmp_path, "wan_vace")
    state = transformer_layouts.to_original("wan_vace", place.state) if names == "original" else dict(place.state)
    parts = {True: {}, False: {}}
    for name, value in state.items():
        parts["vace" in name][name] = value
    for file, tensors, said in (
        ("Wan2.2-VACE-Fun-A14B-high-noise.safetensors", state, "one of Wan 2.2's two transformers"),
        ("wan2.2_vace_fun_LowNoise_fp16.safetensors", state, "one of Wan 2.2's two transformers"),
        ("Wan2_2_Fun_VACE_A14B_HIGH_bf16.safetensors", state, "one of Wan 2.2's two transformers"),
        ("vace_module.safetensors", parts[True], "sees the depth, without the rest of its transformer; choose a file with all"),
        ("wan2.1_t2v.safetensors", parts[False], "a transformer of Wan, which takes no depth"),
    ):
        path = place.write(file, tensors)
        assert said in inspect_model_file(path).problem
        for name in (str(path), f"{path}|parts={place.base}"):
            with pytest.raises(ShotError, match=said):
                check_model(name, 64, 64)
    assert guess_kind(place.write("whole.safetensors", state)) == "checkpoint"


# what is missing


def test_without_all_else_it_says_where_to_get_it(flux, tmp_path):
    path = write(tmp_path / "alone.safetensors", flux.state)
    said = r"alone.safetensors holds the transformer of FLUX.1 alone; .* alone.safetensors\|parts=black-forest-labs/FLUX.1-dev\."
    with pytest.raises(ShotError, match=said):
        find_model(f"{path}|depth={flux.control}")
    assert main(["models", "inspect", str(path)]) == 0
    with pytest.raises(ShotError, match="Name a depth ControlNet for FLUX"):
        find_model(f"{path}|parts={flux.base}")
    for parts, words in ((tmp_path / "none", "There is no folder"), (tmp_path, "no diffusers folder")):
        with pytest.raises(ShotError, match=words):
            check_model(f"{path}|parts={parts}|depth={flux.control}", 64, 64)
    with pytest.raises(ShotError, match="several folders of parts"):
        find_model(f"{path}|parts={flux.base}|parts={flux.base}")


def test_of_several_folders_one_is_to_be_named(flux, tmp_path):
    place = make_place(tmp_path, "flux")
    (place.root / "models" / "diffusers" / "other").symlink_to(flux.base)
    path = place.write("a.safetensors", place.state)
    with pytest.raises(ShotError, match=r"Several folders near a.safetensors hold FLUX.1.*name one with parts=FOLDER"):
        find_model(place.name(path))
    assert find_model(f"{path}|depth={place.control}|parts={place.base}").parts == str(place.base)


def test_parts_of_another_kind_are_refused(flux, tmp_path):
    other = make_place(tmp_path, "z_image")
    tiny.write_sd(tmp_path / "sd")
    path = flux.write("a.safetensors", flux.state)
    for parts, title in ((other.base, "Z-Image"), (tmp_path / "sd" / "base", "another kind of model")):
        with pytest.raises(ShotError, match=f"are of {title}, and the file is FLUX"):
            check_model(f"{path}|parts={parts}|depth={flux.control}", 64, 64)
    with pytest.raises(ShotError, match="Only a file with a transformer alone takes parts="):
        find_model(f"{flux.base}|parts={other.base}|depth={flux.control}")


# ControlNets


def test_a_controlnet_in_a_file_is_loaded(place):
    """For the base in a folder, with what its layers are made for."""
    if not place.control_state:
        pytest.skip("it takes none")
    path = place.write("my-controlnet-union.safetensors", place.control_state)
    name = f"{place.base}|depth={path}"
    check_model(name, 64, 64)
    model = load(name, CPU)
    assert_same(model.controlnet, place.control_state)
    own = type(model.controlnet).load_config(place.control)
    told = json.loads(model.controlnet.to_json_string())
    odd = {key for key, value in own.items() if not key.startswith("_") and told.get(key) != value}
    # the tiny ones are random, and not built as the published ones are
    assert odd <= {"force_zeros_for_pooled_projection", "sample_size"}
    assert not any("it is used for" in sentence for sentence in model.warnings)
    assert main(["models", "inspect", str(path)]) == 0
    if not odd:
        assert_same_frame(model, load(place.name(place.base), CPU))


@pytest.mark.parametrize("version", ["1", "2.0", "2.1"])
def test_versions_of_the_controlnet_for_z_image(version, tmp_path):
    """Their files are told apart as diffusers tells them apart: by the channels, and by layers that do nothing."""
    place = make_place(tmp_path, "z_image")
    way = {"1": None, "2.0": "control_layers", "2.1": "control_noise_refiner"}[version]
    network = ZImageControlNetModel(
        control_layers_places=[0, 1],
        control_refiner_layers_places=None if way is None else [0],
        control_in_dim=16 if way is None else 33,
        add_control_noise_refiner=way,
        dim=32,
        n_heads=2,
        n_kv_heads=2,
        n_refiner_layers=1,
    )
    state = dict(network.state_dict())
    for name, value in state.items():
        if "before_proj" in name or "after_proj" in name:
            state[name] = torch.randn_like(value)
    path = place.write("union.safetensors", state)
    model = load(f"{place.base}|depth={path}", CPU)
    assert model.controlnet.config.add_control_noise_refiner == way
    assert_same(model.controlnet, state)
    if version == "2.0":
        # the published file has the layers that training left at 0
        unused = {name: value for name, value in place.control_state.items() if name.startswith("control_noise_refiner.")}
        unused = {name: torch.zeros_like(value) if "before_proj" in name else value for name, value in unused.items()}
        path = place.write("whole.safetensors", state | unused)
        model = load(f"{place.base}|depth={path}", CPU)
        assert model.controlnet.config.add_control_noise_refiner == way and not any("no place" in one for one in model.warnings)
    lacking = {name: value for name, value in state.items() if not name.startswith("control_layers.1.")}
    # one layer over two
    assert load(f"{place.base}|depth={place.write('a.safetensors', lacking)}", CPU).controlnet.config.control_layers_places == [0]
    more = state | {name.replace("layers.1.", "layers.2."): value for name, value in state.items() if "control_layers.1." in name}
    with pytest.raises(ShotError, match="has 3 layers, which cannot be spread over the 2"):
        check_model(f"{place.base}|depth={place.write('b.safetensors', more)}", 64, 64)


@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_controlnets_for_stable_diffusion_3_5(names, tmp_path):
    """Those of its authors see no text."""
    place = make_place(tmp_path, "sd3")
    network = SD3ControlNetModel(
        num_layers=2,
        in_channels=16,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=None,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=None,
        pos_embed_type=None,
        use_pos_embed=False,
        force_zeros_for_pooled_projection=False,
    )
    state = {name: torch.randn_like(value) * 0.1 for name, value in network.state_dict().items()}
    written = transformer_layouts.write_sd3_control(state) if names == "original" else state
    path = place.write("sd3.5_large_controlnet_depth.safetensors", written)
    network.load_state_dict(state)
    network.save_pretrained(tmp_path / "folder")
    model = load(f"{place.base}|depth={path}", CPU)
    assert model.controlnet.config.joint_attention_dim is None
    # the pipeline lends it the base's places
    assert_same(
        model.controlnet, state | {f"pos_embed.{key}": value for key, value in model.denoiser.pos_embed.state_dict().items()}
    )
    assert_same_frame(model, load(f"{place.base}|depth={tmp_path / 'folder'}", CPU))


def test_controlnets_of_another_kind_are_refused(flux, tmp_path):
    other = make_place(tmp_path, "z_image")
    tiny.write_sd(tmp_path / "sd")
    path = write(tmp_path / "union.safetensors", other.control_state)
    for ask in (check_model, lambda name, *_: load(name, CPU)):
        with pytest.raises(ShotError, match="a ControlNet for Z-Image, and the model is FLUX"):
            ask(f"{flux.base}|depth={path}", 64, 64)
        with pytest.raises(ShotError, match="a ControlNet for Z-Image; name a model of that kind"):
            ask(f"{tmp_path / 'sd' / 'base'}|depth={path}", 64, 64)


def test_the_library_offers_them(place):
    """A transformer as a base where all else lies near, its ControlNet for depth, as a file and as a folder."""

    def look(path: Path) -> Inspected:
        return inspect_candidate(Candidate(path, 0, "", path.is_dir()))

    path = place.write("alone.safetensors", place.state)
    found = look(path)
    assert (found.kind, found.family, found.problem) == ("checkpoint", place.family, "")
    away = place.root / "alone.safetensors"
    path.rename(away)
    assert "parts=" in look(away).problem
    away.unlink()
    if not place.control_state:
        return
    for control in (place.write("my-union.safetensors", place.control_state), place.control):
        found = look(control)
        assert (found.kind, found.family, found.control, found.problem) == ("controlnet", place.family, "depth", "")
    config = json.loads((place.control / "config.json").read_text(encoding="utf-8"))
    assert inspect_configuration(config, "ControlNet-Canny").control == "canny"
