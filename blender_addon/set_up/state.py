"""How far *Set Up* is: what the panel draws, and what its buttons change."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...shared import logs
from .options import SetUpOptions
from .process import SetUpProcess

logger = logs.get_logger(__name__)

#: what the panel calls the steps, and between which fractions of the whole each lies
STEPS = {
    "uv": ("Fetching the installer", 0.0, 0.05),
    "python": ("Fetching Python", 0.05, 0.1),
    "resolving": ("Asking what is needed", 0.1, 0.12),
    "packages": ("Fetching packages", 0.12, 0.75),
    "unpacking": ("Unpacking Python", 0.75, 0.78),
    "installing": ("Installing", 0.78, 0.92),
    "trying": ("Making a test frame", 0.92, 1.0),
    "checking": ("Checking every file", 0.0, 0.3),
    "moving": ("Moving", 0.0, 1.0),
    "removing": ("Removing", 0.0, 1.0),
}


class SetUpState(enum.Enum):
    """What the panel shows."""

    IDLE = "idle"
    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    """The step that is being taken: bytes that are done of those there are, a rate in bytes a second, and what it works on."""

    name: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    on: str = ""

    @property
    def fraction(self) -> float:
        """How much of the whole is done."""
        _, start, end = STEPS.get(self.name, ("", 0.0, 0.0))
        return start + (end - start) * (min(1.0, self.done / self.total) if self.total else 0.0)

    @property
    def text(self) -> str:
        """What the bar says."""
        label = STEPS.get(self.name, (self.name, 0.0, 0.0))[0]
        if not self.total or not self.done:
            return f"{label} ..."
        size = f"{self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB"
        return f"{label} · {size}"

    @property
    def detail(self) -> str:
        """What stands below the bar, which has no room for it: what it works on, and how quick."""
        return " · ".join(filter(None, (f"{self.rate / 1e6:.1f} MB/s" if self.rate else "", self.on)))


@dataclass
class SetUp:
    """One run after the other: ``plan`` and ``start`` begin one, ``poll`` takes in what it tells."""

    state: SetUpState = SetUpState.IDLE
    plan: dict[str, Any] = field(default_factory=dict)
    step: Step = Step()
    notes: list[str] = field(default_factory=list)
    #: the failure's sentence, and which button helps
    message: str = ""
    remedy: str = ""
    #: what was done last, a sentence
    result: str = ""
    command: str = ""
    #: the folder that is used in place of the network
    files: Path | None = None
    log: Path | None = None
    _process: SetUpProcess | None = None
    _done: Callable[[dict[str, Any]], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a process runs."""
        return self.state in (SetUpState.PLANNING, SetUpState.RUNNING)

    def make_plan(self, options: SetUpOptions) -> None:
        """Find out what would be done; nothing is fetched. A plan that is being made is dropped for it."""
        if self.state is SetUpState.RUNNING:
            return
        self._drop()
        self._begin(options, "plan", SetUpState.PLANNING, None)

    def start(self, options: SetUpOptions, command: str, *more: str, done: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Run a command; ``done`` is called with what it tells at its good end."""
        if self.state is SetUpState.RUNNING:
            return
        self._drop()
        self._begin(options, command, SetUpState.RUNNING, done, *more)

    def _begin(
        self, options: SetUpOptions, command: str, state: SetUpState, done: Callable[[dict[str, Any]], None] | None, *more: str
    ) -> None:
        self.command, self.step, self.message, self.remedy, self.result = command, Step(), "", "", ""
        self.notes, self._done, self.files = [], done, options.files
        try:
            self._process = SetUpProcess(options, command, *more)
        except OSError as error:
            self._fail(f"Set Up cannot be started: {error}.", "report")
            return
        self.state, self.log = state, self._process.log

    def _fail(self, message: str, remedy: str) -> None:
        logger.error("Set Up: %s", message)
        self.state, self.message, self.remedy = SetUpState.FAILED, message, remedy

    def _drop(self) -> None:
        if self._process is not None:
            self._process.cancel()
        self._process = None

    def cancel(self) -> None:
        """Stop at once; what has come is kept."""
        was_running = self.state is SetUpState.RUNNING
        self._drop()
        self.state = SetUpState.IDLE
        self.result = "Cancelled; what has come is kept, and the next time goes on from there." if was_running else ""

    def close(self) -> None:
        """Away with the plan or the failure."""
        if not self.busy:
            self.state, self.plan, self.message, self.result = SetUpState.IDLE, {}, "", ""

    def poll(self) -> bool:
        """Take in what the process tells; returns whether something changed."""
        process = self._process
        if process is None:
            return False
        running = process.running
        events = process.take_events()
        for event in events:
            self._receive(event)
        if not running and not process.take_events():
            self._process = None
            if self.busy:
                self._fail("Set Up ended unexpectedly; try again, it goes on where it stopped.", "retry")
            return True
        return bool(events)

    def _receive(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "plan":
            self.plan = {name: value for name, value in event.items() if name != "event"}
        elif kind == "step":
            self.step = Step(str(event.get("step", "")), 0, int(event.get("total", 0)))
        elif kind == "progress":
            self.step = Step(
                str(event.get("step", "")),
                int(event["done"]),
                int(event["total"]),
                float(event["rate"]),
                str(event.get("name", "")),
            )
        elif kind == "note":
            self.notes.append(str(event.get("message", "")))
        elif kind == "failed":
            self._fail(str(event.get("message", "")), str(event.get("remedy", "retry")))
        elif kind == "done":
            self._finish(event)

    def _finish(self, event: dict[str, Any]) -> None:
        logger.info("Set Up: %s is done: %s", self.command, json.dumps(event))
        if self.state is SetUpState.PLANNING:
            self.state = SetUpState.PLANNED
            return
        self.state = SetUpState.IDLE
        if self._done is not None:
            self._done(event)


#: the one of this Blender
set_up = SetUp()
