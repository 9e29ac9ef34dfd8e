"""Tiny random models of the families of transformers, of the real classes, written as diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxPipeline,
    FluxTransformer2DModel,
    LTX2InContextPipeline,
    LTX2VideoTransformer3DModel,
    QwenImageControlNetModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    ZImageControlNetModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from latentman.backend.models.tokenizers import END, make_clip_tokenizer

#: layers of attention: with larger numbers than fresh ones have, so that what a tiny network looks at shows
ATTENTION = ("to_q", "to_k", "to_v", "to_out")
#: the words of a conversation's turns
_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_qwen_tokenizer() -> Qwen2Tokenizer:
    """A tokenizer of Qwen's class whose words are single bytes."""
    letters = [*sorted(ByteLevel.alphabet()), *_MARKS]
    tokenizer = Qwen2Tokenizer(
        vocab={letter: n for n, letter in enumerate(letters)},
        merges=[],
        unk_token=_MARKS[0],
        eos_token=_MARKS[2],
        pad_token=_MARKS[0],
        extra_special_tokens=[_MARKS[1]],
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _stir(network: torch.nn.Module, *parts: str) -> None:
    """Random numbers in the layers that begin at zero, so that a network with them does something."""
    for name, weights in network.named_parameters():
        if any(part in name for part in parts):
            torch.nn.init.normal_(weights, std=0.3)


def write_z_image(root: Path) -> None:
    """A Z-Image (``base``) and its union ControlNet (``control``); 16-pixel multiples."""
    torch.manual_seed(0)
    tokenizer = make_qwen_tokenizer()
    words = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    shape: dict[str, Any] = dict(dim=32, n_heads=2, n_kv_heads=2, n_refiner_layers=1)
    transformer = ZImageTransformer2DModel(
        in_channels=16, n_layers=2, cap_feat_dim=16, axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64], **shape
    )
    control = ZImageControlNetModel(
        control_layers_places=[0, 1],
        control_refiner_layers_places=[0],
        control_in_dim=33,
        add_control_noise_refiner="control_noise_refiner",
        **shape,
    )
    _stir(transformer, "pad_token", *ATTENTION)
    _stir(control, "before_proj", "after_proj")
    control.save_pretrained(root / "control")
    ZImagePipeline(
        vae=_make_vae(),
        text_encoder=Qwen3Model(words),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(root / "base")


def write_qwen_image(root: Path) -> None:
    """A Qwen-Image (``base``) and its ControlNet (``control``); 16-pixel multiples."""
    torch.manual_seed(0)
    tokenizer = make_qwen_tokenizer()
    words = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            rope_scaling={"type": "default", "mrope_section": [1, 1, 2]},
        ),
        vision_config=dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=16),
    )
    shape: dict[str, Any] = dict(
        in_channels=64, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 6, 6)
    )
    transformer = QwenImageTransformer2DModel(out_channels=16, num_layers=2, **shape)
    control = QwenImageControlNetModel(num_layers=1, **shape)
    _stir(control, "controlnet_blocks", "controlnet_x_embedder")
    _stir(transformer, "txt_in", "add_v_proj", "to_add_out", *ATTENTION)
    control.save_pretrained(root / "control")
    QwenImagePipeline(
        vae=AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        text_encoder=Qwen2_5_VLForConditionalGeneration(words),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
    ).save_pretrained(root / "base")


def make_t5_tokenizer() -> T5Tokenizer:
    """A tokenizer of T5's class whose words are single letters."""
    letters = [chr(n) for n in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in letters)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)


def _make_clip_config(words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, projection_dim=16
    )


def _make_t5(words: int, width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=words, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def write_flux(root: Path, *, schnell: bool = False, sees_depth: bool = False) -> None:
    """A FLUX.1 that is told the guidance, is distilled to few steps, or sees the picture for depth itself (``base``), and the
    union ControlNet of the first (``control``); 16-pixel multiples."""
    torch.manual_seed(0)
    clip, t5 = make_clip_tokenizer(END), make_t5_tokenizer()
    words = _make_clip_config(len(clip))
    shape: dict[str, Any] = dict(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    transformer = FluxTransformer2DModel(
        in_channels=128 if sees_depth else 64, out_channels=64, guidance_embeds=not schnell, **shape
    )
    control = FluxControlNetModel(in_channels=64, num_mode=10, guidance_embeds=True, **shape)
    _stir(control, "controlnet_blocks", "controlnet_single_blocks", "controlnet_x_embedder")
    _stir(transformer, *ATTENTION)
    control.save_pretrained(root / "control")
    FluxPipeline(
        vae=_make_vae(),
        text_encoder=CLIPTextModel(words),
        tokenizer=clip,
        text_encoder_2=_make_t5(len(t5), 16),
        tokenizer_2=t5,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0 if schnell else 3.0, use_dynamic_shifting=not schnell),
    ).save_pretrained(root / "base")


def write_flux_depth(root: Path) -> None:
    """A FLUX.1 that sees the picture for depth itself (``base``); 16-pixel multiples."""
    write_flux(root, sees_depth=True)


def write_sd3(root: Path) -> None:
    """A Stable Diffusion 3 (``base``) and its ControlNet (``control``); 16-pixel multiples."""
    torch.manual_seed(0)
    clip, t5 = make_clip_tokenizer(END), make_t5_tokenizer()
    words = _make_clip_config(len(clip))
    shape: dict[str, Any] = dict(
        sample_size=8,
        in_channels=16,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=64,
    )
    transformer = SD3Transformer2DModel(num_layers=2, dual_attention_layers=(0,), qk_norm="rms_norm", **shape)
    control = SD3ControlNetModel(num_layers=1, force_zeros_for_pooled_projection=False, **shape)
    _stir(control, "controlnet_blocks", "pos_embed_input")
    _stir(transformer, *ATTENTION)
    control.save_pretrained(root / "control")
    StableDiffusion3Pipeline(
        vae=_make_vae(),
        text_encoder=CLIPTextModelWithProjection(words),
        tokenizer=clip,
        text_encoder_2=CLIPTextModelWithProjection(words),
        tokenizer_2=clip,
        text_encoder_3=_make_t5(len(t5), 32),
        tokenizer_3=t5,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(root / "base")


def _make_umt5(words: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(vocab_size=words, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def _make_wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def _make_unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def _make_wan_vace() -> WanVACETransformer3DModel:
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        vace_layers=[0, 2],
        vace_in_channels=96,
    )
    _stir(transformer, "proj_in", *ATTENTION)
    _stir(transformer.vace_blocks, "proj_out")
    return transformer


def write_wan_vace(root: Path, *, solver: bool = True, boundary: float | None = None) -> None:
    """A Wan VACE (``base``), which sees the depth itself, with the multistep solver that it is published with, or Euler's steps;
    16-pixel multiples, four frames in a row of latents. With a ``boundary`` it has two transformers, the second of which works
    below it."""
    torch.manual_seed(0)
    tokenizer = make_t5_tokenizer()
    first, second = _make_wan_vace(), None if boundary is None else _make_wan_vace()
    scheduler = _make_unipc()
    WanVACEPipeline(
        vae=_make_wan_vae(),
        text_encoder=_make_umt5(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=first,
        transformer_2=second,
        boundary_ratio=boundary,
        scheduler=scheduler if solver else FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(root / "base")


def make_gemma_tokenizer() -> GemmaTokenizer:
    """A tokenizer of Gemma's class whose words are single letters."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581"]
    letters = [*marks, *(chr(n) for n in range(33, 127) if chr(n) not in marks)]
    return GemmaTokenizer(vocab={letter: n for n, letter in enumerate(letters)}, merges=[])


#: what the configurations of LTX-2.3 say otherwise
_NEWER_TRANSFORMER: dict[str, Any] = dict(
    gated_attn=True,
    cross_attn_mod=True,
    audio_gated_attn=True,
    audio_cross_attn_mod=True,
    use_prompt_embeddings=False,
    perturbed_attn=True,
    rope_type="split",
)
_NEWER_CONNECTORS: dict[str, Any] = dict(
    per_modality_projections=True,
    video_hidden_dim=32,
    audio_hidden_dim=16,
    video_gated_attn=True,
    audio_gated_attn=True,
    proj_bias=True,
    rope_type="split",
)


def write_ltx2(root: Path, *, downscale: int = 1, newer: bool = False) -> None:
    """An LTX-2, or the ``newer`` LTX-2.3 (``base``), and an in-context LoRA for it (``depth.safetensors``), which wants its clip
    smaller by a factor; 32-pixel multiples, eight frames in a row of latents."""
    torch.manual_seed(0)
    tokenizer = make_gemma_tokenizer()
    words = Gemma3Config(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
            max_position_embeddings=1024,
        ),
        vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
        ),
        mm_tokens_per_image=4,
    )
    transformer = LTX2VideoTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=8,
        rope_double_precision=False,
        **(_NEWER_TRANSFORMER if newer else {}),
    )
    _stir(transformer, *ATTENTION)
    vae = AutoencoderKLLTX2Video(
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(4, 8, 16),
        upsample_residual=(False, False, False),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
        timestep_conditioning=newer,
    )
    vae.latents_mean.normal_(std=0.1)
    vae.latents_std.uniform_(0.5, 1.5)
    connectors = LTX2TextConnectors(
        caption_channels=8,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=16 if newer else 4,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=32,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8 if newer else 4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=32,
        connector_rope_base_seq_len=32,
        rope_double_precision=False,
        **(_NEWER_CONNECTORS if newer else {}),
    )
    LTX2InContextPipeline(
        vae=vae,
        audio_vae=AutoencoderKLLTX2Audio(base_channels=8, ch_mult=(1,), num_res_blocks=1, latent_channels=2, mel_bins=16),
        vocoder=LTX2Vocoder(
            in_channels=32,
            hidden_channels=8,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
        ),
        text_encoder=Gemma3ForConditionalGeneration(words),
        tokenizer=tokenizer,
        connectors=connectors,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
    ).save_pretrained(root / "base")
    save_file(_make_context_lora(transformer), root / "depth.safetensors", {"reference_downscale_factor": str(downscale)})


def _make_context_lora(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A LoRA under its authors' names for attention and for the layers that meet the latents."""
    found = {}
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and (".attn1." in name or name == "proj_in"):
            theirs = name.replace("proj_in", "patchify_proj")
            found[f"diffusion_model.{theirs}.lora_A.weight"] = torch.randn(4, module.in_features) * 0.1
            found[f"diffusion_model.{theirs}.lora_B.weight"] = torch.randn(module.out_features, 4) * 0.1
    return found


def write_wan_animate(root: Path) -> None:
    """A Wan Animate (``base``), which sees the skeleton itself; 16-pixel multiples, four frames in a row of latents."""
    torch.manual_seed(0)
    tokenizer = make_t5_tokenizer()
    looks = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    transformer = WanAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        image_dim=8,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    _stir(transformer, "pose_patch_embedding", *ATTENTION)
    WanAnimatePipeline(
        vae=_make_wan_vae(),
        text_encoder=_make_umt5(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=_make_unipc(),
        image_encoder=CLIPVisionModel(looks),
        image_processor=CLIPImageProcessor(size=32, crop_size=32),
    ).save_pretrained(root / "base")
