"""One tiny frame, made from nothing but the starter model: whether this environment generates on a device."""

from __future__ import annotations

import numpy as np

from ..shared.load_options import LoadOptions
from ..shared.passes import FramePasses
from ..shared.shot import ShotError, make_request

#: pixels of the frame's sides, steps, and the standard deviation (of 255) below which it shows nothing
SIZE, STEPS, LEAST_CONTRAST = 64, 2, 2.0


def make_ball(size: int) -> FramePasses:
    """The passes (1, size, size, ...) of a ball in the middle of the picture, half as wide, of 1 m radius."""
    row, column = np.mgrid[0:size, 0:size]
    x, y = (column + 0.5 - size / 2) / (size / 4), (size / 2 - row - 0.5) / (size / 4)
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.where(inside, 1 - x**2 - y**2, 0))
    point = np.stack([x, y, z], -1) * inside[..., None]
    return FramePasses(
        depth=(0.5 + 0.5 * z * inside).astype(np.float32)[None] * inside,
        mask=inside.astype(np.uint8)[None],
        uv=((point[..., :2] + 1) / 2 * inside[..., None]).astype(np.float32)[None],
        rest_position=point.astype(np.float32)[None],
        part=inside.astype(np.uint8)[None],
    )


def make_trial_frame(device: str) -> np.ndarray:
    """One frame (SIZE, SIZE, 3) uint8 of the starter model, made on a device as ``LoadOptions`` name it.

    Raises ``ShotError`` for a device that is not there and for a picture that shows nothing.
    """
    from .jobs.runner import ModelCache
    from .video.pipeline import ShotPipeline
    from .video.run_context import RunContext
    from .video.source import MemoryPasses

    models = ModelCache(LoadOptions(device=device))
    model = models.get("starter", size=(SIZE, SIZE)).settle()
    request = make_request(prompt="a red ball", frames=(1,), fps=24.0, width=SIZE, height=SIZE, steps=STEPS, seed=1)
    (frame,) = ShotPipeline(model, request, MemoryPasses(make_ball(SIZE)), RunContext()).frames()
    if frame.std() < LEAST_CONTRAST:
        raise ShotError(
            "device", f"The device '{device}' computes, but what it makes is one grey; use another device, or single precision."
        )
    return frame
