"""A stored shot's frames once more, for a client that has lost them. Nothing is made, so that no device is needed."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...shared import logs
from ...shared.messages import Accepted, Cancelled, Finished
from ...shared.picture_size import Crop
from ...shared.shot import ShotError
from ...shared.task import TaskState
from ..jobs.in_use import Claim
from ..jobs.requests import read_request
from .frame_messages import FRAMES_AHEAD, LOOK_SECONDS, make_frame_message
from .outbox import Outbox
from .own_thread import OwnThreadTask

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..jobs.store import JobStore

logger = logs.get_logger(__name__)

#: what names of jobs look like; nothing else becomes a path
_JOB_NAME = re.compile("[0-9a-f]{8,64}")


def find_job(store: JobStore, name: str) -> Job:
    """A job of the store by its name. Raises ``ShotError`` when it is not there."""
    from ..jobs.job import Job

    folder = store.root / name
    try:
        if not _JOB_NAME.fullmatch(name):
            raise FileNotFoundError(name)
        return Job(folder, read_request(folder / "request.json"))
    except (OSError, msgspec.MsgspecError) as error:
        raise ShotError("job", "This backend does not have the shot any more; generate it again.") from error


class FetchTask(OwnThreadTask):
    """Sends what is on disk of one job; its own thread reads it."""

    def __init__(
        self,
        ticket: str,
        client: bytes,
        outbox: Outbox,
        name: str,
        *,
        transparent: bool,
        crop: Crop | None = None,
    ) -> None:
        """``transparent`` cuts the characters out of the frames, ``crop`` sends a part of each."""
        super().__init__(ticket, client, outbox)
        self._name, self._transparent, self._crop = name, transparent, crop
        self._credit = threading.BoundedSemaphore(FRAMES_AHEAD)

    def receive_taken(self) -> None:
        """The client has stored a frame."""
        with suppress(ValueError):  # it says so more often than frames were sent
            self._credit.release()

    def forget_client(self) -> None:
        """Nobody is there to take the frames."""
        super().forget_client()
        self._stop.set()

    def work(self) -> None:
        """Send the job."""
        assert self.resources is not None
        store = self.resources.store
        job = find_job(store, self._name)
        claim = Claim(store.root, self._name)
        try:
            self._send_job(job)
        finally:
            claim.release()

    def _send_job(self, job: Job) -> None:
        self.send(Accepted(ticket=self.ticket, job=job.name))
        finished = job.list_finished_frames()
        if not finished:
            raise ShotError("job", "No frame of this shot is finished; generate it again.")
        for n, index in enumerate(finished, 1):
            while not self._credit.acquire(timeout=LOOK_SECONDS):
                if self._stop.is_set():
                    break
            if self._stop.is_set():
                self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))
                return
            self.send(*make_frame_message(self.ticket, job, index, transparent=self._transparent, crop=self._crop))
            self.report_progress("fetching frames", n, len(finished))
        report: dict[str, Any] | None = job.report()
        files = job.textures() | job.costume() if report else {}
        textures = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        self.end(TaskState.FINISHED, Finished(ticket=self.ticket, report=report or {}), textures)
