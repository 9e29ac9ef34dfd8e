"""Whether what the backend answers fits what it was asked for: it is checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...shared import messages
from ...shared.motion import MotionError
from ...shared.motion_request import MotionRequest, frame_count
from ...shared.shot import ShotError, ShotRequest

#: features of a row of a motion, and the most rows for each that was asked for: a model of another package may go on a little
_FEATURES, _MOST_ROWS = 263, 4
_UNFIT = "The backend sent {}, which does not fit what it was asked for; generate again, and update it if that does not help."


def check_shot_answer(message: messages.AnyMessage, arrays: Mapping[str, np.ndarray], request: ShotRequest) -> None:
    """Raise ``ShotError`` for an answer about frames that the shot does not have, or without the picture."""
    if isinstance(message, (messages.PassesWanted, messages.FrameResult)) and message.index >= len(request.frames):
        raise ShotError("frames", _UNFIT.format(f"something about a frame with the number {message.index}"))
    if isinstance(message, messages.FrameResult) and message.frame != request.frames[message.index]:
        raise ShotError("frames", _UNFIT.format(f"a frame {message.frame}"))
    check_pictures(message, arrays)


def check_pictures(message: messages.AnyMessage, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ``ShotError`` for a frame without its picture, and for an end with anything but textures."""
    if isinstance(message, messages.FrameResult) and "png" not in arrays:
        raise ShotError("frames", _UNFIT.format(f"a frame {message.frame}"))
    if isinstance(message, messages.Finished) and not all(name.startswith("texture_") for name in arrays):
        raise ShotError("frames", _UNFIT.format("something that is no texture"))


def check_motions(arrays: Mapping[str, np.ndarray], request: MotionRequest) -> np.ndarray:
    """The motions (N, F, 263) float32 of an answer; ``MotionError`` when there are others than were asked for."""
    vectors = arrays.get("vectors")
    if vectors is None or vectors.ndim != 3 or vectors.dtype != np.float32:
        raise MotionError(_UNFIT.format("no motions"))
    count, frames, features = vectors.shape
    if (count, features) != (request.variants, _FEATURES) or not 1 < frames <= _MOST_ROWS * frame_count(request):
        raise MotionError(_UNFIT.format("other motions"))
    if not np.isfinite(vectors).all():
        raise MotionError(_UNFIT.format("motions with values that are not numbers"))
    return vectors
