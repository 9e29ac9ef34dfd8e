"""Writes into ``backend/models/library/catalogue.json`` what each kind of base model takes of a device's memory, by its networks'
published shapes: ``python -m tools.write_catalogue_memory``; ``--check`` only compares."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLLTX2Video,
    AutoencoderKLWan,
    ControlNetModel,
    LTX2VideoTransformer3DModel,
    UNet2DConditionModel,
    WanAnimateTransformer3DModel,
    WanVACETransformer3DModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    UMT5Config,
    UMT5EncoderModel,
)

from latentman.backend.models.memory_need import MemoryNeed, estimate_need
from latentman.backend.models.vae_precision import choose_vae_dtype

CATALOGUE = Path(__file__).resolve().parents[1] / "backend" / "models" / "library" / "catalogue.json"
PRECISIONS = {"float16": torch.float16, "float32": torch.float32}
_DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
_XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
#: family -> pixels of a side, and what its UNet and ControlNet are made with
FAMILIES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "sd1": (512, {"cross_attention_dim": 768, "down_block_types": _DOWN}, {"up_block_types": _UP}),
    "sd2": (
        768,
        {
            "cross_attention_dim": 1024,
            "down_block_types": _DOWN,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        {"up_block_types": _UP},
    ),
    "sdxl": (1024, _XL, {"up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "sample_size": 128}),
    # the transformer's own default is what was published; the ControlNet is the union one of the catalogue
    "z_image": (1024, {}, {}),
    # the smaller one of those that were published; it sees the depth itself
    "wan_vace": (
        640,
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))},
        {},
    ),
    # the transformer's own default is what was published
    "wan_animate": (640, {}, {}),
    # likewise; its LoRA is added to its weights
    "ltx2": (640, {}, {}),
}


def _make_vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def _make_text_encoder(width: int, layers: int, *, projected: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def list_networks(family: str) -> Mapping[str, Callable[[], Any]]:
    """What makes each network of a family, with one ControlNet."""
    _, shape, own = FAMILIES[family]
    if family == "z_image":
        words = Qwen3Config(
            vocab_size=151936,
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
        )
        return {
            "transformer": ZImageTransformer2DModel,
            "vae": lambda: _make_vae(16),
            "controlnet_0": lambda: ZImageControlNetModel(
                control_layers_places=[0, 5, 10, 15, 20, 25], control_in_dim=16, control_refiner_layers_places=[]
            ),
            "text_encoder": lambda: Qwen3Model(words),
        }
    if family.startswith("wan_"):
        text = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
        looks = CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14
        )
        parts: dict[str, Callable[[], Any]] = {"vae": AutoencoderKLWan, "text_encoder": lambda: UMT5EncoderModel(text)}
        if family == "wan_vace":
            return {"transformer": lambda: WanVACETransformer3DModel(**shape), **parts}
        return {"transformer": WanAnimateTransformer3DModel, **parts, "image_encoder": lambda: CLIPVisionModel(looks)}
    if family == "ltx2":
        layers = dict(
            hidden_size=3840,
            intermediate_size=15360,
            num_hidden_layers=48,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=256,
            vocab_size=262208,
        )
        seen = dict(
            hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=896, patch_size=14
        )
        gemma = Gemma3Config(text_config=layers, vision_config=seen)
        return {
            "transformer": LTX2VideoTransformer3DModel,
            "vae": lambda: AutoencoderKLLTX2Video(spatial_compression_ratio=32, temporal_compression_ratio=8),
            "text_encoder": lambda: Gemma3ForConditionalGeneration(gemma),
            "connectors": LTX2TextConnectors,
        }
    networks: dict[str, Callable[[], Any]] = {
        "unet": lambda: UNet2DConditionModel(**shape, **own),
        "vae": _make_vae,
        "controlnet_0": lambda: ControlNetModel(**shape),
    }
    if family == "sd1":
        networks["text_encoder"] = lambda: _make_text_encoder(768, 12)
    elif family == "sd2":
        networks["text_encoder"] = lambda: _make_text_encoder(1024, 23)
    else:
        networks["text_encoder"] = lambda: _make_text_encoder(768, 12)
        networks["text_encoder_2"] = lambda: _make_text_encoder(1280, 32, projected=True)
    return networks


def measure(family: str, precision: str) -> MemoryNeed:
    """What a family's base takes with one ControlNet and frames of its own size."""
    side, dtype = FAMILIES[family][0], PRECISIONS[precision]
    # in half precision the auto-encoder of a published base runs in another one where it would overflow, as when it is loaded
    return estimate_need(
        list_networks(family), side, side, dtype, lambda config: choose_vae_dtype(dtype, config, sdxl=family == "sdxl")
    )


def write_memory() -> dict[str, dict[str, Any]]:
    """family -> precision -> what it takes, as the catalogue holds it."""
    out: dict[str, dict[str, Any]] = {}
    for family in FAMILIES:
        found = {precision: measure(family, precision) for precision in PRECISIONS}
        out[family] = {
            precision: {"weights": dict(need.weights), "denoising": need.denoising, "decoding": need.decoding}
            # most need not say it
            | ({} if need.is_guided else {"is_guided": False})
            | ({} if need.together == 1 else {"together": need.together})
            for precision, need in found.items()
        }
    return out


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 when ``--check`` finds other figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the file has other figures")
    args = parser.parse_args(argv)
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    memory = write_memory()
    if args.check:
        return int(catalogue["memory"] != memory)
    catalogue["memory"] = memory
    CATALOGUE.write_text(json.dumps(catalogue, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
