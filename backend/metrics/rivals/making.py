"""Makes a rival's frames."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from ....shared.passes import FramePasses
from ....shared.shot import ShotError, ShotRequest
from ...models.downloads import hash_file
from ...models.families import UNetFamily
from ...models.image_model import ImageModel
from ...video.images import convert_to_image
from ...video.pipeline import ShotPipeline
from ...video.run_context import RunContext
from ..making import describe_rivals
from . import img2img, text_to_video_zero
from .settings import AnimateDiff, FixedSeedImg2Img, Rival, TextToVideoZero


def make_frames(rival: Rival, model: ImageModel, request: ShotRequest, passes: FramePasses, run_context: RunContext) -> np.ndarray:
    """(F, H, W, 3) uint8 frames of a completed request, whose method takes no part. Raises ``ShotError``."""
    if not isinstance(model.family, UNetFamily) or model.family.kind == "clip":
        raise ShotError(
            "model", f"The rivals are made for Stable Diffusion and SDXL, not for {model.family.title}; choose one of these."
        )
    # it refuses what the model cannot do, and decodes as for every other variant
    pipeline = ShotPipeline(model, request, passes, run_context)
    started = time.perf_counter()
    latents = _denoise(rival, model, request, passes, run_context)
    run_context.record_time("denoising", started)
    return np.stack([convert_to_image(picture) for picture in pipeline.decode(latents)])


def _denoise(rival: Rival, model: ImageModel, request: ShotRequest, passes: FramePasses, run_context: RunContext) -> torch.Tensor:
    match rival:
        case TextToVideoZero():
            return text_to_video_zero.denoise(rival, model, request, passes, run_context)
        case FixedSeedImg2Img():
            return img2img.denoise(rival, model, request, passes, run_context)
        case AnimateDiff():
            # its classes take a second to import
            from . import animate_diff

            return animate_diff.denoise(rival, model, request, passes, run_context)


def describe_rival(rival: Rival) -> str:
    """A hash of all that decides a rival's frames beside the request: its settings, its code, and its files' contents."""
    found = msgspec.to_builtins(rival) | {"code": describe_rivals()}
    if isinstance(rival, AnimateDiff):
        found["motion_module"] = _hash_weights(Path(rival.motion_module))
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _hash_weights(path: Path) -> list[str]:
    if path.is_file():
        return [hash_file(path)]
    return [hash_file(file) for file in sorted(path.glob("*")) if file.suffix in (".json", ".safetensors")]
