"""Frames that disagree about a place of the surface are brought to the colour that most of them give it, before they are blended.

Only what is coarse is moved: the detail of each frame stays, and where frames agree nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...shared.passes import FramePasses
from .lattice import MIN_WEIGHT, SurfaceLattice

#: side of the cells on which frames are compared, in cells of their texture
COARSE = 8.0
#: a difference of a colour from the others' that is half corrected, on the scale from -1 to 1: less is light and shade
DISPUTE = 0.25


class Reconciler:
    """Finds where the frames of a clip disagree, and by how much each is off."""

    def __init__(self, passes: FramePasses, device: torch.device, side: float) -> None:
        """``side`` of the texture's cells in metres."""
        self._lattice = SurfaceLattice(passes, device, COARSE * side)

    def reconcile(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The pictures (3, H, W) with what is coarse in them moved to what the frames agree on, the more the farther it is off.

        Two frames that differ have no majority: the one that sees the place better is followed.
        """
        if len(pictures) < 2:
            return list(pictures)
        lattice = self._lattice
        own = [lattice.texture_of(n, picture) for n, picture in enumerate(pictures)]
        weights = torch.stack([texture[:, 3] for texture in own])
        colours = torch.stack([texture[:, :3] / texture[:, 3:].clamp(min=1e-9) for texture in own])
        agreed = _find_weighted_median(colours, weights)
        out = []
        for n, picture in enumerate(pictures):
            off = agreed - colours[n]
            far = (off**2).sum(1, keepdim=True)
            known = (weights[n, :, None] > MIN_WEIGHT).float()
            change = torch.cat([off * far / (far + DISPUTE**2) * known, known], 1)
            zero = torch.zeros_like(picture, dtype=torch.float32)
            out.append(picture + lattice.render(change, n, zero).to(picture.dtype))
        return out


def _find_weighted_median(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(C, 3) of values (F, C, 3) the one of each channel on both sides of which lies half of the weight (F, C)."""
    ordered, order = values.sort(0)
    share = weights[..., None].expand_as(values).gather(0, order).cumsum(0)
    middle = (share < share[-1:] / 2).sum(0, keepdim=True).clamp(max=len(values) - 1)
    return ordered.gather(0, middle)[0]
