"""The noise a shot starts from; made on the CPU so that a seed means the same on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .techniques import Technique


def list_noise_sources(techniques: Sequence[Technique], frames: Sequence[int]) -> list[int]:
    """For each of a shot's ``frames`` the frame whose random numbers it takes, as the techniques decide."""
    found = list(frames)
    for technique in techniques:
        found = [technique.noise_source(frame) for frame in found]
    return found


def draw_noise(
    sources: Sequence[int], frames: Sequence[int], shape: tuple[int, int, int], generator: torch.Generator
) -> torch.Tensor:
    """(N, C, h, w) float32 standard normal noise for ``frames`` on the CPU, frames with the same source alike.

    ``sources`` are those of every frame of the shot, so that a frame's noise does not depend on which others are made.
    """
    drawn = torch.randn((max(sources) + 1, *shape), generator=generator, device=generator.device, dtype=torch.float32).cpu()
    return drawn[[sources[frame] for frame in frames]]
