"""The state of the running session that is not in the scene: the backend's process, the connection to it, and the running tasks.

``process_events`` advances all of it; the window calls it from a timer, tests and the command line from a loop.
"""

from __future__ import annotations

import atexit
import enum
import sys
import time
from pathlib import Path
from typing import TypeVar

import bpy

from ..shared import logs, messages, version
from ..shared.endpoint import normalise_endpoint
from . import undo_steps
from .backend_process import BackendProcess
from .client import BackendClient, ConnectionLost, Event
from .tasks.fetch import FetchTask
from .tasks.motion import MotionTask
from .tasks.shot import ShotTask
from .tasks.task import Task

logger = logs.get_logger(__name__)

#: how often the window's timer calls ``process_events``, and how long one call may take
TIMER_SECONDS, BUDGET_SECONDS = 0.1, 0.06
STOPPED = "The backend was stopped; what is finished is kept."

AnyTask = TypeVar("AnyTask", bound=Task)


class ConnectionState(enum.Enum):
    """Whether there is a backend; the value is what the panel shows."""

    OFFLINE = "not running"
    STARTING = "starting"
    CONNECTING = "connecting"
    CONNECTED = "running"


class Connection:
    """The connection to one backend and the tasks that it runs for this Blender, to which it dispatches messages."""

    def __init__(self) -> None:
        self.state = ConnectionState.OFFLINE
        #: the backend's device, once connected
        self.device = ""
        #: the last error, a sentence for the user
        self.error = ""
        self.process: BackendProcess | None = None
        self.client: BackendClient | None = None
        #: the latest tasks, also after their end
        self.shot_task: ShotTask | None = None
        self.motion_task: MotionTask | None = None
        self.fetch_task: FetchTask | None = None
        self._tasks: dict[str, Task] = {}

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
        return f"{self.state.value} · {self.device}" if self.connected and self.device else self.state.value

    @property
    def busy(self) -> bool:
        """Whether a shot or a motion is being generated."""
        return bool(self._tasks)

    def get_client(self) -> BackendClient:
        """The client of the connected backend; raises ``RuntimeError`` where there is none."""
        if self.client is None:
            raise RuntimeError("There is no connection to a backend.")
        return self.client

    def start(self, python: str, endpoint: str, jobs: Path | None = None) -> None:
        """Start a backend and connect to it once it listens; raises ``OSError`` or ``EndpointError``."""
        address = normalise_endpoint(endpoint)
        self.stop()
        self.error, self.state = "", ConnectionState.STARTING
        try:
            self.process = BackendProcess(python, address, jobs)
        except OSError:
            self.state = ConnectionState.OFFLINE
            raise

    def connect(self, endpoint: str) -> None:
        """Connect to a backend that is already running; raises ``EndpointError``."""
        client = BackendClient(endpoint)
        if self.client:
            self.client.close()
        self.error, self.client, self.state = "", client, ConnectionState.CONNECTING

    def stop(self) -> None:
        """Disconnect from the backend, and end its process if this session started it."""
        self._fail_tasks(STOPPED)
        if self.client:
            self.client.close()
        if self.process:
            self.process.stop()
        self.client, self.process, self.state, self.device = None, None, ConnectionState.OFFLINE, ""

    def add(self, task: AnyTask) -> AnyTask:
        """Run a task from now on; returns the task."""
        self._tasks[task.ticket] = task
        if isinstance(task, ShotTask):
            self.shot_task = task
        elif isinstance(task, MotionTask):
            self.motion_task = task
        elif isinstance(task, FetchTask):
            self.fetch_task = task
        self.error = ""
        task.add_done_callback(self._on_task_end)
        return task

    def cancel_tasks(self) -> None:
        """Cancel all running tasks."""
        for task in list(self._tasks.values()):
            task.cancel()

    def process_events(self) -> None:
        """Handle what has arrived and advance the tasks, within the time budget; must run on the main thread."""
        self._check_process()
        undo_steps.push_waiting()
        # what arrives waits until the user lets go
        can_work = not undo_steps.is_dragging()
        end = time.perf_counter() + BUDGET_SECONDS
        self._dispatch_events()
        worked = False
        for task in list(self._tasks.values()):
            while can_work and task.busy and time.perf_counter() < end:
                task.step()
                worked = True
                self._dispatch_events()
        if worked:
            self._redraw()

    def _check_process(self) -> None:
        """Connect to the process once it listens, and report when it ended before that."""
        if self.process is None:
            return
        if self.client is None:
            address = self.process.poll_endpoint()
            if address:
                self.connect(address)
        if not self.process.running and self.state in (ConnectionState.STARTING, ConnectionState.CONNECTING):
            self._on_connection_lost(self.process.explain_failure())

    def _dispatch_events(self) -> None:
        """Pass every message that has arrived to the task that it belongs to."""
        while self.client and not self.client.events.empty():
            event = self.client.events.get()
            if isinstance(event, ConnectionLost):
                self._on_connection_lost(self._explain_loss(event.reason))
            else:
                self._dispatch_event(event)

    def _dispatch_event(self, event: Event) -> None:
        message = event.message
        task = self._tasks.get(getattr(message, "ticket", ""))
        if task is not None:
            task.receive(event)
        elif isinstance(message, messages.Welcome):
            self._on_welcome(message)
        elif isinstance(message, messages.Failed) and not message.ticket:
            self.error = message.message
            logger.error("the backend refused a message: %s", message.message)
            if message.code == "protocol":
                self._on_connection_lost(message.message)
            self._redraw()

    def _on_welcome(self, message: messages.Welcome) -> None:
        if message.version != version.VERSION:
            self._on_connection_lost(
                f"The backend is version {message.version}, the extension {version.VERSION}; update them to the same version."
            )
            return
        self.state, self.device = ConnectionState.CONNECTED, message.device
        logger.info("Connected to a backend on %s", message.device)
        self._redraw()

    def _on_connection_lost(self, reason: str) -> None:
        """End every task with the reason, and disconnect."""
        logger.error("The connection to the backend is lost: %s", reason)
        self._fail_tasks(reason)
        self.stop()
        self.error = reason
        self._redraw()

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
            self.error = task.error
        self._redraw()

    @staticmethod
    def _redraw() -> None:
        """Redraw the panels, but not the viewports beside them, which would take far longer."""
        for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
            for area in window.screen.areas:
                if area.type in ("VIEW_3D", "SEQUENCE_EDITOR"):
                    for region in area.regions:
                        if region.type == "UI" or area.type == "SEQUENCE_EDITOR":
                            region.tag_redraw()


connection = Connection()


def find_default_python() -> str:
    """The Python that runs this module, or "" if it is Blender's program."""
    return sys.executable if "blender" not in Path(sys.executable).name.lower() else ""


def on_timer() -> float:
    """Process events from the window's timer. No exception may leave it, as Blender would remove the timer."""
    try:
        connection.process_events()
    except Exception as error:
        logger.exception("The timer met an unexpected error")
        connection.error = f"Something failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"
    return TIMER_SECONDS


def register() -> None:
    """Start the timer, which background Blender does without, and end the backend when Blender exits."""
    atexit.register(connection.stop)
    if not bpy.app.background and not bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.register(on_timer, first_interval=TIMER_SECONDS, persistent=True)


def unregister() -> None:
    """Stop the timer, the tasks and the backend."""
    if bpy.app.timers.is_registered(on_timer):
        bpy.app.timers.unregister(on_timer)
    atexit.unregister(connection.stop)
    connection.stop()
