"""A job's passes on disk: frames come in any order while others are already read.

``passes/`` is a folder of saved passes (``shared.passes_folder``). Beside every frame ``0001.exr`` lies ``0001.json``, a
``StoredFrame``: its entry in the manifest and a digest, which tells whether a frame is still the same without reading it.
The manifest ``passes.json`` is written when all frames are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ...shared.files import make_private_folder, read_file, replace_file
from ...shared.frame_digest import digest_frame
from ...shared.manifest import FrameEntry, PassesHeader, PassesManifest, join_manifest
from ...shared.overview import needs_overview, shrink_passes
from ...shared.passes import FramePasses
from ...shared.passes_folder import OVERVIEW, frame_path, read_frame, save_frame, save_manifest
from ...shared.shot import ShotError, ShotRequest
from ..video.source import name_surfaces

#: how often those who wait for a frame look whether they should stop
WAIT_SECONDS = 0.2


class StoredFrame(msgspec.Struct, frozen=True):
    """What lies beside a stored frame: its digest, and its entry in the manifest."""

    digest: str
    entry: FrameEntry


def _encode_readable(value: msgspec.Struct) -> bytes:
    """A description as JSON that can be read back; ``ShotError`` where it holds numbers that JSON does not know."""
    data = msgspec.json.encode(value)
    try:
        msgspec.json.decode(data, type=type(value))
    except msgspec.MsgspecError as error:
        raise ShotError(
            "passes", "The description of the passes contains values that are not numbers; render the passes again."
        ) from error
    return data


def _read_header(path: Path) -> PassesHeader:
    if not path.exists():
        return PassesHeader()
    try:
        return msgspec.json.decode(read_file(path), type=PassesHeader)
    except (OSError, ValueError, RecursionError) as error:
        raise ShotError("passes", f"{path} cannot be read ({error}); render the passes again.") from error


class StoredPasses:
    """The passes of one shot in a folder; a ``PassesSource`` that waits for frames which are still on their way.

    One thread adds frames, others read them.
    """

    def __init__(self, folder: Path, request: ShotRequest, header: PassesHeader | None = None) -> None:
        """``header`` None takes what the folder's own manifest says."""
        self.folder, self._request = folder, request
        self._header = header
        self._changed = threading.Condition()
        self._failure = ""
        self._streaming = False
        self._urgent: list[int] = []
        self._should_stop: Callable[[], None] = lambda: None

    # -- what the method asks -----------------------------------------------------------------------------------------

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self._request.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._request.height, self._request.width

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame, as soon as they are there. Raises ``ShotError`` when they never will be."""
        self._wait_for(index)
        return self._read(self._path(index))

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        path = self._path(index, overview=True)
        if needs_overview(self._request) and path.exists():
            return self._read(path)
        return shrink_passes(self.frame(index))

    def manifest(self, rows: Sequence[int]) -> PassesManifest:
        """What describes the frames ``rows``."""
        for row in rows:
            self._wait_for(row)
        return self._join_manifest(rows)

    def _join_manifest(self, rows: Sequence[int]) -> PassesManifest:
        request = self._request
        frames = tuple(request.frames[n] for n in rows)
        entries = [self._read_entry(n).entry for n in rows]
        return join_manifest(request.width, request.height, request.fps, frames, self.header, entries)

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the objects in the frames ``rows``; their small copies say it before the frames come."""
        early = needs_overview(self._request)
        if not early:
            return name_surfaces(self.manifest(rows))
        return {surface.index: surface.name for n in rows for surface in self._read_early_entry(n).surfaces}

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the small copies of the frames ``rows``, or these where there are none."""
        if not needs_overview(self._request):
            return self.manifest(rows)
        request = self._request
        frames = tuple(request.frames[n] for n in rows)
        for row in rows:
            if not self.has(row, overview=True):
                self._wait_for(row)
        return join_manifest(
            request.width, request.height, request.fps, frames, self.header, [self._read_early_entry(n) for n in rows]
        )

    def _read_early_entry(self, index: int) -> FrameEntry:
        return self._read_entry(index, overview=self.has(index, overview=True)).entry

    # -- what is there ------------------------------------------------------------------------------------------------

    @property
    def header(self) -> PassesHeader:
        """What is known of the passes as a whole."""
        if self._header is None:
            path = self.folder / HEADER
            self._header = _read_header(path)
        return self._header

    def _path(self, index: int, *, overview: bool = False) -> Path:
        return frame_path(self.folder / OVERVIEW if overview else self.folder, self._request.frames[index])

    def entry(self, index: int, *, overview: bool = False) -> FrameEntry:
        """A frame's entry in the manifest, or that of its small copy, where it has one of its own. Raises ``ShotError`` when it is
        not there or damaged."""
        own = overview and self.has(index, overview=True)
        return self._read_entry(index, overview=own).entry

    def _read_entry(self, index: int, *, overview: bool = False) -> StoredFrame:
        path = self._path(index, overview=overview).with_suffix(".json")
        try:
            return msgspec.json.decode(read_file(path), type=StoredFrame)
        except (OSError, ValueError, RecursionError) as error:
            raise ShotError("passes", f"{path} cannot be read ({error}); render the passes again.") from error

    def has(self, index: int, *, overview: bool = False) -> bool:
        """Whether a frame is stored: the file beside it is written last. One that cannot be read is as good as none."""
        try:
            self._read_entry(index, overview=overview)
        except ShotError:
            return False
        return True

    def digest(self, index: int, *, overview: bool = False) -> str:
        """The digest of a stored frame."""
        return self._read_entry(index, overview=overview).digest

    def read(self, index: int, *, overview: bool = False) -> FramePasses:
        """The passes (1, H, W, ...) of a frame that is stored, or its small copy. Raises ``ShotError``."""
        return self._read(self._path(index, overview=overview))

    def _read(self, path: Path) -> FramePasses:
        try:
            return read_frame(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ShotError("passes", f"{path} cannot be read ({error}); render the passes again.") from error

    # -- what comes in ------------------------------------------------------------------------------------------------

    def begin(self, header: PassesHeader) -> None:
        """Frames will be added, by this process."""
        data = _encode_readable(header)
        make_private_folder(self.folder)
        replace_file(self.folder / HEADER, data, private=True)
        with self._changed:
            self._header, self._streaming = header, True

    def add(self, index: int, passes: FramePasses, entry: FrameEntry, *, overview: bool = False) -> str:
        """Store a frame (1, H, W, ...) unless it is there already; its digest."""
        digest = digest_frame(passes, entry)
        description = _encode_readable(StoredFrame(digest, entry))
        if not (self.has(index, overview=overview) and self.digest(index, overview=overview) == digest):
            folder = self.folder / OVERVIEW if overview else self.folder
            save_frame(folder, self._request.frames[index], passes, self.header)
            beside = self._path(index, overview=overview).with_suffix(".json")
            replace_file(beside, description, private=True)
        with self._changed:
            self._changed.notify_all()
        return digest

    def complete(self) -> None:
        """All frames are there: write the manifest."""
        # without waiting: whoever says that all frames are there is the one who would bring them
        save_manifest(self.folder, self._join_manifest(range(self.frame_count)))
        with self._changed:
            self._streaming = False
            self._changed.notify_all()

    def fail(self, sentence: str) -> None:
        """No more frames will come; those who wait are told why."""
        with self._changed:
            self._streaming, self._failure = False, sentence
            self._changed.notify_all()

    def urgent(self) -> list[int]:
        """The frames that somebody waits for, the longest first."""
        with self._changed:
            return list(self._urgent)

    def interrupt_with(self, check: Callable[[], None]) -> None:
        """``check`` is called while a frame is waited for; what it raises ends the waiting."""
        self._should_stop = check

    def _wait_for(self, index: int) -> None:
        if self.has(index):
            return
        with self._changed:
            self._urgent.append(index)
        try:
            while not self.has(index):
                self._should_stop()
                with self._changed:
                    if not self._streaming and not self.has(index):
                        frame = self._request.frames[index]
                        raise ShotError("passes", self._failure or f"The passes of frame {frame} are missing; render them again.")
                    self._changed.wait(WAIT_SECONDS)
        finally:
            with self._changed:
                self._urgent.remove(index)


#: the header, beside the frames while the manifest is not there yet
HEADER = "header.json"
