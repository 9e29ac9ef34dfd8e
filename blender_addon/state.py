"""What the running session holds beside the scene: the backend's process, the connection, the generation at work.

``pump`` moves it all on; the window calls it from a timer, tests and the command line from a loop.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..shared import messages, version
from ..shared.endpoint import normalise_endpoint
from .backend_process import BackendProcess
from .client import BackendClient, ConnectionLost
from .generation import Generation
from .making import MotionMaking

PUMP_SECONDS, BUDGET_SECONDS = 0.1, 0.06


@dataclass
class Session:
    """Everything that ends when the add-on is switched off."""

    process: BackendProcess | None = None
    client: BackendClient | None = None
    generation: Generation | None = None
    making: MotionMaking | None = None
    on_generated: Callable[[Generation], None] | None = None
    status: str = "not running"
    error: str = ""

    @property
    def busy(self) -> bool:
        """Whether a shot or a motion is being made."""
        return any(work is not None and not work.done for work in (self.generation, self.making))

    @property
    def connected(self) -> bool:
        """Whether a backend of this version has answered."""
        return self.client is not None and self.status.startswith("running")

    def start(self, python: str, endpoint: str, jobs: Path | None = None) -> None:
        """Start a backend and connect to it once it listens; raises ``OSError`` or ``EndpointError``."""
        address = normalise_endpoint(endpoint)
        self.stop()
        self.error, self.status = "", "starting"
        self.process = BackendProcess(python, address, jobs)

    def connect(self, endpoint: str) -> None:
        """Connect to a backend that runs already."""
        if self.client:
            self.client.close()
        self.error, self.status = "", "connecting"
        self.client = BackendClient(endpoint)

    def stop(self) -> None:
        """Leave the backend, and end it if this session started it."""
        if self.generation and not self.generation.done:
            self.generation.fail("The backend was stopped; finished frames are kept.")
        if self.making and not self.making.done:
            self.making.fail("The backend was stopped; make the motion again.")
        if self.client:
            self.client.close()
        if self.process:
            self.process.stop()
        self.client, self.process, self.status = None, None, "not running"

    def pump(self) -> None:
        """Do what is waiting, within the time budget; must run on the main thread."""
        self._watch_process()
        if self.generation and not self.generation.done:
            end = time.perf_counter() + BUDGET_SECONDS
            while self.generation.busy and time.perf_counter() < end:
                self.generation.step()
            if self.generation.done:
                if self.generation.connection_lost:
                    self.generation.error = self._why_lost(self.generation.error)
                self.error = self.generation.error
                if self.generation.connection_lost:
                    self.stop()
                if self.on_generated:
                    self.on_generated(self.generation)
                self._redraw()
            self._redraw()
        elif self.client:
            self._drain()

    def _watch_process(self) -> None:
        if self.process is None:
            return
        if self.client is None:
            address = self.process.poll_endpoint()
            if address:
                self.connect(address)
        if not self.process.running and self.status in ("starting", "connecting"):
            self.error = self.process.failure()
            self.stop()
            self._redraw()

    def _why_lost(self, reason: str) -> str:
        """Why the connection broke: of a process that was started here more is known than that it is silent."""
        return self.process.failure() if self.process and self.process.has_ended() else reason

    def _drain(self) -> None:
        assert self.client is not None
        while self.client and not self.client.events.empty():
            event = self.client.events.get()
            if isinstance(event, ConnectionLost):
                self.error = self._why_lost(event.reason)
                self.stop()
            elif isinstance(event.message, messages.Welcome):
                self._welcome(event.message)
            elif self.making and self.making.take(event.message, event.arrays):
                self.error = self.making.error
            elif isinstance(event.message, messages.Failed):
                self.error = event.message.message
                if event.message.code == "protocol":
                    self.stop()
            self._redraw()

    def _welcome(self, message: messages.Welcome) -> None:
        if message.version != version.VERSION:
            self.error = (
                f"The backend is version {message.version}, the extension {version.VERSION}; update them to the same version."
            )
            self.stop()
            return
        self.status = f"running · {message.device}"

    def _redraw(self) -> None:
        for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
            for area in window.screen.areas:
                if area.type in ("VIEW_3D", "SEQUENCE_EDITOR"):
                    area.tag_redraw()


session = Session()


def default_python() -> str:
    """The Python to offer first: this one, if it is no Blender program."""
    return sys.executable if "blender" not in Path(sys.executable).name.lower() else ""


def tick() -> float:
    """The window's timer."""
    session.pump()
    return PUMP_SECONDS


def register() -> None:
    """Start the timer; background Blender has none and calls ``pump`` itself. No backend outlives its Blender."""
    atexit.register(session.stop)
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=PUMP_SECONDS, persistent=True)


def unregister() -> None:
    """Stop the timer and everything that runs."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    atexit.unregister(session.stop)
    session.stop()
