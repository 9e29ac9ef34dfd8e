"""Prompts as embeddings: in pieces of the text encoder's length, with weights, from the layer that is asked for.

A text is as long as it likes: its tokens are read in pieces of the encoder's length, each with its own marks of begin and end. The
hidden states of a token are multiplied by its weight, and the piece's are then scaled so that their mean is what it was, as in
AUTOMATIC1111's web interface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ....shared.shot import ShotError
from .parsing import Prompt

#: a mean this small beside the values is rounding, and nothing can be scaled to it
_NO_MEAN = 1e-6


@dataclass(frozen=True)
class Piece:
    """What a text encoder reads at once: ``ids`` and their ``weights``, as many as it takes, with marks and padding."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def is_weighted(self) -> bool:
        """Whether a weight is not 1."""
        return any(weight != 1.0 for weight in self.weights)


@dataclass(frozen=True)
class Encoder:
    """A text encoder with its tokenizer. ``pipeline`` knows the textual inversions. With ``penultimate`` the model's own layer is
    the last but one, without its norm (SDXL), else the last with it."""

    pipeline: Any
    network: Any
    tokenizer: Any
    penultimate: bool = False

    @property
    def layers(self) -> int:
        """How many there are."""
        return int(self.network.config.num_hidden_layers)


@dataclass(frozen=True)
class EncodedText:
    """Hidden states (1, S, D) of a text's pieces behind each other, ``pooled`` (1, P) of its first piece where the encoder has a
    projection, and whether the mean could be restored after weighting."""

    states: torch.Tensor
    pooled: torch.Tensor | None
    restored: bool = True


def split_into_pieces(encoder: Encoder, prompt: Prompt) -> list[Piece]:
    """A prompt's tokens in pieces: a full one is followed by the next, and a BREAK begins one. A textual inversion of several
    vectors is not parted."""
    tokenizer = encoder.tokenizer
    limit = tokenizer.model_max_length - 2
    convert = getattr(encoder.pipeline, "maybe_convert_prompt", None)
    following = _find_following(tokenizer)
    pieces, tokens = [], list[tuple[int, float]]()
    for number, section in enumerate(prompt.sections):
        if number:
            pieces.append(_make_piece(tokenizer, tokens, limit))
            tokens = []
        for part in section:
            text = convert(part.text, tokenizer) if convert else part.text
            ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
            for run in _group(ids, following):
                if tokens and len(tokens) + len(run) > limit:
                    pieces.append(_make_piece(tokenizer, tokens, limit))
                    tokens = []
                tokens += [(token, part.weight) for token in run]
    if tokens or not pieces:
        pieces.append(_make_piece(tokenizer, tokens, limit))
    return pieces


def _find_following(tokenizer: Any) -> dict[int, int]:
    """The token that follows another within a textual inversion of several vectors: diffusers names them T, T_1 and so on."""
    added = dict(getattr(tokenizer, "added_tokens_encoder", {}))
    following = {}
    for name, number in added.items():
        found = re.fullmatch(r"(.+)_([1-9][0-9]*)", name)
        before = (found[1] if found[2] == "1" else f"{found[1]}_{int(found[2]) - 1}") if found else ""
        if before in added:
            following[added[before]] = number
    return following


def _group(ids: Sequence[int], following: dict[int, int]) -> list[list[int]]:
    """Tokens in runs that stay together."""
    runs: list[list[int]] = []
    for token in ids:
        if runs and following.get(runs[-1][-1]) == token:
            runs[-1].append(token)
        else:
            runs.append([token])
    return runs


def _make_piece(tokenizer: Any, tokens: Sequence[tuple[int, float]], limit: int) -> Piece:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    free = limit - len(tokens)
    ids = (tokenizer.bos_token_id, *(token for token, _ in tokens), tokenizer.eos_token_id, *[pad] * free)
    return Piece(ids, (1.0, *(weight for _, weight in tokens), 1.0, *[1.0] * free))


def check_clip_skip(clip_skip: int, encoders: Sequence[Encoder]) -> None:
    """``ShotError`` where an encoder has not as many layers."""
    least = min(encoder.layers for encoder in encoders)
    if clip_skip > least:
        raise ShotError(
            "clip_skip", f"The model's text encoder has {least} layers; choose a clip skip of at most {least}, or 0 for its own."
        )


@torch.no_grad()
def encode_pieces(encoder: Encoder, pieces: Sequence[Piece], clip_skip: int, device: torch.device) -> EncodedText:
    """Encode a text. ``clip_skip`` 1 takes the last layer, 2 the last but one and so on, 0 the model's own."""
    network = encoder.network
    ids = torch.tensor([piece.ids for piece in pieces], device=device)
    found = network(ids, output_hidden_states=encoder.penultimate or clip_skip > 0)
    if encoder.penultimate:
        states = found.hidden_states[-(clip_skip or 2)]
    elif clip_skip > 1:
        # the norm behind the last layer is part of what the UNet was trained with
        states = getattr(network, "text_model", network).final_layer_norm(found.hidden_states[-clip_skip])
    else:
        states = found.last_hidden_state
    states, restored = _apply_weights(states, pieces)
    pooled = found[0][:1] if found[0].ndim == 2 else None
    return EncodedText(states.reshape(1, -1, states.shape[-1]), pooled, restored)


def _apply_weights(states: torch.Tensor, pieces: Sequence[Piece]) -> tuple[torch.Tensor, bool]:
    """(N, S, D) hidden states times the weights of the pieces' tokens, each piece with the mean that it had; and whether that was
    possible everywhere."""
    rows, restored = list(states), True
    for number, piece in enumerate(pieces):
        if not piece.is_weighted:
            continue
        before = rows[number].float()
        after = before * torch.tensor(piece.weights, device=before.device)[:, None]
        ratio = float(before.mean() / after.mean())
        # negative weights can turn the mean around: scaling then would turn every other word around
        if abs(float(before.mean())) > _NO_MEAN * float(before.abs().mean()) and 0 < ratio < float("inf"):
            after = after * ratio
        else:
            restored = False
        rows[number] = after.to(states.dtype)
    return torch.stack(rows), restored
