"""The library of models for a client: what is in it, its thumbnails, and changes to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ...shared.addresses import hide_credentials
from ...shared.library import MAX_PREVIEWS, LibraryItem
from ...shared.messages import (
    MAX_HEADER_BYTES,
    Cancelled,
    ChangeLibrary,
    GetModel,
    LibraryChanged,
    ListModels,
    ModelList,
    ModelPreviews,
    ShowModels,
)
from ...shared.shot import ShotError
from ...shared.task import TaskState
from ..video.run_context import Interrupted
from .outbox import Outbox
from .own_thread import OwnThreadTask

if TYPE_CHECKING:
    from .worker import Worker

#: seconds between two words about the progress
REPORT_SECONDS = 0.2
#: bytes of the entries in an answer; its folders and notices need the rest of a message's header
MAX_LIST_BYTES = MAX_HEADER_BYTES * 3 // 4
LAYOUTS = {"comfyui": ", as a folder of ComfyUI", "a1111": ", as a folder of AUTOMATIC1111 or Forge"}


class _LibraryTask(OwnThreadTask):
    """Ends at once when it is cancelled; what its thread still waits for, such as a hub's answer, is not waited for."""

    def cancel(self) -> None:
        """Stop, whatever the state."""
        self._stop.set()
        self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))

    def prepare(self, worker: Worker) -> None:
        """Nothing but the hub's library is needed."""
        worker.loader.wait_for_hub(self._stop.is_set)

    def check(self) -> None:
        """Raise ``Interrupted`` once it is to stop."""
        if self._stop.is_set():
            raise Interrupted

    def fail(self, error: BaseException) -> None:
        """End with an error; the code of one of the hub says what kind it is, so that a button can be offered for it."""
        from ..models.hub import HubError

        if isinstance(error, HubError):
            sentence = str(error)
            error = ShotError(error.reason, f"{sentence[:1].upper()}{sentence[1:]}.".replace("..", "."))
        super().fail(error)


def take_what_fits(items: Sequence[LibraryItem], most: int = MAX_LIST_BYTES) -> tuple[LibraryItem, ...]:
    """As many entries as a message holds, however long their texts are."""
    taken, size = [], 0
    for item in items:
        size += len(msgspec.msgpack.encode(item))
        if size > most:
            break
        taken.append(item)
    return tuple(taken)


class ListTask(_LibraryTask):
    """Answers with the library's entries."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, message: ListModels) -> None:
        super().__init__(ticket, client, outbox)
        self._message = message

    def prepare(self, worker: Worker) -> None:
        """Wait until it is known what models run on."""
        self.resources = self.await_resources(worker)

    def work(self) -> None:
        """Look through the folders; what was looked into before is remembered."""
        from ..models.hub import find_own_token
        from ..models.library.fit import measure_device
        from ..models.library.listing import list_library

        assert self.resources is not None
        device = measure_device(self.resources.models.options)
        found = list_library(self._message.search, self._message.kinds, device, self.check)
        items = take_what_fits(found.items)
        answer = ModelList(
            ticket=self.ticket,
            items=items,
            folders=found.folders,
            notices=found.notices,
            left_out=found.left_out + len(found.items) - len(items),
            has_token=find_own_token() is not None,
        )
        self.end(TaskState.FINISHED, answer)


class ShowTask(_LibraryTask):
    """Answers with thumbnails."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, message: ShowModels) -> None:
        super().__init__(ticket, client, outbox)
        self._names = message.names

    def work(self) -> None:
        """Make them of the pictures beside those entries that the library has."""
        from ..models.library.cards import find_preview
        from ..models.library.listing import list_library
        from ..models.library.thumbnails import make_thumbnail

        # only pictures beside entries are read, whatever a client asks for
        known = {item.name for item in list_library(check=self.check).items if item.has_preview}
        found: dict[str, bytes] = {}
        for name in list(dict.fromkeys(self._names))[:MAX_PREVIEWS]:
            self.check()
            place = find_preview(Path(name)) if name in known else None
            data = make_thumbnail(place) if place is not None else None
            if data is not None:
                found[name] = data
        arrays = {f"preview_{n}": np.frombuffer(data, np.uint8) for n, data in enumerate(found.values())}
        self.end(TaskState.FINISHED, ModelPreviews(ticket=self.ticket, names=tuple(found)), arrays)


class GetTask(_LibraryTask):
    """Gets a model."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, message: GetModel) -> None:
        super().__init__(ticket, client, outbox)
        self._name, self._told = message.name, 0.0

    def work(self) -> None:
        """Download what is missing."""
        from ..models.library.getting import get

        self.report_progress("asking the hub", 0, 0)
        got = get(self._name, self._report)
        self.end(TaskState.FINISHED, LibraryChanged(ticket=self.ticket, sentence=f"{got.sentence}."))

    def _report(self, done: int, total: int, name: str) -> None:
        self.check()
        if time.monotonic() > self._told + REPORT_SECONDS or done >= total:
            self._told = time.monotonic()
            self.report_progress(name, done // 1000, total // 1000)


class ChangeTask(_LibraryTask):
    """Changes the library, or looks whether its files are intact."""

    def __init__(self, ticket: str, client: bytes, outbox: Outbox, message: ChangeLibrary) -> None:
        super().__init__(ticket, client, outbox)
        self._message, self._told = message, 0.0

    def work(self) -> None:
        """Do it."""
        from ..models.hub import read_endpoint
        from ..models.library.folders import add_folder
        from ..models.library.removing import remove
        from ..models.library.tokens import forget_token, save_token

        message = self._message
        warnings: tuple[str, ...] = ()
        if message.action == "add":
            added = add_folder(message.name)
            sentence = f"{added.path} is in the library{LAYOUTS.get(added.layout, '')}."
        elif message.action == "remove":
            sentence = remove(message.name, files=message.files)
        elif message.action == "token":
            if message.token.strip():
                sentence = (
                    f"The token for {hide_credentials(read_endpoint())} is kept in {save_token(message.token, read_endpoint())}."
                )
            else:
                forgotten = forget_token(read_endpoint())
                sentence = (
                    f"The token for {hide_credentials(read_endpoint())} is forgotten."
                    if forgotten
                    else "There is no token to forget."
                )
        else:
            sentence, warnings = self._verify()
        self.end(TaskState.FINISHED, LibraryChanged(ticket=self.ticket, sentence=sentence, warnings=warnings))

    def _verify(self) -> tuple[str, tuple[str, ...]]:
        from ..models.library.verifying import summarise, verify

        checked = verify([self._message.name] if self._message.name else [], self._report)
        return summarise(checked), tuple(one.sentence for one in checked if one.state != "intact")[:1000]

    def _report(self, done: int, total: int, name: str) -> None:
        self.check()
        if time.monotonic() > self._told + REPORT_SECONDS:
            self._told = time.monotonic()
            self.report_progress(f"reading {name}", done // 1000, total // 1000)
