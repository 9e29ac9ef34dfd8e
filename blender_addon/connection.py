"""The state of the running session that is not in the scene: the backend's process, the connection to it, and the running tasks.

``process_events`` advances all of it; the window calls it from a timer, tests and the command line from a loop.
"""

from __future__ import annotations

import atexit
import enum
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import bpy

from ..shared import logs, messages, running, version
from ..shared.endpoint import normalise_endpoint
from ..shared.load_options import LoadOptions
from ..shared.model_profile import ModelProfile
from ..shared.shot import ShotError
from . import model_library, model_profiles, undo_steps
from .backend_process import BackendProcess
from .client import BackendClient, ConnectionInterrupted, ConnectionLost, Event, Unreadable
from .error_places import Check, ErrorBoard, Place
from .library_book import LibraryBook
from .library_book import book as library_book
from .model_profiles import ProfileBook
from .redrawing import redraw_panels, redraw_status_bars
from .result_shelf import shelf
from .set_up.state import set_up
from .tasks.fetch import FetchTask
from .tasks.frames_folder import list_frames
from .tasks.library import LibraryTask
from .tasks.motion import MotionTask
from .tasks.shot import ShotTask
from .tasks.task import Task

logger = logs.get_logger(__name__)

#: how often the window's timer calls ``process_events``, how soon again while there is more to do, and for how long one call
#: begins new steps
TIMER_SECONDS, SOON_SECONDS, BUDGET_SECONDS = 0.1, 0.02, 0.03
#: how often it is looked whether an error is mended
MENDED_SECONDS = 1.5
STOPPED = "The backend was stopped; what is finished is kept."

#: kind of task -> the box that shows its error
_PLACES: tuple[tuple[type[Task], Place], ...] = ((ShotTask, Place.SHOT), (MotionTask, Place.MOTION), (FetchTask, Place.RESULT))

AnyTask = TypeVar("AnyTask", bound=Task)


class ConnectionState(enum.Enum):
    """Whether there is a backend; the value is what the panel shows."""

    OFFLINE = "not running"
    STARTING = "starting"
    CONNECTING = "connecting"
    CONNECTED = "running"


def find_place(task: Task) -> Place:
    """The box that shows a task's error."""
    return next((place for kind, place in _PLACES if isinstance(task, kind)), Place.BACKEND)


def make_check(task: Task) -> Check | None:
    """Whether a task's error still holds; None where nothing but the next try tells. Frames that could not be fetched may come back
    by other ways."""
    if not isinstance(task, FetchTask):
        return None
    folder, count = task.folder, len(list_frames(task.folder))

    def still_lacks_frames() -> bool:
        state = shelf.find(folder)
        return state is None or state.frames <= count

    return still_lacks_frames


class Connection:
    """The connection to one backend and the tasks that it runs for this Blender, to which it dispatches messages."""

    def __init__(self, profiles: ProfileBook | None = None, library: LibraryBook | None = None) -> None:
        """``profiles`` takes what the backend tells of models, ``library`` what it has of them."""
        self.state = ConnectionState.OFFLINE
        #: what the backend has told of models
        self.profiles = profiles or ProfileBook()
        self.library = library or LibraryBook()
        #: the backend's device, once it is known; a backend that has just started is connected before
        self.device = ""
        #: whether the connection broke and is tried again
        self.interrupted = False
        #: the errors that the boxes of the panel show
        self.errors = ErrorBoard()
        self._errors_checked = 0.0
        self.process: BackendProcess | None = None
        self.client: BackendClient | None = None
        #: the latest tasks, also after their end
        self.shot_task: ShotTask | None = None
        self.motion_task: MotionTask | None = None
        self.fetch_task: FetchTask | None = None
        #: the latest change to the library
        self.library_task: LibraryTask | None = None
        self._tasks: dict[str, Task] = {}
        #: a process that was told to end; the next one starts after it
        self._ending: BackendProcess | None = None
        #: what the next process is to be started with
        self._start: tuple[str, str, Path | None, Mapping[str, str] | None, LoadOptions | None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a backend of the same version has answered."""
        return self.state is ConnectionState.CONNECTED

    @property
    def running(self) -> bool:
        """Whether there is a backend, or one is starting or being connected to."""
        return self.state is not ConnectionState.OFFLINE

    @property
    def status(self) -> str:
        """The state as the panel shows it."""
        if not self.connected:
            return self.state.value
        return "connecting again" if self.interrupted else f"{self.state.value} · {self.device or 'loading'}"

    @property
    def busy(self) -> bool:
        """Whether a shot or a motion is being generated."""
        return any(not task.is_background for task in self._tasks.values())

    @property
    def has_more_to_do(self) -> bool:
        """Whether a task could go on at once."""
        return not undo_steps.is_dragging() and any(task.busy for task in self._tasks.values())

    @property
    def error(self) -> str:
        """The last error that is still shown, a sentence for the user, wherever it belongs. What is set is about the backend; an
        empty one dismisses all."""
        return self.errors.last

    @error.setter
    def error(self, sentence: str) -> None:
        if sentence:
            self.errors.show(Place.BACKEND, sentence)
        else:
            self.errors.dismiss()

    def get_client(self) -> BackendClient:
        """The client of the connected backend; raises ``RuntimeError`` where there is none."""
        if self.client is None:
            raise RuntimeError("There is no connection to a backend.")
        return self.client

    def start(
        self,
        python: str,
        endpoint: str,
        jobs: Path | None = None,
        environment: Mapping[str, str] | None = None,
        options: LoadOptions | None = None,
    ) -> None:
        """Connect to this user's backend that runs already, or start one and connect to it once it listens.

        ``environment`` and ``options`` are those of ``BackendProcess``.

        Raises ``OSError`` or ``EndpointError``. One that keeps its jobs in a folder of its own is always started.
        """
        address = normalise_endpoint(endpoint)
        self.stop()
        found = None if jobs else running.find_running(address, ending=self._ending.pid if self._ending else None)
        if found:
            logger.info("A backend runs at %s already", found.endpoint)
            self.connect(found.endpoint)
            return
        self.error, self.state, self._start = "", ConnectionState.STARTING, (python, address, jobs, environment, options)
        try:
            self._start_process()
        except OSError:
            self._start, self.state = None, ConnectionState.OFFLINE
            raise

    def _start_process(self) -> None:
        """Start what is to be started, unless the process before it has not ended yet: both would need the address."""
        if self._start is None or (self._ending and self._ending.running):
            return
        start, self._start, self._ending = self._start, None, None
        self.process = BackendProcess(*start)

    def connect(self, endpoint: str) -> None:
        """Connect to a backend that is already running; raises ``EndpointError``."""
        client = BackendClient(endpoint)
        if self.client:
            self.client.close()
        self.profiles.forget()
        self.library.forget()
        self.error, self.client, self.state, self.interrupted = "", client, ConnectionState.CONNECTING, False

    def stop(self, seconds: float = 0.0) -> None:
        """Disconnect from the backend, and end its process if this session started it. Waits for its end for so many seconds; by
        default not at all, as the window would stand still."""
        self._fail_tasks(STOPPED)
        if self.client:
            self.client.close()
        if self.process:
            self.process.stop()
            self._ending = self.process
        if self._ending and seconds:
            self._ending.wait(seconds)
        self._start = None
        self.client, self.process, self.state, self.device = None, None, ConnectionState.OFFLINE, ""
        self.interrupted = False
        self.profiles.forget()
        self.library.forget()

    def add(self, task: AnyTask) -> AnyTask:
        """Run a task from now on; returns the task."""
        self._tasks[task.ticket] = task
        if isinstance(task, ShotTask):
            self.shot_task = task
        elif isinstance(task, MotionTask):
            self.motion_task = task
        elif isinstance(task, FetchTask):
            self.fetch_task = task
        elif isinstance(task, LibraryTask) and task.is_change:
            self.library_task = task
        if not task.is_background:
            # the next try: whatever it brings is about this one. The backend works, as it takes the task
            self.errors.dismiss(find_place(task), Place.BACKEND)
        task.add_done_callback(self._on_task_end)
        return task

    def cancel_tasks(self) -> None:
        """Cancel all running shots and motions; the panel says so at once, and their ends come as messages."""
        for task in list(self._tasks.values()):
            if not task.is_background:
                task.cancel()
        self.redraw(at_once=True)

    def wait_until(self, condition: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Process events until a condition holds; returns False when the time runs out before that."""
        end = time.monotonic() + seconds
        while not condition():
            self.process_events()
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def ask_profile(
        self, model: str, seconds: float = float("inf"), should_stop: Callable[[], bool] = lambda: False
    ) -> ModelProfile | None:
        """How the backend says that a model likes to be run; None where it has not said so in time, or was to stop before.

        Raises ``ShotError`` for a model that cannot be used, and where the backend has gone.
        """
        self.get_client().send(self.profiles.ask(model, download=True))
        self.wait_until(lambda: self.profiles.is_fresh(model) or not self.connected or should_stop(), seconds)
        if not self.connected:
            raise ShotError("backend", self.error or "The backend stopped; start it and try again.")
        if not self.profiles.is_fresh(model):
            return None
        if self.profiles.find_error(model):
            raise ShotError("model", self.profiles.find_error(model))
        return self.profiles.find(model)

    def process_events(self) -> None:
        """Handle what has arrived and advance the tasks, within the time budget; must run on the main thread."""
        self._check_process()
        self._drop_mended_errors()
        undo_steps.push_waiting()
        # what arrives waits until the user lets go
        can_work = not undo_steps.is_dragging()
        end = time.perf_counter() + BUDGET_SECONDS
        self._dispatch_events()
        for question in self.profiles.take_questions():
            self.get_client().send(question)
        self._ask_library()
        worked = False
        for task in list(self._tasks.values()):
            while can_work and task.busy and time.perf_counter() < end:
                task.step()
                worked = True
                self._dispatch_events()
        if worked:
            self.redraw()

    def _drop_mended_errors(self) -> None:
        """Look now and then whether what the boxes complain of is mended."""
        if time.monotonic() < self._errors_checked + MENDED_SECONDS:
            return
        self._errors_checked = time.monotonic()
        try:
            if self.errors.drop_mended():
                self.redraw()
        except Exception:  # what looks into the scene may meet anything; the sentences stay until they are dismissed
            logger.exception("it could not be seen whether an error is mended")

    def _ask_library(self) -> None:
        """Ask for what the panel wants to know of the library, one question at a time."""
        if model_library.update_rows():
            # the list that has come may have been drawn with the entries of before
            self.redraw()
        client, library = self.client, self.library
        asking = any(isinstance(task, LibraryTask) and not task.is_change for task in self._tasks.values())
        if client is None or not self.connected or asking:
            return
        if library.take_list_wish():
            self.add(LibraryTask(client, library, lambda ticket: messages.ListModels(ticket=ticket), "listing models"))
        elif names := library.take_preview_wishes():
            self.add(LibraryTask(client, library, lambda ticket: messages.ShowModels(ticket=ticket, names=names), "thumbnails"))

    def _check_process(self) -> None:
        """Connect to the process once it listens, and report when it ended before that."""
        if self.process is None:
            try:
                self._start_process()
            except OSError as error:
                self._on_connection_lost(f"The backend cannot be started: {error}")
            return
        if self.client is None:
            address = self.process.poll_endpoint()
            if address:
                self.connect(address)
        if not self.process.running and self.state in (ConnectionState.STARTING, ConnectionState.CONNECTING):
            if self._join_other():
                return
            self._on_connection_lost(self.process.explain_failure())

    def _join_other(self) -> bool:
        """Connect to the backend that has taken the address while the one of this session was starting; False without one."""
        assert self.process is not None
        found = running.find_running(self.process.endpoint) if self.state is ConnectionState.STARTING else None
        if found is None or found.pid == self.process.pid:
            return False
        logger.info("Another backend was quicker; it runs at %s", found.endpoint)
        self.process.stop()
        self.process = None
        self.connect(found.endpoint)
        return True

    def _dispatch_events(self) -> None:
        """Pass every message that has arrived to the task that it belongs to."""
        while self.client and not self.client.events.empty():
            event = self.client.events.get()
            if isinstance(event, ConnectionLost):
                self._on_connection_lost(self._explain_loss(event.reason))
            elif isinstance(event, ConnectionInterrupted):
                self.interrupted = not event.is_over
                logger.info("The connection %s", "goes on" if event.is_over else "is interrupted")
                self.redraw()
            elif isinstance(event, Unreadable):
                # it may have been what any of them waits for
                self.error = event.reason
                self._fail_tasks(event.reason)
                self.redraw()
            else:
                self._dispatch_event(event)

    def _dispatch_event(self, event: Event) -> None:
        message = event.message
        task = self._tasks.get(getattr(message, "ticket", ""))
        if task is not None:
            task.receive(event)
        elif (is_new := self.profiles.receive(message)) is not None:
            if is_new:
                self.redraw()
        elif isinstance(message, messages.Welcome):
            self._on_welcome(message)
        elif isinstance(message, messages.Failed) and not message.ticket:
            self.error = message.message
            logger.error("the backend refused a message: %s", message.message)
            if message.code in ("protocol", "forgotten"):
                self._on_connection_lost(message.message)
            self.redraw()

    def _on_welcome(self, message: messages.Welcome) -> None:
        if message.version != version.VERSION:
            self._on_connection_lost(
                f"The backend is version {message.version}, the extension {version.VERSION}; update them to the same version."
            )
            return
        self.state, self.device = ConnectionState.CONNECTED, message.device
        self.profiles.connected = True
        logger.info("Connected to a backend on %s", message.device or "a device that it will tell")
        self.redraw()

    def _on_connection_lost(self, reason: str) -> None:
        """End every task with the reason, and disconnect."""
        logger.error("The connection to the backend is lost: %s", reason)
        self._fail_tasks(reason)
        self.stop()
        self.error = reason
        self.redraw()

    def _explain_loss(self, reason: str) -> str:
        """The reason, or what is known about the end of a process that this session started."""
        return self.process.explain_failure() if self.process and self.process.has_ended() else reason

    def _fail_tasks(self, reason: str) -> None:
        for task in list(self._tasks.values()):
            task.fail(reason)

    def _on_task_end(self, task: Task) -> None:
        self._tasks.pop(task.ticket, None)
        logger.info("%s %s: %s", type(task).__name__, task.ticket, task.state.value)
        if task.error:
            logger.error("%s %s: %s", type(task).__name__, task.ticket, task.error)
            if not task.is_background:
                self.errors.show(find_place(task), task.error, make_check(task))
        self.redraw(at_once=True)

    def find_working_task(self) -> Task | None:
        """The shot, the motion or the frames that the user waits for; None while nothing is made."""
        return next((task for task in self._tasks.values() if not task.is_background), None)

    @staticmethod
    def redraw(*, at_once: bool = False) -> None:
        """Redraw the panels, the preferences and the status bar, but not the viewports, which would take far longer."""
        redraw_panels()
        redraw_status_bars(at_once=at_once)


connection = Connection(model_profiles.book, library_book)


def find_default_python() -> str:
    """The Python that Blender is a package of, where it has the backend's packages, too; "" for Blender as a program, whose own
    Python has not."""
    return sys.executable if not bpy.app.binary_path and find_spec("torch") is not None else ""


def on_timer() -> float:
    """Process events from the window's timer. No exception may leave it, as Blender would remove the timer."""
    try:
        connection.process_events()
        if set_up.poll():
            connection.redraw()
    except Exception as error:
        logger.exception("The timer met an unexpected error")
        connection.error = f"Something failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"
        return TIMER_SECONDS
    return SOON_SECONDS if connection.has_more_to_do else TIMER_SECONDS


def register() -> None:
    """Start the timer, which background Blender does without, and end the backend when Blender exits."""
    atexit.register(connection.stop)
    atexit.register(set_up.cancel)
    if not bpy.app.background and not bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.register(on_timer, first_interval=TIMER_SECONDS, persistent=True)


def unregister() -> None:
    """Stop the timer, the tasks and the backend."""
    if bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.unregister(on_timer)
    atexit.unregister(connection.stop)
    atexit.unregister(set_up.cancel)
    connection.stop()
    set_up.cancel()
