"""Textual inversions put into a pipeline: words of their own for vectors that others trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...shared.pickled import shorten
from ...shared.shot import ShotError
from .added_files import find_added_files
from .hub import Report
from .model_file import FAMILIES, ModelFile
from .network_loading import make_tensor
from .networks import TensorSource
from .plans import list_shapes, open_model_file
from .recognition import find_vectors
from .weight_files import WeightFile, read_weight_file


@dataclass(frozen=True)
class EmbeddingWord:
    """The word that people write for a textual inversion, and the ``token`` that stands for its vectors in the tokenizers."""

    word: str
    token: str


def replace_words(text: str, words: Sequence[EmbeddingWord]) -> str:
    """A prompt with tokens for the words of textual inversions, in whatever case they are written; the longest words first.
    Brackets in a word may have backslashes before them, as in the syntax of prompts."""
    if not words:
        return text
    longest = sorted(words, key=lambda known: len(known.word), reverse=True)
    pattern = "|".join(f"({_match_alone(known.word)})" for known in longest)
    return re.sub(pattern, lambda found: longest[(found.lastindex or 1) - 1].token, text, flags=re.IGNORECASE)


def _match_alone(word: str) -> str:
    """A pattern for a word that is no part of another one; marks at its ends part it from anything."""
    before, after = (r"(?<!\w)" if word[0].isalnum() else ""), (r"(?!\w)" if word[-1].isalnum() else "")
    return before + re.sub(r"\\([()\[\]])", r"\\\\?\\\1", re.escape(word)) + after


def add_embeddings(
    pipeline: Any, sources: Sequence[str], report: Report | None = None
) -> tuple[tuple[EmbeddingWord, ...], tuple[str, ...]]:
    """Put textual inversions into a pipeline of diffusers: files, folders of them, or ids of the hub. Their words, and sentences
    about those in folders that do not fit it.

    Raises ``ShotError`` for a file that does not fit the pipeline's text encoders, and for two with the same word; ``OSError`` and
    ``ValueError`` come from the hub.
    """
    words: list[EmbeddingWord] = []
    warnings: list[str] = []
    taken: dict[str, Path] = {}
    for source in sources:
        files, unfit = find_added_files(source, "embedding", report), []
        for path in files:
            try:
                opened = _open_embeddings(pipeline, path)
            except ShotError:
                # of a folder of many, those for other models are left where they are
                if len(files) == 1:
                    raise
                unfit.append(path.name)
                continue
            warnings += _name_unused(path, opened)
            for found in opened:
                known = taken.get(found.word.casefold())
                if known is None:
                    taken[found.word.casefold()] = path
                    words.append(_add_embedding(pipeline, found, len(words)))
                elif known.resolve() != path.resolve():
                    if known.with_suffix("") != path.with_suffix(""):
                        same = f"The textual inversions {known} and {path} have the same word, '{found.word}'"
                        raise ShotError("model", f"{same}; rename one of the files.")
                    warnings.append(f"{path.name} has the same word as {known.name} beside it, which was taken.")
        if unfit:
            warnings.append(
                f"{len(unfit)} of the {len(files)} textual inversions in {source} do not fit this model and were left out, such as "
                f"{unfit[0]}."
            )
    return tuple(words), tuple(warnings)


@dataclass(frozen=True)
class _Embedding:
    """A textual inversion that fits a pipeline: its word, and its vectors for (text encoder, tokenizer), by their names."""

    word: str
    vectors: tuple[tuple[str, str, torch.Tensor], ...]
    #: the file's tensors with them
    names: tuple[str, ...]


def _open_embeddings(pipeline: Any, path: Path) -> list[_Embedding]:
    """The textual inversions in a file: one, or one for each of its words."""
    file, found = open_model_file(path, "embedding")
    names = find_vectors(list_shapes(file))
    if names:
        return [_open_embedding(pipeline, file, found, found.words[0], names)]
    return [_open_embedding(pipeline, file, found, word, (word,)) for word in found.words]


def _name_unused(path: Path, opened: Sequence[_Embedding]) -> list[str]:
    """A sentence about the tensors of a file that no text encoder here takes; none without any."""
    used = {name for found in opened for name in found.names}
    left = [name for name in read_weight_file(path).tensors if name not in used and not name.startswith("string_to_token.")]
    if not left:
        return []
    return [f"{len(left)} of the tensors in {path.name} have no use here and were left out, such as '{shorten(left[0])}'."]


def _open_embedding(pipeline: Any, file: WeightFile, found: ModelFile, word: str, names: tuple[str, ...]) -> _Embedding:
    parts = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
    has_second = "text_encoder_2" in pipeline.components
    vectors = []
    for (encoder, tokenizer), name in zip(parts, names, strict=False):
        raw = file.tensors[name]
        width = pipeline.components[encoder].config.hidden_size if encoder in pipeline.components else 0
        if (found.family == "sdxl") != has_second or raw.shape[-1] != width:
            what = f"The textual inversion {file.path.name} is for {FAMILIES[found.family]}"
            raise ShotError("model", f"{what} and does not fit this model's text encoder; choose another.")
        vectors.append((encoder, tokenizer, make_tensor(raw, TensorSource(name), torch.float32)))
    return _Embedding(word, tuple(vectors), names)


def _add_embedding(pipeline: Any, found: _Embedding, number: int) -> EmbeddingWord:
    """Put a textual inversion into a pipeline. The tokenizers get another word than people write, since many words are parts of
    their own; ``number`` tells the pipeline's apart."""
    token = f"<embedding-{number}>"
    for encoder, tokenizer, vectors in found.vectors:
        pipeline.load_textual_inversion(
            vectors, token=token, text_encoder=pipeline.components[encoder], tokenizer=pipeline.components[tokenizer]
        )
    return EmbeddingWord(found.word, token)
