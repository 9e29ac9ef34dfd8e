"""Spatial Latent Alignment (LatentMan, section 3): latents are copied along correspondences before each denoising step."""

from __future__ import annotations

import torch

from .correspondence import Matches


class LatentAlignment:
    """Copies matched latents from each frame's reference, in frame order, so that alignment chains through the clip."""

    def __init__(self, matches: Matches, steps: int, until: float, device: torch.device) -> None:
        self._last = round(until * steps)
        self._pairs = [
            (frame, other, torch.from_numpy(here).to(device), torch.from_numpy(there).to(device))
            for frame, (other, here, there) in enumerate(
                zip(matches.reference, matches.target_pixels, matches.reference_pixels, strict=True)
            )
            if other >= 0 and len(here)
        ]

    def __call__(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Aligned copy of (F, C, h, w) latents on the first steps, the latents themselves afterwards."""
        if step >= self._last:
            return latents
        flat = latents.clone().flatten(2)
        for frame, other, here, there in self._pairs:
            flat[frame][:, here] = flat[other][:, there]
        return flat.view_as(latents)
