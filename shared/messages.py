"""What goes over the wire: one typed header, then raw array buffers, as ZeroMQ message parts.

Every header carries the protocol version. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from .motion_request import MotionRequest
from .shot import ShotRequest
from .version import PROTOCOL, VERSION

ALLOWED_DTYPES = ("uint8", "uint16", "float16", "float32")
MAX_BYTES = 8 << 30


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


class Submit(Message, frozen=True):
    """Client: make this shot. The arrays are its passes. ``ticket`` comes back in the answer."""

    ticket: str
    request: ShotRequest


class MakeMotion(Message, frozen=True):
    """Client: make motions from words. Arrays ``joints`` (F, 22, 3) float32 and ``parts`` (F, 3) uint8 say what of a motion to
    keep (``motion_request.Kept``); without them everything is new. ``ticket`` names the work in all answers."""

    ticket: str
    request: MotionRequest


class MotionMade(Message, frozen=True):
    """Backend: the motions of ticket ``job``. Array ``vectors`` (N, F, 263) float32, HumanML3D's features, 20 frames a second;
    ``notices`` are sentences for people."""

    job: str
    notices: tuple[str, ...] = ()


class Accepted(Message, frozen=True):
    """Backend: the shot is job ``job``; frames already on disk follow at once."""

    ticket: str
    job: str


class Cancel(Message, frozen=True):
    """Client: stop this job; finished frames are kept."""

    job: str


class Progress(Message, frozen=True):
    """Backend: where a job stands. ``stage`` is a word for people; ``step`` of ``steps`` counts from 1."""

    job: str
    stage: str
    step: int
    steps: int


class FrameResult(Message, frozen=True):
    """Backend: the frame at ``index`` of the request, scene frame ``frame``. Array ``image`` is (H, W, 3) uint8."""

    job: str
    index: int
    frame: int


class Finished(Message, frozen=True):
    """Backend: every frame of the job has been sent. ``report`` holds settings, timings and figures. Arrays ``texture_1`` and so
    on (S, S, 4) uint8 are what the frames show of each character, on its texture map; alpha is 0 where none shows it."""

    job: str
    report: dict[str, Any]


class Cancelled(Message, frozen=True):
    """Backend: the job stopped because it was asked to."""

    job: str


class Failed(Message, frozen=True):
    """Backend: a request was refused or a job broke. ``code`` is for programs, ``message`` one sentence for people."""

    code: str
    message: str
    job: str = ""
    ticket: str = ""


AnyMessage = (
    Hello | Welcome | Submit | MakeMotion | MotionMade | Accepted | Cancel | Progress | FrameResult | Finished | Cancelled | Failed
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


def encode(message: Message, arrays: dict[str, np.ndarray] | None = None) -> list[Any]:
    """The message parts for ``send_multipart``: header, then one contiguous buffer for each array."""
    buffers = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    specs = tuple(_ArraySpec(name, str(b.dtype), b.shape) for name, b in buffers.items())
    return [_encoder.encode(_Envelope(PROTOCOL, message, specs)), *buffers.values()]  # type: ignore[arg-type]


def decode(parts: list[bytes]) -> tuple[AnyMessage, dict[str, np.ndarray]]:
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
