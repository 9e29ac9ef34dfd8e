"""What a shot's time goes into: the seconds between the beginnings and ends of its stages, each without those within it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from latentman.backend.models.image_model import ImageModel
from latentman.backend.video import denoising, pipeline
from latentman.backend.video.lattice import SurfaceLattice
from latentman.backend.video.look_filling import LookFiller
from latentman.backend.video.sampling import Sampler
from latentman.backend.video.shot_surroundings import ShotSurroundings
from latentman.backend.video.techniques.alignment import LatentAlignment
from latentman.backend.video.techniques.background import SharedBackground
from latentman.backend.video.techniques.context import ClipContext
from latentman.backend.video.techniques.fusion import TextureFusion
from latentman.backend.video.techniques.guidance import PixelGuidance
from latentman.backend.video.techniques.surface_noise import SurfaceNoise

OTHER = "other"
#: stage -> (where a function is, its name); what networks and guidance's gradient are called by is added for each model
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "text": ((ImageModel, "encode_text"),),
    "decoding": ((ImageModel, "decode"),),
    "encoding": ((ImageModel, "encode"),),
    "gradient": ((torch.autograd, "grad"),),
    "scheduler": tuple((Sampler, name) for name in ("step", "predict_clean", "prediction_for", "add_noise", "scale_model_input")),
    "matching": ((ClipContext, "matches"), (ClipContext, "chains"), (PixelGuidance, "begin"), (SharedBackground, "begin")),
    "alignment": tuple((LatentAlignment, name) for name in ("begin", "before_step", "move_clean")),
    "lattice": ((SurfaceLattice, "__init__"),),
    "fusion": tuple((TextureFusion, name) for name in ("begin", "correct_clean", "find_light", "texture", "finish_pictures")),
    "first pictures": ((pipeline, "init_from_texture"),),
    "key frames": ((pipeline, "select_keyframes"),),
    "noise": ((SurfaceNoise, "first_noise"), (pipeline, "draw_noise")),
    "surroundings": tuple((ShotSurroundings, n) for n in ("find_surroundings", "make_backgrounds", "lay_backgrounds")),
    "look": ((LookFiller, "fill"),),
    "controls": ((denoising, "make_control_pictures"),),
    "pictures": ((pipeline, "convert_to_image"),),
}


class StageClock:
    """Adds up the seconds of stages; the device is waited for at each end, so that its work counts where it belongs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside: list[str] = [OTHER]
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    def _turn(self) -> None:
        synchronize(self._device)
        now = time.perf_counter()
        stage = self._inside[-1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    @contextmanager
    def measure(self, model: ImageModel) -> Iterator[None]:
        """Within the block, the stages of shots that are made with a model are timed."""
        self.seconds, self._inside = {}, [OTHER]
        with ExitStack() as stack:
            for stage, places in (STAGES | {"networks": ((type(model.family), "predict"),)}).items():
                for owner, name in places:
                    stack.enter_context(mock.patch.object(owner, name, self._wrap(getattr(owner, name), stage)))
            synchronize(self._device)
            self._last = time.perf_counter()
            try:
                yield
            finally:
                self._turn()

    def _wrap(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._turn()
            self._inside.append(stage)
            try:
                return function(*args, **options)
            finally:
                self._turn()
                self._inside.pop()

        return timed

    def shares(self) -> dict[str, float]:
        """Stage -> its share of the whole time, the largest first."""
        total = sum(self.seconds.values()) or 1.0
        return {stage: round(found / total, 4) for stage, found in sorted(self.seconds.items(), key=lambda item: -item[1])}


def synchronize(device: torch.device) -> None:
    """Wait for what a device has been told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
