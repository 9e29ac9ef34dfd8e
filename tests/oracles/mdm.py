"""MDM's network once more, from its paper and its public description, to compare with: modules under the names of its checkpoints,
and a forward pass in its own layout (batch, numbers, 1, frames), without any of the product's code."""

from __future__ import annotations

import math

import torch
from torch import nn


class Positions(nn.Module):
    """A table of sines and cosines (length, 1, width)."""

    def __init__(self, width, length):
        super().__init__()
        table = torch.zeros(length, 1, width)
        for n in range(width // 2):
            angle = torch.arange(length) * math.exp(-math.log(10000.0) * 2 * n / width)
            table[:, 0, 2 * n], table[:, 0, 2 * n + 1] = torch.sin(angle), torch.cos(angle)
        self.register_buffer("pe", table)


class Named(nn.Module):
    """Modules under these names."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Oracle(nn.Module):
    """Arguments as in ``args.json``."""

    def __init__(self, arch, latent_dim, layers, ff_size, text_width, **rest):
        super().__init__()
        self.arch, self.rest = arch, rest
        beside = latent_dim if arch == "gru" else 0
        self.input_process = Named(poseEmbedding=nn.Linear(263 + beside, latent_dim))
        self.sequence_pos_encoder = Positions(latent_dim, rest.get("pos_embed_max_len", 5000))
        same = {"d_model": latent_dim, "nhead": 4, "dim_feedforward": ff_size, "dropout": 0.1, "activation": "gelu"}
        if arch == "trans_enc":
            self.seqTransEncoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**same), layers, enable_nested_tensor=False)
        elif arch == "trans_dec":
            self.seqTransDecoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**same), layers)
        else:
            self.gru = nn.GRU(latent_dim, latent_dim, num_layers=layers, batch_first=True)
        embed = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.SiLU(), nn.Linear(latent_dim, latent_dim))
        self.embed_timestep = Named(sequence_pos_encoder=self.sequence_pos_encoder, time_embed=embed)
        self.embed_text = nn.Linear(text_width, latent_dim)
        self.output_process = Named(poseFinal=nn.Linear(latent_dim, 263))
        # a network of its own, whose weights files leave out
        self.clip_model = nn.Linear(2, 2)

    def forward(self, x, timesteps, words, no_word=None, mask=None, prefix=None):
        """x (B, 263, 1, T); words (S, B, W); no_word (B, S); mask (B, 1, 1, T), True for a frame; prefix (B, 263, 1, P)."""
        table, latent = self.sequence_pos_encoder.pe, self.embed_text.out_features
        time = self.embed_timestep.time_embed(table[timesteps]).permute(1, 0, 2)
        given = 0
        if prefix is not None:
            given = prefix.shape[-1]
            x = torch.cat([prefix, x], -1)
            mask = torch.cat([torch.ones(len(x), 1, 1, given, dtype=torch.bool), mask], -1)
        text = self.embed_text(words)
        if self.rest.get("emb_policy", "add") == "add":
            condition = text + time
        else:
            condition = torch.cat([time, text])
            no_word = torch.cat([torch.zeros(len(no_word), 1, dtype=torch.bool), no_word], 1)
        batch, _, _, frames = x.shape
        if self.arch == "gru":
            beside = condition.repeat(frames, 1, 1).permute(1, 2, 0).reshape(batch, latent, 1, frames)
            x = torch.cat([x, beside], 1)
        row = self.input_process.poseEmbedding(x.permute(3, 0, 1, 2).reshape(frames, batch, -1))
        leads = self.arch == "trans_enc" or (self.arch == "trans_dec" and self.rest.get("emb_trans_dec", False))
        padding = None
        if self.rest.get("mask_frames") and mask is not None:
            padding = ~mask[:, 0, 0]
            if leads:
                padding = torch.cat([torch.zeros(batch, 1, dtype=torch.bool), padding], 1)
        if self.arch == "trans_enc":
            row = torch.cat([condition, row])
            out = self.seqTransEncoder(row + table[: len(row)], src_key_padding_mask=padding)[1:]
        elif self.arch == "trans_dec":
            row = torch.cat([time, row]) if leads else row
            out = self.seqTransDecoder(
                row + table[: len(row)], condition, tgt_key_padding_mask=padding, memory_key_padding_mask=no_word
            )
            out = out[1:] if leads else out
        else:
            out = self.gru(row + table[: len(row)])[0]
        return self.output_process.poseFinal(out[given:]).permute(1, 2, 0)[:, :, None]
