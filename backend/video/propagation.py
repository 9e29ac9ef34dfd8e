"""Initial pictures of the frames that are made from a look: its texture on the character in front of its background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .distances import take_nearest
from .images import convert_to_picture
from .lattice import SurfaceLattice
from .light import apply_gain
from .look import Look


def init_from_texture(
    look: Look, lattice: SurfaceLattice, backgrounds: Sequence[np.ndarray] = (), gains: Sequence[torch.Tensor] = ()
) -> torch.Tensor:
    """(F, 3, H, W) float32 pictures in [-1, 1] of a lattice's frames, rendered from a look; points of the surface without
    a colour, which only looks of earlier versions and surfaces that the look's shot did not show have, take the nearest one in the
    frame. The lattice's cells have the size of the look's. ``backgrounds`` are those of the frames, (H, W, 3) from 0 to 255;
    without them it is the look's plate. ``gains`` (1, H, W) are how much brighter than the texture each frame's surfaces are."""
    texture = lattice.read_textures(look.worn_texture, look.filled)
    behind = backgrounds or [look.plate.fill_unknown()] * lattice.frame_count
    out = []
    for frame in range(lattice.frame_count):
        picture, known = lattice.paint(texture, frame, convert_to_picture(behind[frame], texture.device))
        there = known.cpu().numpy()
        missing = (lattice.mask(frame)[0].cpu().numpy() > 0) & ~there
        if missing.any():
            there = there if there.any() else look.plate.known | bool(backgrounds)
            if there.any():
                picture = torch.where(torch.from_numpy(missing).to(picture.device), take_nearest(picture, there), picture)
        out.append(apply_gain(picture, gains[frame]) if gains else picture)
    return torch.stack(out)
