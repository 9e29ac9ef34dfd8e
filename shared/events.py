"""What the command lines say with ``--json``: one of these objects a line, ``event`` says which.

A field that has a default may be absent. Values are added in later versions, never taken away; ``docs/command_line.md`` has the
JSON schema, which is made from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Union

import msgspec


def _describe(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


Words = Annotated[str, _describe("one sentence for people")]
Code = Annotated[str, _describe("what went wrong, for programs")]
FilePath = Annotated[str, _describe("where it lies")]
Bytes = Annotated[int, msgspec.Meta(ge=0, description="bytes")]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", forbid_unknown_fields=True):
    """Base of all events."""


class Progress(Event, frozen=True, tag="progress"):
    """How far a stage is: ``step`` of ``steps``. Of a download ``bytes`` of ``total``, at ``rate`` bytes a second."""

    stage: str
    step: Annotated[int, msgspec.Meta(ge=0)] = 0
    steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    file: str = ""
    bytes: Bytes = 0
    total: Bytes = 0
    rate: Bytes = 0


class Frame(Event, frozen=True, tag="frame"):
    """A frame is stored: the scene's frame ``frame``, the one at ``index`` of those asked for."""

    frame: int
    index: Annotated[int, msgspec.Meta(ge=0)]


class Shot(Event, frozen=True, tag="shot"):
    """Of ``generate --marked``: a shot begins (its ``state`` is ``running``) or has ended (``done``, ``partial``, ``failed``), with
    ``frames`` from ``first`` to ``last``, of which ``made`` are new and ``kept`` from before; ``message`` says why some are
    missing. Events in between are about it."""

    name: str
    scene: str
    frames: Annotated[int, msgspec.Meta(ge=1)]
    state: str
    first: int
    last: int
    camera: str = ""
    made: Annotated[int, msgspec.Meta(ge=0)] = 0
    kept: Annotated[int, msgspec.Meta(ge=0)] = 0
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    out: FilePath = ""
    message: Words = ""
    code: Code = ""


class Warned(Event, frozen=True, tag="warning"):
    """Something that people should know of; the work goes on."""

    message: Words
    code: Code = ""


class Prompted(Event, frozen=True, tag="prompt"):
    """What the prompt leaves open: ``prompt`` is what it has become with ``--complete-prompt``, and ``suggestion`` what it would
    be, where frames may disagree on that."""

    message: Words
    prompt: str = ""
    suggestion: str = ""


class Finished(Event, frozen=True, tag="finished"):
    """The backend has made everything. ``report`` is what ``report.json`` has: settings, times and figures."""

    report: dict[str, Any]


class Done(Event, frozen=True, tag="done"):
    """The last line: everything that was asked for exists, at ``out``. The other fields are of ``setup``."""

    message: Words = ""
    out: FilePath = ""
    system: str = ""
    environment: FilePath = ""
    packages: list[str] = []
    root: FilePath = ""
    bytes: Bytes = 0


class Failed(Event, frozen=True, tag="failed"):
    """The last line: something is missing, and ``message`` says why. ``remedy`` is what *Set Up* offers."""

    message: Words
    code: Code
    remedy: str = ""


class Interrupted(Event, frozen=True, tag="interrupted"):
    """The last line: a ``signal`` has ended the command; what is finished is kept."""

    message: Words
    signal: str
    code: Code = "interrupted"


class Step(Event, frozen=True, tag="step"):
    """``setup`` begins a step, of ``total`` bytes where they are known."""

    step: str
    total: Bytes = 0


class Plan(Event, frozen=True, tag="plan", forbid_unknown_fields=False):
    """What ``setup`` is going to do. Further fields list devices, packages and files."""

    message: Words
    label: str
    root: FilePath
    download: Bytes
    present: Bytes
    unpacked: Bytes
    free: Bytes


class Status(Event, frozen=True, tag="status"):
    """What ``setup status`` has found."""

    message: Words
    environment: FilePath
    python: FilePath
    outdated: bool


class Got(Event, frozen=True, tag="got"):
    """``models get`` has got an entry of the library."""

    message: Words
    name: str
    path: FilePath
    bytes: Bytes


class Added(Event, frozen=True, tag="added"):
    """``models add`` has read a folder."""

    message: Words
    path: FilePath
    layout: str


class Removed(Event, frozen=True, tag="removed"):
    """``models remove`` has removed an entry or a folder."""

    message: Words
    name: str


class Token(Event, frozen=True, tag="token"):
    """``models token`` has stored or forgotten one."""

    message: Words


AnyEvent = Union[  # noqa: UP007 - what msgspec makes a schema of
    Progress,
    Frame,
    Shot,
    Warned,
    Prompted,
    Finished,
    Done,
    Failed,
    Interrupted,
    Step,
    Plan,
    Status,
    Got,
    Added,
    Removed,
    Token,
]


def make_schema() -> dict[str, Any]:
    """The JSON schema of a line."""
    schema = msgspec.json.schema(AnyEvent)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line with --json", **schema}
