"""Pixel-Wise Guidance (LatentMan, section 3): corresponding pixels of the decoded predictions are pulled together."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from shared.shot import Guidance

from .correspondence import Matches

#: pictures are compared on this scale, which fixes the meaning of rho
PIXEL_SCALE = 25.0


def _corners(places: np.ndarray, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The four pixels around each place (N, 2) as flat indices (4, N), and their bilinear weights (4, N)."""
    x, y = places[:, 0] - 0.5, places[:, 1] - 0.5
    left, top = np.floor(x), np.floor(y)
    pixels, weights = [], []
    for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
        for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
            pixels.append(np.clip(top + dy, 0, height - 1) * width + np.clip(left + dx, 0, width - 1))
            weights.append(wx * wy)
    return (torch.from_numpy(np.stack(pixels).astype(np.int64)).to(device),
            torch.from_numpy(np.stack(weights).astype(np.float32)).to(device))


class PixelGuidance:
    """The loss between matched pixels of each frame and its reference, which is held fixed."""

    def __init__(self, matches: Matches, settings: Guidance, steps: int, device: torch.device) -> None:
        self._matches, self._rho = matches, settings.rho
        self._range = range(round(settings.start * steps), round(settings.until * steps))
        self._pixels = [torch.from_numpy(here).to(device) for here in matches.target_pixels]
        self._corners = [_corners(places, matches.height, matches.width, device) for places in matches.places]
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
            other, here = self._matches.reference[frame], self._pixels[frame]
            if other >= 0 and len(here):
                pixels, weights = self._corners[frame]
                wanted = (self._pictures[other][:, pixels] * weights).sum(1)
                total = total + (flat[row][:, here] - wanted).square().mean()
        return total

    def move(self, latents: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The latents of the next step, moved against the gradient of the loss."""
        return latents - self._rho * gradient.to(latents.dtype)
