"""Renders a shot's passes in several Blenders at once, each with a copy of the file: one of them is bound by one core for much of
the time. What comes out is what one would render, bit for bit."""

from __future__ import annotations

import queue
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import bpy
import msgspec

from ...shared import shot
from ...shared.machine import measure_memory
from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.passes import FramePasses
from ...shared.passes_folder import save_frame
from ..typed_access import SceneContext
from .frame_queue import FrameQueue, Wanted
from .process_count import choose_process_count, count_cores
from .remote_render import LEAST_MEMORY, MEMORY_PER_BYTE, make_request
from .render import MeasuredFrame, PassRender, RenderedFrame
from .render_worker import REQUEST, RenderOptions, RenderRequest, take_passes
from .second_blender import COPY, CopyError, SecondBlender, copy_file

MODULE = "pooled_worker"
#: frames that a Blender has before it at a time: it need not wait for the next, and loses no more when it is killed
ASKED_AT_ONCE = 2
#: seconds that a step waits at least, so that nobody turns round and round meanwhile
LEAST_WAIT = 0.01
#: a frame that has ended so many Blenders is not given to another
MOST_TRIES = 2


@dataclass
class _Member:
    """One of the Blenders."""

    number: int
    second: SecondBlender
    #: the scene frames that it is measuring, and the places in the shot of those that it has measured
    measuring: tuple[int, ...] = ()
    measured: set[int] = field(default_factory=set)
    progress: int = 0
    asked: list[Wanted] = field(default_factory=list)


class PooledPassRender:
    """Renders as ``PassRender`` does, with the same methods, in several other Blenders.

    Frames come in the order in which they are asked for. Those of a Blender that ends early are rendered by the others, and by
    this one where none is left. A shot whose frames depend on those before them is rendered in this one.
    """

    def __init__(self, local: PassRender, request: RenderRequest, asked: int | None, warn: Callable[[str], None]) -> None:
        """``local`` renders the same frames in this Blender, if need be. ``asked`` is how many Blenders there are to be, None for
        as many as are useful; ``warn`` is told what people should know."""
        self._local, self._request, self._asked, self._warn = local, request, asked, warn
        #: whether frames are rendered in this Blender
        self._here = False
        self._folder: Path | None = None
        self._members: dict[int, _Member] = {}
        self._inbox: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        #: what was waited for, which comes before what is in the inbox
        self._held: deque[tuple[int, dict[str, Any]]] = deque()
        self._found: dict[int, MeasuredFrame] = {}
        self._places = {frame: index for index, frame in enumerate(request.frames)}
        self._queue: FrameQueue[dict[str, Any]] = FrameQueue()
        self._tries: dict[Wanted, int] = {}
        self._has_seen_character = False
        #: the folder into which frames are rendered, "" where they are handed over
        self._save = ""
        #: this Blender's render of small copies, and their size
        self._small: PassRender | None = None
        self._small_size = (0, 0)

    @property
    def has_news(self) -> bool:
        """Whether a step would do something: measure or render here, or take what has come."""
        return self._here or not self._members or bool(self._held) or not self._inbox.empty() or self._queue.is_next_ready()

    @property
    def header(self) -> PassesHeader:
        """The depth range and the body parts, after ``measure``."""
        return self._local.header

    @property
    def near(self) -> float:
        """As of ``PassRender``."""
        return self._local.near

    @property
    def far(self) -> float:
        """As of ``PassRender``."""
        return self._local.far

    @property
    def ground(self) -> float | None:
        """As of ``PassRender``."""
        return self._local.ground

    @property
    def has_seen_character(self) -> bool:
        """Whether any frame that was rendered shows a character."""
        return self._has_seen_character or self._local.has_seen_character

    def check_seen(self) -> None:
        """Raise ``ShotError`` when none of the frames that were rendered shows a character."""
        if not self.has_seen_character:
            self._local.check_seen()

    def measure(self) -> Generator[int, None, None]:
        """Start the Blenders, and find the depth range with them; yields how many frames are measured."""
        frames = tuple(dict.fromkeys((*self._request.range_frames, *self._request.frames)))
        try:
            if self._start():
                yield from self._measure_there(frames)
            if self._here:
                yield from self._local.measure()
        except BaseException:
            self.close()
            raise

    def _start(self) -> bool:
        """Start as many Blenders as there are to be; returns whether there are any."""
        why = self._local.explain_why_here()
        if not why and self._local.is_simulated():
            why = "it has simulations that are not baked, whose frames depend on those before them"
        if why:
            self._stay_here(f"One Blender renders the frames: {why}.")
            return False
        self._folder = Path(tempfile.mkdtemp(prefix="latentman-"))
        copy = self._folder / COPY
        try:
            copy_file(copy)
            memory, each = measure_memory(), max(LEAST_MEMORY + MEMORY_PER_BYTE * copy.stat().st_size, _measure_own_memory())
            chosen = choose_process_count(
                self._asked, len(self._request.frames), count_cores(), memory[0] if memory else None, each
            )
            if chosen.doubt:
                self._warn(chosen.doubt)
            if chosen.count == 1:
                self._stay_here(chosen.sentence)
                return False
            for number in range(chosen.count):
                self._start_member(number, copy)
        except (OSError, CopyError) as error:
            self._stay_here(f"One Blender renders the frames: no other can be run ({error}).")
            return False
        self._warn(chosen.sentence)
        return True

    def _start_member(self, number: int, copy: Path) -> None:
        assert self._folder is not None
        folder = self._folder / str(number)
        folder.mkdir()
        (folder / REQUEST).write_bytes(msgspec.json.encode(self._request))
        member = _Member(number, SecondBlender(folder))
        self._members[number] = member
        member.second.start(MODULE, piped=True, copy=copy)
        member.second.listen(partial(self._put, number))

    def _tell(self, member: _Member, message: dict[str, Any]) -> bool:
        """Ask one of the Blenders for something; returns whether it hears that, and else notes that it has ended."""
        heard = member.second.tell(message)
        if not heard:
            self._put(member.number, {"ended": True})
        return heard

    def _put(self, number: int, message: dict[str, Any]) -> None:
        self._inbox.put((number, message))

    def _measure_there(self, frames: tuple[int, ...]) -> Generator[int, None, None]:
        count = len(self._members)
        left: deque[tuple[int, ...]] = deque(share for n in range(count) if (share := frames[n::count]))
        self._share(left)
        while not self._here and len(self._found) < len(frames):
            yield len(self._found) + sum(member.progress for member in self._members.values())
            self.wait(0.0)
            for number, message in self._take():
                member = self._members[number]
                if "measuring" in message:
                    member.progress = message["measuring"]
                elif "measured" in message:
                    found = msgspec.convert(message["measured"], tuple[MeasuredFrame, ...])
                    self._found |= {one.frame: one for one in found}
                    member.measured |= {self._places[one.frame] for one in found if one.frame in self._places}
                    member.measuring, member.progress = (), 0
                elif "ended" in message or "unable" in message:
                    if member.measuring:
                        left.append(member.measuring)
                    self._lose(member, message)
            self._share(left)
        if len(self._found) == len(frames):
            measured = [self._found[frame] for frame in frames]
            self._local.adopt(measured)
            told = [msgspec.to_builtins(one) for one in measured]
            for member in self._members.values():
                self._tell(member, {"adopt": told})

    def _share(self, left: deque[tuple[int, ...]]) -> None:
        """Let those who measure nothing measure what is left."""
        for member in self._members.values():
            if left and not member.measuring:
                member.measuring, member.progress = left.popleft(), 0
                self._tell(member, {"measure": member.measuring})

    def _take(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What has come from Blenders that still count, without waiting. Raises ``ShotError`` for what one of them refuses."""
        while self._held or not self._inbox.empty():
            number, message = self._held.popleft() if self._held else self._inbox.get()
            if number not in self._members:
                continue
            if "failure" in message:
                raise shot.ShotError(message["code"], message["failure"])
            yield number, message

    def wait(self, seconds: float) -> None:
        """Wait until one of the Blenders says something, at most so long."""
        if self._here or not self._members:
            return
        try:
            self._held.append(self._inbox.get(timeout=max(seconds, LEAST_WAIT)))
        except queue.Empty:
            return

    def _lose(self, member: _Member, message: dict[str, Any]) -> None:
        """Go on without a Blender that has ended; its frames are the next that are rendered. Raises ``ShotError`` for a frame that
        has ended others, too."""
        member.second.log("a Blender that shares the passes has ended or failed")
        del self._members[member.number]
        member.second.close()
        self._queue.give_back(member.asked)
        if member.asked:
            first = member.asked[0]
            self._tries[first] = self._tries.get(first, 0) + 1
            if self._tries[first] >= MOST_TRIES:
                raise shot.ShotError(
                    "passes",
                    f"Frame {self._request.frames[first[1]]} has ended {MOST_TRIES} Blenders that rendered it; look at it in "
                    "Blender, or leave it out. What is finished is kept.",
                )
        why = message.get("unable", "")
        words = f" ({why.rstrip('.')})" if why else ""
        left = f"the other {len(self._members)} render" if len(self._members) > 1 else "the other renders"
        if self._members:
            self._warn(f"One of the Blenders has ended early{words}; {left} its frames.")
        else:
            self._stay_here(f"The last of the other Blenders has ended early{words}; this one renders the frames that are left.")

    def _stay_here(self, sentence: str) -> None:
        self._warn(sentence)
        self._here = True
        self._end_members()

    def render_slice(self, next_index: Callable[[], int | None], *, overview: bool = False) -> Iterator[RenderedFrame]:
        """Ask for the frames whose indices ``next_index`` returns, until it returns None; yields what is next and rendered."""
        for index, message in self._advance(next_index, overview):
            if isinstance(message, RenderedFrame):
                yield message
            else:
                yield RenderedFrame(
                    index, self._load(message["number"], index, overview), msgspec.convert(message["entry"], FrameEntry)
                )

    def save_slice(
        self, next_index: Callable[[], int | None], folder: Path, *, overview: bool = False
    ) -> Iterator[tuple[int, FrameEntry]]:
        """As ``render_slice``, but the frames are written into a folder of passes where they are rendered, and what describes them
        is handed over."""
        self._save = str(folder.absolute())
        for index, message in self._advance(next_index, overview):
            if isinstance(message, RenderedFrame):
                save_frame(folder, self._request.frames[index], message.passes, self.header, overview=overview)
                yield index, message.entry
            else:
                yield index, msgspec.convert(message["entry"], FrameEntry)

    def _advance(
        self, next_index: Callable[[], int | None], overview: bool
    ) -> Iterator[tuple[int, dict[str, Any] | RenderedFrame]]:
        """The frames that are next and rendered, with what was said of them; all of them where this Blender renders them."""
        if not self._here:
            while (index := next_index()) is not None:
                self._queue.add((overview, index))
            self._hear()
        while (ready := self._queue.pop_ready(overview)) is not None:
            yield ready
        if self._here:
            # what was asked for while there were others comes first
            def choose() -> int | None:
                left = self._queue.pop_unfinished(overview)
                return next_index() if left is None else left

            for frame in self._choose_local(overview).render_slice(choose):
                yield frame.index, frame

    def _hear(self) -> None:
        """Take what the Blenders have said, and give them the next frames."""
        for number, message in self._take():
            member = self._members[number]
            if "index" in message:
                done: Wanted = (message["overview"], message["index"])
                member.asked.remove(done)
                self._queue.finish(done, message | {"number": number})
                self._has_seen_character = self._has_seen_character or message["seen"]
            elif "ended" in message or "unable" in message:
                self._lose(member, message)
        for member in list(self._members.values()):
            while len(member.asked) < ASKED_AT_ONCE:
                wanted = self._queue.take(member.measured, len(self._members))
                if wanted is None:
                    break
                member.asked.append(wanted)
                if not self._tell(member, {"overview": wanted[0], "index": wanted[1], "save": self._save}):
                    break

    def _load(self, number: int, index: int, overview: bool) -> FramePasses:
        assert self._folder is not None
        # whether or not the one that has rendered it still lives
        return take_passes(self._folder / str(number), index, overview)

    def _choose_local(self, overview: bool) -> PassRender:
        if not overview:
            return self._local
        if self._small is None:
            self._small = self._local.make_overview(*self._small_size)
        return self._small

    def make_overview(self, width: int, height: int) -> PooledOverview:
        """A render of small copies of the same frames, after ``measure``."""
        self._small_size = width, height
        return PooledOverview(self)

    def close_overview(self) -> None:
        """Free what small copies need in this Blender."""
        if self._small is not None:
            self._small.close()
            self._small = None

    def close(self) -> None:
        """End the other Blenders, and remove everything of ours from the file and from the disk."""
        self._end_members()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.close_overview()
        self._local.close()

    def _end_members(self) -> None:
        members, self._members = list(self._members.values()), {}
        for member in members:
            member.second.close()


class PooledOverview:
    """The small copies of the frames of a ``PooledPassRender``."""

    def __init__(self, whole: PooledPassRender) -> None:
        self._whole = whole

    def render_slice(self, next_index: Callable[[], int | None]) -> Iterator[RenderedFrame]:
        """As that of ``PooledPassRender``."""
        return self._whole.render_slice(next_index, overview=True)

    def save_slice(self, next_index: Callable[[], int | None], folder: Path) -> Iterator[tuple[int, FrameEntry]]:
        """As that of ``PooledPassRender``."""
        return self._whole.save_slice(next_index, folder, overview=True)

    def close(self) -> None:
        """The other Blenders end with the whole frames."""
        self._whole.close_overview()


def _measure_own_memory() -> int:
    """Bytes that this process has taken at most, with the same file; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def make_pooled_render(
    context: SceneContext,
    character: bpy.types.Object | None,
    frames: tuple[int, ...],
    width: int,
    height: int,
    *,
    processes: int | None,
    warn: Callable[[str], None],
    **options: Unpack[RenderOptions],
) -> PooledPassRender:
    """A render of a shot's passes in so many Blenders, None for as many as are useful; other arguments and errors are those of
    ``PassRender``."""
    local = PassRender(context, character, frames, width, height, keep_scenes=True, **options)
    return PooledPassRender(local, make_request(context, character, frames, width, height, **options), processes, warn)
