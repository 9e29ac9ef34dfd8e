"""Performances as padded feature vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from latentman.backend.motion.features import encode
from latentman.backend.motion.network import FEATURES, MAX_FRAMES
from tools.motions.library import make_performance

#: features that share one deviation, as in HumanML3D's statistics: root turn, root velocity, height, positions, rotations,
#: velocities, contacts
GROUPS = ((0, 1), (1, 3), (3, 4), (4, 67), (67, 193), (193, 259), (259, 263))
CHUNK, LEAST_DEVIATION = 64, 0.002
#: what the deviations of the root's features, which come first, are divided by: they are 4 of 263 and decide where the motion goes.
#: HumanML3D's statistics for generation do the same
ROOT_FEATURES, ROOT_EMPHASIS = 4, 5.0


@dataclass(frozen=True)
class Motions:
    """``vectors`` (N, 196, 263) float16 in HumanML3D's units, zero after each one's ``lengths`` (N,); every motion's
    ``captions``; ``mean`` and ``std`` (263,) float32."""

    vectors: np.ndarray
    lengths: np.ndarray
    captions: list[list[str]]
    mean: np.ndarray
    std: np.ndarray


def _make_vectors(first_seed: int, rows: range) -> list[tuple[np.ndarray, tuple[str, ...]]]:
    made = (make_performance(first_seed + row) for row in rows)
    return [(encode(p.joints, floor=0.0), p.captions) for p in made]


def compute_statistics(vectors: Sequence[np.ndarray] | np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(263,) mean and standard deviation of vectors (N, T, 263) over the first ``lengths`` (N,) frames, the deviation averaged over
    each group."""
    rows = np.concatenate([v[:n].astype(np.float32) for v, n in zip(vectors, lengths, strict=True)])
    mean, std = rows.mean(0), rows.std(0)
    for start, end in GROUPS:
        std[start:end] = max(float(std[start:end].mean()), LEAST_DEVIATION)
    return mean.astype(np.float32), std.astype(np.float32)


def load(folder: Path, count: int, first_seed: int, workers: int) -> Motions:
    """Load the motions of ``count`` seeds, which are made once and kept in ``folder``."""
    if not (folder / "captions.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors, lengths = np.zeros((count, MAX_FRAMES, FEATURES), np.float16), np.zeros(count, np.int64)
        chunks = [range(n, min(n + CHUNK, count)) for n in range(0, count, CHUNK)]
        captions: list[tuple[str, ...]] = []
        with Pool(workers) as pool:
            for some in tqdm(
                pool.imap(partial(_make_vectors, first_seed), chunks), total=len(chunks), desc="motions", mininterval=5
            ):
                for rows, texts in some:
                    vectors[len(captions), : len(rows)], lengths[len(captions)] = rows, len(rows)
                    captions.append(texts)
        mean, std = compute_statistics(vectors[:4000], lengths[:4000])
        std[:ROOT_FEATURES] /= ROOT_EMPHASIS
        for name, array in (("vectors", vectors), ("lengths", lengths), ("Mean", mean), ("Std", std)):
            np.save(folder / f"{name}.npy", array)
        (folder / "captions.json").write_text(json.dumps(captions))
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "vectors" else None)
        for name in ("vectors", "lengths", "Mean", "Std")
    }
    return Motions(
        arrays["vectors"], arrays["lengths"], json.loads((folder / "captions.json").read_text()), arrays["Mean"], arrays["Std"]
    )
