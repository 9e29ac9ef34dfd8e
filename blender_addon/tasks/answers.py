"""Whether what the backend answers fits what it was asked for: it is checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...shared import messages
from ...shared.costume_files import COSTUME
from ...shared.drafts import is_draft
from ...shared.made_motion import MadeMotion, read_made
from ...shared.motion_request import MotionRequest
from ...shared.shot import ShotError, ShotRequest

_UNFIT = "The backend sent {}, which does not fit what it was asked for; generate again, and update it if that does not help."


def check_shot_answer(
    message: messages.AnyMessage, arrays: Mapping[str, np.ndarray], request: ShotRequest, *, only_look: bool = False
) -> None:
    """Raise ``ShotError`` for an answer about frames that the shot does not have, or without the picture; where only the look was
    asked for, for one without that."""
    if isinstance(message, (messages.PassesWanted, messages.PassesKnown, messages.FrameResult)) and message.index >= len(
        request.frames
    ):
        raise ShotError("answer", _UNFIT.format(f"something about a frame with the number {message.index}"))
    if isinstance(message, messages.FrameResult) and message.frame != request.frames[message.index]:
        raise ShotError("answer", _UNFIT.format(f"a frame {message.frame}"))
    if isinstance(message, messages.Draft) and (
        max(message.indices) >= len(request.frames) or not is_draft(arrays.get("pictures"), len(message.indices))
    ):
        raise ShotError("answer", _UNFIT.format("small pictures"))
    if not only_look:
        check_pictures(message, arrays)
    elif isinstance(message, messages.FrameResult) or (isinstance(message, messages.Finished) and list(arrays) != ["look"]):
        raise ShotError("answer", _UNFIT.format("something that is no look"))


def check_pictures(message: messages.AnyMessage, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ``ShotError`` for a frame without its picture, and for an end with anything but textures and a costume."""
    if isinstance(message, messages.FrameResult) and "png" not in arrays:
        raise ShotError("answer", _UNFIT.format(f"a frame {message.frame}"))
    if isinstance(message, messages.Finished) and not all(name.startswith("texture_") or name == COSTUME for name in arrays):
        raise ShotError("answer", _UNFIT.format("something that is no texture"))


def check_motions(message: messages.MotionMade, arrays: Mapping[str, np.ndarray], request: MotionRequest) -> MadeMotion:
    """The motions of an answer; ``MotionError`` when there are others than were asked for."""
    return read_made(arrays, message.fps, message.warnings, request, "The backend sent")
