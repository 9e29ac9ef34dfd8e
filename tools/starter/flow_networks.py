"""The flow-matching starter's networks: Z-Image's classes in diffusers and transformers, at a size that two CPU cores can train.

The auto-encoder is the other starter's.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageControlNetModel, ZImageTransformer2DModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

TEXT_WIDTH, WIDTH, HEADS, CHANNELS = 128, 256, 4, 4
#: how far the steps are moved towards the noise, where the places and colours are decided; as Z-Image's
SHIFT = 3.0
#: the guidance that it is used with, 1 being none
GUIDANCE = 1.5
#: the words of a conversation's turns; the text is filled up with the first
_FILL, _BEGIN, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
#: without the names of who speaks: every token costs a row in the transformer
_TEMPLATE = "{% for message in messages %}" + _BEGIN + "{{ message.content }}" + _END + "{% endfor %}"
_SHAPE = {"dim": WIDTH, "n_heads": HEADS, "n_kv_heads": HEADS, "n_refiner_layers": 1}


def make_transformer() -> ZImageTransformer2DModel:
    """A transformer of six layers behind one that sees the picture alone and one that sees the text alone; 2x2 latents a token."""
    return ZImageTransformer2DModel(
        in_channels=CHANNELS, n_layers=6, cap_feat_dim=TEXT_WIDTH, axes_dims=[16, 24, 24], axes_lens=[1536, 128, 128], **_SHAPE
    )


def make_controlnet() -> ZImageControlNetModel:
    """A ControlNet for depth, which speaks to the first and the fourth layer and to the one before them."""
    control = ZImageControlNetModel(
        control_layers_places=[0, 3],
        control_refiner_layers_places=[0],
        control_in_dim=CHANNELS,
        add_control_noise_refiner="control_noise_refiner",
        **_SHAPE,
    )
    # the class asks for it where gradients flow, and does not set it itself
    control.gradient_checkpointing = False
    return control


def make_text_encoder(vocabulary: int) -> Qwen3Model:
    """Qwen3 with two layers, and a third that nobody reads: Z-Image takes the states before the last layer."""
    return Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH * 3,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=TEXT_WIDTH // 4,
            max_position_embeddings=1024,
        )
    )


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler's steps from noise to picture along straight lines."""
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT)


def learn_tokenizer(captions: list[str], folder: Path) -> Qwen2Tokenizer:
    """Learn a vocabulary from the captions and save it in Qwen's layout; unknown words are split into letters."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"), pre_tokenizers.ByteLevel(False, False)]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # a word is the same at the beginning of a text
    texts = [text for caption in captions for text in (caption, f" {caption}")]
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False))
    trained = json.loads(learner.to_str())["model"]
    vocabulary = {word: n for n, word in enumerate(dict.fromkeys([*trained["vocab"], _FILL, _BEGIN, _END]))}
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in trained["merges"]]
    made = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, unk_token=_FILL, eos_token=_END, pad_token=_FILL, extra_special_tokens=[_BEGIN]
    )
    made.chat_template = _TEMPLATE
    made.save_pretrained(folder)
    return made


def read_states(encoder: Qwen3Model, ids: torch.Tensor) -> torch.Tensor:
    """(N, T, TEXT_WIDTH) what the transformer is told of texts (N, T) whose ends may be filled up: words see those before them
    alone, so what fills up changes nothing."""
    return encoder(ids, output_hidden_states=True).hidden_states[-2]


class PictureNetworks(torch.nn.Module):
    """Transformer and ControlNet as one function of the noisy latents."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer, self.control = make_transformer(), make_controlnet()
        ZImageControlNetModel.from_transformer(self.control, self.transformer)

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, texts: list[torch.Tensor], depth: torch.Tensor) -> torch.Tensor:
        """The way from the noise to the picture (N, 4, h, w), for noisy latents and latents of depth of the same shape, ``time``
        (N,) from 0 (noise) to 1 (picture) and (T, TEXT_WIDTH) texts."""
        rows = list(noisy.unsqueeze(2))
        added = self.control(rows, time, texts, list(depth.unsqueeze(2)))
        made = self.transformer(rows, time, texts, controlnet_block_samples=added, return_dict=False)[0]
        return torch.stack(list(made)).squeeze(2)
