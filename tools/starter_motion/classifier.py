"""A small network that classifies the action, the direction and the side of a motion's feature vectors.

It is trained on performances alone, never on the motion model's motions.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from latentman.backend.motion.features import encode
from latentman.backend.motion.network import FEATURES, MAX_FRAMES
from tools.motions.actions import DIRECTIONS, MOVE_CHOICES, SIDES, Move
from tools.motions.library import make_performance

from .dataset import compute_statistics

ACTIONS = tuple(MOVE_CHOICES)
DIRECTION_CLASSES = tuple(dict.fromkeys([*DIRECTIONS, *(way for ways, _, _ in MOVE_CHOICES.values() for way in ways)]))


class Classifier(nn.Module):
    """(N, T, 263) normalised vectors and their (N,) lengths -> logits of action, direction and side.

    ``mean`` and ``std`` (263,) are those of its training data, so that its results do not depend on the statistics of
    the model that it measures.
    """

    def __init__(self, mean: np.ndarray, std: np.ndarray, width: int = 96) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        sizes = (FEATURES, width, width, width, width)
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, 2 if n else 1, 2) for n, (a, b) in enumerate(pairwise(sizes)))
        self.heads = nn.ModuleList(nn.Linear(2 * width, n) for n in (len(ACTIONS), len(DIRECTION_CLASSES), len(SIDES)))

    def forward(self, vectors: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Compute what the class describes."""
        x = vectors.transpose(1, 2)
        for layer in self.layers:
            x = F.relu(layer(x))
        there = torch.arange(x.shape[2])[None] < (lengths[:, None] / 8).ceil().clamp(min=1)
        mean = (x * there[:, None]).sum(2) / there.sum(1, keepdim=True)
        most = x.masked_fill(~there[:, None], 0).amax(2)
        both = torch.cat([mean, most], 1)
        return [head(both) for head in self.heads]


def pad_batch(vectors: list[np.ndarray], mean: np.ndarray, std: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded normalised vectors (N, 196, 263) and lengths (N,) of motions (F, 263)."""
    out = np.zeros((len(vectors), MAX_FRAMES, FEATURES), np.float32)
    for row, motion in zip(out, vectors, strict=True):
        row[: len(motion)] = (motion - mean) / std
    return torch.from_numpy(out), torch.tensor([len(motion) for motion in vectors])


def make_labels(moves: list[Move]) -> torch.Tensor:
    """(N, 3) indices of action, direction and side; -100 where none is asked for."""
    return torch.tensor(
        [
            [
                ACTIONS.index(m.action),
                DIRECTION_CLASSES.index(m.direction) if m.direction else -100,
                SIDES.index(m.side) if m.side else -100,
            ]
            for m in moves
        ]
    )


def make_examples(count: int, first_seed: int) -> tuple[list[np.ndarray], list[Move]]:
    """Make training data: vectors and moves of performances of one action each, all actions equally often."""
    made = [make_performance(first_seed + n, action=ACTIONS[n % len(ACTIONS)]) for n in range(count)]
    return [encode(p.joints, floor=0.0) for p in made], [p.moves[0] for p in made]


def train(count: int, steps: int, first_seed: int) -> Classifier:
    """Train a classifier on ``count`` performances."""
    torch.manual_seed(0)
    vectors, moves = make_examples(count, first_seed)
    network = Classifier(*compute_statistics(vectors, np.array([len(v) for v in vectors])))
    seen, lengths = pad_batch(vectors, network.mean, network.std)
    truth = make_labels(moves)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    for step in tqdm(range(steps), desc="classifier", mininterval=10):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / steps) + 1e-5
        rows = torch.randint(0, len(seen), (48,))
        # generated motions are not exact, so the training data is noisy as well
        noisy = seen[rows] + 0.15 * torch.randn_like(seen[rows])
        said = network(noisy, lengths[rows])
        losses = [
            F.cross_entropy(logits, truth[rows, n], ignore_index=-100)
            for n, logits in enumerate(said)
            if (truth[rows, n] >= 0).any()
        ]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def score(network: Classifier, vectors: list[np.ndarray], moves: list[Move]) -> np.ndarray:
    """(N, 3) 1.0 where action, direction and side are recognised as asked for, 0.0 where not, NaN where none was asked for."""
    said = network(*pad_batch(vectors, network.mean, network.std))
    truth = make_labels(moves)
    found = torch.stack([logits.argmax(1) == truth[:, n] for n, logits in enumerate(said)], 1).float()
    return torch.where(truth >= 0, found, torch.nan).numpy()
