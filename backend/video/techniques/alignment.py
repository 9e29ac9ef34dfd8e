"""Spatial Latent Alignment (LatentMan, section 3): latents are copied along correspondences before each denoising step."""

from __future__ import annotations

import torch

from ....shared.shot import Alignment
from ..correspondence import Matches
from .context import ClipContext
from .technique import Technique


class MatchedCopy:
    """Copies matched latents from each frame's reference, in frame order, so that alignment chains through the clip."""

    def __init__(self, matches: Matches, device: torch.device) -> None:
        self._pairs = [
            (frame, other, torch.from_numpy(here).to(device), torch.from_numpy(there).to(device))
            for frame, (other, here, there) in enumerate(
                zip(matches.reference, matches.target_pixels, matches.reference_pixels, strict=True)
            )
            if other >= 0 and len(here)
        ]

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Aligned copy of (F, C, h, w) latents."""
        flat = latents.clone().flatten(2)
        for frame, other, here, there in self._pairs:
            flat[frame][:, here] = flat[other][:, there]
        return flat.view_as(latents)


class LatentAlignment(Technique):
    """Each frame's latents are those of its reference frame where both show the same surface, on the first steps."""

    settings_type = Alignment
    settings: Alignment

    def begin(self, context: ClipContext) -> None:
        """Match every frame with its reference, at the latents' size."""
        super().begin(context)
        self._steps = context.steps_between(0.0, self.settings.until)
        self._copy = MatchedCopy(context.matches(context.latent_size, self.settings.reference), context.device)

    def before_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Copy along the matches."""
        return self._copy(latents) if step in self._steps else latents
