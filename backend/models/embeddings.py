"""Textual inversions put into a pipeline: words of their own for vectors that others trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .added_files import find_added_files
from .network_loading import make_tensor
from .networks import TensorSource
from .plans import open_model_file
from .recognition import FAMILIES, SDXL_TENSORS


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


def add_embeddings(pipeline: Any, sources: Sequence[str]) -> tuple[tuple[EmbeddingWord, ...], tuple[str, ...]]:
    """Put textual inversions into a pipeline of diffusers: files, folders of them, or ids of the hub. Their words, and sentences
    about those in folders that do not fit it.

    Raises ``ShotError`` for a file that does not fit the pipeline's text encoders, and for two with the same word; ``OSError`` and
    ``ValueError`` come from the hub.
    """
    words: list[EmbeddingWord] = []
    warnings: list[str] = []
    taken: dict[str, Path] = {}
    for source in sources:
        files = find_added_files(source, "embedding")
        for path in files:
            try:
                found = _open_embedding(pipeline, path)
            except ShotError as error:
                # of a folder of many, those for other models are left where they are
                if len(files) == 1:
                    raise
                warnings.append(f"{str(error).rstrip('.')}; it was left out.")
                continue
            known = taken.setdefault(found.word.casefold(), path)
            if known.resolve() == path.resolve() and known is not path:
                continue
            if known is not path:
                if known.parent == path.parent and known.stem == path.stem:
                    warnings.append(f"{path.name} has the same word as {known.name} beside it, which was taken.")
                    continue
                raise ShotError(
                    "model",
                    f"The textual inversions {known} and {path} have the same word, '{found.word}'; rename one of the files.",
                )
            words.append(_add_embedding(pipeline, found, len(words)))
    return tuple(words), tuple(warnings)


@dataclass(frozen=True)
class _Embedding:
    """A textual inversion that fits a pipeline: its word, and its vectors for (text encoder, tokenizer), by their names."""

    word: str
    vectors: tuple[tuple[str, str, torch.Tensor], ...]


def _open_embedding(pipeline: Any, path: Path) -> _Embedding:
    file, found = open_model_file(path, "embedding")
    parts = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
    if found.family == "sdxl":
        names = next(pair for pair in SDXL_TENSORS if set(pair) <= set(file.tensors))
    else:
        names = (next(iter(file.tensors)),)
    has_second = "text_encoder_2" in pipeline.components
    vectors = []
    for (encoder, tokenizer), name in zip(parts, names, strict=False):
        raw = file.tensors[name]
        width = pipeline.components[encoder].config.hidden_size if encoder in pipeline.components else 0
        if (found.family == "sdxl") != has_second or raw.shape[-1] != width:
            raise ShotError(
                "model",
                f"The textual inversion {path.name} is for {FAMILIES[found.family]} and does not fit this model's text encoder.",
            )
        vectors.append((encoder, tokenizer, make_tensor(raw, TensorSource(name), torch.float32)))
    return _Embedding(found.words[0], tuple(vectors))


def _add_embedding(pipeline: Any, found: _Embedding, number: int) -> EmbeddingWord:
    """Put a textual inversion into a pipeline. The tokenizers get another word than people write, since many words are parts of
    their own; ``number`` tells the pipeline's apart."""
    token = f"<embedding-{number}>"
    for encoder, tokenizer, vectors in found.vectors:
        pipeline.load_textual_inversion(
            vectors, token=token, text_encoder=pipeline.components[encoder], tokenizer=pipeline.components[tokenizer]
        )
    return EmbeddingWord(found.word, token)
