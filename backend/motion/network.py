"""MDM's network: a transformer, or a GRU, that predicts the clean motion from a noisy one, a timestep and a text.

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
#: what ``pos_embed_max_len`` is unless it is said
MAX_POSITIONS = 5000
#: the architectures that there are
KINDS = ("trans_enc", "trans_dec", "gru")


@dataclass(frozen=True)
class Architecture:
    """The kind and the sizes of a network, as ``args.json`` has them.

    ``kind``: ``trans_enc`` has the text and the timestep as a token before the frames, ``trans_dec`` looks at them as memory, and
    with ``leading_time`` (``emb_trans_dec``) has the timestep before the frames besides, ``gru`` has them beside each frame.

    ``text_width`` is the width of the text encoder: 512 for CLIP ViT-B/32, 768 for DistilBERT. ``mask_frames`` says that frames
    after a motion's length were masked in training. Autoregressive models (DiP) go on for ``predicted`` frames after ``context``
    given ones; ``time_token`` says that their decoder has the timestep as a token of its own beside the words. ``positions``: the
    longest row that has positions.
    """

    latent: int = 512
    feedforward: int = 1024
    layers: int = 8
    heads: int = 4
    kind: str = "trans_enc"
    leading_time: bool = False
    text_width: int = 512
    mask_frames: bool = False
    features: int = FEATURES
    dropout: float = 0.1
    context: int = 0
    predicted: int = 0
    time_token: bool = False
    positions: int = MAX_POSITIONS


class PositionalEncoding(nn.Module):
    """Sinusoidal positions; the buffer is recomputed, never loaded."""

    pe: torch.Tensor

    def __init__(self, width: int, length: int = MAX_POSITIONS) -> None:
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
        beside = shape.latent if shape.kind == "gru" else 0
        self.input_process = _PoseIn(shape.features + beside, shape.latent)
        self.sequence_pos_encoder = PositionalEncoding(shape.latent, shape.positions)
        options: dict[str, Any] = dict(
            d_model=shape.latent, nhead=shape.heads, dim_feedforward=shape.feedforward, dropout=shape.dropout, activation="gelu"
        )
        if shape.kind == "trans_dec":
            self.seqTransDecoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), shape.layers)
        elif shape.kind == "trans_enc":
            # the fused path would change results in the last digits between versions
            self.seqTransEncoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**options), shape.layers, enable_nested_tensor=False
            )
        else:
            self.gru = nn.GRU(shape.latent, shape.latent, num_layers=shape.layers, batch_first=True)
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
        padding = None
        if self.shape.mask_frames and lengths is not None:
            padding = torch.arange(whole.shape[1], device=x.device)[None] >= given + lengths[:, None]
        rows = whole.transpose(0, 1)
        if self.shape.kind == "gru":
            rows = torch.cat([rows, (words + time).expand(len(rows), -1, -1)], 2)
        poses = self.input_process.poseEmbedding(rows)
        if self.shape.kind == "gru":
            # the rows of frames take the place of the batch, as in MDM's own
            out = self.gru(self.sequence_pos_encoder(poses))[0]
        elif self.shape.kind == "trans_dec":
            out = self._decode(poses, time, words, text_mask, padding)
        else:
            tokens = self.sequence_pos_encoder(torch.cat([words + time, poses]))
            out = self.seqTransEncoder(tokens, src_key_padding_mask=_lead(padding))[1:]
        return self.output_process.poseFinal(out[given:]).transpose(0, 1)

    def _decode(
        self,
        poses: torch.Tensor,
        time: torch.Tensor,
        words: torch.Tensor,
        text_mask: torch.Tensor | None,
        padding: torch.Tensor | None,
    ) -> torch.Tensor:
        """Frames (T, B, D) with the text as memory."""
        shape = self.shape
        row = self.sequence_pos_encoder(torch.cat([time, poses]) if shape.leading_time else poses)
        memory = torch.cat([time, words]) if shape.time_token else words + time
        out = self.seqTransDecoder(
            row,
            memory,
            tgt_key_padding_mask=_lead(padding) if shape.leading_time else padding,
            memory_key_padding_mask=_lead(text_mask) if shape.time_token else text_mask,
        )
        return out[1:] if shape.leading_time else out


def _lead(padding: torch.Tensor | None) -> torch.Tensor | None:
    """A mask of padding (B, T) with a token before it that is none."""
    return None if padding is None else torch.cat([torch.zeros_like(padding[:, :1]), padding], 1)
