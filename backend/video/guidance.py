"""Pixel-Wise Guidance (LatentMan, section 3): corresponding pixels of the decoded predictions are pulled together."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from shared.shot import Guidance

from .correspondence import Matches

#: pictures are compared on this scale, which fixes the meaning of rho
PIXEL_SCALE = 25.0


class PixelGuidance:
    """The loss between matched pixels of each frame and its reference, which is held fixed."""

    def __init__(self, matches: Matches, settings: Guidance, steps: int, device: torch.device) -> None:
        self._matches, self._rho = matches, settings.rho
        self._range = range(round(settings.start * steps), round(settings.until * steps))
        self._pixels = [(torch.from_numpy(here).to(device), torch.from_numpy(there).to(device))
                        for here, there in zip(matches.target_pixels, matches.reference_pixels, strict=True)]
        self._pictures: dict[int, torch.Tensor] = {}

    def active(self, step: int) -> bool:
        """Whether this step is guided."""
        return step in self._range

    def begin_step(self) -> None:
        """Forget the pictures of the step before."""
        self._pictures = {}

    def loss(self, frames: list[int], pictures: torch.Tensor) -> torch.Tensor:
        """Sum over frames of the mean squared difference at matched pixels.

        ``pictures`` (N, 3, H, W) are the decoded predictions of ``frames`` in [-1, 1]; references are frames of the same
        or of an earlier call within this step.
        """
        size = (self._matches.height, self._matches.width)
        flat = F.interpolate((pictures.float() / 2 + 0.5) * PIXEL_SCALE, size, mode="nearest-exact").flatten(2)
        total = flat.sum() * 0.0
        for row, frame in enumerate(frames):
            self._pictures[frame] = flat[row].detach()
            other, (here, there) = self._matches.reference[frame], self._pixels[frame]
            if other >= 0 and len(here):
                total = total + (flat[row][:, here] - self._pictures[other][:, there]).square().mean()
        return total

    def move(self, latents: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The latents of the next step, moved against the gradient of the loss."""
        return latents - self._rho * gradient.to(latents.dtype)
