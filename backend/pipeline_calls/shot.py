"""A call as it was read: a shot, of which each clip is a run with random numbers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...shared.passes import FramePasses, check_passes
from ...shared.settings import with_settings
from ...shared.shot import ShotRequest
from ..models.image_model import ImageModel
from ..video.given_inputs import GivenInputs
from ..video.pipeline import RunContext, ShotPipeline
from ..video.techniques import Technique
from .noise import CallNoise


@dataclass(frozen=True)
class CallShot:
    """What ``ShotPipeline`` takes for every clip; ``reference`` (H, W, 3) uint8 is the character's picture."""

    model: ImageModel
    request: ShotRequest
    passes: FramePasses
    techniques: Sequence[Technique]
    reference: np.ndarray | None
    given: GivenInputs
    noise: CallNoise

    def make_run(self, clip: int, context: RunContext) -> ShotPipeline:
        """The run of a clip, counted from 0. Raises ``ShotError`` for what the model cannot do."""
        seed, noise = self.noise.draw(clip)
        request = with_settings(self.request, {"seed": seed})
        return ShotPipeline(
            self.model,
            request,
            check_passes(request, self.passes.arrays()),
            context,
            noise,
            techniques=self.techniques,
            reference=self.reference,
            given=self.given,
        )
