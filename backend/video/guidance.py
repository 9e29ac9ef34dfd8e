"""Pixel-Wise Guidance (LatentMan, section 3): corresponding pixels of the decoded predictions are pulled together."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ...shared.shot import Guidance
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
    return (
        torch.from_numpy(np.stack(pixels).astype(np.int64)).to(device),
        torch.from_numpy(np.stack(weights).astype(np.float32)).to(device),
    )


class LinearDecoder:
    """A picture of the latents' own size by one linear map of the channels: what the auto-encoder's decoder does on average.

    Its gradient costs next to nothing; colours are right, details are missing.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        """``weight`` (C + 1, 3), the constant last."""
        self._weight = weight

    @classmethod
    def fitted(cls, latents: torch.Tensor, pictures: torch.Tensor) -> LinearDecoder:
        """Least squares from latents (N, C, h, w) to what the decoder makes of them, (N, 3, H, W)."""
        small = F.interpolate(pictures.float(), latents.shape[2:], mode="area")
        values = latents.float().permute(0, 2, 3, 1).flatten(0, 2)
        values = torch.cat([values, torch.ones_like(values[:, :1])], 1)
        targets = small.permute(0, 2, 3, 1).flatten(0, 2)
        # a little ridge keeps channels that do not vary from growing large weights
        square = values.T @ values + 1e-3 * len(values) * torch.eye(values.shape[1], device=values.device)
        return cls(torch.linalg.solve(square, values.T @ targets))

    def inverse(self, change: torch.Tensor) -> torch.Tensor:
        """The smallest change of latents (N, C, h, w) that changes their pictures by (N, 3, h, w)."""
        weight = self._weight[:-1]
        back = torch.linalg.solve(weight.T @ weight + 1e-4 * torch.eye(3, device=weight.device), weight.T)
        return torch.einsum("ndhw,dc->nchw", change, back)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, h, w) pictures around [-1, 1]."""
        mixed = torch.einsum("nchw,cd->ndhw", latents.float(), self._weight[:-1])
        return mixed + self._weight[-1][None, :, None, None]


class PixelGuidance:
    """The loss between matched pixels of each frame and its reference, which is held fixed."""

    def __init__(self, matches: Matches, settings: Guidance, steps: int, device: torch.device) -> None:
        self._matches, self.rho, self.gradient = matches, settings.rho, settings.gradient
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
        exact = pictures if pictures.dtype == torch.float64 else pictures.float()
        flat = F.interpolate((exact / 2 + 0.5) * PIXEL_SCALE, size, mode="nearest-exact").flatten(2)
        total = flat.sum() * 0.0
        for row, frame in enumerate(frames):
            self._pictures[frame] = flat[row].detach()
            other, here = self._matches.reference[frame], self._pixels[frame]
            if other >= 0 and len(here):
                pixels, weights = self._corners[frame]
                wanted = (self._pictures[other][:, pixels] * weights).sum(1)
                total = total + (flat[row][:, here] - wanted).square().mean()
        # what later frames may refer to: the first frame, and the last one seen
        self._pictures = {n: picture for n, picture in self._pictures.items() if n in (0, frames[-1])}
        return total

    @staticmethod
    def loss_scale(dtype: torch.dtype) -> float:
        """What the loss is multiplied by while gradients flow in ``dtype``."""
        return 256.0 if dtype == torch.float16 else 1.0

    def move(self, latents: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The latents of the next step, moved against the gradient of the loss."""
        return latents - self.rho * gradient.to(latents.dtype)
