"""What each frame of a clip is told where that changes from frame to frame: its share of every prompt, and its control strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...shared.schedule import Mix


@dataclass(frozen=True)
class FrameConditions:
    """``mixes`` and ``control_scales`` have an entry for each frame of a clip; ``prompts`` are the shot's, in the order of their
    embeddings."""

    prompts: tuple[str, ...]
    mixes: tuple[Mix, ...]
    control_scales: tuple[float, ...]

    def put_in_front(self, prompt: str, control_scale: float) -> FrameConditions:
        """The conditions of a clip with another frame in front of it."""
        return replace(self, mixes=(Mix(prompt), *self.mixes), control_scales=(control_scale, *self.control_scales))

    def mix(self, values: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """(n, ...) what stands for the prompts (P, ...), mixed for each of the frames; of what is no number, that of the prompt
        which says the most."""
        if not values.is_floating_point():
            return values[[self.prompts.index(self.mixes[n].leading) for n in frames]]
        shares = [[self.mixes[n].get_share(prompt) for prompt in self.prompts] for n in frames]
        return torch.einsum("fp,p...->f...", torch.tensor(shares, device=values.device, dtype=values.dtype), values)

    def get_control_factors(self, frames: Sequence[int], groups: int, like: torch.Tensor) -> torch.Tensor:
        """(groups * n, 1, 1, 1) the control strengths of the frames, of the type of ``like``."""
        found = torch.tensor([self.control_scales[n] for n in frames] * groups, device=like.device, dtype=like.dtype)
        return found[:, None, None, None]
