"""Textual inversions put into a pipeline: words of their own for vectors that others trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .network_loading import make_tensor
from .networks import TensorSource
from .plans import open_model_file
from .recognition import FAMILIES


@dataclass(frozen=True)
class EmbeddingWord:
    """The word that people write for a textual inversion, and the ``token`` that stands for its vectors in the tokenizers."""

    word: str
    token: str


def replace_words(text: str, words: Sequence[EmbeddingWord]) -> str:
    """A prompt with tokens for the words of textual inversions, in whatever case they are written; the longest words first."""
    if not words:
        return text
    tokens = {known.word.lower(): known.token for known in words}
    longest = sorted(tokens, key=len, reverse=True)
    pattern = "|".join(_match_alone(word) for word in longest)
    return re.sub(pattern, lambda found: tokens[found[0].lower()], text, flags=re.IGNORECASE)


def _match_alone(word: str) -> str:
    """A pattern for a word that is no part of another one; marks at its ends part it from anything."""
    before, after = (r"(?<!\w)" if word[0].isalnum() else ""), (r"(?!\w)" if word[-1].isalnum() else "")
    return before + re.escape(word) + after


def add_embedding(pipeline: Any, path: Path, number: int) -> EmbeddingWord:
    """Put the textual inversion of a file into a pipeline of diffusers. Its word is the file's name without its end, or what
    diffusers' own files say; the tokenizers get another for it, since many words are parts of their own. ``number`` tells the
    pipeline's apart. Raises ``ShotError`` for one that does not fit the pipeline's text encoders."""
    file, found = open_model_file(path, "embedding")
    token = f"<embedding-{number}>"
    parts = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
    names = ["clip_l", "clip_g"] if found.family == "sdxl" else [next(iter(file.tensors))]
    has_second = "text_encoder_2" in pipeline.components
    for (encoder, tokenizer), name in zip(parts, names, strict=False):
        raw = file.tensors[name]
        width = pipeline.components[encoder].config.hidden_size if encoder in pipeline.components else 0
        if (found.family == "sdxl") != has_second or raw.shape[-1] != width:
            raise ShotError(
                "model",
                f"The textual inversion {path.name} is for {FAMILIES[found.family]} and does not fit this model's text encoder.",
            )
        vectors = make_tensor(raw, TensorSource(name), torch.float32)
        pipeline.load_textual_inversion(
            vectors, token=token, text_encoder=pipeline.components[encoder], tokenizer=pipeline.components[tokenizer]
        )
    return EmbeddingWord(found.words[0], token)
