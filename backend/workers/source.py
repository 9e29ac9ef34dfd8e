"""The passes of a shot for a worker: those that came with a unit, or asked for one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...shared.manifest import FrameEntry, PassesHeader, PassesManifest, join_manifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotRequest
from ..jobs.passes import StoredPasses
from .units import PackedPasses

#: the passes of the frame at an index, or their small copy
FetchPasses = Callable[[int, bool], PackedPasses]


def pack_passes(source: StoredPasses, index: int, *, overview: bool = False) -> PackedPasses:
    """A stored frame for its way to a worker, as soon as it is there. Raises ``ShotError`` when it never will be."""
    found = source.overview(index) if overview else source.frame(index)
    return PackedPasses(found.arrays(), source.entry(index, overview=overview))


class FetchedPasses:
    """A ``PassesSource`` of a whole shot whose frames are fetched when they are asked for."""

    def __init__(self, request: ShotRequest, header: PassesHeader, fetch: FetchPasses) -> None:
        self._request, self._header, self._fetch = request, header, fetch
        self._entries: dict[int, FrameEntry] = {}
        #: those of small copies
        self._early_entries: dict[int, FrameEntry] = {}
        #: frames that came for their entries, until somebody reads them: no frame comes twice
        self._unread: dict[int, PackedPasses] = {}

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self._request.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._request.height, self._request.width

    def _get_entry(self, index: int) -> FrameEntry:
        if index not in self._entries:
            self._unread[index] = self._fetch(index, False)
            self._entries[index] = self._unread[index].entry
        return self._entries[index]

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame."""
        found = self._unread.pop(index, None) or self._fetch(index, False)
        self._entries[index] = found.entry
        return FramePasses(**found.arrays)

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        found = self._fetch(index, True)
        self._early_entries[index] = found.entry
        return FramePasses(**found.arrays)

    def manifest(self, rows: Sequence[int]) -> PassesManifest:
        """What describes the frames ``rows``."""
        request = self._request
        frames = tuple(request.frames[row] for row in rows)
        entries = [self._get_entry(row) for row in rows]
        return join_manifest(request.width, request.height, request.fps, frames, self._header, entries)

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the objects in the frames ``rows``, in their small copies: those come before the frames."""
        return {surface.index: surface.name for row in rows for surface in self._get_early_entry(row).surfaces}

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest:
        """What describes the small copies of the frames ``rows``."""
        request = self._request
        frames = tuple(request.frames[row] for row in rows)
        entries = [self._get_early_entry(row) for row in rows]
        return join_manifest(request.width, request.height, request.fps, frames, self._header, entries)

    def _get_early_entry(self, index: int) -> FrameEntry:
        if index not in self._early_entries:
            self._early_entries[index] = self._fetch(index, True).entry
        return self._early_entries[index]
