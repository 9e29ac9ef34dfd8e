"""Gaussian blurs of pictures on the device that they are on."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def make_gaussian(sigma: float, device: torch.device, truncate: float = 3.0) -> torch.Tensor:
    """The weights of a blur along an axis, up to ``truncate`` standard deviations ``sigma`` in pixels."""
    reach = int(truncate * sigma)
    x = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    weight = torch.exp(-(x**2) / (2 * sigma**2))
    return weight / weight.sum()


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (C, H, W), zero outside."""
    kernel = make_gaussian(sigma, image.device)
    rows = F.conv2d(image[:, None], kernel[None, None, None], padding=(0, len(kernel) // 2))
    return F.conv2d(rows, kernel[None, None, :, None], padding=(len(kernel) // 2, 0))[:, 0]
