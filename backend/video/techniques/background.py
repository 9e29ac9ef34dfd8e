"""One background for all frames: what shows no character keeps the first frame's latents at the same place."""

from __future__ import annotations

import torch

from ....shared.shot import Background
from ..correspondence import match_background
from .alignment import MatchedCopy
from .context import ClipContext
from .technique import Technique


class SharedBackground(Technique):
    """Background latents are copied from the first frame on the first steps."""

    settings_type = Background
    settings: Background

    def begin(self, context: ClipContext) -> None:
        """Match every frame's background with the first frame's."""
        super().begin(context)
        self._steps = context.steps_between(0.0, self.settings.until)
        self._copy = MatchedCopy(match_background(context.passes, *context.latent_size), context.device)

    def before_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Copy along the matches."""
        return self._copy(latents) if step in self._steps else latents
