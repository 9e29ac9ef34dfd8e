"""Keeps a shot's passes as files."""

from __future__ import annotations

from pathlib import Path

from ...shared import passes_folder, shot
from ...shared.manifest import FrameEntry, join_manifest
from ..passes.render import RenderedFrame
from .shot_render import AnyRender


class PassesWriter:
    """Writes rendered passes into a folder, frame by frame, and what describes them."""

    def __init__(self, folder: Path, request: shot.ShotRequest, render: AnyRender, manifest: str = passes_folder.MANIFEST) -> None:
        """``manifest`` is the file of what describes them."""
        self._folder, self._request, self._render, self._manifest = folder, request, render, manifest
        self._entries: dict[int, FrameEntry] = {}

    def add(self, frame: RenderedFrame, *, overview: bool = False) -> None:
        """Write a frame, and after the last one the manifest."""
        number = self._request.frames[frame.index]
        passes_folder.save_frame(self._folder, number, frame.passes, self._render.header, overview=overview)
        if not overview:
            self.describe(frame.index, frame.entry)

    def describe(self, index: int, entry: FrameEntry) -> None:
        """Take what describes a frame that is written already, and write the manifest after the last one."""
        request = self._request
        self._entries[index] = entry
        if len(self._entries) == len(request.frames):
            entries = [self._entries[n] for n in range(len(request.frames))]
            manifest = join_manifest(request.width, request.height, request.fps, request.frames, self._render.header, entries)
            passes_folder.save_manifest(self._folder, manifest, self._manifest)
