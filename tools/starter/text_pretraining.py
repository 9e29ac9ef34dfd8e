"""Pretraining of the text encoder: which colours a sentence puts where on the body, and which place it names.

A denoiser teaches words slowly, one noisy picture at a time. Here the encoder is trained on sentences alone, in about a minute:
learned queries attend to its states, as the denoiser's cross-attention will, and must predict the colours of points on the body.
The queries are thrown away afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from latentman.blender_addon.character.body_model import MANNEQUIN, load

from . import captions, networks
from .scenery import SCENES
from .wardrobe import compute_albedo

POINTS, SENTENCES = 64, 24_000


class TextProbe(torch.nn.Module):
    """(N, T, D) text states -> (N, POINTS, 3) colours and (N, scenes) logits."""

    def __init__(self) -> None:
        super().__init__()
        width = networks.TEXT_WIDTH
        self.queries = torch.nn.Parameter(torch.randn(POINTS + 1, width))
        self.attention = torch.nn.MultiheadAttention(width, 4, batch_first=True)
        self.colour, self.place = torch.nn.Linear(width, 3), torch.nn.Linear(width, len(SCENES))

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The colours and the place that the sentences describe."""
        seen = self.attention(self.queries.expand(len(states), -1, -1), states, states, need_weights=False)[0]
        return self.colour(seen[:, 1:]), self.place(seen[:, 0])


def sample_sentences(count: int, seed: int, styles: Sequence[str] = ("",)) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Captions for training, the colours (N, POINTS, 3) of body points in them, and the index (N,) of their place; hair has any of
    the ``styles``."""
    generator = np.random.default_rng((seed, 2))
    vertices = load(MANNEQUIN).v_template
    rest = vertices[np.random.default_rng(0).choice(len(vertices), POINTS, replace=False)]
    texts: list[str] = []
    colours, places = np.empty((count, POINTS, 3), np.float32), np.empty(count, np.int64)
    while len(texts) < count:
        outfit, place = captions.sample_outfit(generator), int(generator.integers(len(SCENES)))
        if captions.is_held_out(outfit, SCENES[place]):
            continue
        colours[len(texts)], places[len(texts)] = compute_albedo(rest, outfit), place
        style = styles[len(texts) % len(styles)]
        texts.append(captions.describe(outfit, SCENES[place], generator, style=style))
    return texts, colours, places


def read_last_states(encoder: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The states (N, T, D) of texts (N, T) behind the last layer."""
    return encoder(ids).last_hidden_state


def pretrain_text_encoder(
    encoder: torch.nn.Module,
    tokenize: Callable[[list[str]], torch.Tensor],
    device: str,
    steps: int,
    seed: int,
    read: Callable[[Any, torch.Tensor], torch.Tensor] = read_last_states,
    styles: Sequence[str] = ("",),
    seconds: float = 0.0,
) -> float:
    """Train ``encoder`` in place, whose states the denoiser will ``read``; returns the mean absolute error of the colours at the
    end. ``styles`` are those of ``sample_sentences``; it ends after ``seconds`` unless that is 0."""
    texts, colours, places = sample_sentences(SENTENCES, seed, styles)
    ids, truth, place = tokenize(texts), torch.from_numpy(colours), torch.from_numpy(places)
    reader = TextProbe().to(device)
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    progress = tqdm(range(steps), desc="words", mininterval=10)
    error, began = 1.0, time.monotonic()
    for step in progress:
        if seconds and time.monotonic() - began > seconds:
            break
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (1 - step / steps))
        rows = torch.randint(0, len(ids), (64,))
        said, where = reader(read(encoder, ids[rows].to(device)))
        off = F.l1_loss(said, truth[rows].to(device))
        loss = off + 0.1 * F.cross_entropy(where, place[rows].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        error = 0.98 * error + 0.02 * off.item()
        progress.set_postfix(error=f"{error:.4f}", refresh=False)
    return error
