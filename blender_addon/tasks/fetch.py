"""The task that brings the frames of an earlier shot back from the backend's job store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...shared import messages
from ...shared.picture_size import Crop
from ...shared.task import TaskState
from ..client import BackendClient
from . import frames_folder
from .answers import check_pictures
from .task import Task


class FetchTask(Task):
    """Stores a job's finished frames as ``<folder>/<frame>.png``, with its report and textures."""

    def __init__(
        self,
        job: str,
        folder: Path,
        client: BackendClient,
        *,
        transparent: bool,
        crop: Crop | None = None,
        on_message: Callable[[messages.AnyMessage], None] | None = None,
    ) -> None:
        """Send the request; ``transparent`` makes frames transparent around the characters, ``crop`` keeps a part of them. Raises
        ``ShotError`` when the folder cannot be made."""
        super().__init__(client, "fetching frames", on_message)
        self.job, self.folder = job, folder
        self.frames: dict[int, Path] = {}
        self.report: dict[str, Any] = {}
        frames_folder.make_folder(folder)
        self._submitted = True
        client.send(messages.FetchJob(ticket=self.ticket, job=job, cut_out=transparent, crop=crop))

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        check_pictures(message, arrays)
        if isinstance(message, messages.FrameResult):
            self.frames[message.index] = frames_folder.store_frame(self.folder, message.frame, arrays)
            self._client.send(messages.FrameTaken(ticket=self.ticket))
            self._notify(message)
        elif isinstance(message, messages.Finished):
            self.report = message.report
            if message.report:
                frames_folder.store_report(self.folder, message.report, arrays)
            self._notify(message)
            self._end(TaskState.FINISHED)
        else:
            super()._handle(message, arrays)
