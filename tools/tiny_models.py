"""Tiny random image models of the real classes, written as diffusers folders: everything runs with them, in moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from latentman.backend.models.registry import STARTER


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
    )


def _scheduler(**changes: Any) -> DDIMScheduler:
    return DDIMScheduler(
        **dict[str, Any](beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False)
        | changes
    )


def write_sd(root: Path, **scheduler: Any) -> None:
    """A Stable Diffusion with its ControlNet (``whole``), and both apart (``base``, ``control``); 16-pixel multiples."""
    torch.manual_seed(0)
    words = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=words.text_encoder.config.hidden_size,
        attention_head_dim=4,
    )
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
    # a fresh ControlNet adds nothing: its last layers begin at zero
    for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(layer.weight, std=0.2)
    parts: dict[str, Any] = dict(
        vae=_vae(),
        text_encoder=words.text_encoder,
        tokenizer=words.tokenizer,
        unet=unet,
        safety_checker=None,
        scheduler=_scheduler(**scheduler),
        feature_extractor=None,
        requires_safety_checker=False,
    )
    StableDiffusionControlNetPipeline(controlnet=control, **parts).save_pretrained(root / "whole")
    StableDiffusionPipeline(**parts).save_pretrained(root / "base")
    control.save_pretrained(root / "control")


def write_sdxl(root: Path) -> None:
    """An SDXL with its ControlNet in ``root``."""
    torch.manual_seed(0)
    words = StableDiffusionControlNetPipeline.from_pretrained(STARTER)
    size = len(words.tokenizer)
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=words.tokenizer.model_max_length,
        projection_dim=16,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    shape: dict[str, Any] = dict(
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        use_linear_projection=True,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    unet = UNet2DConditionModel(sample_size=8, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **shape)
    control = ControlNetModel(conditioning_embedding_out_channels=(4, 8, 8, 16), **shape)
    StableDiffusionXLControlNetPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=words.tokenizer,
        tokenizer_2=words.tokenizer,
        unet=unet,
        controlnet=control,
        scheduler=_scheduler(),
        force_zeros_for_empty_prompt=False,
    ).save_pretrained(root)


def write_motion_module(folder: Path, *, frames: int = 32, stirred: bool = True, **changes: Any) -> None:
    """A motion module for ``write_sd``'s models with places for ``frames``; it does something where it is ``stirred``."""
    torch.manual_seed(1)
    adapter = MotionAdapter(
        **dict[str, Any](
            block_out_channels=(16, 32),
            motion_layers_per_block=1,
            motion_norm_num_groups=8,
            motion_num_attention_heads=2,
            motion_max_seq_length=frames,
        )
        | changes
    )
    # what its last layers give is added to what comes in
    for name, parameter in adapter.named_parameters():
        if "proj_out" in name:
            torch.nn.init.normal_(parameter, std=0.3 if stirred else 0.0)
    adapter.save_pretrained(folder)
