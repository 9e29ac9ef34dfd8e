"""A part of a shot, whose frames have the places that they have in the whole one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from .source import PassesSource


class _Rearranged:
    """A source whose frame ``index`` is the frame ``places[index]`` of another one."""

    def __init__(self, source: PassesSource, frame_count: int, places: Sequence[int] | Mapping[int, int]) -> None:
        self._source, self._frame_count, self._places = source, frame_count, places

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return self._frame_count

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._source.size

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame."""
        return self._source.frame(self._places[index])

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        return self._source.overview(self._places[index])

    def manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return self._source.manifest([self._places[row] for row in rows])

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the objects in the frames ``rows``."""
        return self._source.surface_names([self._places[row] for row in rows])

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the small copies of the frames ``rows``."""
        return self._source.overview_manifest([self._places[row] for row in rows])


class SelectedPasses(_Rearranged):
    """Some frames of a source, as a shot of their own."""

    def __init__(self, source: PassesSource, rows: Sequence[int]) -> None:
        super().__init__(source, len(rows), tuple(rows))


class ShotPart(_Rearranged):
    """A source of the whole shot's passes of which only a part is there; only that part may be asked for."""

    def __init__(self, source: PassesSource, frame_count: int, rows: Sequence[int]) -> None:
        """``source`` has the part's frames; ``rows`` says for each which of the shot's ``frame_count`` frames it is."""
        super().__init__(source, frame_count, {row: n for n, row in enumerate(rows)})
