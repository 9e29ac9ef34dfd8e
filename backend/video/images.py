"""Pictures as networks have them, and images as files have them."""

from __future__ import annotations

import numpy as np
import torch


def convert_to_image(picture: torch.Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of a picture (3, H, W) around [-1, 1]."""
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
