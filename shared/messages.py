"""What goes over the wire: one typed header, then raw array buffers, as ZeroMQ message parts.

Every header carries the protocol version. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from .manifest import FrameEntry, PassesHeader
from .motion_request import MotionRequest
from .shot import ShotRequest
from .task import TaskState
from .version import PROTOCOL, VERSION

ALLOWED_DTYPES = ("uint8", "uint16", "float16", "float32")
MAX_BYTES = 8 << 30
#: a message part as it lies in memory
Buffer = bytes | memoryview


class WireError(ValueError):
    """A message cannot be read; ``code`` is for programs, the text one sentence for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Base of all messages."""


class Hello(Message, frozen=True):
    """Client: are you there, and who are you?"""

    version: str = VERSION


class Welcome(Message, frozen=True):
    """Backend: its version, device and the models it can load by name."""

    version: str
    device: str
    models: tuple[str, ...]


class SubmitShot(Message, frozen=True):
    """Client: make this shot; ``ticket`` names it in every message that follows. Its passes are sent as they are asked for.

    ``cut_out`` asks for frames with transparency around the characters.
    """

    ticket: str
    request: ShotRequest
    header: PassesHeader = PassesHeader()
    cut_out: bool = False


class PassesWanted(Message, frozen=True):
    """Backend: send the passes of the frame at ``index`` of the request, or its small copy (``shared.overview``). Only a few are
    asked for at a time, so that neither side has to hold many."""

    ticket: str
    index: int
    overview: bool = False


class SendPasses(Message, frozen=True):
    """Client: the passes that were asked for. The arrays are those of ``FramePasses`` for one frame, (1, H, W, ...)."""

    ticket: str
    index: int
    entry: FrameEntry
    overview: bool = False


class MakeMotion(Message, frozen=True):
    """Client: make motions from words. Arrays ``joints`` (F, 22, 3) float32 and ``parts`` (F, 3) uint8 say what of a motion to
    keep (``motion_request.Kept``); without them everything is new."""

    ticket: str
    request: MotionRequest


class MotionMade(Message, frozen=True):
    """Backend: the motions. Array ``vectors`` (N, F, 263) float32, HumanML3D's features, 20 frames a second; ``warnings`` are
    sentences for people."""

    ticket: str
    warnings: tuple[str, ...] = ()


class Accepted(Message, frozen=True):
    """Backend: the shot is job ``job`` of the store; frames that are on disk already follow at once."""

    ticket: str
    job: str


class Cancel(Message, frozen=True):
    """Client: stop this piece of work, whatever its state; finished frames are kept."""

    ticket: str


class Progress(Message, frozen=True):
    """Backend: where a piece of work stands. ``stage`` is a word for people; ``step`` of ``steps`` counts from 1."""

    ticket: str
    state: TaskState
    stage: str
    step: int
    steps: int


class Ping(Message, frozen=True):
    """Backend: are you still there? Needs no answer."""

    ticket: str


class FrameResult(Message, frozen=True):
    """Backend: the frame at ``index`` of the request, scene frame ``frame``. Array ``png`` (bytes,) uint8 is the picture's file."""

    ticket: str
    index: int
    frame: int


class FrameTaken(Message, frozen=True):
    """Client: a frame has been stored; the next one may come."""

    ticket: str


class Finished(Message, frozen=True):
    """Backend: every frame has been sent. ``report`` holds settings, timings and figures. Arrays ``texture_1`` and so on (bytes,)
    uint8 are PNG files: what the frames show of each character, on its texture map; transparent where none shows it."""

    ticket: str
    report: dict[str, Any]


class Cancelled(Message, frozen=True):
    """Backend: the work stopped because it was asked to."""

    ticket: str


class Failed(Message, frozen=True):
    """Backend: a request was refused or a piece of work broke. ``code`` is for programs, ``message`` one sentence for people;
    ``ticket`` is empty for a message that names none."""

    code: str
    message: str
    ticket: str = ""


AnyMessage = (
    Hello
    | Welcome
    | SubmitShot
    | PassesWanted
    | SendPasses
    | MakeMotion
    | MotionMade
    | Accepted
    | Cancel
    | Progress
    | Ping
    | FrameResult
    | FrameTaken
    | Finished
    | Cancelled
    | Failed
)


class _ArraySpec(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Envelope(msgspec.Struct, frozen=True):
    protocol: int
    body: AnyMessage
    arrays: tuple[_ArraySpec, ...] = ()


class _Version(msgspec.Struct):
    protocol: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Envelope)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def encode(message: Message, arrays: Mapping[str, np.ndarray] | None = None) -> list[Any]:
    """The message parts for ``send_multipart``: header, then one contiguous buffer for each array."""
    buffers = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    specs = tuple(_ArraySpec(name, str(b.dtype), b.shape) for name, b in buffers.items())
    return [_encoder.encode(_Envelope(PROTOCOL, message, specs)), *buffers.values()]  # type: ignore[arg-type]


def decode(parts: Sequence[Buffer]) -> tuple[AnyMessage, dict[str, np.ndarray]]:
    """A message and its arrays (read-only views of the parts).

    Raises ``WireError`` with the code ``protocol`` for another version and ``malformed`` for anything unreadable.
    """
    try:
        version = _version_decoder.decode(parts[0]).protocol
    except (msgspec.MsgspecError, IndexError) as error:
        raise WireError("malformed", "The message has no readable header.") from error
    if version != PROTOCOL:
        raise WireError(
            "protocol",
            f"The other side speaks protocol {version}, this one {PROTOCOL}; "
            "update the extension and the backend to the same version.",
        )
    try:
        envelope = _decoder.decode(parts[0])
    except msgspec.MsgspecError as error:
        raise WireError("malformed", f"The message does not fit the protocol: {error}.") from error
    if len(parts) != 1 + len(envelope.arrays):
        raise WireError("malformed", f"The message announces {len(envelope.arrays)} arrays but carries {len(parts) - 1}.")
    arrays: dict[str, np.ndarray] = {}
    for spec, part in zip(envelope.arrays, parts[1:], strict=True):
        if spec.dtype not in ALLOWED_DTYPES or any(n < 0 for n in spec.shape) or len(spec.shape) > 5:
            raise WireError("malformed", f"The array '{spec.name}' has a layout that is not allowed.")
        size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        if size != len(part) or size > MAX_BYTES:
            raise WireError("malformed", f"The array '{spec.name}' has {len(part)} bytes, its shape needs {size}.")
        arrays[spec.name] = np.frombuffer(part, spec.dtype).reshape(spec.shape)
    return envelope.body, arrays
