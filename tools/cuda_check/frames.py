"""Making frames of the starter for checks, and comparing them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.models.registry import STARTER
from latentman.backend.video.pipeline import ShotPipeline
from latentman.backend.video.run_context import RunContext
from latentman.shared.load_options import LoadOptions

from .shots import DrawnShot


@dataclass(frozen=True)
class Maker:
    """Makes frames of a shot, with models that are loaded once each."""

    shot: DrawnShot
    steps: int
    models: dict[tuple[str, str], ImageModel]

    def load(self, device: str, dtype: str = "float32") -> ImageModel:
        """The starter on a device."""
        if (device, dtype) not in self.models:
            self.models[device, dtype] = load(str(STARTER), None, LoadOptions(device=device, dtype=dtype))
        return self.models[device, dtype]

    def make(self, model: ImageModel, context: RunContext | None = None, frames: int = 0, **changes: Any) -> np.ndarray:
        """(F, H, W, 3) uint8; ``frames`` of the shot's, 0 for all."""
        shot = self.shot.select(frames) if frames else self.shot
        request = shot.request(**({"steps": self.steps, "guidance_scale": 4.0} | changes))
        return np.stack(list(ShotPipeline(model, request, shot.passes, context or RunContext()).frames()))


def find_largest_difference(found: np.ndarray, wanted: np.ndarray) -> int:
    """Levels, of 255."""
    return int(np.abs(found.astype(np.int16) - wanted).max())


def compute_psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Decibels; 100 at most, for equal frames."""
    error = float(((found.astype(np.float64) - wanted) ** 2).mean())
    return min(100.0, 10 * float(np.log10(255**2 / error))) if error else 100.0


def lay_out(rows: list[np.ndarray]) -> np.ndarray:
    """One picture of rows of frames (F, H, W, 3), beside each other."""
    return np.concatenate([np.concatenate(list(frames), 1) for frames in rows], 0)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within the block, convolutions and products of float32 keep all of its bits, which on CUDA the former do not by default."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, usual in zip(places, before, strict=True):
            place.allow_tf32 = usual


def count_held_bytes(device: torch.device) -> int:
    """Bytes of a device's memory that tensors hold; on a processor, those of the tensors that there are."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    held = {}
    for one in gc.get_objects():
        # compilation leaves tensors of other classes behind, which have no memory
        if type(one) in (torch.Tensor, torch.nn.Parameter) and one.device == device and one.layout == torch.strided:
            held[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
    return sum(held.values())
