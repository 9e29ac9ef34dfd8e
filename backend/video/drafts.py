"""What key frames will look like, while they are denoised: small pictures of their clean predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ...shared import logs
from ...shared.drafts import SIDE, choose_shown
from ..models.image_model import ImageModel
from .linear_decoder import LinearDecoder

logger = logs.get_logger(__name__)

#: pictures whose latents tell how colours are stored, and pixels along their sides
SWATCHES, SWATCH_SIDE = 12, 128
#: patches along a side: with fewer or more than these the starter's pictures come out farther from what its decoder makes of them
PATCHES = 8

#: the indices of frames, and their small pictures (N, h, w, 3) uint8
ShowDrafts = Callable[[Sequence[int], np.ndarray], None]


def make_swatches() -> torch.Tensor:
    """(N, 3, H, W) pictures in [-1, 1] of soft patches in all colours, the same every time."""
    generator = torch.Generator().manual_seed(7)
    patches = torch.rand((SWATCHES, 3, PATCHES, PATCHES), generator=generator) * 2 - 1
    return F.interpolate(patches, (SWATCH_SIDE, SWATCH_SIDE), mode="bilinear")


@torch.no_grad()
def fit_colours(model: ImageModel) -> LinearDecoder:
    """The linear map from a model's latents to colours, by what its auto-encoder makes of known pictures."""
    pictures = make_swatches().to(model.device)
    latents = torch.cat([model.encode(picture[None].to(model.dtype)) for picture in pictures])
    return LinearDecoder.fit(latents, torch.cat([model.decode(one[None]) for one in latents]))


class DraftMaker:
    """Shows the clean predictions of a run."""

    def __init__(self, model: ImageModel, show: ShowDrafts) -> None:
        """``show`` gets the small pictures."""
        self._model, self._show = model, show
        self._colours: LinearDecoder | None = None
        self._failed = False

    @torch.no_grad()
    def show(self, rows: Sequence[int], clean: torch.Tensor) -> None:
        """Show the clean latents (N, C, h, w) of frames; nothing where that fails, as the frames themselves need no drafts."""
        if self._failed:
            return
        try:
            if self._colours is None:
                self._colours = fit_colours(self._model)
            chosen = choose_shown(len(rows))
            pictures = self._colours(clean[chosen])
            largest = max(pictures.shape[2:])
            if largest > SIDE:
                pictures = F.interpolate(pictures, scale_factor=SIDE / largest, mode="area")
            shown = ((pictures / 2 + 0.5).nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
            self._show([rows[n] for n in chosen], shown.permute(0, 2, 3, 1).cpu().numpy())
        except (RuntimeError, MemoryError):
            logger.exception("no drafts are shown")
            self._failed = True
