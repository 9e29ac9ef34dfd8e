"""What a file is: of every kind and layout, in shrunk files on the disk and in the names and shapes of the real ones."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import UNet2DConditionModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.models.recognition import inspect_model_file, recognise  # noqa: E402
from latentman.backend.models.weight_files import WeightFile, read_weight_file  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from latentman.shared.torch_files import RawTensor  # noqa: E402
from tests import original_layout as original  # noqa: E402
from tests.checkout import ROOT  # noqa: E402


@pytest.fixture(scope="module")
def states():
    """The shrunk checkpoints of every family in the original layout."""
    torch.manual_seed(0)
    vae = original.make_vae()
    return {
        family: {
            name: value.half() if value.is_floating_point() else value
            for name, value in original.checkpoint_to_original(
                family, original.make_unet(family), vae, original.make_text_encoders(family)
            ).items()
        }
        for family in original.SHAPES
    }


def _write(path: Path, state, metadata=None) -> Path:
    save_file(state, path, metadata)
    return path


def _of(shapes, name="model", metadata=None, values=None) -> WeightFile:
    """A file of tensors that are only named."""
    tensors = {key: RawTensor(b"", "HalfStorage", 0, tuple(shape), ()) for key, shape in shapes.items()}
    return WeightFile(Path(f"{name}.safetensors"), 1, "safetensors", tensors, metadata or {}, values or {})


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("suffix", [".safetensors", ".CKPT", ".SafeTensors", ".ckpt"])
def test_whole_checkpoints(states, tmp_path, family, suffix):
    path = tmp_path / f"model{suffix}"
    if "safe" in suffix.lower():
        save_file(states[family], path)
    else:
        torch.save({"state_dict": states[family], "global_step": 7, "epoch": 2}, path)
    found = inspect_model_file(path)
    assert (found.kind, found.family, found.layout, found.variant) == ("checkpoint", family, "original", "")
    assert found.parts == ("unet", "vae", "text_encoder") + (("text_encoder_2",) if family == "sdxl" else ())
    assert found.prediction == ("v_prediction" if family == "sd2" else "epsilon") and not found.problem
    assert (found.guesses != ()) == (family == "sd2")
    assert found.precision == "float16" and not found.ema and not found.warnings
    assert found.parameters == sum(value.numel() for value in states[family].values())
    assert found.sentence.startswith(f"model{suffix} is a checkpoint of ")


def test_ema_weights_are_seen(states, tmp_path):
    found = inspect_model_file(_write(tmp_path / "full.safetensors", original.add_ema(states["sd1"])))
    assert found.ema and found.kind == "checkpoint" and "with EMA weights" in found.sentence


@pytest.mark.parametrize(
    ("channels", "variant", "word"),
    [(9, "inpainting", "9 channels"), (8, "instruct", "instruction"), (5, "depth", "depth channel"), (7, "upscaler", "upscaler")],
)
def test_other_inputs_than_noise_are_named(states, channels, variant, word):
    shapes = {name: tuple(value.shape) for name, value in states["sd1"].items()}
    shapes["model.diffusion_model.input_blocks.0.0.weight"] = (32, channels, 3, 3)
    found = recognise(_of(shapes))
    assert found.variant == variant and word in found.problem and found.problem in found.sentence


def test_v_prediction_and_zero_snr_by_keys_and_metadata(states):
    shapes = {name: tuple(value.shape) for name, value in states["sdxl"].items()}
    noob = recognise(_of(shapes | {"v_pred": (0,), "ztsnr": (0,)}))
    assert (noob.prediction, noob.zero_terminal_snr, noob.recommended.spacing) == ("v_prediction", True, "trailing")
    told = recognise(_of(shapes, metadata={"modelspec.prediction_type": "v", "modelspec.resolution": "896x640"}))
    assert (told.prediction, told.zero_terminal_snr, told.recommended.size) == ("v_prediction", False, 896)
    assert not told.guesses
    named = recognise(_of(shapes, "noobaiXLVpredv10"))
    assert named.prediction == "v_prediction" and any("its name" in guess for guess in named.guesses)
    # what a file says counts more than what it is called
    assert recognise(_of(shapes, "some-vpred", metadata={"modelspec.prediction_type": "epsilon"})).prediction == "epsilon"
    plain = {name: tuple(value.shape) for name, value in states["sd2"].items()}
    for name, metadata, values, wanted in (
        ("v2-1_768-v-ema-pruned", {}, {}, "v_prediction"),
        ("v2-1_512-base", {}, {}, "epsilon"),
        ("512-base-ema", {}, {}, "epsilon"),
        ("x", {"modelspec.architecture": "stable-diffusion-v2-512"}, {}, "epsilon"),
        ("x", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, {}, "v_prediction"),
        ("x", {}, {"global_step": 875000}, "epsilon"),
    ):
        found = recognise(_of(plain, name, metadata, values))
        assert found.prediction == wanted, name
        assert found.recommended.size == (768 if wanted == "v_prediction" else 512), name


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("sdxl_lightning_4step", "lightning", 4),
        ("realvisxlV40_v40LightningBakedvae", "lightning", 4),
        ("dreamshaperXL_v21TurboDPMSDE", "turbo", 4),
        ("sd_xl_turbo_1.0_fp16", "turbo", 4),
        ("Hyper-SDXL-8steps", "hyper", 8),
        ("modelLCM", "lcm", 6),
        ("lcm-dreamshaper-v7", "lcm", 6),
        ("sdxl_lightning_1step_x0", "lightning", 1),
        ("hyperrealism_v3", "", 30),
        ("juggernautXL_v9", "", 30),
        ("epicrealism_naturalSinRC1VAE", "", 30),
        ("helcminia", "", 30),
    ],
)
def test_distilled_models_are_known_by_their_names(states, name, kind, steps):
    found = recognise(_of({key: tuple(value.shape) for key, value in states["sdxl"].items()}, name))
    assert (found.distilled, found.recommended.steps) == (kind, steps)
    assert bool(kind) == any("its name" in guess for guess in found.guesses)
    if kind:
        assert found.recommended.guidance_scale == 1 and found.recommended.spacing == "trailing"


def _real(family: str, **changes):
    """The names and shapes of a real UNet in diffusers' layout, which is never made."""
    xl = dict(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        transformer_layers_per_block=[1, 2, 10],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    refiner = xl | dict(
        block_out_channels=(384, 768, 1536, 1536),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=[6, 12, 24, 24],
        cross_attention_dim=1280,
        transformer_layers_per_block=4,
        projection_class_embeddings_input_dim=2560,
    )
    configs = {
        "sd1": dict(cross_attention_dim=768),
        "sd2": dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True),
        "sdxl": xl,
        "sdxl_refiner": refiner,
    }
    with torch.device("meta"):
        return UNet2DConditionModel(**configs[family] | changes)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_real_shapes_in_both_layouts(family):
    unet = _real(family)
    attention = tuple("Attn" in block for block in unet.config.down_block_types)
    own = recognise(_of({name: tuple(value.shape) for name, value in unet.state_dict().items()}))
    state = original.unet_to_original(unet.state_dict(), 2, attention)
    bare = recognise(_of({name: tuple(value.shape) for name, value in state.items()}))
    comfy = recognise(_of({f"model.diffusion_model.{name}": tuple(value.shape) for name, value in state.items()}))
    assert [own.kind, bare.kind, comfy.kind] == ["unet"] * 3
    assert [own.family, bare.family, comfy.family] == [family] * 3
    assert [own.layout, bare.layout, comfy.layout] == ["diffusers", "original", "original"]
    if family == "sdxl_refiner":
        assert "refiner" in own.problem and own.variant == "refiner"


@pytest.mark.parametrize("width", [1024, 2048])
def test_variations_of_pictures_are_refused(width):
    unet = _real("sd2", class_embed_type="projection", projection_class_embeddings_input_dim=width)
    found = recognise(_of({name: tuple(value.shape) for name, value in unet.state_dict().items()}))
    assert found.variant == "unclip" and "variations" in found.problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("control_v11f1p_sd15_depth", "depth"),
        ("control_v11p_sd15_normalbae", "normal"),
        ("control_v11p_sd15_openpose_fp16", "openpose"),
        ("diffusers_xl_depth_full", "depth"),
        ("controlnet-canny-sdxl-1.0", "canny"),
        ("control_v11p_sd15_softedge", "softedge"),
        ("control_v11f1e_sd15_tile", "tile"),
        ("mystery", ""),
    ],
)
def test_controlnets_in_both_layouts(tmp_path, name, kind):
    for family in ("sd1", "sdxl"):
        control = original.make_controlnet(original.make_unet(family))
        state = original.unet_to_original(control.state_dict(), original.LAYERS, original.ATTENTION[family])
        files = {
            "diffusers": _write(tmp_path / f"{name}_a.safetensors", control.state_dict()),
            "original": _write(tmp_path / f"{name}_b.safetensors", original.under("control_model.", state)),
        }
        torch.save(state, tmp_path / f"{name}_c.pth")
        for layout, path in [*files.items(), ("original", tmp_path / f"{name}_c.pth")]:
            found = inspect_model_file(path)
            assert (found.kind, found.family, found.layout, found.control) == ("controlnet", family, layout, kind), path
            assert len(found.guesses) == 1 and not found.problem
            assert ("depth=FILE" in found.guesses[0]) == (not kind)
        difference = recognise(_of({key: tuple(value.shape) for key, value in state.items()} | {"difference": ()}))
        assert "difference" in difference.problem
        union = recognise(_of({key: tuple(value.shape) for key, value in state.items()} | {"task_embedding": (6, 320)}))
        assert union.control == "union" and not union.guesses


def test_auto_encoders_in_both_layouts(tmp_path):
    vae = original.make_vae()
    state = original.vae_to_original(vae.state_dict(), 4)
    for name, content, layout, family in (
        ("vae-ft-mse-840000-ema-pruned", state, "original", "sd_or_sdxl"),
        ("sdxl_vae", vae.state_dict(), "diffusers", "sdxl"),
        ("some", original.under("first_stage_model.", state), "original", "sd_or_sdxl"),
    ):
        found = inspect_model_file(_write(tmp_path / f"{name}.safetensors", content))
        assert (found.kind, found.layout, found.family) == ("vae", layout, family) and len(found.guesses) == 1
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(())}, "global_step": 3}, tmp_path / "vae.pt")
    assert inspect_model_file(tmp_path / "vae.pt").kind == "vae"
    flux = {name: tuple(value.shape) for name, value in state.items()} | {"decoder.conv_in.weight": (64, 16, 3, 3)}
    assert "16" in recognise(_of(flux)).problem


def _kohya(names, rank=8, ends=(("lora_down.weight", 0), ("lora_up.weight", 1), ("alpha", None))):
    found = {}
    for name, (out, into) in names.items():
        for end, axis in ends:
            found[f"{name}.{end}"] = () if axis is None else ((rank, into), (out, rank))[axis]
    return found


_Q1 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
_QXL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("shapes", "layout", "method", "family", "rank", "parts"),
    [
        (_kohya({_Q1: (320, 768), "lora_te_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}), "kohya", "LoRA", "sd1", 8, 2),
        (_kohya({_Q1: (320, 1024)}, 4), "kohya", "LoRA", "sd2", 4, 1),
        (_kohya({_QXL: (640, 2048), "lora_te2_text_model_encoder_layers_0_mlp_fc1": (5120, 1280)}), "kohya", "LoRA", "sdxl", 8, 2),
        (
            _kohya({_Q1: (320, 768)})
            | {
                "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": (8, 320, 3, 3),
                "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight": (320, 8, 1, 1),
            },
            "kohya",
            "LoCon",
            "sd1",
            8,
            1,
        ),
        (
            {f"{_Q1}.hada_w1_a": (320, 4), f"{_Q1}.hada_w1_b": (4, 768), f"{_Q1}.hada_w2_a": (320, 4), f"{_Q1}.alpha": ()},
            "kohya",
            "LoHa",
            "sd1",
            4,
            1,
        ),
        ({f"{_QXL}.lokr_w1": (8, 8), f"{_QXL}.lokr_w2_a": (80, 4), f"{_QXL}.lokr_w2_b": (4, 256)}, "kohya", "LoKr", "", 0, 1),
        (_kohya({_Q1: (320, 768)}) | {f"{_Q1}.dora_scale": (320, 1)}, "kohya", "LoRA with DoRA", "sd1", 8, 1),
        (
            {
                "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (4, 768),
                "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight": (320, 4),
                "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.down.weight": (4, 768),
            },
            "diffusers",
            "LoRA",
            "sd1",
            4,
            2,
        ),
        (
            {
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (16, 2048),
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": (640, 16),
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_magnitude_vector": (640,),
            },
            "PEFT",
            "LoRA with DoRA",
            "sdxl",
            16,
            1,
        ),
        (
            {"base_model.model.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (16, 768)},
            "PEFT",
            "LoRA",
            "sd1",
            16,
            1,
        ),
        ({"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (16, 3072)}, "PEFT", "LoRA", "flux", 16, 0),
        (_kohya({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)}), "kohya", "LoRA", "flux", 8, 0),
        ({"transformer.transformer_blocks.30.attn.to_k.lora_A.weight": (4, 3072)}, "PEFT", "LoRA", "qwen_image", 4, 0),
        ({"transformer.transformer_blocks.3.attn.to_k.lora_A.weight": (4, 1536)}, "PEFT", "LoRA", "sd3", 4, 0),
        ({"transformer.transformer_blocks.3.attn.to_k.lora_A.weight": (4, 3072)}, "PEFT", "LoRA", "joint", 4, 0),
        (_kohya({"lora_unet_single_blocks_39_linear2": (3072, 15360)}), "kohya", "LoRA", "other", 8, 1),
    ],
)
def test_loras(shapes, layout, method, family, rank, parts):
    found = recognise(_of(shapes))
    assert found.kind == "lora"
    assert (found.layout, found.method, found.family, found.rank, len(found.parts)) == (layout, method, family, rank, parts)
    assert bool(found.problem) == (family == "other")


def test_a_lora_may_say_its_family_itself():
    shapes = {f"{_QXL}.lokr_w1": (8, 8), f"{_QXL}.lokr_w2": (80, 256)}
    for metadata, family in (
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.trigger_phrase": "hero"}, "sd1"),
        ({"ss_base_model_version": "sd_v2_768_v"}, "sd2"),
    ):
        found = recognise(_of(shapes, "x", metadata))
        assert found.family == family and not found.guesses
    assert found.words == ()
    fast = recognise(_of(shapes, "Hyper-SDXL-8steps-lora"))
    assert (fast.distilled, fast.recommended.steps) == ("hyper", 8) and len(fast.guesses) == 2


def test_textual_inversions(tmp_path):
    vectors = torch.randn(8, 768)
    _write(tmp_path / "EasyNegative.safetensors", {"emb_params": vectors})
    _write(tmp_path / "xl.safetensors", {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)})
    _write(tmp_path / "two.safetensors", {"emb_params": torch.randn(1, 1024)})
    torch.save({"<cat>": torch.randn(768)}, tmp_path / "learned_embeds.bin")
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "hero", "step": 4, "sd_checkpoint": None}
    torch.save(webui, tmp_path / "hero.pt")
    # the first files of this kind hold a module, in torch's older form
    old = webui | {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})}
    torch.save(old, tmp_path / "old hero.pt", _use_new_zipfile_serialization=False)
    torch.save(old, tmp_path / "module.pt")
    for file, family, layout, rank, word in (
        ("EasyNegative.safetensors", "sd1", "emb_params", 8, "EasyNegative"),
        ("xl.safetensors", "sdxl", "two encoders", 2, "xl"),
        ("two.safetensors", "sd2", "emb_params", 1, "two"),
        ("learned_embeds.bin", "sd1", "diffusers", 1, "<cat>"),
        ("hero.pt", "sd1", "string_to_param", 8, "hero"),
        ("old hero.pt", "sd1", "string_to_param", 8, "old hero"),
        ("module.pt", "sd1", "string_to_param", 8, "module"),
    ):
        found = inspect_model_file(tmp_path / file)
        assert (found.kind, found.family, found.layout, found.rank) == ("embedding", family, layout, rank), file
        assert found.words == (word,) and not found.problem and not found.warnings


@pytest.mark.parametrize(
    ("shapes", "word"),
    [
        ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "Flux"),
        ({"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": (1, 1)}, "Diffusion 3"),
        (
            {"down_blocks.0.motion_modules.0.norm.weight": (320,), "down_blocks.0.resnets.0.norm1.weight": (320,)},
            "a whole network with a motion module",
        ),
        ({"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.norm.bias": (768,)}, "IP-Adapter"),
        ({"text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768)}, "text encoder"),
        ({"something.weight": (3, 3), "else.bias": (3,)}, "no known kind"),
    ],
)
def test_what_cannot_be_used_is_named(shapes, word):
    found = recognise(_of(shapes))
    assert word in found.problem and word in found.sentence


def test_a_trainers_checkpoint_is_read_and_nothing_of_it_is_run(tmp_path, states, monkeypatch):
    marker = tmp_path / "was run"

    class Harm:
        def __reduce__(self):
            return exec, (f"open({str(marker)!r}, 'w').close()",)

    class ModelCheckpoint:
        def __init__(self):
            self.best = np.float64(3.5)

    # the classes that a training program leaves in its checkpoints
    place = "pytorch_lightning.callbacks.model_checkpoint"
    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = place, "ModelCheckpoint"
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", place):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[place].ModelCheckpoint = ModelCheckpoint
    whole = {"state_dict": states["sd1"], "callbacks": {ModelCheckpoint: ModelCheckpoint()}, "optimizer_states": [{"state": {}}]}
    torch.save(whole, tmp_path / "trained.ckpt")
    torch.save(whole | {"extra": Harm()}, tmp_path / "harm.ckpt")
    torch.save(whole, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name in ("trained.ckpt", "old.ckpt"):
        found = inspect_model_file(tmp_path / name)
        assert (found.kind, found.family) == ("checkpoint", "sd1") and not found.warnings
    found = inspect_model_file(tmp_path / "harm.ckpt")
    assert found.kind == "checkpoint" and "exec" in found.warnings[0] and not marker.exists()


def test_files_that_are_no_models_are_sentences(tmp_path):
    good = _write(tmp_path / "good.safetensors", {"a": torch.zeros(10)}).read_bytes()
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10)}, buffer)
    for name, content, word in (
        ("empty.safetensors", b"", "empty"),
        ("page.safetensors", b"<!DOCTYPE html><html>", "web page"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS"),
        ("x.gguf", b"GGUF\x03", "GGUF"),
        ("cut.safetensors", good[:-8], "cut off"),
        ("cut.ckpt", buffer.getvalue()[:-30], "damaged"),
        ("text.ckpt", b"hello, this is a text file", "cannot be read as weights"),
        ("plain.pkl", pickle.dumps({"a": 1}), "cannot be read as weights"),
        ("long.safetensors", (1 << 40).to_bytes(8, "little") + bytes(100), "cut off"),
        ("wide.safetensors", _claim([10**12]), "one after the other"),
        ("negative.safetensors", _claim([-1, -10]), "damaged"),
        ("deep.safetensors", (80_000).to_bytes(8, "little") + b"[" * 80_000, "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ShotError, match=word) as raised:
            read_weight_file(tmp_path / name)
        assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ShotError, match="cannot be read"):
            read_weight_file(path)


def _claim(shape) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 40]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(40)


def test_a_dictionary_within_itself_ends(tmp_path):
    loop: dict = {"a": torch.zeros(2)}
    loop["state_dict"] = loop["b"] = loop
    torch.save(loop, tmp_path / "loop.pt")
    assert list(read_weight_file(tmp_path / "loop.pt").tensors) == ["a"]


def test_tensors_are_where_the_file_has_them(tmp_path):
    """Views, other strides and shared storages point to the right numbers in the mapped file, in both formats."""
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {"all": whole, "part": whole[1:3, 2:5], "turned": whole.T, "half": torch.ones(3).half() * 2}
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    save_file({name: value.clone().contiguous() for name, value in state.items()}, tmp_path / "c.safetensors")
    for name in ("a.pt", "b.pt", "c.safetensors"):
        for key, raw in read_weight_file(tmp_path / name).tensors.items():
            flat = np.frombuffer(raw.content, np.float16 if key == "half" else np.float32)
            found = np.lib.stride_tricks.as_strided(flat[raw.offset :], raw.shape, [step * flat.itemsize for step in raw.stride])
            assert (found == state[key].numpy()).all(), (name, key)


def test_the_command_says_it_in_text_and_json(states, tmp_path, capsys):
    path = _write(tmp_path / "my_lightning_4steps.safetensors", states["sdxl"], {"modelspec.title": "Mine"})
    assert main(["models", "inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "checkpoint of SDXL" in text and "1024x1024, 4 steps, guidance 1, euler with trailing steps" in text
    assert "guessed: That it is a Lightning model" in text and "title: Mine" in text
    assert main(["models", "inspect", "--json", str(path), str(tmp_path / "absent")]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["recommended"]["steps"] == 4 and first["kind"] == "checkpoint" and second["kind"] == "unreadable"
    assert main(["models"]) == 0 and "starter" in capsys.readouterr().out
    lacking = {name: value for name, value in states["sd1"].items() if not name.startswith("first_stage_model.")}
    assert main(["models", "inspect", str(_write(tmp_path / "lacking.safetensors", lacking))]) == 1
    assert "holds no auto-encoder" in capsys.readouterr().out
    shapes = {name: value for name, value in states["sd1"].items()}
    shapes["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3).half()
    assert main(["models", "inspect", str(_write(tmp_path / "inpaint.safetensors", shapes))]) == 1
    assert "a picture and a mask" in capsys.readouterr().out


def test_looking_at_a_file_needs_no_torch(states, tmp_path):
    path = _write(tmp_path / "one.safetensors", states["sd1"])
    code = (
        "import sys; from pathlib import Path; from latentman.backend.models.recognition import inspect_model_file as look;"
        f"print(look(Path({str(path)!r})).kind, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["checkpoint", "False"]


def test_a_huge_file_is_not_read(tmp_path, states):
    """A hole of 20 GB behind a header: only what is asked for is read."""
    size = 20 << 30
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"model.diffusion_model.x": entry}).encode()
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + size)
    file = read_weight_file(path)
    assert file.size > size and recognise(replace(file, metadata={})).parameters == size // 4
