"""Latents to pictures without the auto-encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class LinearDecoder:
    """A picture of the latents' own size by one linear map of the channels: the decoder's average effect.

    Its gradient costs next to nothing; colours are right, details are missing.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        """``weight`` (C + 1, 3), the constant last."""
        self._weight = weight

    @classmethod
    def fit(cls, latents: torch.Tensor, pictures: torch.Tensor) -> LinearDecoder:
        """Least squares from latents (N, C, h, w) to what the decoder makes of them, (N, 3, H, W)."""
        small = F.interpolate(pictures.float(), latents.shape[2:], mode="area")
        values = latents.float().permute(0, 2, 3, 1).flatten(0, 2)
        values = torch.cat([values, torch.ones_like(values[:, :1])], 1)
        targets = small.permute(0, 2, 3, 1).flatten(0, 2)
        # a little ridge keeps channels that do not vary from growing large weights
        square = values.T @ values + 1e-3 * len(values) * torch.eye(values.shape[1], device=values.device)
        return cls(torch.linalg.solve(square, values.T @ targets))

    def inverse(self, change: torch.Tensor) -> torch.Tensor:
        """The smallest change of latents (N, C, h, w) that changes their pictures by (N, 3, h, w)."""
        weight = self._weight[:-1]
        back = torch.linalg.solve(weight.T @ weight + 1e-4 * torch.eye(3, device=weight.device), weight.T)
        return torch.einsum("ndhw,dc->nchw", change, back)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) latents -> (N, 3, h, w) pictures around [-1, 1]."""
        mixed = torch.einsum("nchw,cd->ndhw", latents.float(), self._weight[:-1])
        return mixed + self._weight[-1][None, :, None, None]
