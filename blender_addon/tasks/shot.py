"""One shot from its passes to pictures on disk: the same code for the panel, the command line and the demo.

Passes are rendered as the backend asks for them and forgotten once they are sent, while it makes the first frames already.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import msgspec
import numpy as np

from ...shared import messages, passes_folder, shot
from ...shared.files import write_atomically
from ...shared.manifest import FrameEntry, join_manifest
from ...shared.overview import compute_overview_size, needs_overview
from ...shared.task import TaskState
from ..client import BackendClient
from ..passes.render import PassRender, RenderedFrame
from .task import Task

#: the folder of a shot's textures, beside its frames
LOOK = "look"
RENDERING = "rendering passes"
PNG = b"\x89PNG\r\n\x1a\n"


def save_png_file(data: np.ndarray, path: Path) -> None:
    """Write the bytes of a PNG file (N,) uint8: whole or not at all. Raises ``ShotError`` for what is none."""
    content = data.tobytes()
    if not content.startswith(PNG):
        raise shot.ShotError("frames", f"The backend sent something else than a picture for {path.name}; generate the shot again.")
    write_atomically(path, content)


class PassesKeeper:
    """Writes rendered passes into a folder as they come."""

    def __init__(self, folder: Path, request: shot.ShotRequest, render: PassRender) -> None:
        self._folder, self._request, self._render = folder, request, render
        self._entries: dict[int, FrameEntry] = {}

    def add(self, frame: RenderedFrame, *, overview: bool = False) -> None:
        """Write a frame; with the last one the manifest."""
        request = self._request
        folder = self._folder / passes_folder.OVERVIEW if overview else self._folder
        passes_folder.save_frame(folder, request.frames[frame.index], frame.passes, self._render.header)
        if overview:
            return
        self._entries[frame.index] = frame.entry
        if len(self._entries) == len(request.frames):
            entries = [self._entries[n] for n in range(len(request.frames))]
            manifest = join_manifest(request.width, request.height, request.fps, request.frames, self._render.header, entries)
            passes_folder.save_manifest(self._folder, manifest)


class ShotTask(Task):
    """Renders a shot's passes, sends them, and stores the frames that come back as ``<folder>/<frame>.png``."""

    def __init__(
        self,
        context: bpy.types.Context,
        character: bpy.types.Object | None,
        request: shot.ShotRequest,
        client: BackendClient,
        out: Path,
        *,
        folder_per_job: bool,
        keep_passes: Path | None = None,
        subjects: str = "CHARACTER",
        range_frames: tuple[int, ...] = (),
        keep_lent: bool = False,
        alpha: bool = False,
        quick: bool = False,
        on_message: Callable[[Any], None] | None = None,
    ) -> None:
        """``subjects``, ``range_frames``, ``keep_lent`` and ``quick`` as for ``PassRender``; ``alpha`` cuts the characters out.

        Raises ``ShotError`` for settings that cannot be run and for scenes that cannot be rendered.
        """
        super().__init__(client, RENDERING, on_message)
        shot.check_request(request)
        self.request, self.folder = request, out
        #: whose look it is, when it is one character's
        self.character = character.name if character is not None and subjects == "CHARACTER" else ""
        self.report: dict[str, Any] | None = None
        self.frames: dict[int, Path] = {}
        self.seconds: dict[str, float] = {}
        #: the backend's name for this shot, once it knows it
        self.job = ""
        self._folder_per_job, self._alpha = folder_per_job, alpha
        self._render = PassRender(
            context,
            character,
            request.frames,
            request.width,
            request.height,
            subjects=subjects,
            range_frames=range_frames,
            keep_lent=keep_lent,
            quick=quick,
        )
        self._small: PassRender | None = None
        self._keeper = PassesKeeper(keep_passes, request, self._render) if keep_passes else None
        self._measuring = self._render.measure()
        self._wanted: dict[bool, deque[int]] = {True: deque(), False: deque()}
        self._sent = 0
        self._to_send = len(request.frames) * (2 if needs_overview(request) else 1)
        self._started = time.perf_counter()

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do right now."""
        return not self.done and (not self._submitted or bool(self._inbox) or any(self._wanted.values()))

    def _step(self) -> None:
        if not self._submitted:
            if next(self._measuring, None) is None:
                self._submit()
            return
        super()._step()
        if not self.done and self.state is not TaskState.CANCELLING:
            self._render_wanted()

    def _submit(self) -> None:
        self._submitted = True
        header = self._render.header
        self._client.send(messages.SubmitShot(ticket=self.ticket, request=self.request, header=header, cut_out=self._alpha))

    def _render_wanted(self) -> None:
        """Render some of the passes that the backend has asked for, small copies first, and send them."""
        for overview in (True, False):
            waiting = self._wanted[overview]
            if not waiting:
                continue
            render = self._renderer(overview)
            for frame in render.render_slice(lambda waiting=waiting: waiting.popleft() if waiting else None):
                if self._keeper:
                    self._keeper.add(frame, overview=overview)
                self._client.send(
                    messages.SendPasses(ticket=self.ticket, index=frame.index, entry=frame.entry, overview=overview),
                    frame.passes.arrays(),
                )
                self._count_sent()
            return

    def _renderer(self, overview: bool) -> PassRender:
        if not overview:
            if self._small is not None:
                self._small.close()
                self._small = None
            return self._render
        if self._small is None:
            self._small = self._render.overview(*compute_overview_size(self.request.width, self.request.height))
        return self._small

    def _count_sent(self) -> None:
        self._sent += 1
        if self.state is not TaskState.RUNNING:
            # once frames are being made, that is what people want to see
            self._show_progress(
                messages.Progress(ticket=self.ticket, state=self.state, stage=RENDERING, step=self._sent, steps=self._to_send)
            )
        if self._sent == self._to_send:
            self._render.check_seen()
            self._render.close()
            self.seconds["passes"] = time.perf_counter() - self._started

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if isinstance(message, messages.PassesWanted):
            if self.state is not TaskState.CANCELLING:
                self._wanted[message.overview].append(message.index)
        elif isinstance(message, messages.Accepted):
            self.job = message.job
            if self._folder_per_job:
                self.folder = self.folder / message.job
            self.folder.mkdir(parents=True, exist_ok=True)
        elif isinstance(message, messages.FrameResult):
            path = self.folder / f"{message.frame:04d}.png"
            save_png_file(arrays["png"], path)
            self.frames[message.index] = path
            self._client.send(messages.FrameTaken(ticket=self.ticket))
            self._hear(message)
        elif isinstance(message, messages.Finished):
            self._finish(message, arrays)
        else:
            super()._handle(message, arrays)

    def _finish(self, message: messages.Finished, arrays: dict[str, np.ndarray]) -> None:
        self.seconds["backend"] = time.perf_counter() - self._started
        self.report = message.report
        write_atomically(self.folder / "report.json", msgspec.json.format(msgspec.json.encode(message.report)))
        for name, texture in arrays.items():
            (self.folder / LOOK).mkdir(exist_ok=True)
            save_png_file(texture, self.folder / LOOK / f"{name}.png")
        self._hear(message)
        missing = len(self.request.frames) - len(self.frames)
        if missing:
            self.fail(f"{missing} frames did not arrive; generate the shot again.")
        else:
            self._end(TaskState.FINISHED)

    def _release(self) -> None:
        self._measuring.close()
        self._wanted[True].clear()
        self._wanted[False].clear()
        try:
            if self._small is not None:
                self._small.close()
        finally:
            self._render.close()
