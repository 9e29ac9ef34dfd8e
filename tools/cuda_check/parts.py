"""What is tried, the most important first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """``target`` is MODULE:FUNCTION, which is called with a ``Task``; ``share`` is its part of the time."""

    name: str
    title: str
    target: str
    share: float


PARTS = (
    Part("correctness", "Are frames right?", "tools.cuda_check.correctness:run", 0.24),
    Part("sd15", "Seconds a frame, Stable Diffusion 1.5's shape", "tools.cuda_check.speed:run_sd15", 0.32),
    Part("sdxl", "Seconds a frame, SDXL's shape", "tools.cuda_check.speed:run_sdxl", 0.22),
    Part("choices", "What else makes it quicker", "tools.cuda_check.choices:run", 0.14),
    Part("training", "Training of the starter", "tools.cuda_check.training:run", 0.08),
)


def share_time(parts: Sequence[Part], position: int, left: float) -> float:
    """The seconds of the part at a position, of those that are ``left``: what earlier ones did not use is the later ones'."""
    return left * parts[position].share / sum(part.share for part in parts[position:])
