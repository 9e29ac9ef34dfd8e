"""The noise a shot starts from; made on the CPU so that a seed means the same on every device."""

from __future__ import annotations

import torch


def initial_noise(frames: int, shape: tuple[int, int, int], seed: int, shared: bool) -> torch.Tensor:
    """(F, C, h, w) float32 standard normal noise; ``shared`` repeats one map for every frame."""
    generator = torch.Generator().manual_seed(seed)
    if shared:
        return torch.randn((1, *shape), generator=generator).repeat(frames, 1, 1, 1)
    return torch.randn((frames, *shape), generator=generator)
