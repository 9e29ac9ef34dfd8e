"""The starter's networks: diffusers' and transformers' own classes, at a size that two CPU cores can train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderTiny, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS = 40
TEXT_WIDTH = 128
WIDTHS = (64, 128, 192)


def autocast(device: str) -> torch.autocast:
    """bfloat16 where it is quicker: on GPUs and on processors with matrix units. On others float32 is quicker by a quarter."""
    kind = torch.device(device).type
    quicker = kind != "cpu" or bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.autocast(kind, torch.bfloat16, enabled=quicker)


ModuleType = TypeVar("ModuleType", bound=torch.nn.Module)


def move_to(module: ModuleType, device: str) -> ModuleType:
    """Move a module to a device, with its weights in ``channels_last``."""
    # torch's stubs lack this overload
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_vae(width: int = 48) -> AutoencoderTiny:
    """An auto-encoder with 4 channels at an eighth of the size; without normalisation layers, so that it can be trained on small
    crops. The decoder is the wider half, ``width`` channels, because it has to draw outlines that the latents only hint at."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def make_unet(widths: tuple[int, int, int] = WIDTHS, side: int = 32) -> UNet2DConditionModel:
    """A UNet with full attention at 16x16 and 8x8, and cross-attention alone at 32x32 on the way up.

    A character is a dozen latent pixels high: its garments can only be told apart at 32x32, and only on the way up, where
    the ControlNet has said where the body is. Self-attention there would cost more than all the rest. ``widths`` are the
    channels of the three levels, ``side`` that of the latents in pixels; the sizes above are those for 32.
    """
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        only_cross_attention=(True, False, False),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_controlnet(widths: tuple[int, int, int] = WIDTHS) -> ControlNetModel:
    """A ControlNet for depth, with cross-attention where the body is matched with the words, and few channels at full image
    resolution, where they are expensive. ``widths`` are the UNet's."""
    return ControlNetModel(
        in_channels=4,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        conditioning_embedding_out_channels=(8, 16, 24, 48),
    )


def load_networks(folder: Path) -> tuple[AutoencoderTiny, torch.nn.ModuleDict]:
    """Load the auto-encoder and the networks that ``train_diffusion`` trains from an exported folder, in float32."""
    classes = {
        "text": (CLIPTextModel, "text_encoder"),
        "unet": (UNet2DConditionModel, "unet"),
        "control": (ControlNetModel, "controlnet"),
    }
    models = torch.nn.ModuleDict(
        {key: kind.from_pretrained(folder, subfolder=name).float() for key, (kind, name) in classes.items()}
    )
    return AutoencoderTiny.from_pretrained(folder, subfolder="vae").float(), models


def make_text_encoder(vocabulary: int, end: int) -> CLIPTextModel:
    """CLIP's text model with two layers, which are enough for the grammar of the captions."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH * 3,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas with nothing of the picture left at the last timestep (Lin et al. 2024), predicting v.

    The colours of garments are large and flat: with SD's own last timestep they could be read from the noise, and the
    words would not be needed.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        steps_offset=1,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def learn_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Learn a vocabulary from the captions and save it in CLIP's layout; unknown words are split into letters."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_get_word_pattern(), behavior="removed", invert=True), pre_tokenizers.ByteLevel(False, False)]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        captions, trainers.BpeTrainer(vocab_size=1200, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False)
    )
    trained = json.loads(learner.to_str())["model"]
    # CLIP's order: bytes, bytes that end a word, merges, then the two special tokens
    words = [*sorted(alphabet), *(c + "</w>" for c in sorted(alphabet))]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in trained["merges"]]
    words += [merge.replace(" ", "") for merge in merges]
    vocabulary = {word: n for n, word in enumerate(dict.fromkeys([*words, start, end]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    made = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=TOKENS)
    return made


def _get_word_pattern() -> Regex:
    return Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
