"""The pipeline that a job's frames come from: with the look that is finished, with one that is kept, or with none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...shared.shot import ShotError, ShotRequest
from ..models.image_model import ImageModel
from ..video.look import Look
from ..video.pipeline import RunContext, ShotPipeline
from ..video.source import PassesSource


def begin_pipeline(
    model: ImageModel,
    request: ShotRequest,
    source: PassesSource,
    run_context: RunContext,
    look: Look | None,
    *,
    finalized: bool,
    same_settings: bool,
    reference: np.ndarray | None,
    keyframes: Sequence[int] = (),
) -> ShotPipeline:
    """The pipeline with a look and key frames as ``ShotPipeline`` has them. Where the request says that its look is optional, one
    that does not fit the shot is left out with a warning. Raises ``ShotError``."""
    if look is not None:
        try:
            return ShotPipeline(
                model,
                request,
                source,
                run_context,
                look=look,
                same_settings=same_settings,
                finalized=finalized,
                reference=reference,
                keyframes=keyframes,
            )
        except ShotError as error:
            if finalized or error.code != "look" or not request.look_optional:
                raise
            run_context.warnings.append("The look was made anew: the character's surface is not what it was.")
    return ShotPipeline(model, request, source, run_context, reference=reference, keyframes=keyframes)
