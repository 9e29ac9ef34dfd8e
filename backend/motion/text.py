"""The sentence as MDM's networks take it: one CLIP vector, or DistilBERT's tokens."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...shared.motion import MotionError
from ..models.registry import split_revision

#: MDM cuts CLIP's texts to 20 tokens between the two marks
CLIP_TOKENS = 22
HUB = {"clip": "openai/clip-vit-base-patch32", "bert": "distilbert/distilbert-base-uncased"}


@dataclass(frozen=True)
class EncodedText:
    """``vectors`` (1, S, W) and ``padding`` (1, S), True where there is no token; ``cut`` says that the end was left out."""

    vectors: torch.Tensor
    padding: torch.Tensor | None
    cut: bool


class TextEncoder:
    """A frozen text encoder of one of the two kinds."""

    def __init__(self, kind: str, source: str | None, device: torch.device) -> None:
        """``source`` is a folder or a hub id; the kind's own hub id when None. Raises ``MotionError`` when it is missing."""
        import transformers

        self._kind, self._device = kind, device
        # a text encoder that lies beside its checkpoint was trained with it and reads all it can
        self._tokens = CLIP_TOKENS if source is None or not (Path(source).parent / "args.json").exists() else sys.maxsize
        name, revision = split_revision(source or HUB[kind])
        model: Any = transformers.CLIPTextModelWithProjection if kind == "clip" else transformers.AutoModel
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision or "main")
            self._model = model.from_pretrained(name, revision=revision or "main", dtype=torch.float32).to(device).eval()
        except (OSError, ValueError, KeyError) as error:
            raise MotionError(
                f"The text encoder '{name}' cannot be loaded; it is '{HUB[kind]}' on the model hub. Without a "
                "connection, give its folder with --text-encoder."
            ) from error

    @torch.no_grad()
    def __call__(self, text: str) -> EncodedText:
        """Encode a sentence: CLIP's pooled vector, not normalised, or DistilBERT's token vectors."""
        if self._kind == "clip":
            whole = self._tokenizer(text, truncation=False, verbose=False).input_ids
            most = min(self._tokens, self._model.config.max_position_embeddings)
            ids = torch.tensor([whole if len(whole) <= most else [*whole[: most - 1], whole[-1]]], device=self._device)
            return EncodedText(self._model(input_ids=ids).text_embeds[:, None], None, len(whole) > most)
        tokens = self._tokenizer(text, return_tensors="pt", truncation=True).to(self._device)
        vectors = self._model(**tokens).last_hidden_state
        return EncodedText(vectors, tokens.attention_mask == 0, False)
