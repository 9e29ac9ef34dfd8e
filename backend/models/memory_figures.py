"""What a model takes of a device's memory, as figures. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: ``weights`` of each part; ``denoising`` one frame's pass through UNet and ControlNets beside them; ``decoding`` one
    frame through the auto-encoder beside it. ``is_guided`` says that guidance may take a second pass beside the first. With
    ``together`` above 1 so many frames go through the networks at once, all of which ``denoising`` is for."""

    weights: Mapping[str, int]
    denoising: int
    decoding: int
    is_guided: bool = True
    together: int = 1

    @property
    def resident(self) -> int:
        """All weights together."""
        return sum(self.weights.values())
