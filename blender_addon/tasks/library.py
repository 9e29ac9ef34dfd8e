"""The tasks that ask the backend of its library, or have it changed. They need no scene, and disturb no shot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...shared import messages
from ...shared.shot import ShotError
from ...shared.task import TaskState
from ..client import BackendClient
from ..library_book import LibraryBook, Rate
from .task import Task


class LibraryTask(Task):
    """One question, or one change. ``make`` makes its message, given the ticket."""

    is_background = True

    def __init__(
        self,
        client: BackendClient,
        book: LibraryBook,
        make: Callable[[str], messages.Message],
        stage: str,
        *,
        is_change: bool = False,
    ) -> None:
        super().__init__(client, stage)
        self.is_change = is_change
        self._book, self._rate = book, Rate()
        if is_change:
            book.begin()
        self._submitted = True
        client.send(make(self.ticket))

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, Any]) -> None:
        if isinstance(message, messages.ModelPreviews):
            try:
                previews = messages.read_previews(message, arrays)
            except messages.WireError as error:
                raise ShotError("answer", f"The backend sent thumbnails that cannot be shown: {error}") from error
            self._book.receive(message, previews)
            self._end(TaskState.FINISHED)
        elif isinstance(message, (messages.ModelList, messages.LibraryChanged)):
            self._book.receive(message)
            self._end(TaskState.FINISHED)
        else:
            super()._handle(message, arrays)

    def _show_progress(self, message: messages.Progress) -> None:
        super()._show_progress(message)
        if message.steps:
            done, total = message.step * 1000, message.steps * 1000
            name = message.stage.rpartition("/")[2]
            rate = self._rate.add(done)
            self.stage = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB · {rate / 1e6:.1f} MB/s · {name}"

    def fail(self, sentence: str, code: str = "failed") -> None:
        """End with an error, which the box of the library shows."""
        super().fail(sentence, code)
        if self.error:
            self._book.fail(self.error, self.error_code)
