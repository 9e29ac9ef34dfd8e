"""Small inputs that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentman.shared.passes import FramePasses
from latentman.shared.shot import ShotRequest, make_request


def make_tensors() -> dict[str, Any]:
    """Torch's tensors of every kind that a file can hold: views, types that numpy lacks, empty ones, parameters."""
    import torch

    base = torch.randn(6, 5)
    return {
        "plain": base,
        "turned": base.T,
        "part": base[2:, 1:3],
        "half": base.half(),
        "brain": base.bfloat16(),
        "count": torch.arange(5),
        "truth": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base),
    }


def passes(frames: int = 3, size: int = 64, shift: int = 2) -> FramePasses:
    """A textured disc that moves to the right by ``shift`` pixels a frame: its surface points move along."""
    rows, cols = np.mgrid[0:size, 0:size]
    out = {name: [] for name in ("depth", "mask", "uv", "rest_position", "part")}
    for n in range(frames):
        x, y = cols - size // 3 - n * shift, rows - size // 2
        mask = (x**2 + y**2) < (size // 5) ** 2
        surface = np.stack([x, y, np.zeros_like(x)], -1) * 0.01 * mask[..., None]
        out["mask"].append(mask.astype(np.uint8))
        out["depth"].append((mask * 0.7).astype(np.float32))
        out["rest_position"].append(surface.astype(np.float32))
        out["uv"].append(((surface[..., :2] / 0.01 / size + 0.5) * mask[..., None]).astype(np.float32))
        out["part"].append((mask * (1 + (x > 0))).astype(np.uint8))
    return FramePasses(**{name: np.stack(arrays) for name, arrays in out.items()})


def measure_drift(shown: FramePasses, frames: np.ndarray) -> float:
    """How much a point of the disc that ``passes(shift=1)`` shows changes from frame to frame of ``frames`` (N, H, W, 3)."""
    inside = shown.mask[: len(frames)].astype(bool)
    found = [
        np.abs(np.roll(frames[n], 1, 1).astype(float) - frames[n + 1])[np.roll(inside[n], 1, 1) & inside[n + 1]].mean()
        for n in range(len(frames) - 1)
    ]
    return float(np.mean(found))


def request(count: int = 3, size: int = 64, **changes) -> ShotRequest:
    """A quick request that fits ``passes``."""
    values = dict(
        prompt="a man in a red shirt and blue jeans, on a beach",
        frames=tuple(range(1, count + 1)),
        fps=20.0,
        preset="latentman",
        width=size,
        height=size,
        steps=2,
        seed=4,
        guidance_scale=4.0,
    )
    return make_request(**(values | changes))
