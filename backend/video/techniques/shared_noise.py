"""One noise map for every frame (LatentMan, section 3)."""

from __future__ import annotations

from .technique import Technique


class SharedNoise(Technique):
    """Every frame takes the first frame's random numbers."""

    def noise_source(self, frame: int) -> int:
        """The first frame."""
        return 0
