"""The task of a look: as a shot's, but only key frames are made, and what comes back is one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared import messages
from ...shared.look_file import LookScene
from ...shared.task import TaskState
from ..passes.pooled_render import PooledPassRender
from ..passes.render import PassRender
from . import frames_folder
from .shot import ShotTask


class LookTask(ShotTask):
    """Renders what a look needs of a shot's passes: small copies of all frames and the key frames, and stores the look's file."""

    only_look = True

    def __init__(self, *arguments: Any, file: Path, subjects: str, character: str, **options: Any) -> None:
        """``arguments`` and ``options`` are those of ``ShotTask``; ``file`` is where the look is stored. ``subjects`` and
        ``character`` say what is shown, as those who render parts of the shot need to know."""
        super().__init__(*arguments, **options)
        self.file = file
        self._subjects, self._character = subjects, character

    def _make_submission(self) -> messages.SubmitShot:
        render = self._render
        # what renders for a window does not say its range in Blender's units
        assert isinstance(render, PassRender | PooledPassRender)
        scene = LookScene(self._subjects, self._character, self.crop, float(render.near), float(render.far), render.ground)
        return msgspec.structs.replace(super()._make_submission(), only_look=True, scene=scene)

    def _finish(self, message: messages.Finished, arrays: dict[str, np.ndarray]) -> None:
        self._render.check_seen()
        frames_folder.store_file(self.file, arrays["look"].tobytes())
        self.report = message.report
        self._notify(message)
        self._end(TaskState.FINISHED)
