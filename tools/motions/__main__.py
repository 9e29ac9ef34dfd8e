"""``python -m tools.motions``: writes the bundled clips as an MDM ``results.npy``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .clips import CLIPS
from .gait import perform

SHIPPED = Path(__file__).resolve().parents[2] / "blender_addon" / "motion" / "data" / "results.npy"


def make_results(clips: list[np.ndarray], texts: list[str]) -> np.ndarray:
    """A 0-d object array in MDM's layout from clips of (F, 22, 3)."""
    longest = max(len(clip) for clip in clips)
    motion = np.zeros((len(clips), *clips[0].shape[1:], longest), np.float32)
    for row, clip in zip(motion, clips, strict=True):
        row[..., : len(clip)] = clip.transpose(1, 2, 0)
    data: dict[str, Any] = {
        "motion": motion,
        "text": texts,
        "lengths": np.array([len(c) for c in clips]),
        "num_samples": len(clips),
        "num_repetitions": 1,
    }
    return np.array(data, dtype=object)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.save(args.out, make_results([perform(make()) for make in CLIPS.values()], list(CLIPS)), allow_pickle=True)
    print(f"{args.out}: {len(CLIPS)} clips")


if __name__ == "__main__":
    main()
