"""Makes the shots of the queue, one after the other, with the code of *Generate*; whatever happens to one, the next follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import msgspec

from ...shared import logs, shot
from ...shared.endpoint import EndpointError, is_loopback
from .. import preferences, undo_steps
from ..backend_start import start_backend
from ..chosen_result import iter_results
from ..connection import STOPPED, Connection, connection
from ..paths import get_result_folder
from ..references import Finder
from ..result_words import write_now
from ..results import make_record
from ..shot_notice import notice
from ..shot_start import IN_TURN, begin_shot
from ..tasks.shot import ShotTask
from ..tasks.task import Task
from .binding import Bound, bind, name_shot
from .book import BEAT_SECONDS, QueueBook, book, set_worker, works_elsewhere
from .preparing import prepare
from .rows import INTERRUPTED, Queue, Row, RowState, change_row, recover
from .store import StoreError
from .text_block import show_table

logger = logs.get_logger(__name__)

#: how long a model's profile may take before it is asked for again: settings files may have to be fetched first
ASK_SECONDS = 120.0
#: how often the names of what the rows are of are looked at
NAMES_SECONDS = 1.0
CANCELLED = "The queue has paused because its shot was cancelled; press Start to go on with the next."
STOPPED_BACKEND = "The queue has paused because the backend was stopped; press Start to go on."


@dataclass
class _Current:
    """The row that is being made: whose file it is in, and since when."""

    blend: str
    row_id: str
    started: float
    task: ShotTask | None = None
    #: whether it was cancelled as this row, which does not pause the queue
    is_cancelled: bool = False


class QueueRunner:
    """Works through a book's queue as long as it is going; ``advance`` is called again and again on the main thread."""

    def __init__(self, connection: Connection, book: QueueBook, start: Callable[[str], None]) -> None:
        """``start`` starts the backend, or connects anew to the one at the address that it is given, "" where none was connected
        to; it raises ``OSError`` and ``EndpointError``."""
        self.connection, self.book = connection, book
        #: whether the next row begins when the one before has ended
        self.is_going = False
        self._start_backend = start
        self._current: _Current | None = None
        self._bound: dict[str, Bound] = {}
        #: the row whose model's profile was asked for, and when
        self._asked: tuple[str, float] = ("", 0.0)
        #: whether a backend was started for the queue and has not been connected to since
        self._is_starting = False
        #: where the backend was connected to, "" as long as it was not since the start
        self._endpoint = ""
        self._beat = 0.0
        #: when the names were looked at
        self._followed = -NAMES_SECONDS

    # what the user does

    @property
    def current_id(self) -> str:
        """The id of the row that is being made; "" while none is."""
        return self._current.row_id if self._current is not None else ""

    @property
    def current_task(self) -> ShotTask | None:
        """The task of the row that is being made."""
        return self._current.task if self._current is not None else None

    def start(self) -> None:
        """Go on with the next row that waits. Raises ``StoreError`` with a sentence where that is not possible."""
        self.book.refresh()
        if works_elsewhere(self.book.queue):
            raise StoreError(
                f"Another Blender works through the queue of this file (process {self.book.queue.worker}); pause it there, or "
                "close it."
            )
        self._recover()
        if not self.book.queue.waiting:
            raise StoreError("Nothing waits in the queue; press Add to Queue, or resume a paused row.")
        self.book.change(lambda queue: msgspec.structs.replace(set_worker(queue, works=True), message=""))
        self.is_going, self._is_starting, self._endpoint, self._asked = True, False, "", ("", 0.0)
        self._beat = time.monotonic()

    def pause(self, message: str = "") -> None:
        """Begin no further row; the one that is being made is finished. ``message`` says why, where nobody has asked for it."""
        self.is_going = False

        def leave(queue: Queue) -> Queue:
            return msgspec.structs.replace(set_worker(queue, works=self._current is not None), message=message)

        self._change(leave)

    def cancel_row(self, row_id: str) -> None:
        """Cancel the row that is being made; the next one follows if the queue is going."""
        current = self._current
        if current is not None and current.row_id == row_id and current.task is not None:
            current.is_cancelled = True
            current.task.cancel()

    def open(self, blend: str) -> None:
        """Another file was opened, or the same one anew: its queue waits until it is started."""
        self._leave(self.book.blend)
        running = self._current.row_id if self._current is not None and self._current.blend == blend else ""
        self.book.open(blend, running)
        self.follow_names()

    def _leave(self, blend: str) -> None:
        """Work no further through the queue of a .blend file; what is being made says so when it has ended."""
        if self.is_going and self._current is None and blend:
            self._change(lambda queue: set_worker(queue, works=False), blend)
        self.is_going = False
        self._bound.clear()

    def follow_save(self, blend: str) -> None:
        """The file was saved under a name, which may be another one than before, and with the names that its data-blocks have."""
        if not blend:
            return
        before = self.book.blend
        if self.book.move_to(blend):
            if self._current is not None and self._current.blend == before:
                self._current.blend = blend
        else:
            # another queue is shown now
            self._leave(before)
        self.follow_names()
        self._keep_names()

    def _keep_names(self) -> None:
        try:
            self.book.keep_names()
        except StoreError as error:
            logger.error("the queue could not be changed: %s", error)

    # what the timer does

    def advance(self) -> None:
        """Do what is to be done next, if anything, without waiting for anybody."""
        self.book.refresh()
        if time.monotonic() > self._followed + NAMES_SECONDS:
            self.follow_names()
        self._say_alive()
        self._recover()
        if not self.connection.connected:
            # the next backend has been asked for nothing
            self._asked = "", 0.0
        if not self.book.is_readable or not self.is_going or self._current is not None:
            return
        if self.connection.busy or undo_steps.is_dragging():
            return
        row = next(iter(self.book.queue.waiting), None)
        if row is None:
            self._finish()
        elif self._has_backend() and self._knows_model(row):
            self.follow_names()
            self._begin(self.book.queue.find(row.id) or row)

    def _recover(self) -> None:
        """Have rows wait again that nobody makes any more, as after the crash of another Blender with the same file."""
        current = self.current_id

        def recover_rows(queue: Queue) -> Queue:
            return queue if works_elsewhere(queue) else recover(queue, current)

        if self.book.is_readable and recover_rows(self.book.queue) != self.book.queue:
            self._change(recover_rows)

    def follow_names(self) -> None:
        """Have the rows show the names that their scenes, characters and cameras have now."""
        finder, rows = Finder(), [row for row in self.book.queue.rows if not row.state.ended]
        self._bound = {row.id: bound for row in rows if (bound := self._bound.get(row.id) or bind(row.shot)) is not None}
        self._followed = time.monotonic()
        self.book.set_names({row.id: name_shot(row.shot, self._bound[row.id], finder) for row in rows if row.id in self._bound})

    def _say_alive(self) -> None:
        if (self.is_going or self._current is not None) and time.monotonic() > self._beat + BEAT_SECONDS:
            self._beat = time.monotonic()
            blend = self._current.blend if self._current is not None else self.book.blend
            self._change(lambda queue: set_worker(queue, works=True), blend)

    def _has_backend(self) -> bool:
        """Whether a backend can be asked; one that has gone, as after a crash, is started again, and the queue pauses where that
        fails."""
        if self.connection.connected:
            self._is_starting, self._endpoint = False, self.connection.get_client().endpoint
            return True
        if self.connection.running:
            return False
        if self._endpoint and not self._is_starting and not self.connection.error:
            # nobody but the user ends it without an error
            self.pause(STOPPED_BACKEND)
            return False
        if self._is_starting:
            self.pause(f"The queue has paused: {self.connection.error or 'the backend does not start.'}")
            return False
        self._is_starting = True
        try:
            self._start_backend(self._endpoint)
        except (OSError, EndpointError) as error:
            self.pause(f"The queue has paused: the backend cannot be started ({error}).")
        return False

    def _knows_model(self, row: Row) -> bool:
        """Whether the backend has just said how the row's model likes to be run; asks it otherwise."""
        model = row.shot.request.sampling.model
        if self.connection.profiles.is_fresh(model):
            return True
        who, when = self._asked
        if who != row.id or time.monotonic() > when + ASK_SECONDS or self.connection.profiles.is_answered(model):
            self._asked = row.id, time.monotonic()
            self.connection.get_client().send(self.connection.profiles.ask(model, download=True))
        return False

    def _begin(self, row: Row) -> None:
        self._asked = "", 0.0
        self._current = _Current(self.book.blend, row.id, time.monotonic())
        try:
            place, plan = prepare(row.shot, self._bound.get(row.id), self.connection.profiles)
            # kept before it begins: a crash in the middle is seen by what is on disk
            self._change(lambda queue: change_row(queue, row.id, state=RowState.RUNNING, message="", code=""))
            task = begin_shot(place, plan, self.connection, IN_TURN)
        except shot.ShotError as error:
            self._fail(row, str(error), error.code)
        except Exception as error:  # no shot may stop the others
            logger.exception("a shot of the queue could not be begun")
            self._fail(row, f"It could not be begun ({type(error).__name__}: {error}); more is in {logs.find_own()}", "internal")
        else:
            self._current.task = task
            task.add_done_callback(self._on_end)

    def _fail(self, row: Row, sentence: str, code: str) -> None:
        self._current = None
        self._change(lambda queue: change_row(queue, row.id, state=RowState.FAILED, message=sentence, code=code, ended=write_now()))

    def _on_end(self, task: Task) -> None:
        current, self._current = self._current, None
        if current is None or not isinstance(task, ShotTask):
            return
        record, count = make_record(task), len(task.frames)
        state, message, why = RowState.FAILED, task.error, ""
        if task.succeeded:
            state = RowState.DONE
        elif task.cancelled:
            state = RowState.CANCELLED
            why = "" if current.is_cancelled else CANCELLED
        elif task.error == STOPPED:
            state, message, why = RowState.WAITING, INTERRUPTED, STOPPED_BACKEND
        elif count:
            state = RowState.PARTIAL
        values = {
            "state": state,
            "message": message,
            "code": task.error_code,
            "count": count,
            "made": record.made if task.succeeded else count,
            "kept": record.kept if task.succeeded else 0,
            "seconds": time.monotonic() - current.started,
            "folder": str(_find_folder(task)) if count else "",
            "ended": write_now() if state.ended else "",
        }
        self._change(lambda queue: change_row(queue, current.row_id, **values), current.blend)
        if current.blend != self.book.blend:
            # its file is closed, and nobody works in its queue any more
            self._change(lambda queue: set_worker(queue, works=False), current.blend)
        elif why:
            self.pause(why)
        elif not self.is_going:
            self._change(lambda queue: set_worker(queue, works=False))

    def _finish(self) -> None:
        """Everything has had its turn."""
        self.pause()
        show_table(self.book.queue)

    def _change(self, change: Callable[[Queue], Queue], blend: str | None = None) -> None:
        """Change a queue; where its file cannot be read any more, the work goes on, and the box says so."""
        try:
            self.book.change_of(self.book.blend if blend is None else blend, change)
        except StoreError as error:
            logger.error("the queue could not be changed: %s", error)


def _find_folder(task: ShotTask) -> Path:
    """Where the frames of an ended shot are: they go beside a file that was saved meanwhile, and where nothing has changed an
    earlier result has them."""
    tickets = (task.ticket, *(() if task.folder.is_dir() else (notice.ticket,)))
    found = [result for result in iter_results() if result.ticket in tickets]
    return get_result_folder(found[0]) if found else task.folder


def _start_again(endpoint: str) -> None:
    """Start the backend as the preferences say, or connect to the one of another machine again. Raises ``OSError`` and
    ``EndpointError``."""
    if endpoint and not is_loopback(endpoint):
        connection.connect(endpoint)
        return
    if not preferences.get_backend_python(bpy.context):
        raise OSError("it is not set up; press Set Up in the box Backend")
    start_backend(bpy.context, connection)


runner = QueueRunner(connection, book, _start_again)
