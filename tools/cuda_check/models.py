"""Models of real shapes with random weights, made on the device from configurations: nothing is read and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from latentman.backend.models.devices import choose_dtype
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.schedulers import TRAINED
from latentman.backend.models.tokenizers import make_clip_tokenizer
from latentman.backend.models.vae_precision import choose_vae_dtype
from latentman.shared.load_options import LoadOptions
from tools.write_catalogue_memory import FAMILIES

#: what its weights' standard deviation is of that which keeps a layer's numbers as large as they were
GAIN = 0.7


def fill(make: Callable[[], torch.nn.Module], device: torch.device, dtype: torch.dtype) -> Any:
    """A network on the device with random weights that keep numbers in bounds."""
    with torch.device("meta"):
        network = make()
    # by its parameters, since diffusers warns of casts that matter only for values
    network = torch.nn.Module.to_empty(torch.nn.Module.to(network, dtype), device=device).eval()
    for name, value in network.named_parameters():
        if value.ndim > 1:
            value.data.normal_(std=GAIN / value[0].numel() ** 0.5)
        else:
            value.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    for module in network.modules():
        places = getattr(module, "position_ids", None)
        if isinstance(places, torch.Tensor):
            module.position_ids = torch.arange(places.shape[-1], device=device)[None]
    return network.requires_grad_(False)


def _narrow(config: dict[str, Any], divisor: int) -> dict[str, Any]:
    """A configuration with layers narrower by ``divisor``, and as few as there can be."""
    if divisor == 1:
        return config
    heads = config.get("attention_head_dim", 8)
    return config | {
        "block_out_channels": tuple(n // divisor for n in config.get("block_out_channels", (320, 640, 1280, 1280))),
        "attention_head_dim": heads if isinstance(heads, int) else tuple(max(1, n // divisor) for n in heads),
        "transformer_layers_per_block": 1,
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }


def _make_vae(family: str, divisor: int) -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=tuple(max(8, n // divisor // 8 * 8) for n in (128, 256, 512, 512)),
        norm_num_groups=32 if divisor == 1 else 8,
        layers_per_block=2 if divisor == 1 else 1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025 if family == "sdxl" else 0.18215,
        force_upcast=family == "sdxl",
    )


def _make_text_encoder(width: int, layers: int, kind: type, divisor: int) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width // divisor,
        num_hidden_layers=max(2, layers // divisor),
        num_attention_heads=width // 64,
        projection_dim=width,
    )
    return kind(config)


def make_model(
    family: str, device: torch.device, options: LoadOptions = LoadOptions(), divisor: int = 1, *, channels_last: bool = True
) -> ImageModel:
    """A model of a family's published shape, ``sd1`` or ``sdxl``, with a depth ControlNet, placed and laid out as ``loading.load``
    does; its layers are fewer, and narrower by ``divisor``. Weights are the same every time."""
    torch.manual_seed(0)
    dtype = choose_dtype(options, device)
    _, shape, own = FAMILIES[family]
    is_sdxl = family == "sdxl"

    def make(network: Callable[[], torch.nn.Module]) -> Any:
        return fill(network, device, dtype)

    hints = {} if divisor == 1 else {"conditioning_embedding_out_channels": (4, 8, 8, 16)}
    unet = make(lambda: UNet2DConditionModel(**_narrow(shape, divisor), **own))
    control = make(lambda: ControlNetModel(**_narrow(shape, divisor), **hints))
    vae = make(lambda: _make_vae(family, divisor))
    torch.nn.Module.to(vae, choose_vae_dtype(dtype, vae.config, sdxl=is_sdxl))
    # pictures of random networks mean nothing, but must be numbers that half precision can hold
    unet.conv_out.weight.data *= 0.5
    parts: dict[str, Any] = {
        "unet": unet,
        "controlnet": control,
        "vae": vae,
        "text_encoder": make(lambda: _make_text_encoder(768, 12, CLIPTextModel, divisor)),
        "tokenizer": make_clip_tokenizer(),
        "scheduler": DDIMScheduler(**TRAINED),
    }
    pipeline: Any
    if is_sdxl:
        parts["text_encoder_2"] = make(lambda: _make_text_encoder(1280, 32, CLIPTextModelWithProjection, divisor))
        pipeline = StableDiffusionXLControlNetPipeline(**parts, tokenizer_2=make_clip_tokenizer("!"))
    else:
        pipeline = StableDiffusionControlNetPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    for part in pipeline.components.values():
        if channels_last and isinstance(part, torch.nn.Module):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks it
    return ImageModel(f"random {family}", pipeline, device, dtype)
