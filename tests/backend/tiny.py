"""The tiny random models, and a clip without a model."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from latentman.backend.models.image_model import ImageModel
from latentman.backend.video.techniques import ClipContext
from tests import samples
from tools.tiny_models import write_motion_module as write_motion_module
from tools.tiny_models import write_sd as write_sd
from tools.tiny_models import write_sdxl as write_sdxl


def to_double(model: ImageModel) -> ImageModel:
    """A copy of a tiny Stable Diffusion that computes in float64; the model itself is so from now on, too."""
    parts = {
        name: part.to(torch.float64) if isinstance(part, torch.nn.Module) else part
        for name, part in model.pipeline.components.items()
    }
    return ImageModel("double", type(model.pipeline)(**parts, requires_safety_checker=False), model.device, torch.float64)


def context(passes, decode=None, encode=None, **changes) -> ClipContext:
    """A clip of all frames of ``passes`` without a model; ``changes`` are settings of its request."""
    frames, size = passes.mask.shape[:2]
    numbers = dict(device=torch.device("cpu"), dtype=torch.float32, latent_factor=8, row_frames=1)
    model = SimpleNamespace(**numbers, decode=decode, encode=encode)
    return ClipContext(model, samples.request(frames, size, **changes), passes, tuple(range(frames)))
