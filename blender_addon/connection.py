"""What the running session holds beside the scene: the backend's process, the connection to it, and the tasks at work.

``pump`` moves it all on; the window calls it from a timer, tests and the command line from a loop.
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
from .backend_process import BackendProcess
from .client import BackendClient, ConnectionLost, Event
from .tasks.motion import MotionTask
from .tasks.shot import ShotTask
from .tasks.task import Task

logger = logs.get_logger(__name__)

PUMP_SECONDS, BUDGET_SECONDS = 0.1, 0.06
STOPPED = "The backend was stopped; what is finished is kept."

AnyTask = TypeVar("AnyTask", bound=Task)


class ConnectionState(enum.Enum):
    """Whether there is a backend; the value is a word for people."""

    OFFLINE = "not running"
    STARTING = "starting"
    CONNECTING = "connecting"
    CONNECTED = "running"


class Connection:
    """The way to one backend, and the tasks that it does for this Blender. It alone hands messages on."""

    def __init__(self) -> None:
        self.state = ConnectionState.OFFLINE
        #: the backend's device, once connected
        self.device = ""
        #: the last thing that went wrong, a sentence for the user
        self.error = ""
        self.process: BackendProcess | None = None
        self.client: BackendClient | None = None
        #: the latest of each kind, also after its end
        self.shot: ShotTask | None = None
        self.motion: MotionTask | None = None
        self._tasks: dict[str, Task] = {}

    @property
    def connected(self) -> bool:
        """Whether a backend of this version has answered."""
        return self.state is ConnectionState.CONNECTED

    @property
    def running(self) -> bool:
        """Whether there is a backend, or one is on its way."""
        return self.state is not ConnectionState.OFFLINE

    @property
    def status(self) -> str:
        """The state in words."""
        return f"{self.state.value} · {self.device}" if self.connected and self.device else self.state.value

    @property
    def busy(self) -> bool:
        """Whether a shot or a motion is being made."""
        return bool(self._tasks)

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
        """Connect to a backend that runs already; raises ``EndpointError``."""
        client = BackendClient(endpoint)
        if self.client:
            self.client.close()
        self.error, self.client, self.state = "", client, ConnectionState.CONNECTING

    def stop(self) -> None:
        """Leave the backend, and end it if this session started it."""
        self._fail_tasks(STOPPED)
        if self.client:
            self.client.close()
        if self.process:
            self.process.stop()
        self.client, self.process, self.state, self.device = None, None, ConnectionState.OFFLINE, ""

    def add(self, task: AnyTask) -> AnyTask:
        """Take care of a task from now on."""
        self._tasks[task.ticket] = task
        if isinstance(task, ShotTask):
            self.shot = task
        elif isinstance(task, MotionTask):
            self.motion = task
        self.error = ""
        task.add_done_callback(self._remember_end)
        return task

    def cancel_tasks(self) -> None:
        """Stop whatever is being made."""
        for task in list(self._tasks.values()):
            task.cancel()

    def pump(self) -> None:
        """Do what is waiting, within the time budget; must run on the main thread."""
        self._watch_process()
        end = time.perf_counter() + BUDGET_SECONDS
        self._dispatch()
        worked = False
        for task in list(self._tasks.values()):
            while task.busy and time.perf_counter() < end:
                task.step()
                worked = True
                self._dispatch()
        if worked:
            self._redraw()

    def _watch_process(self) -> None:
        if self.process is None:
            return
        if self.client is None:
            address = self.process.poll_endpoint()
            if address:
                self.connect(address)
        if not self.process.running and self.state in (ConnectionState.STARTING, ConnectionState.CONNECTING):
            self._lose(self.process.failure())

    def _dispatch(self) -> None:
        """Hand every message on to whom it is for."""
        while self.client and not self.client.events.empty():
            event = self.client.events.get()
            if isinstance(event, ConnectionLost):
                self._lose(self._why_lost(event.reason))
            else:
                self._hand_on(event)

    def _hand_on(self, event: Event) -> None:
        message = event.message
        task = self._tasks.get(getattr(message, "ticket", ""))
        if task is not None:
            task.receive(event)
        elif isinstance(message, messages.Welcome):
            self._welcome(message)
        elif isinstance(message, messages.Failed) and not message.ticket:
            self.error = message.message
            logger.error("the backend refused a message: %s", message.message)
            if message.code == "protocol":
                self._lose(message.message)
            self._redraw()

    def _welcome(self, message: messages.Welcome) -> None:
        if message.version != version.VERSION:
            self._lose(
                f"The backend is version {message.version}, the extension {version.VERSION}; update them to the same version."
            )
            return
        self.state, self.device = ConnectionState.CONNECTED, message.device
        logger.info("Connected to a backend on %s", message.device)
        self._redraw()

    def _lose(self, reason: str) -> None:
        """The backend is gone."""
        logger.error("The backend is lost: %s", reason)
        self._fail_tasks(reason)
        self.stop()
        self.error = reason
        self._redraw()

    def _why_lost(self, reason: str) -> str:
        """Of a process that was started here more is known than that it is silent."""
        return self.process.failure() if self.process and self.process.has_ended() else reason

    def _fail_tasks(self, reason: str) -> None:
        for task in list(self._tasks.values()):
            task.fail(reason)

    def _remember_end(self, task: Task) -> None:
        self._tasks.pop(task.ticket, None)
        logger.info("%s %s: %s", type(task).__name__, task.ticket, task.state.value)
        if task.error:
            logger.error("%s %s: %s", type(task).__name__, task.ticket, task.error)
            self.error = task.error
        self._redraw()

    @staticmethod
    def _redraw() -> None:
        """Draw the panels again, and not the viewports beside them, which takes far longer."""
        for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
            for area in window.screen.areas:
                if area.type in ("VIEW_3D", "SEQUENCE_EDITOR"):
                    for region in area.regions:
                        if region.type == "UI" or area.type == "SEQUENCE_EDITOR":
                            region.tag_redraw()


connection = Connection()


def default_python() -> str:
    """The Python to offer first: this one, if it is no Blender program."""
    return sys.executable if "blender" not in Path(sys.executable).name.lower() else ""


def tick() -> float:
    """The window's timer; Blender drops a timer that raises, so nothing may."""
    try:
        connection.pump()
    except Exception as error:
        logger.exception("the timer met an error")
        connection.error = f"Something failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"
    return PUMP_SECONDS


def register() -> None:
    """Start the timer; background Blender has none and calls ``pump`` itself. No backend outlives its Blender."""
    atexit.register(connection.stop)
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=PUMP_SECONDS, persistent=True)


def unregister() -> None:
    """Stop the timer and everything that runs."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    atexit.unregister(connection.stop)
    connection.stop()
