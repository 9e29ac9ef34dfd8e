"""Detail that a texture loses when pictures are spread over its cells and read back between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .lattice import SurfaceLattice


def restore_detail(
    lattice: SurfaceLattice, texture: torch.Tensor, pictures: Sequence[torch.Tensor], sharpness: float
) -> torch.Tensor:
    """(cells, 4) ``lattice.texture(pictures, sharpness)`` with what its rendering is short of against the pictures (3, H, W).

    Spreading and reading are each a small blur; one step of back-projection takes most of it back. More steps would fit grain.
    """
    short = (picture.float() - lattice.render(texture, n, picture) for n, picture in enumerate(pictures))
    missing = lattice.texture(short, sharpness)
    colour = texture[:, :3] / texture[:, 3:].clamp(min=1e-9) + missing[:, :3] / missing[:, 3:].clamp(min=1e-9)
    return torch.cat([colour.clamp(-1, 1) * texture[:, 3:], texture[:, 3:]], 1)
