"""One background for all frames: what shows no character keeps the first frame's latents at the same place.

Before a camera that moves they turn with it while key frames are made; other frames begin with the background that those agreed on.
"""

from __future__ import annotations

import torch

from ....shared.shot import Background
from ..correspondence import match_background, match_turning_background
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
        if context.turning is None:
            matches = [match_background(context.passes, *context.latent_size, context.replaced)]
        elif context.joint:
            matches = match_turning_background(context.passes, *context.turning, *context.latent_size)
        else:
            matches = []
        self._copies = [MatchedCopy(one, context.device) for one in matches]

    def before_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Copy along the matches."""
        if step in self._steps:
            for copy in self._copies:
                latents = copy(latents)
        return latents
