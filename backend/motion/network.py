"""MDM's network: a transformer that predicts the clean motion from a noisy one, a timestep and a text.

Layers and parameters have the names of the official checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

FEATURES = 263
#: the longest motion that HumanML3D has
MAX_FRAMES = 196


@dataclass(frozen=True)
class Architecture:
    """The sizes of a network. ``decoder`` models look at the text's tokens as memory; others take one text vector.

    ``text_width`` is the width of the text encoder: 512 for CLIP ViT-B/32, 768 for DistilBERT. ``mask_frames`` says that frames
    after a motion's length were masked in training. Autoregressive models (DiP) go on for ``predicted`` frames after ``context``
    given ones; ``time_token`` says that their decoder has the timestep as a token of its own beside the words.
    """

    latent: int = 512
    feedforward: int = 1024
    layers: int = 8
    heads: int = 4
    decoder: bool = False
    text_width: int = 512
    mask_frames: bool = False
    features: int = FEATURES
    dropout: float = 0.1
    context: int = 0
    predicted: int = 0
    time_token: bool = False


class PositionalEncoding(nn.Module):
    """Sinusoidal positions; the buffer is recomputed, never loaded."""

    pe: torch.Tensor

    def __init__(self, width: int, length: int = 5000) -> None:
        super().__init__()
        position = torch.arange(length, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
        table = torch.zeros(length, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
        self.register_buffer("pe", table[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add positions to (T, B, D)."""
        return x + self.pe[: x.shape[0]]


class _PoseIn(nn.Module):
    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.poseEmbedding = nn.Linear(features, latent)


class _PoseOut(nn.Module):
    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.poseFinal = nn.Linear(latent, features)


class _TimestepEmbedder(nn.Module):
    def __init__(self, latent: int, positions: PositionalEncoding) -> None:
        super().__init__()
        self.sequence_pos_encoder = positions
        self.time_embed = nn.Sequential(nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, latent))

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,) timesteps -> (1, B, D)."""
        return self.time_embed(self.sequence_pos_encoder.pe[timesteps]).permute(1, 0, 2)


class MDM(nn.Module):
    """Predicts the clean motion, normalised feature vectors (B, T, F), from a noisy one."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.input_process = _PoseIn(shape.features, shape.latent)
        self.sequence_pos_encoder = PositionalEncoding(shape.latent)
        options: dict[str, Any] = dict(
            d_model=shape.latent, nhead=shape.heads, dim_feedforward=shape.feedforward, dropout=shape.dropout, activation="gelu"
        )
        if shape.decoder:
            self.seqTransDecoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), shape.layers)
        else:
            # the fused path would change results in the last digits between versions
            self.seqTransEncoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**options), shape.layers, enable_nested_tensor=False
            )
        self.embed_timestep = _TimestepEmbedder(shape.latent, self.sequence_pos_encoder)
        self.embed_text = nn.Linear(shape.text_width, shape.latent)
        self.output_process = _PoseOut(shape.features, shape.latent)

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        text_mask: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        prefix: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, T, F) noisy motion, (B,) timesteps, text (B, S, W) -> (B, T, F).

        One text vector has S = 1; zeros stand for no text. ``text_mask`` (B, S) is True where a token is padding; ``lengths``
        (B,) are used by models that mask frames; ``prefix`` (B, ``context``, F) are the clean frames before x that autoregressive
        models go on from.
        """
        time = self.embed_timestep(timesteps)
        words = self.embed_text(text.transpose(0, 1))
        given = 0 if prefix is None else prefix.shape[1]
        whole = x if prefix is None else torch.cat([prefix.to(x), x], 1)
        poses = self.input_process.poseEmbedding(whole.transpose(0, 1))
        padding = None
        if self.shape.mask_frames and lengths is not None:
            padding = torch.arange(whole.shape[1], device=x.device)[None] >= given + lengths[:, None]
        if self.shape.decoder:
            poses = self.sequence_pos_encoder(poses)
            memory = torch.cat([time, words]) if self.shape.time_token else words + time
            if self.shape.time_token and text_mask is not None:
                text_mask = torch.cat([torch.zeros_like(text_mask[:, :1]), text_mask], 1)
            out = self.seqTransDecoder(poses, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=text_mask)
        else:
            tokens = self.sequence_pos_encoder(torch.cat([words + time, poses]))
            if padding is not None:
                padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], 1)
            out = self.seqTransEncoder(tokens, src_key_padding_mask=padding)[1:]
        return self.output_process.poseFinal(out[given:]).transpose(0, 1)
