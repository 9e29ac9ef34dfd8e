"""The task of a shot, from its passes to images on disk: the same code for the panel, the command line and the demo.

Passes are rendered when the backend requests them and are freed once they are sent; meanwhile it generates the first frames.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...shared import messages, shot
from ...shared.costume_files import check_files
from ...shared.frame_digest import digest_frame
from ...shared.look_file import LookFile, name_part_report
from ...shared.machine import release_free_memory
from ...shared.overview import compute_overview_size, needs_overview
from ...shared.picture_size import Crop
from ...shared.reference import check_reference
from ...shared.task import TaskState
from ..client import BackendClient
from ..passes.camera import find_camera
from ..passes.remote_render import RemotePassRender
from ..passes.render import RenderedFrame
from ..passes.staging import Staging
from ..paths import find_worn_folder
from ..shot_progress import ShotProgress
from ..typed_access import SceneContext, get_scene
from . import frames_folder
from .answers import check_shot_answer
from .passes_writer import PassesWriter
from .shot_render import AnyOverview, AnyRender, make_shot_render
from .task import Task

#: the stage that the panel shows meanwhile
RENDERING = "rendering passes"


def pop_first(indices: deque[int]) -> int | None:
    """Remove and return the first index, or None when there is none left."""
    return indices.popleft() if indices else None


#: passes that wait for a busy backend to take them; beyond it no more are rendered
MOST_WAITING_BYTES = 8 << 20
#: frames after which memory that is free goes back to the system
RELEASE_EVERY = 8


class ShotTask(Task):
    """Renders a shot's passes, sends them, and stores the frames that come back as ``<folder>/<frame>.png``."""

    #: whether the look is asked for, and no frames
    only_look = False

    def __init__(
        self,
        context: SceneContext,
        character: bpy.types.Object | None,
        request: shot.ShotRequest,
        client: BackendClient,
        out: Path,
        *,
        folder_per_job: bool,
        keep_passes: Path | None = None,
        scope: str = "CHARACTER",
        range_frames: tuple[int, ...] = (),
        keep_scenes: bool = False,
        alpha: bool = False,
        quick: bool = False,
        crop: Crop | None = None,
        reference: bytes = b"",
        expected_seconds: float | None = None,
        look: LookFile | None = None,
        elsewhere: bool = False,
        camera: bpy.types.Object | None = None,
        processes: int | None = 1,
        on_warning: Callable[[str], None] | None = None,
        costume: Mapping[str, bytes] | None = None,
        staging: Staging | None = None,
        on_draft: Callable[[Sequence[int], np.ndarray, bool], None] | None = None,
        on_message: Callable[[messages.AnyMessage], None] | None = None,
        priority: int = 0,
    ) -> None:
        """``scope``, ``range_frames``, ``keep_scenes`` and ``quick`` are as for ``PassRender``; ``alpha`` makes frames
        transparent around the characters; ``folder_per_job`` stores frames in a folder named after the job. ``crop`` is the part of
        the frames that the camera's frame shows and that is stored, all of them by default. ``reference`` is the file of the
        picture that the request names; ``expected_seconds`` is how long such shots have taken, None where that is not known.
        ``look`` is the look's file of a shot that this is a part of. ``on_draft`` gets, while frames are made, indices of some,
        their small pictures (N, h, w, 3) uint8, and whether they are finished. ``elsewhere`` renders the passes in a second Blender
        where that is possible, so that a window stays alive; a part of another shot is always rendered here. ``camera`` sees all
        frames, in place of the scene's cameras. ``processes`` Blenders share the passes, None for as many as are useful;
        ``on_warning`` is told how many there are, and what becomes of them. ``costume`` are the files of a costume that the shot
        makes or wears, by which its request has them; ``staging`` makes the frames views of one pose. ``priority`` puts it before
        others where several workers make the frames.

        Raises ``ShotError`` for settings that are not possible and for scenes that cannot be rendered.
        """
        super().__init__(client, RENDERING, on_message)
        shot.check_request(request)
        if not (request.width and request.height):
            raise shot.ShotError(
                "size", "The size is left to the model, which has not said what it is yet; try again, or set width and height."
            )
        check_reference(request, reference)
        check_files(request, costume or {})
        self._reference, self._look, self._costume = reference, look.data if look is not None else b"", dict(costume or {})
        self._on_draft, self._priority = on_draft, priority
        self.request, self.folder = request, out
        #: the name of the character that the shot shows, "" for several
        self.character = character.name if character is not None and scope == "CHARACTER" else ""
        #: the name of the folder of the costume that it wears, "" for none
        self.wears = find_worn_folder(character) if costume and character is not None and staging is None else ""
        self.report: dict[str, Any] | None = None
        self.frames: dict[int, Path] = {}
        self.seconds: dict[str, float] = {}
        #: how far the shot is as a whole, and the stages that it has been in
        self.progress = ShotProgress(len(request.frames), expected_seconds)
        self.stages: set[str] = set()
        #: whether frames came that had been made before
        self.came_early = False
        #: the backend's identifier of this shot, once it has accepted it
        self.job = ""
        #: whether the frames are transparent around the characters
        self.transparent = alpha
        #: the part of the frames that is stored; None for all of them
        self.crop = crop
        self._is_part = False
        #: the name of the scene's camera when the shot was started
        self.camera = "" if staging is not None else find_camera(get_scene(context), request.frames[0], camera).name
        self._folder_per_job = folder_per_job
        self._render = make_shot_render(
            context,
            character,
            request,
            scope=scope,
            range_frames=range_frames,
            keep_scenes=keep_scenes,
            alpha=alpha,
            quick=quick,
            crop=crop,
            look=look,
            elsewhere=elsewhere,
            camera=camera,
            processes=processes,
            on_warning=on_warning,
            staging=staging,
        )
        self._overview: AnyOverview | None = None
        self._writer = PassesWriter(keep_passes, request, self._render) if keep_passes else None
        self._measurement = self._render.measure()
        #: indices of the frames that the backend has requested, by whether it is the small copy
        self._requested: dict[bool, deque[int]] = {True: deque(), False: deque()}
        #: how many have been requested by the backend and not been sent yet, likewise
        self._waiting = {True: 0, False: 0}
        #: (whether it is the small copy, index) of passes that the backend has from an earlier try, if they are the same; and those
        #: of which it has been asked whether it has them
        self._earlier: set[tuple[bool, int]] = set()
        self._offered: dict[tuple[bool, int], tuple[messages.SendPasses, dict[str, np.ndarray]]] = {}
        self._sent_count = 0
        self._send_total = len(request.frames) * (2 if needs_overview(request) else 1)
        self._started = time.perf_counter()

    @property
    def note(self) -> str:
        """Why the passes are rendered in this Blender, where a second one was meant to; until the last one is sent."""
        is_rendering = not self.done and self._sent_count < self._send_total
        return self._render.note if is_rendering and isinstance(self._render, RemotePassRender) else ""

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do right now."""
        if self.done:
            return False
        has_news = self._render.has_news
        if not self._submitted:
            return has_news
        # small copies come first
        overview = self._waiting[True] > 0
        can_render = bool(self._requested[overview]) or (has_news and self._waiting[overview] > 0)
        return bool(self._inbox) or (can_render and self._can_send)

    def _step(self) -> None:
        if not self._submitted:
            if next(self._measurement, None) is None:
                self._submit()
            return
        super()._step()
        if not self.done and self.state is not TaskState.CANCELLING and self._can_send:
            self._render_requested()

    def _submit(self) -> None:
        self._submitted = True
        files = {"reference": self._reference, "look": self._look, **self._costume}
        self._client.send(
            self._make_submission(), {name: np.frombuffer(data, np.uint8) for name, data in files.items() if data} or None
        )
        self._is_part, self._reference, self._look, self._costume = bool(self._look), b"", b"", {}

    def _make_submission(self) -> messages.SubmitShot:
        return messages.SubmitShot(
            ticket=self.ticket,
            request=self.request,
            header=self._render.header,
            cut_out=self.transparent,
            crop=self.crop,
            drafts=self._on_draft is not None,
            priority=self._priority,
        )

    def _render_requested(self) -> None:
        """Render some of the passes that the backend has requested, small copies first, and send them.

        A frame waits until those before it have left, so that a busy backend does not let them pile up in Blender.
        """
        for overview in (True, False):
            if not self._waiting[overview]:
                continue
            render = self._get_render(overview)
            # the loop's own name would keep a frame that has been sent while the next one is rendered
            frames = render.render_slice(partial(self._choose_next, overview))
            while self._send_next(frames, overview):
                self._waiting[overview] -= 1
                self._count_sent()
            return

    @property
    def _can_send(self) -> bool:
        return self._client.waiting_bytes < MOST_WAITING_BYTES

    def _choose_next(self, overview: bool) -> int | None:
        return pop_first(self._requested[overview]) if self._can_send else None

    def _send_next(self, frames: Iterator[RenderedFrame], overview: bool) -> bool:
        """Send the next of the frames as it is rendered; returns whether there was one."""
        frame = next(frames, None)
        if frame is None:
            return False
        if self._writer:
            self._writer.add(frame, overview=overview)
        message = messages.SendPasses(ticket=self.ticket, index=frame.index, entry=frame.entry, overview=overview)
        if (overview, frame.index) in self._earlier:
            self._offered[overview, frame.index] = message, frame.passes.arrays()
            digest = digest_frame(frame.passes, frame.entry)
            self._client.send(messages.PassesDigest(ticket=self.ticket, index=frame.index, digest=digest, overview=overview))
        else:
            self._client.send(message, frame.passes.arrays())
        return True

    def _get_render(self, overview: bool) -> AnyRender | AnyOverview:
        if not overview:
            if self._overview is not None:
                self._overview.close()
                self._overview = None
            return self._render
        if self._overview is None:
            self._overview = self._render.make_overview(*compute_overview_size(self.request.width, self.request.height))
        return self._overview

    def _count_sent(self) -> None:
        self._sent_count += 1
        if self._sent_count % RELEASE_EVERY == 0:
            release_free_memory()
        if self.state is not TaskState.RUNNING:
            # once frames are being generated, their progress is shown instead
            self._show_progress(
                messages.Progress(
                    ticket=self.ticket, state=self.state, stage=RENDERING, step=self._sent_count, steps=self._send_total
                )
            )
        if self._sent_count == self._send_total:
            self._render.check_seen()
            self._render.close()
            self.seconds["passes"] = time.perf_counter() - self._started

    def _handle(self, message: messages.AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        check_shot_answer(message, arrays, self.request, only_look=self.only_look)
        if isinstance(message, messages.PassesWanted):
            if self.state is not TaskState.CANCELLING:
                self._requested[message.overview].append(message.index)
                self._waiting[message.overview] += 1
                if message.is_there:
                    self._earlier.add((message.overview, message.index))
        elif isinstance(message, messages.PassesKnown):
            offered = self._offered.pop((message.overview, message.index), None)
            if offered is not None and not message.known:
                self._client.send(*offered)
        elif isinstance(message, messages.Accepted):
            self.job = message.job
            if self._folder_per_job:
                self.folder = self.folder / message.job
            frames_folder.make_folder(self.folder)
        elif isinstance(message, messages.FrameResult):
            self.frames[message.index] = frames_folder.store_frame(self.folder, message.frame, arrays)
            self._client.send(messages.FrameTaken(ticket=self.ticket))
            self.came_early |= not self.stages - {RENDERING}
            self.progress.update(self.stage, self.fraction, len(self.frames))
            self._notify(message)
        elif isinstance(message, messages.Draft):
            if self._on_draft is not None:
                self._on_draft(message.indices, arrays["pictures"], message.finished)
        elif isinstance(message, messages.Finished):
            self._finish(message, arrays)
        else:
            super()._handle(message, arrays)

    def _show_progress(self, message: messages.Progress) -> None:
        self.stages.add(message.stage)
        super()._show_progress(message)
        self.progress.update(self.stage, self.fraction, len(self.frames))

    def _finish(self, message: messages.Finished, arrays: dict[str, np.ndarray]) -> None:
        self.seconds["backend"] = time.perf_counter() - self._started
        self.report = message.report
        if self._is_part:
            # parts that are made into one folder have one each, and no texture that shows all of the character
            frames_folder.store_report(self.folder, message.report, {}, name_part_report(self.request.frames))
        else:
            frames_folder.store_report(self.folder, message.report, arrays)
        self._notify(message)
        missing = len(self.request.frames) - len(self.frames)
        if missing:
            self.fail(f"{missing} frames did not arrive; generate the shot again.")
        else:
            self._end(TaskState.FINISHED)

    def _release(self) -> None:
        self._measurement.close()
        self._offered.clear()
        self._requested[True].clear()
        self._requested[False].clear()
        self._waiting = {True: 0, False: 0}
        try:
            if self._overview is not None:
                self._overview.close()
        finally:
            self._render.close()
