"""Textures of several views: what is coarse comes from all, detail from the best, and what spreading it loses is restored."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .blurring import blur
from .lattice import SurfaceLattice

#: standard deviation in pixels of the blur that tells what is coarse, and the most that the better view counts for it: views differ
#: in it, and where one gives way to the next there would be a seam
COARSE_SIGMA, SMOOTH = 5.0, 8.0


def blend_views(lattice: SurfaceLattice, pictures: Sequence[torch.Tensor], sharpness: float) -> torch.Tensor:
    """(cells, 4) colours times their weight, and the weight: ``lattice.texture(pictures, sharpness)`` of pictures (3, H, W), but
    without seams between the views."""
    if sharpness <= SMOOTH:
        return lattice.texture(pictures, sharpness)

    def find_coarse(frame: int) -> torch.Tensor:
        mask = lattice.mask(frame)
        return blur(pictures[frame].float() * mask, COARSE_SIGMA) / blur(mask, COARSE_SIGMA).clamp(min=1e-4)

    coarse = lattice.texture((find_coarse(n) for n in range(len(pictures))), SMOOTH)
    fine = lattice.texture((picture.float() - find_coarse(n) for n, picture in enumerate(pictures)), sharpness)
    return _join(coarse, fine)


def restore_detail(
    lattice: SurfaceLattice, texture: torch.Tensor, pictures: Sequence[torch.Tensor], sharpness: float
) -> torch.Tensor:
    """(cells, 4) ``blend_views(lattice, pictures, sharpness)`` with what its rendering is short of against the pictures (3, H, W).

    Spreading and reading are each a small blur; one step of back-projection takes most of it back. More steps would fit grain.
    """
    short = [picture.float() - lattice.render(texture, n, picture) for n, picture in enumerate(pictures)]
    return _join(texture, blend_views(lattice, short, sharpness))


def _join(texture: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    """(cells, 4) the sum of the colours of two textures (cells, 4) of the same cells, with the weights of the first."""
    colour = texture[:, :3] / texture[:, 3:].clamp(min=1e-9) + more[:, :3] / more[:, 3:].clamp(min=1e-9)
    return torch.cat([colour.clamp(-1, 1) * texture[:, 3:], texture[:, 3:]], 1)
