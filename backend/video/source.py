"""Sources of a shot's passes: memory, a saved folder, or a job whose passes are still arriving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.overview import compute_overview_size, shrink_passes
from ...shared.passes import FramePasses
from ...shared.passes_folder import PassesFolder
from .selection import select_manifest


class PassesSource(Protocol):
    """A shot's passes, frame by frame. A frame may not be there yet: then ``frame`` and ``overview`` wait for it."""

    @property
    def frame_count(self) -> int:
        """The number of frames F."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame. Raises ``ShotError`` when they cannot be had."""

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""

    def manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``; None where nothing does."""

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the objects in the frames ``rows``, or in their small copies where those say it earlier; empty where
        nothing describes them."""

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the small copies of the frames ``rows``, or these where they are known earlier; None where nothing
        does."""


def name_surfaces(manifest: PassesManifest | None) -> dict[int, str]:
    """Number -> name of the objects that a manifest lists."""
    return {entry.index: entry.name for entry in manifest.surfaces} if manifest else {}


def load_clip(source: PassesSource, rows: Sequence[int]) -> FramePasses:
    """The passes (N, H, W, ...) of the frames ``rows`` in memory; passes that not all of them have are left out."""
    arrays: dict[str, np.ndarray] = {}
    for n, row in enumerate(rows):
        # into their places one by one, so that no frame is in memory twice
        found = source.frame(row).arrays()
        if n == 0:
            arrays = {name: np.empty((len(rows), *array.shape[1:]), array.dtype) for name, array in found.items()}
        arrays = {name: array for name, array in arrays.items() if name in found}
        for name, array in arrays.items():
            array[n] = found[name][0]
    return FramePasses(**arrays)


def compute_overview_scale(source: PassesSource) -> float:
    """How many pixels of a frame a pixel of its small copy stands for, along each side; 1 for small frames."""
    height, width = source.size
    return max(height, width) / max(compute_overview_size(width, height))


class MemoryPasses:
    """The passes of a shot that is in memory as a whole."""

    def __init__(self, passes: FramePasses, manifest: PassesManifest | None = None) -> None:
        self._passes, self._manifest = passes, manifest

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return self._passes.frame_count

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        height, width = self._passes.mask.shape[1:]
        return height, width

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame."""
        return self._passes.select([index])

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        return shrink_passes(self.frame(index))

    def manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return self._manifest and select_manifest(self._manifest, rows)

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the shot's objects."""
        return name_surfaces(self._manifest)

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return self.manifest(rows)


class SavedPasses:
    """The passes in a folder, read when they are asked for."""

    def __init__(self, folder: PassesFolder) -> None:
        self._folder = folder

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self._folder.manifest.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        return self._folder.manifest.height, self._folder.manifest.width

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of a frame."""
        return self._folder.frame(index)

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame."""
        return self._folder.overview(index)

    def manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return select_manifest(self._folder.manifest, rows)

    def surface_names(self, rows: Sequence[int]) -> dict[int, str]:
        """Number -> name of the shot's objects."""
        return name_surfaces(self._folder.manifest)

    def overview_manifest(self, rows: Sequence[int]) -> PassesManifest | None:
        """What describes the frames ``rows``."""
        return self.manifest(rows)
