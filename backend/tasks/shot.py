"""A shot: its passes come in, its frames go out, and in between the worker makes them, all three at the same time.

The task's own thread does everything that touches the disk for it. Neither side ever holds more than a few frames: passes are
asked for a few at a time, and frames wait on the disk until the client has taken those before.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...shared import logs
from ...shared.look_file import LookFile, LookScene, decode_look_file
from ...shared.manifest import PassesHeader
from ...shared.messages import (
    Accepted,
    ArrivedArrays,
    Cancelled,
    Draft,
    Finished,
    PassesDigest,
    PassesKnown,
    PassesWanted,
    SendPasses,
    WireError,
)
from ...shared.overview import compute_overview_size
from ...shared.passes import check_arrays, compute_most_bytes
from ...shared.picture_size import Crop
from ...shared.reference import check_reference
from ...shared.shot import ShotError, ShotRequest
from ...shared.task import TaskState
from .frame_messages import FRAMES_AHEAD, LOOK_SECONDS, make_frame_message
from .outbox import Outbox
from .task import Task
from .worker import Worker

if TYPE_CHECKING:
    from ..jobs.intake import PassesIntake
    from ..jobs.job import Job

logger = logs.get_logger(__name__)

#: passes that are asked for before those asked for earlier have come
PASSES_AHEAD = 2
#: more passes than a client that obeys could have sent; a task with this many waiting is refused
MOST_WAITING = 4 * PASSES_AHEAD
GONE = "The passes stopped coming; generate the shot again."


def check_shot(request: ShotRequest, reference: bytes = b"") -> None:
    """Raise ``ShotError`` for a prompt, model, size, technique or reference picture that is not possible, before any passes are
    rendered for it. ``reference`` is the file of the picture that the request names."""
    # imported late: diffusers comes with them
    from ..models.preflight import check_model, check_reference_use
    from ..models.prompts.named_loras import name_model
    from ..models.prompts.parsing import check_text
    from ..reference_pictures import decode_reference
    from ..video.request_checks import check_request
    from ..video.techniques.registry import build_techniques

    build_techniques(request.get_method())
    check_text(request.text, request.list_prompts()[1:])
    check_reference(request, reference)
    if reference:
        decode_reference(reference)
        check_reference_use(request.sampling.model)
    name = name_model(request.sampling.model, request.text)
    family, row_frames = check_model(name, request.width, request.height, request.sampling)
    check_request(family, row_frames, request)
    if family.needs_view and not _shows_view(request):
        raise family.explain_no_view()


def _shows_view(request: ShotRequest) -> bool:
    """Whether a view of a look, if there is one, is shown to the networks at every step."""
    fusion, sampling = request.get_method().fusion, request.sampling
    if fusion is None or fusion.show_look not in ("view", "both"):
        return False
    return sampling.control_scale > 0 and sampling.control_start == 0 and sampling.control_end == 1


def check_part(request: ShotRequest, look_file: LookFile) -> None:
    """Raise ``ShotError`` when a request is not for a part of the shot that a look was made for, with that look and its model."""
    from ..models.identity import identify
    from ..models.prompts.named_loras import name_model

    if request.look != look_file.name:
        raise ShotError("look", "The look's file did not come with its shot, or is another one; generate the shot again.")
    look_file.check_part(request)
    if identify(name_model(request.sampling.model, request.text)) != look_file.description.model:
        raise ShotError(
            "look",
            f"The look was made with another model than '{request.sampling.model}' is here, or with other files of it; name that "
            "one with --model, or make the look again.",
        )


class ShotTask(Task):
    """Takes one shot from its passes to its frames."""

    def __init__(
        self,
        ticket: str,
        client: bytes,
        outbox: Outbox,
        request: ShotRequest,
        header: PassesHeader,
        *,
        transparent: bool = False,
        crop: Crop | None = None,
        reference: bytes = b"",
        look: bytes = b"",
        costume: Mapping[str, bytes] | None = None,
        only_look: bool = False,
        scene: LookScene | None = None,
        drafts: bool = False,
        priority: int = 0,
        is_far: bool = False,
    ) -> None:
        """``transparent`` cuts the characters out of the frames that are sent, ``crop`` sends a part of each; ``reference`` is the
        file of the picture that the request names, ``look`` the look's file that the shot is a part of,
        ``costume`` the files of the costume that it makes or wears. ``only_look`` makes a look's file, with ``scene`` in it, and no
        frames; ``drafts`` sends small pictures while frames are made.
        ``priority`` puts it before others where several wait. ``is_far`` says that what need not be sent is worth a question: the
        client is on another machine."""
        super().__init__(ticket, client, outbox)
        self._request, self._header, self._transparent = request, header, transparent
        self._crop, self._reference, self._look, self._costume = crop, reference, look, dict(costume or {})
        self._only_look, self._scene, self._drafts = only_look, scene, drafts
        self.priority = priority
        self._is_far, self._keeps_passes = is_far, False
        self._made_look = b""
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._intake: PassesIntake | None = None
        self._job: Job | None = None
        self._asked = 0
        self._due: deque[int] = deque()
        # what the socket's thread changes as well
        self._lock = threading.Lock()
        self._credit, self._waiting_passes = FRAMES_AHEAD, 0
        self._report: dict[str, Any] | None = None
        self._working = False
        self._thread: threading.Thread | None = None

    @property
    def gone(self) -> bool:
        """Whether its thread has ended."""
        return self.state.ended and (self._thread is None or not self._thread.is_alive())

    @property
    def awaits_passes(self) -> bool:
        """Whether it cannot go on without its client."""
        return not self.state.ended and (self._intake is None or not self._intake.complete)

    # -- called by the socket's thread --------------------------------------------------------------------------------

    def start(self, worker: Worker) -> None:
        """Begin the task's own thread."""
        self._thread = threading.Thread(target=self._run_thread, args=(worker,), name=f"shot {self.ticket[:8]}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until its thread has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def receive_passes(self, message: SendPasses, arrived: ArrivedArrays) -> None:
        """Passes have come in."""
        self._queue_passes(lambda: self._add_passes(message, arrived))

    def receive_digest(self, message: PassesDigest) -> None:
        """The client says which passes it has."""
        self._queue_passes(lambda: self._add_earlier(message))

    def _queue_passes(self, add: Callable[[], None]) -> None:
        """Leave what has come to the task's thread; a client that sends much more than it is asked for ends its shot."""
        with self._lock:
            self._waiting_passes += 1
            too_many = self._waiting_passes > MOST_WAITING
        if too_many:
            self.fail(ShotError("passes", "More passes were sent than were asked for; generate the shot again."))
            return

        def take() -> None:
            with self._lock:
                self._waiting_passes -= 1
            add()

        self._inbox.put(take)

    def receive_taken(self) -> None:
        """The client has stored a frame."""
        with self._lock:
            empty = self._credit == 0
            self._credit = min(self._credit + 1, FRAMES_AHEAD)
        if empty:
            self._inbox.put(lambda: None)  # the task's thread may be waiting for just this

    def forget_client(self) -> None:
        """Without its client a shot whose passes are not complete cannot go on; another is made to its end."""
        if self.awaits_passes:
            self.leave()
        super().forget_client()

    def leave(self) -> None:
        """Cancel it for other reasons than its client's wish: what has come of its passes stays for the next try."""
        self._keeps_passes = self._is_far
        self.cancel()

    def give_way(self) -> None:
        """End it as its client is away, and others wait."""
        self._keeps_passes = self._is_far
        self.fail(ShotError("connection", "The connection was interrupted while others waited; generate the shot again."))

    # -- the task's own thread ----------------------------------------------------------------------------------------

    def _run_thread(self, worker: Worker) -> None:
        try:
            self._machine.advance(TaskState.PREPARING)
            store = self.await_resources(worker).store
            from ..models.profiles import complete_request

            self._request = complete_request(self._request)
            check_shot(self._request, self._reference)
            if self._only_look:
                from ..jobs.look_making import check_look_request

                check_look_request(self._request)
            if self._costume:
                from ..jobs.dressing import check_costume

                check_costume(self._request, self._costume, is_part=bool(self._look) or self._only_look)
            if self._look:
                check_part(self._request, decode_look_file(self._look))
            self._intake = store.receive(
                self._request,
                self._header,
                self._reference,
                look=self._look,
                costume=self._costume,
                on_demand=self._only_look,
                owner=self.owner if self._is_far else b"",
            )
            self._costume = {}
            while not self.state.ended:
                if self.state is not TaskState.CANCELLING:
                    self._request_passes()
                try:
                    self._inbox.get(timeout=LOOK_SECONDS)()
                except queue.Empty:
                    pass
                if self._job is None and self._intake.job is not None:
                    self._start_job(self._intake.job, worker)
                self._send_frames()
                if self.state is TaskState.CANCELLING and not self._working:
                    self.end(TaskState.CANCELLED, Cancelled(ticket=self.ticket))
        except Exception as error:
            self.fail(error)
        finally:
            if self._intake is not None:
                if not self._intake.complete:
                    self._intake.fail(GONE, keeps=self._keeps_passes)
                self._intake.release()
                if self._keeps_passes:
                    from ..jobs.earlier import remove_old_tries

                    remove_old_tries(store.root)

    def _request_passes(self) -> None:
        """Ask for passes, as long as not too many are on their way."""
        assert self._intake is not None
        while self._asked < PASSES_AHEAD and (wanted := self._intake.choose_next()) is not None:
            index, overview = wanted
            self._asked += 1
            is_there = self._intake.has_earlier(index, overview=overview)
            self.send(PassesWanted(ticket=self.ticket, index=index, overview=overview, is_there=is_there))

    def _add_passes(self, message: SendPasses, arrived: ArrivedArrays) -> None:
        assert self._intake is not None
        request = self._request
        size = compute_overview_size(request.width, request.height) if message.overview else (request.width, request.height)
        if arrived.size > compute_most_bytes(*size):
            # before they are unpacked
            raise ShotError("passes", f"Passes of {arrived.size} bytes came, more than a frame has; render the passes again.")
        try:
            arrays = arrived.read()
        except WireError as error:
            raise ShotError(error.code, str(error)) from error
        self._intake.add(message.index, check_arrays(arrays, 1, *size), message.entry, overview=message.overview)
        self._asked -= 1

    def _add_earlier(self, message: PassesDigest) -> None:
        assert self._intake is not None
        known = self._intake.add_earlier(message.index, message.digest, overview=message.overview)
        if known:
            self._asked -= 1
        self.send(PassesKnown(ticket=self.ticket, index=message.index, overview=message.overview, known=known))

    def _start_job(self, job: Job, worker: Worker) -> None:
        """The job is known: go on with it, or answer from the disk where it is finished already."""
        self._job = job
        self.send(Accepted(ticket=self.ticket, job=job.name))
        report = None if self._only_look else job.report()
        if report is not None and len(job.list_finished_frames()) == len(job.request.frames):
            self._due.extend(range(len(job.request.frames)))
            self._report = report
            return
        self._working = True
        self._machine.advance(TaskState.QUEUED)
        if worker.loader.pool is not None:
            worker.run_beside(self)
        else:
            worker.submit(self)

    def _send_frames(self) -> None:
        """Send the frames that are due, and the end when all are sent."""
        while self._due and (self._lost or self._wait_for_credit()):
            index = self._due.popleft()
            if not self._lost:
                self._send_frame(index)
        if self._report is not None and not self._due and self._job is not None:
            files = {"look": self._made_look} if self._only_look else self._job.textures() | self._job.costume()
            arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
            self.end(TaskState.FINISHED, Finished(ticket=self.ticket, report=self._report), arrays)

    def _wait_for_credit(self) -> bool:
        """Use up the room for one frame at the client's; False when it has none."""
        with self._lock:
            if self._credit == 0:
                return False
            self._credit -= 1
            return True

    def _send_frame(self, index: int) -> None:
        assert self._job is not None
        self.send(*make_frame_message(self.ticket, self._job, index, transparent=self._transparent, crop=self._crop))

    # -- the worker's thread ------------------------------------------------------------------------------------------

    def run(self, worker: Worker) -> None:
        """Make the frames."""
        from ..jobs.look_making import make_look
        from ..jobs.runner import RunCallbacks, run

        assert self._job is not None
        resources = self.await_resources(worker)
        draft = self._send_draft if self._drafts else None
        try:
            if self._only_look:
                callbacks = RunCallbacks(self.report_progress, should_stop=self._stop.is_set)
                if resources.pool is None:
                    self._made_look, report = make_look(self._job, resources.models, callbacks, self._scene)
                else:
                    from ..workers.shot import make_look_pooled

                    self._made_look, report = make_look_pooled(
                        self._job, resources.pool, callbacks, self._scene, self.priority, self.owner
                    )
            else:
                callbacks = RunCallbacks(self.report_progress, self._frame_stored, self._stop.is_set, draft)
                if resources.pool is None:
                    report = run(self._job, resources.models, callbacks)
                else:
                    from ..workers.shot import run_pooled

                    report = run_pooled(self._job, resources.pool, callbacks, self.priority, self.owner)
        finally:
            self._working = False
        self._inbox.put(lambda: self._finish(report))

    def _send_draft(self, indices: Sequence[int], pictures: np.ndarray, finished: bool) -> None:
        if not self._lost:
            self.send(Draft(ticket=self.ticket, indices=tuple(indices), finished=finished), {"pictures": pictures})

    def _frame_stored(self, index: int) -> None:
        self._inbox.put(lambda: self._due.append(index))

    def _finish(self, report: dict[str, Any]) -> None:
        self._report = report
