"""Pictures as networks have them, and images as files have them."""

from __future__ import annotations

import numpy as np
import torch


def convert_to_image(picture: torch.Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of a picture (3, H, W) around [-1, 1]."""
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def convert_to_picture(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """(3, H, W) float32 in [-1, 1] on a device, of an image (H, W, 3) of any type from 0 to 255."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 127.5 - 1
