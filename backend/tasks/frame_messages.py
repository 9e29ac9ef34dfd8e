"""Frames on their way to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...shared.compositing import crop_image, cut_out
from ...shared.messages import FrameResult
from ...shared.picture_size import Crop

if TYPE_CHECKING:
    from ..jobs.job import Job

#: frames that are sent before the client has taken those sent earlier
FRAMES_AHEAD = 4
#: how often a task's thread looks whether it should end
LOOK_SECONDS = 0.25


def make_frame_message(
    ticket: str, job: Job, index: int, *, transparent: bool, crop: Crop | None = None
) -> tuple[FrameResult, dict[str, np.ndarray]]:
    """The message with a job's frame, and its array; ``transparent`` cuts the characters out, ``crop`` keeps a part of it.

    Raises ``ShotError`` for a part that reaches out of the frame.
    """
    if transparent or crop is not None:
        from ..pictures import encode_png

        image = job.read_frame(index)
        if transparent:
            image = cut_out(image, job.passes().frame(index).mask[0])
        if crop is not None:
            image = crop_image(image, crop)
        data = encode_png(image)
    else:
        data = job.read_png(index)
    message = FrameResult(ticket=ticket, index=index, frame=job.request.frames[index])
    return message, {"png": np.frombuffer(data, np.uint8)}
