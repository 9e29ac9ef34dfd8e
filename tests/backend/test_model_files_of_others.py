"""Model files and folders as they are found: written by programs that nobody thought of, incomplete, damaged, or of another kind.
Each loads with exactly its own weights, or is refused in a sentence that says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile

import pytest

pytest.importorskip("torch")

import torch
from diffusers import AutoencoderTiny
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from latentman.backend.__main__ import main
from latentman.backend.models import downloads, usual_controls
from latentman.backend.models.added_files import find_added_files
from latentman.backend.models.hub import HubError
from latentman.backend.models.loading import load
from latentman.backend.models.lora_layout import ModuleNames, sort_tensors
from latentman.backend.models.preflight import check_model
from latentman.backend.models.recognition import inspect_model_file
from latentman.backend.models.registry import find_model
from latentman.backend.video.pipeline import RunContext, ShotPipeline
from latentman.shared.shot import ShotError
from tests import lora_files, samples
from tests import original_layout as original
from tests.model_layouts import FAMILIES, Networks
from tools.stand_in_hub import StandInHub

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def networks():
    return {family: Networks(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def places(networks, tmp_path_factory):
    """A folder of each family, and a ControlNet of the first in a file."""
    root = tmp_path_factory.mktemp("places")
    for family in ("sd1", "sdxl"):
        networks[family].make_pipeline().save_pretrained(root / family)
    save_file(_plain(networks["sd1"].write_control()), root / "depth.safetensors")
    return root


@pytest.fixture
def folder(places, tmp_path):
    """A copy of a whole Stable Diffusion with its ControlNet."""
    return shutil.copytree(places / "sd1", tmp_path / "model")


def _plain(state):
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def _write(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".ckpt", ".pt", ".bin"):
        torch.save(state, path)
    else:
        save_file(_plain(state), path)
    return path


def _same(one, other):
    """Whether two networks have the same weights."""
    own, wanted = one.state_dict(), other.state_dict()
    return own.keys() == wanted.keys() and all(torch.equal(own[name], wanted[name]) for name in own)


def _assert_is(model, networks):
    """Whether every network of a loaded model has the weights of ``networks``."""
    for name, other in (("unet", networks.unet), ("vae", networks.vae), ("text_encoder", networks.encoders[0])):
        assert _same(model.pipeline.components[name], other), name
    if len(networks.encoders) > 1:
        assert _same(model.pipeline.text_encoder_2, networks.encoders[1])


# single files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "wrap"),
    [
        ("a.safetensors", lambda state: {f"state_dict.{name}": value for name, value in state.items()}),
        ("a.safetensors", lambda state: {f"module.{name}": value for name, value in state.items()}),
        ("a.safetensors", lambda state: {name.replace("model.diff", "model._orig_mod.diff"): v for name, v in state.items()}),
        ("a.ckpt", lambda state: {"model": {"state_dict": state}, "epoch": 3}),
        ("a.ckpt", lambda state: {"model_state_dict": state, "optimizer_states": [{"a": torch.zeros(3)}]}),
        ("a.ckpt", lambda state: {"module": state}),
        ("a.sft", dict),
        ("0123abcd", dict),
        ("a.safetensors.part", dict),
        ("Модель 夢 (ema) [1.5].safetensors", dict),
    ],
)
def test_what_is_around_names_does_not_count(networks, places, tmp_path, file, wrap):
    path = _write(tmp_path / file, wrap(networks["sd1"].write_checkpoint()))
    name = f"{path}|{places / 'depth.safetensors'}"
    check_model(name, 64, 64)
    model = load(name, CPU)
    _assert_is(model, networks["sd1"])
    assert not model.warnings


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_networks_in_one_file_by_diffusers_names(networks, tmp_path, family):
    own = networks[family]
    parts = {"unet": own.unet, "vae": own.vae, "text_encoder": own.encoders[0]}
    parts |= {"text_encoder_2": own.encoders[1]} if len(own.encoders) > 1 else {}
    state = {f"{part}.{name}": value for part, network in parts.items() for name, value in network.state_dict().items()}
    path, control = _write(tmp_path / "whole.safetensors", state), _write(tmp_path / "depth.safetensors", own.write_control())
    model = load(f"{path}|{control}", CPU)
    _assert_is(model, own)
    assert [each.config.hidden_act for each in own.encoders] == [
        model.pipeline.components[part].config.hidden_act for part in parts if part.startswith("text")
    ]


def test_a_checkpoint_without_an_auto_encoder_takes_another(networks, places, tmp_path):
    own = networks["sd1"]
    state = {name: value for name, value in own.write_checkpoint().items() if not name.startswith("first_stage_model.")}
    path = _write(tmp_path / "lacking.safetensors", state)
    vae = _write(tmp_path / "vae.safetensors", original.vae_to_original(own.vae.state_dict(), 4))
    name = f"{path}|{places / 'depth.safetensors'}"
    with pytest.raises(ShotError, match=r"holds no auto-encoder; choose the whole checkpoint, or add vae=FILE\."):
        check_model(name, 64, 64)
    check_model(f"{name}|vae={vae}", 64, 64)
    _assert_is(load(f"{name}|vae={vae}", CPU, size=(64, 64)), own)
    # also that of a whole model's folder
    _assert_is(load(f"{name}|vae={places / 'sd1'}", CPU), own)


def test_weights_that_mean_something_else_are_refused(networks, tmp_path):
    """Scaled and quantized weights would make other pictures, and only their scales would be said to be left over."""
    state = networks["sd1"].write_checkpoint()
    name = next(name for name in state if name.endswith("attn1.to_q.weight"))
    for added in (
        {name.replace("weight", "scale_weight"): torch.ones(1)},
        {name.replace("weight", "weight_scale"): torch.ones(1)},
        {"model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)},
        {f"{name}.absmax": torch.ones(4), f"{name}.quant_map": torch.ones(16)},
    ):
        found = inspect_model_file(_write(tmp_path / "a.safetensors", state | added))
        assert "quantized" in found.problem and "choose the file in float16" in found.problem
    averaged = {name: value for name, value in original.add_ema(state).items() if not name.startswith("model.diffusion_model.")}
    assert "only the EMA weights" in inspect_model_file(_write(tmp_path / "b.safetensors", averaged)).problem
    # eight bits without scales are only coarse
    rounded = {
        key: value.to(torch.float8_e5m2) if value.ndim > 1 else value for key, value in state.items() if key != "position_ids"
    }
    assert not inspect_model_file(_write(tmp_path / "c.safetensors", rounded)).problem


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["adapter.body.0.resnets.0.block1.weight", "adapter.conv_in.weight"], "T2I-Adapter.*choose a ControlNet"),
        (["transformer_layes.0.attn.in_proj_weight", "ln_pre.weight", "proj"], "T2I-Adapter"),
        (["task_embedding", "spatial_feat_mapping.color.0.weight"], "T2I-Adapter"),
        (["controlnet_blocks.0.weight", "transformer_blocks.0.attn.to_q.weight"], "ControlNet for a transformer"),
        (["controlnet_blocks.0.weight", "double_blocks.0.img_attn.qkv.weight", "input_hint_block.0.weight"], "a transformer"),
        (["model.diffusion_model.double_blocks.0.img_mod.lin.weight"], "Flux-like"),
        (["single_transformer_blocks.0.attn.to_q.weight", "context_embedder.weight"], "Flux-like"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "Stable Diffusion 3"),
        (["x_embedder.proj.weight", "t_block.1.weight", "blocks.0.attn.qkv.weight"], "PixArt-like"),
        (["model.diffusion_model.blocks.0.self_attn.q.weight"], "a transformer"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "T5"),
        (["unet:0:up", "unet:0:down"], "choose a LoRA"),
        (["decoder.layers.0.weight", "encoder.layers.0.weight"], "tiny auto-encoder.*choose a VAE"),
    ],
)
def test_other_kinds_are_called_by_their_names(tmp_path, names, words):
    path = _write(tmp_path / "a.safetensors", {name: torch.zeros(8, 8) for name in names})
    found = inspect_model_file(path)
    assert found.kind == "other"
    assert re.search(words, found.problem), found.problem


def test_files_that_are_something_else_entirely(tmp_path):
    path = tmp_path / "a.safetensors"
    for content, words in (
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is a picture"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "is a picture"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(64), "is a picture"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(64), "unpack it"),
        (b"Rar!\x1a\x07" + bytes(64), "unpack it"),
        (b"\x1f\x8b\x08" + bytes(64), "unpack it"),
        (b'{"error": "Unauthorized"}', "is a text"),
        (b"Entry not found", "is a text"),
        (b"Invalid username or password.", "is a text"),
        (bytes(4096), "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "is a GGUF file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "Keras"),
    ):
        path.write_bytes(content)
        with pytest.raises(ShotError, match=words):
            inspect_model_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/readme.txt", "x" * 100)
    with pytest.raises(ShotError, match="is an archive; unpack it"):
        inspect_model_file(path)


@pytest.mark.parametrize("first", [b"{", b"[", b"\n", b" ", b"\x1f", b"7", b"B", b"R"])
def test_a_header_of_any_length_is_none_of_these(tmp_path, first):
    """The first byte of such a file is that of its header's length, which may be any."""
    path = tmp_path / "a.safetensors"
    header = json.dumps({"lora_unet_mid_block_x.lora_down.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    length = len(header) + (first[0] - len(header)) % 256
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + bytes(4))
    assert path.read_bytes()[:1] == first and inspect_model_file(path).kind == "lora"


# LoRAs and textual inversions


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("base_model.model.{unet}.lora_A.default_0.weight", "unet"),
        ("base_model.model.{unet}.lora_A.style-v1.weight", "unet"),
        ("unet.base_model.model.{unet}.lora_A.weight", "unet"),
        ("unet.{unet}.lora_A.my_adapter.weight", "unet"),
        ("diffusion_model.{original}.lora_down.weight", "unet"),
        ("clip_l.text_model.{text}.lora_down.weight", "text_encoder"),
        ("clip_g.text_model.{text}.lora_down.weight", "text_encoder_2"),
        ("text_encoders.clip_l.transformer.text_model.{text}.lora_A.weight", "text_encoder"),
        ("text_encoders.clip_g.{text}.lora_A.weight", "text_encoder_2"),
        ("text_encoder_2.base_model.model.text_model.{text}.lora_A.default.weight", "text_encoder_2"),
    ],
)
def test_loras_of_other_trainers_find_their_modules(networks, tmp_path, name, network):
    own = networks["sdxl"]
    modules = {"unet": own.unet, "text_encoder": own.encoders[0], "text_encoder_2": own.encoders[1]}
    listed = {part: [key for key, _ in module.named_modules()] for part, module in modules.items()}
    unet, text = lora_files.ATTENTION, "encoder.layers.1.self_attn.q_proj"
    renamed = original.unet_to_original({f"{unet}.weight": 0}, original.LAYERS, original.ATTENTION["sdxl"])
    written = name.format(unet=unet, text=text, original=next(iter(renamed)).removesuffix(".weight"))
    layout = sort_tensors([written], ModuleNames(listed))
    (change,) = layout.changes
    assert change.target.network == network and change.target.module.endswith(unet if network == "unet" else text)
    assert not layout.placeless and not layout.unknown
    up = written.replace("lora_A", "lora_B").replace("lora_down", "lora_up")
    found = inspect_model_file(_write(tmp_path / "a.safetensors", {written: torch.zeros(2, 8), up: torch.zeros(8, 2)}))
    assert found.kind == "lora" and found.parts == (network,) and found.rank == 2 and not found.problem


@pytest.mark.parametrize(
    "title",
    [
        "diffusion_model.blocks.0.self_attn.q",
        "lora_unet_blocks_0_self_attn_q",
        "base_model.model.transformer_blocks.0.attn1.to_q",
        "diffusion_model.layers.0.attention.to_q",
        "transformer.transformer_blocks.0.attn.to_q",
        "lora_prior_unet_down_blocks_0_1_attention_attn_to_k",
        "down_blocks.0.motion_modules.0.temporal_transformer.proj_in",
        "lora_unet_double_blocks_0_img_attn_proj",
    ],
)
def test_loras_for_other_models_are_refused_before_anything_is_rendered(places, tmp_path, title):
    ends = ("lora_down", "lora_up") if title.startswith("lora_") else ("lora_A", "lora_B")
    state = {f"{title}.{ends[0]}.weight": torch.zeros(4, 64), f"{title}.{ends[1]}.weight": torch.zeros(64, 4)}
    path = _write(tmp_path / "a.safetensors", state)
    with pytest.raises(
        ShotError, match=r"LoRA for another kind of model|whose LoRAs are not supported|and the model is none; choose"
    ):
        check_model(f"{places / 'sd1'}|lora={path}", 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "make", "words", "left"),
    [
        ("mine.safetensors", lambda v: {"clip_l": v[0]}, ["mine"], ""),
        ("mine.pt", lambda v: {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": v[0]}}, ["mine"], ""),
        ("mine.bin", lambda v: {"<one>": v[0], "<two>": v[0] + 1}, ["<one>", "<two>"], ""),
        ("mine.safetensors", lambda v: {"emb_params": v[0], "other": torch.ones(3)}, ["mine"], "'other'"),
    ],
)
def test_textual_inversions_have_their_words(places, tmp_path, file, make, words, left):
    vectors = [torch.randn(2, 64)]
    path = _write(tmp_path / file, make(vectors)) if not file.endswith(".pt") else tmp_path / file
    if file.endswith(".pt"):
        torch.save(make(vectors), path)
    assert list(inspect_model_file(path).words) == words
    model = load(f"{places / 'sd1'}|embedding={path}", CPU)
    assert [known.word for known in model.words] == words
    assert left in " ".join(model.warnings) and bool(model.warnings) == bool(left)
    ids = [model.pipeline.tokenizer.convert_tokens_to_ids(known.token) for known in model.words]
    table = model.pipeline.text_encoder.get_input_embeddings().weight
    for number, id_ in enumerate(ids):
        assert torch.equal(table[id_ : id_ + 2], vectors[0] + number)


def test_both_encoders_vectors_in_an_older_layout(places, tmp_path):
    first, second = torch.randn(2, 64), torch.randn(2, 128)
    path = tmp_path / "both.pt"
    torch.save({"string_to_param": {"clip_l": first, "clip_g": second}}, path)
    model = load(f"{places / 'sdxl'}|embedding={path}", CPU)
    for part, tokenizer, vectors in (("text_encoder", "tokenizer", first), ("text_encoder_2", "tokenizer_2", second)):
        id_ = model.pipeline.components[tokenizer].convert_tokens_to_ids(model.words[0].token)
        assert torch.equal(model.pipeline.components[part].get_input_embeddings().weight[id_ : id_ + 2], vectors)


# folders


def _change_index(folder, **changes):
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in index.items() if value is not None}))


def _change_config(folder, part, **changes):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _unet(folder):
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def _shard(folder, change):
    state = load_file(_unet(folder))
    half = len(state) // 2
    files = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    pieces = [dict(list(state.items())[:half]), dict(list(state.items())[half:])]
    for file, piece in zip(files, pieces, strict=True):
        save_file(piece, folder / "unet" / file)
    _unet(folder).unlink()
    listed = {name: file for file, piece in zip(files, pieces, strict=True) for name in piece}
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    change(index, listed)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: _change_index(f, _class_name="FluxPipeline", unet=None, transformer=["diffusers", "X"]), "is a FluxPipeline"),
        (lambda f: _change_index(f, _class_name="WuerstchenPipeline", vae=None), "is a WuerstchenPipeline"),
        (lambda f: _change_index(f, unet=["diffusers", "OnnxRuntimeModel"]), "OnnxRuntimeModel, is not supported"),
        (lambda f: _change_index(f, unet=["diffusers", "UNetMotionModel"]), "UNetMotionModel, is not supported"),
        (lambda f: _change_index(f, text_encoder=["transformers", "T5EncoderModel"]), "T5EncoderModel, is not supported"),
        (lambda f: _change_index(f, text_encoder=[None, None], text_encoder_2=["transformers", "CLIPTextModel"]), "refiner"),
        (lambda f: _change_config(f, "unet", in_channels=9), "a picture and a mask"),
        (lambda f: _change_config(f, "unet", in_channels=8), "by instruction"),
        (lambda f: _change_config(f, "unet", class_embed_type="projection"), "variations"),
        (lambda f: _change_config(f, "unet", encoder_hid_dim_type="image_proj"), "other things than a text"),
        (lambda f: _change_config(f, "vae", latent_channels=16), "latents of 16 channels"),
        (lambda f: _change_config(f, "vae", _class_name="AutoencoderDC"), "AutoencoderDC, which is not known"),
        (lambda f: (f / "unet" / "config.json").write_text("[]"), "cannot be read .it is no list"),
        (lambda f: (f / "text_encoder" / "config.json").write_text("[]"), "text encoder's .* cannot be read"),
        (lambda f: (f / "vae" / "config.json").write_text("<html>"), "auto-encoder's .* cannot be read"),
        (lambda f: (f / "controlnet" / "config.json").write_text("[1]"), "ControlNet's .* cannot be read"),
        (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("[]"), "scheduler_config.json cannot be read"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json cannot be read .it is not there"),
        (lambda f: shutil.rmtree(f / "vae"), "lacks the folder .*vae of its auto-encoder"),
        (lambda f: (f / "tokenizer" / "tokenizer.json").write_text("[]"), "tokenizer.json cannot be read"),
        (lambda f: _unet(f).write_text("<!DOCTYPE html>"), "is a web page"),
        (lambda f: _unet(f).write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda f: _unet(f).write_bytes(_unet(f).read_bytes()[:5000]), "cut off"),
        (lambda f: (f / "text_encoder" / "model.safetensors").write_bytes(b""), "is empty"),
        (lambda f: _shard(f, lambda index, _: index.unlink()), "their index is missing"),
        (lambda f: _shard(f, lambda index, _: index.write_text("{")), "index.json cannot be read"),
        (lambda f: _shard(f, lambda index, _: index.write_text("{}")), "lists no weights"),
        (
            lambda f: _shard(f, lambda index, listed: index.write_text(json.dumps({"weight_map": dict.fromkeys(listed, "x.y")}))),
            "names 'x.y', which is not in the folder",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence_before_anything_is_rendered(folder, damage, words):
    damage(folder)
    with pytest.raises(ShotError, match=words):
        check_model(str(folder), 64, 64)
    with pytest.raises(ShotError, match=words):
        load(str(folder), CPU)


def test_weights_that_are_not_as_the_configuration_says(folder):
    _change_config(folder, "unet", block_out_channels=[64, 64, 64])
    with pytest.raises(ShotError, match=r"The UNet in .* does not fit its config\.json .*; download the model again\."):
        load(str(folder), CPU)


@pytest.mark.parametrize("name", ["MyFancyPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"])
def test_a_folder_is_what_its_parts_are(networks, folder, name):
    """Whatever its pipeline is called: the parts are those of a Stable Diffusion."""
    _change_index(folder, _class_name=name)
    _assert_is(load(str(folder), CPU), networks["sd1"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_tokenizer_that_is_missing_is_clips_own(places, tmp_path, family):
    whole = load(str(places / family), CPU)
    copy = shutil.copytree(places / family, tmp_path / "model")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(copy / name, ignore_errors=True)
    model = load(str(copy), CPU)
    assert "brings no tokenizer; CLIP's own is used" in " ".join(model.warnings)
    texts = [each.encode_text("a knight in Ljubljana, 夢", "bad", True, 64, 64).embeddings for each in (whole, model)]
    assert torch.equal(*texts)


def test_parts_that_count_for_nothing_are_named(folder):
    (folder / "motion_adapter").mkdir()
    _change_index(folder, _class_name="AnimateDiffPipeline", motion_adapter=["diffusers", "MotionAdapter"])
    assert "The model's motion_adapter has no use here" in " ".join(load(str(folder), CPU).warnings)


def test_the_form_that_was_fetched_is_taken_where_others_are_pointers(networks, folder):
    state = load_file(_unet(folder))
    save_file({name: value.half() for name, value in state.items()}, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    _unet(folder).write_text("version https://git-lfs.github.com/spec/v1\n")
    check_model(str(folder), 64, 64)
    found = load(str(folder), CPU).unet.state_dict()
    assert all(torch.equal(found[name], value.half().float()) for name, value in networks["sd1"].unet.state_dict().items())


def test_a_tiny_auto_encoder_in_a_folder_takes_the_place_of_the_models(places, tmp_path):
    torch.manual_seed(2)
    tiny = AutoencoderTiny(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4)
    tiny.save_pretrained(tmp_path / "tiny")
    model = load(f"{places / 'sd1'}|vae={tmp_path / 'tiny'}", CPU, size=(64, 64))
    assert _same(model.pipeline.vae, tiny)
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(latents), tiny.decode(latents).sample, rtol=1e-4, atol=1e-5)


# names


def test_what_people_give_instead_of_a_model(places, tmp_path):
    folder = places / "sd1"
    (tmp_path / "empty").mkdir()
    shutil.copy(places / "depth.safetensors", _write(tmp_path / "one" / "mine.safetensors", {"x": torch.zeros(1)}))
    for name, words in (
        ("https://huggingface.co/me/model", "is an address"),
        (f"{folder}|lora=https://civitai.com/models/1", "is an address"),
        (f"{folder}|vae=https://huggingface.co/a/b/resolve/main/c.safetensors", "is an address"),
        (str(folder / "unet"), f"choose the folder above it, {folder}"),
        (str(places), "there is one in it"),
        (str(tmp_path / "empty"), "is empty"),
        (f"{tmp_path / 'empty'}|{places / 'depth.safetensors'}", "is empty"),
        (str(tmp_path / "one"), "holds mine.safetensors; give the path"),
        (f"{folder}|vae={folder / 'vae'}|vae={folder / 'vae'}", "several auto-encoders"),
        (f"{folder}|vae=", "'vae=' names nothing"),
        (f"{folder}|lora=  ", "'lora=' names nothing"),
        (r"C:\models\dream", "check the path"),
    ):
        with pytest.raises(ShotError) as caught:
            find_model(name)
        assert words in str(caught.value) and str(caught.value).count("\n") == 0, name
    for control, words in (
        (folder, "is a whole model and no ControlNet"),
        (tmp_path / "one", "holds mine.safetensors; give the path of one of those files instead"),
        (tmp_path / "empty", "has no config.json"),
    ):
        with pytest.raises(ShotError, match=words):
            check_model(f"{folder}|depth={control}", 64, 64)
    (tmp_path / "t2i").mkdir()
    (tmp_path / "t2i" / "config.json").write_text(json.dumps({"_class_name": "T2IAdapter"}))
    with pytest.raises(ShotError, match="is a T2IAdapter"):
        check_model(f"{folder}|depth={tmp_path / 't2i'}", 64, 64)


def test_what_means_a_folder(places, tmp_path):
    folder = places / "sd1"
    assert find_model(str(folder / "model_index.json")).base == str(folder)
    cache = tmp_path / "models--me--mine"
    for commit in ("a", "b"):
        shutil.copytree(folder, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a")
    assert find_model(str(cache)).base == str(cache / "snapshots" / "a")
    (cache / "refs" / "main").write_text("gone")
    os.utime(cache / "snapshots" / "b", (1, 1))
    assert find_model(str(cache)).base == str(cache / "snapshots" / "a")


def test_what_lies_beside_a_model_is_looked_through_once(networks, tmp_path, monkeypatch):
    base = _write(tmp_path / "models" / "Stable-diffusion" / "mine.safetensors", networks["sd1"].write_checkpoint())
    controls = tmp_path / "models" / "ControlNet" / "deep"
    control = _write(controls / "a_depth.safetensors", networks["sd1"].write_control())
    looked: list[str] = []
    real = usual_controls.inspect_model_file
    monkeypatch.setattr(usual_controls, "inspect_model_file", lambda path: looked.append(path.name) or real(path))

    def age():
        for path in (*tmp_path.rglob("*"), tmp_path, tmp_path.parent):
            os.utime(path, (1e9, 1e9))

    age()
    assert [find_model(str(base)).controls for _ in range(3)] == [(("depth", str(control)),)] * 3
    assert looked == ["a_depth.safetensors"]
    control.rename(controls / "b_depth.safetensors")
    assert find_model(str(base)).controls == (("depth", str(controls / "b_depth.safetensors")),)
    age()
    find_model(str(base))
    (tmp_path / "models" / "extensions" / "sd-webui-controlnet" / "models").mkdir(parents=True)
    (controls / "b_depth.safetensors").rename(tmp_path / "models" / "extensions" / "sd-webui-controlnet" / "models" / "depth.pth")
    assert find_model(str(base)).controls[0][1].endswith("depth.pth")


# the command, the hub, and what is said of a shot


def test_folders_and_memory_are_inspected(places, tmp_path, capsys):
    assert main(["models", "inspect", str(places / "sd1"), "--memory"]) == 0
    text = capsys.readouterr().out
    assert "is a diffusers folder" in text and "own steps: 30" in text
    assert "memory: sd1 has" in text and "of weights in float32; a frame of" in text
    path = _write(tmp_path / "mine.safetensors", load_file(places / "depth.safetensors"))
    assert main(["models", "inspect", str(path), str(places / "sd1" / "vae"), "--memory"]) == 0
    said = capsys.readouterr().out
    assert "the folder of one network (AutoencoderKL)" in said and "memory:" not in said
    copy = shutil.copytree(places / "sd1", tmp_path / "model")
    _change_config(copy, "unet", in_channels=9)
    assert main(["models", "inspect", str(copy), "--json", "--memory", "--dtype", "bfloat16"]) == 1
    assert "a picture and a mask" in json.loads(capsys.readouterr().out)["problem"]
    assert main(["models", "inspect", str(places / "sd1"), "--json", "--memory", "--dtype", "bfloat16"]) == 0
    assert "bfloat16" in json.loads(capsys.readouterr().out)["memory"]
    assert main(["models", "inspect", str(tmp_path)]) == 1 and "is no diffusers folder" in capsys.readouterr().err


def test_what_peft_writes_beside_a_lora_is_fetched_with_it(places, tmp_path, monkeypatch):
    """Also where only the LoRA is in the cache; a repository without it is no error."""
    hub = StandInHub()
    try:
        for name in ("me/peft", "me/bare"):
            state = {f"base_model.model.{lora_files.FEED}.lora_{end}.weight": torch.randn(4, 4) for end in "AB"}
            _write(tmp_path / name / "adapter_model.safetensors", state)
            hub.repositories[name] = (COMMIT, tmp_path / name)
        (tmp_path / "me" / "peft" / "adapter_config.json").write_text('{"lora_alpha": 8}')
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        for _ in range(2):
            (found,) = find_added_files("me/peft", "lora")
            beside = found.with_name("adapter_config.json")
            assert beside.read_text() == '{"lora_alpha": 8}'
            beside.unlink()
        (found,) = find_added_files("me/bare", "lora")
        assert found.is_file() and not found.with_name("adapter_config.json").exists()
    finally:
        hub.close()


@pytest.mark.slow
def test_added_files_of_the_hub_go_on_where_they_stopped(networks, places, tmp_path, monkeypatch):
    hub = StandInHub()
    try:
        for name, state in (
            (
                "me/lora",
                {f"unet.{lora_files.FEED}.lora.{end}.weight": torch.randn(s) for end, s in (("up", (512, 64)), ("down", (64, 64)))},
            ),
            ("me/word", {"<word>": torch.randn(40, 64)}),
        ):
            file = "pytorch_lora_weights.safetensors" if name == "me/lora" else "my_own.safetensors"
            _write(tmp_path / name / file, state)
            hub.repositories[name] = (COMMIT, tmp_path / name)
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.01)
        hub.cut_after = 6000
        told = []
        for name, kind in (("me/lora", "lora"), ("me/word", "embedding")):
            hub.requests.clear()
            (found,) = find_added_files(name, kind, lambda *done: told.append(done))
            assert found.read_bytes() == next((tmp_path / name).iterdir()).read_bytes()
            assert [part for _, _, part in hub.requests if part], "it did not go on where it stopped"
            hub.requests.clear()
            assert find_added_files(name, kind) == [found] or kind == "embedding"
        assert told and told[-1][1] > 0
        hub.requests.clear()
        find_added_files("me/lora", "lora")
        assert not hub.requests
        hub.status = 503
        assert find_added_files("me/word", "embedding")[0].name == "my_own.safetensors"
        with pytest.raises(HubError, match="answers with an error"):
            find_added_files("me/absent", "lora")
    finally:
        hub.close()


def test_a_lora_for_few_steps_in_the_prompt_is_said(networks, folder):
    lora_files.write_file(_Parts(networks["sd1"]), "LoRA", folder / "mine_lcm_4steps.safetensors")
    model = load(f"{folder}|lora={folder / 'mine_lcm_4steps.safetensors'}@0.5", CPU)
    prompt = "a knight <lora:mine_lcm_4steps:0.5>"

    def say(**changes):
        context = RunContext()
        request = samples.request(1, prompt=prompt, preset="per_frame", **changes)
        list(ShotPipeline(model, request, samples.passes(1), context).frames())
        return " ".join(context.warnings)

    said = say(steps=5, guidance_scale=2.0, scheduler="ddim")
    assert "The LoRA mine_lcm_4steps of the prompt is for few steps and wants 4 steps, guidance 1, the scheduler 'lcm'" in said
    assert "is for few steps" not in say(steps=4, guidance_scale=1.0, scheduler="lcm")


class _Parts:
    """Networks as ``lora_files`` asks for them."""

    def __init__(self, networks):
        self.family = networks.family
        self.components = {"unet": networks.unet, "text_encoder": networks.encoders[0]}
