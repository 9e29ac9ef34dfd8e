"""Frames that begin with a look: the texture rendered on the character, before the background as it is known."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from shared.shot import FramePasses

from .correspondence import surface_frames
from .lattice import sight
from .look import Look


def begun(look: Look, passes: FramePasses, device: torch.device) -> torch.Tensor:
    """(F, 3, H, W) float32 pictures in [-1, 1] of what a look says about frames; places on the surface that it does not know
    take the nearest colour in the frame."""
    plate = torch.from_numpy(look.plate.filled()).to(device).permute(2, 0, 1).float() / 127.5 - 1
    out = []
    for frame in surface_frames(passes):
        picture, known = look.texture.shown(sight(frame, look.texture.side), plate)
        missing = frame.pixels[~known.cpu().numpy()]
        if len(missing):
            there = np.zeros((frame.height, frame.width), bool)
            there.ravel()[frame.pixels] = known.cpu().numpy()
            if not there.any():
                there[:] = look.plate.known
            if there.any():
                rows, cols = distance_transform_edt(~there, return_distances=False, return_indices=True)
                nearest = torch.from_numpy((rows * frame.width + cols).ravel()[missing]).to(device)
                flat = picture.flatten(1)
                flat[:, torch.from_numpy(missing).to(device)] = flat[:, nearest]
        out.append(picture)
    return torch.stack(out)
