"""Pixel-Wise Guidance (LatentMan, section 3): corresponding pixels of the decoded predictions are pulled together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from ....shared.shot import Guidance
from ..correspondence import Matches
from ..linear_decoder import LinearDecoder
from .context import ClipContext
from .technique import Technique

#: pictures are compared on this scale, which fixes the meaning of rho
PIXEL_SCALE = 25.0


def _find_corners(places: np.ndarray, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
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


class MatchedPixels:
    """The loss between matched pixels of each frame and its reference, which is held fixed; of clamped pictures with ``clamp``."""

    def __init__(self, matches: Matches, device: torch.device, *, clamp: bool = False) -> None:
        self._matches, self._clamp = matches, clamp
        self._pixels = [torch.from_numpy(here).to(device) for here in matches.target_pixels]
        self._corners = [_find_corners(places, matches.height, matches.width, device) for places in matches.places]
        self._pictures: dict[int, torch.Tensor] = {}

    def forget(self) -> None:
        """Forget the pictures seen so far, at the beginning of a step."""
        self._pictures = {}

    def loss(self, frames: Sequence[int], pictures: torch.Tensor) -> torch.Tensor:
        """Sum over frames of the mean squared difference at matched pixels.

        ``pictures`` (N, 3, H, W) are the decoded predictions of ``frames`` in [-1, 1]; references are frames of the same
        or of an earlier call; where there was none, a frame has no loss.
        """
        size = (self._matches.height, self._matches.width)
        exact = pictures if pictures.dtype == torch.float64 else pictures.float()
        shown = exact / 2 + 0.5
        if self._clamp:
            shown = shown.clamp(0, 1)
        flat = F.interpolate(shown * PIXEL_SCALE, size, mode="nearest-exact").flatten(2)
        total = flat.sum() * 0.0
        for row, frame in enumerate(frames):
            self._pictures[frame] = flat[row].detach()
            other, here = self._matches.reference[frame], self._pixels[frame]
            if other in self._pictures and len(here):
                pixels, weights = self._corners[frame]
                wanted = (self._pictures[other][:, pixels] * weights).sum(1)
                total = total + (flat[row][:, here] - wanted).square().mean()
        # what later frames may refer to: the first frame, and the last one seen
        self._pictures = {n: picture for n, picture in self._pictures.items() if n in (0, frames[-1])}
        return total


class PixelGuidance(Technique):
    """Moves the latents against the gradient of the loss between matched pixels, on some steps."""

    settings_type = Guidance
    settings: Guidance

    def begin(self, context: ClipContext) -> None:
        """Match every frame with its reference, at the size at which pictures are compared."""
        super().begin(context)
        request, size = context.request, context.latent_size
        if self.settings.gradient != "linear":
            short = min(request.width, request.height)
            scale = (self.settings.resolution or short / 2) / short
            size = (round(request.height * scale), round(request.width * scale))
        alignment = context.method.alignment
        self._steps = context.steps_between(self.settings.start, self.settings.until)
        self._matched = MatchedPixels(
            context.matches(size, alignment.reference if alignment else "prev_new"),
            context.device,
            clamp=context.method.get_released().clamp,
        )
        self._linear: LinearDecoder | None = None

    def begin_step(self, step: int) -> None:
        """Forget the pictures of the step before."""
        self._matched.forget()

    def gradient_through(self, step: int) -> Literal["prediction", "network"] | None:
        """Through the UNet with the full gradient only."""
        if step not in self._steps:
            return None
        return "network" if self.settings.gradient == "full" else "prediction"

    def loss(self, frames: Sequence[int], clean: torch.Tensor, step: int) -> torch.Tensor:
        """The loss between matched pixels of the decoded predictions."""
        return self._matched.loss(frames, self._decode(clean))

    def _decode(self, clean: torch.Tensor) -> torch.Tensor:
        if self.settings.gradient != "linear":
            return self.context.decode(clean)
        if self._linear is None:
            with torch.no_grad():
                self._linear = LinearDecoder.fit(clean.detach(), self.context.decode(clean.detach()))
        return self._linear(clean)

    def follow_gradient(self, latents: torch.Tensor, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """``rho`` steps down the gradient."""
        return latents - self.settings.rho * gradient.to(latents.dtype)

    def advice_on_divergence(self, step: int) -> str:
        """A smaller step, once one was made."""
        if step < self._steps.start or not self._steps:
            return ""
        return f"lower rho, the step length of the pixel guidance (it is {self.settings.rho:g})"
