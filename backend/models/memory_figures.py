"""What a model takes of a device's memory, as figures. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: ``weights`` of each part; ``denoising`` one frame's pass through UNet and ControlNets beside them; ``decoding`` one
    frame through the auto-encoder beside it."""

    weights: Mapping[str, int]
    denoising: int
    decoding: int

    @property
    def resident(self) -> int:
        """All weights together."""
        return sum(self.weights.values())
