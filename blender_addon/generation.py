"""One generation from passes to pictures on disk: the same code for the panel, the command line and the demo.

``step`` does a little work and returns at once, so that the window stays alive; call it until ``done``.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import msgspec
import numpy as np

from ..shared import compositing, messages, passes_folder, shot
from .client import BackendClient, ConnectionLost, Event
from .passes.render import PassRender

#: the folder of a shot's textures, beside its frames
LOOK = "look"


def save_png(image: np.ndarray, path: Path) -> None:
    """Write (H, W, 3 or 4) uint8 as PNG: whole or not at all."""
    height, width, channels = image.shape
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :channels] = image[::-1].astype(np.float32) / 255
    picture = bpy.data.images.new("LatentMan Frame", width, height, alpha=channels == 4)
    picture.alpha_mode = "STRAIGHT" if channels == 4 else "NONE"
    try:
        picture.pixels.foreach_set(rgba.ravel())
        part = path.with_name(path.stem + ".part.png")
        picture.filepath_raw, picture.file_format = str(part), "PNG"
        picture.save()
        os.replace(part, path)
    finally:
        bpy.data.images.remove(picture)


class Generation:
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
        shot.check_request(request)
        self.request, self.folder = request, out
        #: whose look it is, when it is one character's
        self.character = character.name if character is not None and subjects == "CHARACTER" else ""
        self.stage, self.fraction = "rendering passes", 0.0
        self.error = ""
        self.report: dict[str, Any] | None = None
        self.frames: dict[int, Path] = {}
        self.cancelled = self.connection_lost = False
        self.seconds: dict[str, float] = {}
        self._client, self._on_message = client, on_message
        self._folder_per_job, self._keep_passes = folder_per_job, keep_passes
        self._alpha, self._masks = alpha, np.empty((0, 0, 0), np.uint8)
        self._ticket = uuid.uuid4().hex
        #: the backend's name for this shot, once it has accepted it
        self.job = ""
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
        self._steps = self._render.steps()
        self._rendering, self._finished = True, False
        self._started = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether nothing more will happen: finished, failed or cancelled."""
        return self._finished or self.cancelled or bool(self.error)

    @property
    def succeeded(self) -> bool:
        """Whether every frame is on disk."""
        return self._finished and len(self.frames) == len(self.request.frames)

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do right now."""
        return not self.done and (self._rendering or not self._client.events.empty())

    def cancel(self) -> None:
        """Stop; finished frames are kept."""
        if self.done:
            return
        if self._rendering or not self.job:
            self._steps.close()
            self.cancelled = True
        else:
            self.stage = "cancelling"
            self._client.send(messages.Cancel(job=self.job))

    def fail(self, sentence: str) -> None:
        """End with an error."""
        self._steps.close()
        self.error = self.error or sentence

    def step(self) -> None:
        """Render some frames of passes, or handle every message that is waiting."""
        if self.done:
            return
        try:
            if self._rendering:
                self._render_one()
            while not self.done and not self._client.events.empty():
                self._handle(self._client.events.get())
        except shot.ShotError as error:
            self.fail(str(error))
        except (OSError, ReferenceError, RuntimeError) as error:
            self.fail(f"The generation stopped: {error}")

    def _progress(self, stage: str, step: int, steps: int) -> None:
        self.stage, self.fraction = stage, step / max(steps, 1)
        if self._on_message:
            self._on_message(messages.Progress(job=self.job, stage=stage, step=step, steps=steps))

    def _render_one(self) -> None:
        done = next(self._steps, None)
        if done is not None:
            self._progress("rendering passes", done, self._render.total)
            return
        self._rendering = False
        passes, manifest = self._render.result(), self._render.manifest(self.request.fps)
        if self._alpha:
            self._masks = passes.mask
        self.seconds["passes"] = time.perf_counter() - self._started
        if self._keep_passes:
            passes_folder.save(self._keep_passes, passes, manifest)
        self.request = msgspec.structs.replace(self.request, manifest=manifest)
        self._client.send(messages.Submit(ticket=self._ticket, request=self.request), passes.arrays())
        self._started = time.perf_counter()
        self.stage, self.fraction = "waiting for the backend", 0.0

    def _handle(self, event: Event | ConnectionLost) -> None:
        if isinstance(event, ConnectionLost):
            self.connection_lost = True
            self.fail(event.reason)
            return
        message = event.message
        if isinstance(message, messages.Accepted) and message.ticket == self._ticket:
            self.job = message.job
            if self._folder_per_job:
                self.folder = self.folder / message.job
            self.folder.mkdir(parents=True, exist_ok=True)
        elif isinstance(message, messages.Failed):
            if message.ticket == self._ticket or message.job == self.job:
                self.fail(message.message)
        elif getattr(message, "job", None) == self.job and self.job:
            self._handle_own(message, event.arrays)

    def _handle_own(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if isinstance(message, messages.Progress):
            if self.stage != "cancelling":
                self._progress(message.stage, message.step, message.steps)
            return
        if isinstance(message, messages.FrameResult):
            path = self.folder / f"{message.frame:04d}.png"
            image = arrays["image"]
            save_png(compositing.cut_out(image, self._masks[message.index]) if self._alpha else image, path)
            self.frames[message.index] = path
        elif isinstance(message, messages.Cancelled):
            self.cancelled = True
        elif isinstance(message, messages.Finished):
            self.seconds["backend"] = time.perf_counter() - self._started
            self.report = message.report
            passes_folder.write_atomically(self.folder / "report.json", msgspec.json.format(msgspec.json.encode(message.report)))
            for name, texture in arrays.items():
                (self.folder / LOOK).mkdir(exist_ok=True)
                save_png(texture, self.folder / LOOK / f"{name}.png")
            self._finished = True
        if self._on_message:
            self._on_message(message)
