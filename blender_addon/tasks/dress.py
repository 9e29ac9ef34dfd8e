"""The task of a costume: a shot whose frames are views of one pose, from all sides."""

from __future__ import annotations

from typing import Any

import bpy
import msgspec
import numpy as np

from ...shared import messages
from ...shared.costume_files import CHARTS, with_files
from ...shared.dress_options import find_shot_frame
from ...shared.shot import Keyframes, ShotError, ShotRequest, explain_no_keyframes
from ..passes.staged_character import StagedCharacter
from . import frames_folder
from .shot import ShotTask

#: key frames show at least this fraction of the surface anew: in a costume there is no other frame to see it
LEAST_GAIN = 0.004


def make_dress_request(request: ShotRequest, staged: StagedCharacter) -> tuple[ShotRequest, dict[str, bytes]]:
    """The request for a character's costume, with the settings of ``request`` and whatever frames it has, and the files that go
    with it. Raises ``ShotError`` for a preset that makes no texture."""
    method = request.get_method()
    if method.keyframes is None or method.fusion is None:
        raise ShotError("preset", explain_no_keyframes(request))
    keyframes: Keyframes = msgspec.structs.replace(
        method.keyframes,
        count=max(method.keyframes.count, len(staged.frames)),
        least_gain=min(method.keyframes.least_gain, LEAST_GAIN),
    )
    background = method.background
    if background is not None:
        # the views are of nowhere: what is around the character neither turns nor takes shadows
        background = msgspec.structs.replace(background, follow_camera=False)
    method = msgspec.structs.replace(method, keyframes=keyframes, background=background, shadows=None)
    files = {CHARTS: staged.charts.encode()}
    own = msgspec.structs.replace(
        request,
        frames=staged.frames,
        method=method,
        look="",
        look_optional=False,
        schedule=msgspec.UNSET,
    )
    return with_files(own, files), files


class DressTask(ShotTask):
    """Renders views of a character from all sides, and stores the pictures and the costume that come back."""

    def __init__(
        self, context: Any, character: bpy.types.Object | None, request: ShotRequest, *arguments: Any, **options: Any
    ) -> None:
        """As ``ShotTask``, whose ``staging`` and ``costume`` are among the options."""
        super().__init__(context, character, request, *arguments, scope="CHARACTER", **options)

    def _finish(self, message: messages.Finished, arrays: dict[str, np.ndarray]) -> None:
        frames_folder.remove_former(self.folder, self.request.frames)
        super()._finish(message, arrays)

    @property
    def shot_frames(self) -> tuple[int, ...]:
        """The scene's frames that were looked at as the shot shows them."""
        return tuple(frame for number in self.request.frames if (frame := find_shot_frame(number)) is not None)

    @property
    def known(self) -> float | None:
        """The fraction of the surface that the views have shown, once that is known."""
        found = ((self.report or {}).get("costume") or {}).get("known")
        return float(found) if isinstance(found, (int, float)) else None
