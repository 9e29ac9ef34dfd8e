"""What this Blender knows of the backend's library of models, and what is still to be asked. Free of bpy.

Drawing only looks up and notes what it wants; ``connection`` asks, and the tasks hand in the answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..shared import messages
from ..shared.library import MAX_PREVIEWS, LibraryFolder, LibraryItem

#: codes of failures for which a page, or a token, helps
NEEDS_PAGE, NEEDS_TOKEN = ("gated", "page", "missing"), ("gated", "missing", "token")
#: seconds over which it is measured how quickly bytes come
RATE_SECONDS = 3.0


class LibraryBook:
    """The library as the backend has told it."""

    def __init__(self) -> None:
        self.items: tuple[LibraryItem, ...] = ()
        self.folders: tuple[LibraryFolder, ...] = ()
        self.notices: tuple[str, ...] = ()
        self.left_out = 0
        #: whether there is a token for the hub
        self.has_token = False
        #: whether a list has come since the backend was connected
        self.is_listed = False
        #: another number whenever there are other entries
        self.version = 0
        #: what the last change came to, and what went wrong with it
        self.sentence, self.error, self.error_code = "", "", ""
        self.warnings: tuple[str, ...] = ()
        #: name -> PNG file of its thumbnail
        self.previews: dict[str, bytes] = {}
        self._asked: set[str] = set()
        self._wanted: dict[str, None] = {}
        self._wants_list = False

    def want_list(self) -> None:
        """Have the library listed as soon as that is possible."""
        self._wants_list = True

    def want_preview(self, item: LibraryItem) -> None:
        """Have a thumbnail made of an entry that has one, unless that was asked for already."""
        if item.has_preview and item.name not in self._asked:
            self._wanted[item.name] = None

    def take_list_wish(self) -> bool:
        """Whether the list is to be asked for now."""
        wanted, self._wants_list = self._wants_list, False
        return wanted

    def take_preview_wishes(self) -> tuple[str, ...]:
        """The entries whose thumbnails are to be asked for now."""
        names = tuple(self._wanted)[:MAX_PREVIEWS]
        for name in names:
            del self._wanted[name]
        self._asked.update(names)
        return names

    def receive(self, message: messages.AnyMessage, previews: Mapping[str, bytes] | None = None) -> None:
        """Take an answer; ``previews`` are the thumbnails that came with it."""
        if isinstance(message, messages.ModelList):
            self.items, self.folders, self.notices = message.items, message.folders, message.notices
            self.left_out, self.has_token, self.is_listed = message.left_out, message.has_token, True
            self.version += 1
        elif isinstance(message, messages.ModelPreviews):
            self.previews.update(previews or {})
        elif isinstance(message, messages.LibraryChanged):
            self.sentence, self.warnings, self.error, self.error_code = message.sentence, message.warnings, "", ""
            self.want_list()

    def fail(self, error: str, code: str) -> None:
        """A change has failed."""
        self.sentence, self.warnings, self.error, self.error_code = "", (), error, code

    def begin(self) -> None:
        """A change begins; what the last one came to is of no interest any more."""
        self.sentence, self.warnings, self.error, self.error_code = "", (), "", ""

    def find(self, name: str) -> LibraryItem | None:
        """The entry of a name, None for none."""
        return next((item for item in self.items if item.name == name), None)

    def forget(self) -> None:
        """The backend is gone; another one may have other models."""
        version = self.version
        self.__init__()  # type: ignore[misc]
        self.version = version + 1


class Rate:
    """How quickly bytes come, over the last seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def add(self, count: int, now: float | None = None) -> float:
        """Bytes a second, once so many have come in all."""
        now = time.monotonic() if now is None else now
        self._seen = [(when, seen) for when, seen in self._seen if when > now - RATE_SECONDS] + [(now, count)]
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else 0.0


#: what the panels show
book = LibraryBook()
