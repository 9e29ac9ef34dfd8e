"""Renders a shot's passes in a second Blender, from a copy of the file as it is now, so that the window with the user's scene stays
alive meanwhile, and what is changed there does not reach the shot half way."""

from __future__ import annotations

import queue
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Unpack

import bpy
import msgspec

from ...shared import logs, shot
from ...shared.machine import measure_memory
from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.picture_size import Crop
from ..typed_access import SceneContext
from .played_scene import get_name
from .render import PassRender, RenderedFrame
from .render_worker import REQUEST, RenderOptions, RenderRequest, take_passes
from .second_blender import COPY, CopyError, SecondBlender

MODULE = "render_worker"
#: an open file takes about so many times the room that it takes on disk
MEMORY_PER_BYTE = 4
#: what a second Blender takes with an empty file
LEAST_MEMORY = 512 << 20
ENDED = "The second Blender that renders the passes ended early; generate the shot again, what is finished is kept."
GAVE_UP = "a second one has ended by itself, and is not tried again before Blender's next start"
logger = logs.get_logger(__name__)
#: why no second Blender is used any more in this session, "" as long as it may be
_gave_up = ""


def _give_up(reason: str) -> None:
    global _gave_up
    _gave_up = reason


class RemotePassRender:
    """Renders as ``PassRender`` does, with the same methods, but elsewhere.

    Where no second Blender can do it - it cannot be run, the copy would lack something, there is no memory for it - the frames are
    rendered in this one, and ``note`` and the log say why.
    """

    def __init__(self, local: PassRender, request: RenderRequest) -> None:
        """``local`` renders the same frames in this Blender, if need be."""
        self._local, self._request = local, request
        #: why the frames are rendered in this Blender, "" as long as they are not
        self._here = _gave_up or local.explain_why_here()
        self._second: SecondBlender | None = None
        self._folder: Path | None = None
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._header: PassesHeader | None = None
        self._rendered: dict[bool, deque[dict[str, Any]]] = {True: deque(), False: deque()}
        self._has_seen_character = False
        self.near = self.far = 0.0

    @property
    def note(self) -> str:
        """That and why the frames are rendered in this Blender, a sentence; empty as long as they are not."""
        return f"This Blender renders the passes itself and may stutter meanwhile: {self._here}." if self._here else ""

    @property
    def has_news(self) -> bool:
        """Whether a step would do something: measure or render here, or take what has come from there."""
        return bool(self._here) or self._second is None or not self._inbox.empty() or any(self._rendered.values())

    @property
    def header(self) -> PassesHeader:
        """The depth range and the body parts, after ``measure``."""
        if self._here:
            return self._local.header
        assert self._header is not None
        return self._header

    @property
    def has_seen_character(self) -> bool:
        """Whether any frame that was rendered shows a character."""
        return self._has_seen_character or self._local.has_seen_character

    def check_seen(self) -> None:
        """Raise ``ShotError`` when none of the frames that were rendered shows a character."""
        if not self.has_seen_character:
            self._local.check_seen()

    def measure(self) -> Generator[int, None, None]:
        """Start the second Blender, and wait for the depth range that it finds; yields how many frames are measured."""
        if not self._here:
            yield from self._measure_there()
        if self._here:
            logger.info("%s", self.note)
            yield from self._local.measure()

    def _measure_there(self) -> Generator[int, None, None]:
        try:
            self._start()
        except (OSError, CopyError) as error:
            self._stay_here(f"no second one can be run ({error})")
            return
        measured = 0
        try:
            while self._header is None and not self._here:
                yield measured
                for message in self._take():
                    measured = message.get("measured", measured)
                    if "header" in message:
                        self._header = msgspec.convert(message["header"], PassesHeader)
                        self.near, self.far = message["near"], message["far"]
                    elif "unknown" in message:
                        names = ", ".join(message["unknown"])
                        self._stay_here(f"drivers may use {names}, which only this one knows")
                        break
                    elif "unable" in message or "ended" in message:
                        self._log_output()
                        if "ended" in message:
                            # whatever ended it would most likely end the next one
                            _give_up(GAVE_UP)
                        self._stay_here(message.get("unable", GAVE_UP))
                        break
        except BaseException:
            self.close()
            raise

    def _stay_here(self, why: str) -> None:
        self._here = why
        self._end_second()

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="latentman-"))
        (self._folder / REQUEST).write_bytes(msgspec.json.encode(self._request))
        second = SecondBlender(self._folder)
        second.start(MODULE, piped=True)
        self._second = second
        memory, size = measure_memory(), (self._folder / COPY).stat().st_size
        if memory is not None and memory[0] < LEAST_MEMORY + MEMORY_PER_BYTE * size:
            self._stay_here("there is no memory for a second one; close other programs")
            return
        second.listen(self._inbox.put)

    def _take(self) -> Iterator[dict[str, Any]]:
        """What has come, without waiting. Raises ``ShotError`` for what the second Blender refuses."""
        while not self._inbox.empty():
            message = self._inbox.get()
            if "failure" in message:
                raise shot.ShotError(message["code"], message["failure"])
            yield message

    def _log_output(self) -> None:
        if self._second is not None:
            self._second.log("the Blender that renders the passes has ended or failed")

    def render_slice(self, next_index: Callable[[], int | None], *, overview: bool = False) -> Iterator[RenderedFrame]:
        """Ask for the frames whose indices ``next_index`` returns, until it returns None; yields those that are rendered by now."""
        if self._here:
            yield from self._local.render_slice(next_index)
            return
        while (index := next_index()) is not None:
            self._ask(index, overview)
        for message in self._take():
            if "index" in message:
                self._rendered[message["overview"]].append(message)
            elif "unable" in message or "ended" in message:
                self._log_output()
                _give_up(GAVE_UP)
                raise shot.ShotError("passes", ENDED)
        while self._rendered[overview]:
            yield self._load(self._rendered[overview].popleft())

    def _ask(self, index: int, overview: bool) -> None:
        assert self._second is not None
        if not self._second.tell({"index": index, "overview": overview}):
            self._inbox.put({"ended": True})

    def _load(self, message: dict[str, Any]) -> RenderedFrame:
        assert self._folder is not None
        passes = take_passes(self._folder, message["index"], message["overview"])
        self._has_seen_character = self._has_seen_character or bool(passes.mask.any())
        return RenderedFrame(message["index"], passes, msgspec.convert(message["entry"], FrameEntry))

    def make_overview(self, width: int, height: int) -> PassRender | RemoteOverview:
        """A render of small copies of the same frames, after ``measure``."""
        return self._local.make_overview(width, height) if self._here else RemoteOverview(self)

    def close(self) -> None:
        """End the second Blender, and remove everything of ours from the file and from the disk; nothing is rendered afterwards."""
        self._end_second()
        self._local.close()

    def _end_second(self) -> None:
        second, self._second = self._second, None
        folder, self._folder = self._folder, None
        if second is not None:
            second.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class RemoteOverview:
    """The small copies of the frames of a ``RemotePassRender``."""

    def __init__(self, whole: RemotePassRender) -> None:
        self._whole = whole

    def render_slice(self, next_index: Callable[[], int | None]) -> Iterator[RenderedFrame]:
        """As that of ``RemotePassRender``."""
        return self._whole.render_slice(next_index, overview=True)

    def close(self) -> None:
        """Nothing is left: the second Blender ends with the whole frames."""


def make_render(
    context: SceneContext,
    character: bpy.types.Object | None,
    frames: tuple[int, ...],
    width: int,
    height: int,
    **options: Unpack[RenderOptions],
) -> RemotePassRender:
    """A render of a shot's passes in a second Blender; arguments and errors are those of ``PassRender``."""
    local = PassRender(context, character, frames, width, height, is_copied=True, **options)
    return RemotePassRender(local, make_request(context, character, frames, width, height, **options))


def make_request(
    context: SceneContext,
    character: bpy.types.Object | None,
    frames: tuple[int, ...],
    width: int,
    height: int,
    *,
    scope: str = "CHARACTER",
    range_frames: tuple[int, ...] = (),
    frame: Crop | None = None,
    camera: bpy.types.Object | None = None,
    motion_vectors: bool = False,
    shadow: bool = False,
    depth_range: tuple[float, float] | None = None,
    plain_ground: bool = False,
    ground: float | None = None,
) -> RenderRequest:
    """What another Blender is told to render; arguments are those of ``PassRender``."""
    assert context.scene is not None and context.view_layer is not None
    return RenderRequest(
        context.scene.name,
        context.view_layer.name,
        get_name(character) if character is not None else None,
        frames,
        (width, height),
        scope,
        range_frames,
        frame,
        tuple(sorted(bpy.app.driver_namespace)),
        get_name(camera) if camera is not None else None,
        motion_vectors,
        shadow,
        depth_range,
        plain_ground,
        ground,
    )
