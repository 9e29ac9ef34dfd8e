"""What goes over the wire: one typed header, then raw array buffers, as ZeroMQ message parts.

Every header carries the protocol version. Nothing is ever unpickled. Over a connection that other machines see, arrays are packed
(``shared.packing``), and messages travel as streams that outlive a break (``shared.streams``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from . import drafts
from .library import (
    KINDS,
    MAX_ITEMS,
    MAX_PREVIEW_BYTES,
    MAX_PREVIEWS,
    MAX_TOKEN,
    PREVIEW_SIDE,
    LibraryFolder,
    LibraryItem,
    LongText,
)
from .look_file import LookScene
from .manifest import FrameEntry, PassesHeader
from .model_profile import ModelProfile
from .motion import MAX_FPS
from .motion_request import MotionRequest
from .packing import pack, unpack
from .picture_size import Crop
from .png import is_intact_png, read_png_size
from .shot import MAX_FRAMES, ShotRequest
from .skeleton import HUMANML_FPS
from .task import TaskState
from .version import PROTOCOL, VERSION

ALLOWED_DTYPES = ("uint8", "uint16", "float16", "float32")
MAX_ARRAYS, MAX_DIMENSIONS = 512, 5
#: a message's arrays together; the passes of the largest frame have 0.9 GB
MAX_BYTES = 1 << 30
#: what says what a message is; Python's objects take many times their bytes
MAX_HEADER_BYTES = 8 << 20
#: an array goes over the wire in parts of so many bytes, so that no peer has to be allowed larger ones, known or not
PART_BYTES = 16 << 20
#: the largest message part on the wire, with what encryption adds to it; the sockets refuse larger ones before they are received
MAX_PART_BYTES = PART_BYTES + 1024
#: more parts than any message has: header, arrays, and the further parts of large ones
MAX_PARTS = 1 + MAX_ARRAYS + MAX_BYTES // PART_BYTES
#: characters of what is written for people
MAX_WORDS = 20_000
#: characters of the name of a client's machine
MAX_CLIENT_NAME = 64
#: a name that the two sides give to a piece of work
Name = Annotated[str, msgspec.Meta(max_length=64)]
#: names that become names of files: of an array, of a job
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
#: what is written for people
Words = Annotated[str, msgspec.Meta(max_length=MAX_WORDS)]
#: a frame's place in its request
Index = Annotated[int, msgspec.Meta(ge=0, le=MAX_FRAMES)]
#: what goes before what
Priority = Annotated[int, msgspec.Meta(ge=-100, le=100)]
#: of steps and the like
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
#: bytes of a stream, messages of a session
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
#: a message part as it lies in memory
Buffer = bytes | memoryview


class WireError(ValueError):
    """A message cannot be read; ``code`` is for programs, the text one sentence for the user, ``ticket`` the piece of work that
    the message was about, where that can be told."""

    def __init__(self, code: str, message: str, ticket: str = "") -> None:
        super().__init__(message)
        self.code, self.ticket = code, ticket


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Base of all messages."""


class Hello(Message, frozen=True):
    """Client: are you there, and who are you?"""

    version: Name = VERSION


class Welcome(Message, frozen=True):
    """Backend: its version, device and the models it can load by name.

    ``device`` is empty as long as the backend is still loading; another ``Welcome`` follows as soon as it is known.
    """

    version: Name
    device: Words
    models: Annotated[tuple[Words, ...], msgspec.Meta(max_length=1000)]


class OpenSession(Message, frozen=True):
    """Client beyond this machine: let us go on where we were if the connection breaks. ``session`` is a name of 128 random bits
    that nobody else knows. With ``resumes`` the client has been told that it is open, and the backend's messages up to the number
    ``heard`` have come.

    The answer is ``SessionOpen``, or ``Failed`` with the code ``session`` where there is no such session any more.
    """

    session: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    resumes: bool = False
    heard: Offset = 0


class SessionOpen(Message, frozen=True):
    """Backend: the session is open, and so many bytes of each of the client's streams (``shared.streams``) have come."""

    taken: tuple[Offset, Offset]


class Piece(Message, frozen=True):
    """Client: the array ``piece`` (bytes,) uint8 of a stream, which begins at ``start``. Stream 1 is for passes, and 0 for all
    other messages, so that these do not wait for passes."""

    stream: Literal[0, 1]
    start: Offset


class PieceTaken(Message, frozen=True):
    """Backend: so many bytes of a stream have come."""

    stream: Literal[0, 1]
    taken: Offset


class Heard(Message, frozen=True):
    """Client: the backend's messages up to this number have come. In a session each has its number in front, as a part of eight
    bytes; those that need not be told again have 0."""

    number: Offset


class Pair(Message, frozen=True):
    """Client that has the text for pairing: let me in from now on. ``key`` is its public key in Z85, ``name`` the machine's."""

    key: Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
    name: Annotated[str, msgspec.Meta(max_length=MAX_CLIENT_NAME)] = ""


class Paired(Message, frozen=True):
    """Backend: the client of a ``Pair`` may connect with its own key."""


class SubmitShot(Message, frozen=True):
    """Client: make this shot; ``ticket`` names it in every message that follows. Its passes are sent as they are asked for.

    ``cut_out`` asks for frames with transparency around the characters, ``crop`` for a part of each alone. Array ``reference``
    (bytes,) uint8 is the file of the picture that the request names (``shared.reference``), where it names one. Array ``look``
    (bytes,) uint8 is the look's file of a shot that this is a part of (``shared.look_file``), by whose name the request has it.
    Arrays ``charts``, ``costume`` and ``paint_1`` and so on (bytes,) uint8 are files of a costume that is made or worn
    (``shared.costume_files``), where the request names them. ``drafts`` asks for small pictures while frames are made. Where
    workers share the shots, one of a higher ``priority`` goes before others.

    ``only_look`` asks for such a file instead of frames: only the passes of key frames are asked for where there are small copies.
    No frames come, and ``Finished`` has the array ``look``; ``scene`` is written into it.
    """

    ticket: Name
    request: ShotRequest
    header: PassesHeader = PassesHeader()
    cut_out: bool = False
    crop: Crop | None = None
    only_look: bool = False
    scene: LookScene | None = None
    drafts: bool = False
    priority: Priority = 0


class FetchJob(Message, frozen=True):
    """Client: send the frames that job ``job`` of the store has already, with its report; nothing is made for it.

    The answer is ``Accepted``, a ``FrameResult`` for each frame, and ``Finished``, whose report is empty for an unfinished shot.
    ``cut_out`` and ``crop`` are as for ``SubmitShot``.
    """

    ticket: Name
    job: Name
    cut_out: bool = False
    crop: Crop | None = None


class DescribeModel(Message, frozen=True):
    """Client: how does this model like to be run? Nothing is loaded for it. With ``download`` its configuration is got from the hub
    where it is not here yet; without, what is usual is told then.

    The answer is ``ModelDescribed``, or ``Failed`` with why it cannot be used.
    """

    ticket: Name
    model: Words
    download: bool = False


class ModelDescribed(Message, frozen=True):
    """Backend: how the model of a ``DescribeModel`` likes to be run."""

    ticket: Name
    profile: ModelProfile


class PassesWanted(Message, frozen=True):
    """Backend: send the passes of the frame at ``index`` of the request, or its small copy (``shared.overview``). Only a few are
    asked for at a time, so that neither side has to hold many. With ``is_there`` some came before: a
    ``PassesDigest`` is enough, if they are the same."""

    ticket: Name
    index: Index
    overview: bool = False
    is_there: bool = False


class PassesDigest(Message, frozen=True):
    """Client: the passes that were asked for have this digest (``shared.frame_digest``). The answer is ``PassesKnown``."""

    ticket: Name
    index: Index
    digest: Name
    overview: bool = False


class PassesKnown(Message, frozen=True):
    """Backend: whether the passes of a ``PassesDigest`` are there; if not, send them."""

    ticket: Name
    index: Index
    known: bool
    overview: bool = False


class SendPasses(Message, frozen=True):
    """Client: the passes that were asked for. The arrays are those of ``FramePasses`` for one frame, (1, H, W, ...)."""

    ticket: Name
    index: Index
    entry: FrameEntry
    overview: bool = False


class MakeMotion(Message, frozen=True):
    """Client: make motions from words. Arrays ``joints`` (F, 22, 3) float32, ``parts`` (F, 3) uint8 and perhaps ``rotations``
    (F, 24, 4) float32 say what of a motion to keep (``motion_request.Kept``); without them everything is new."""

    ticket: Name
    request: MotionRequest


class MotionMade(Message, frozen=True):
    """Backend: the motions, as ``made_motion.MadeMotion`` has them: array ``vectors`` (N, F, 263) float32, or ``joints``
    (N, F, 22, 3) float32 and perhaps ``rotations`` (N, F, 24, 4) float32, at ``fps`` frames a second; ``warnings`` are sentences
    for people."""

    ticket: Name
    fps: Annotated[float, msgspec.Meta(gt=0, le=MAX_FPS)] = HUMANML_FPS
    warnings: Annotated[tuple[Words, ...], msgspec.Meta(max_length=1000)] = ()


class ListModels(Message, frozen=True):
    """Client: what is in the library? Entries that have every word of ``search``, of these ``kinds`` or of all. The answer is
    ``ModelList``, or ``Failed``."""

    ticket: Name
    search: Annotated[str, msgspec.Meta(max_length=200)] = ""
    kinds: Annotated[tuple[Name, ...], msgspec.Meta(max_length=len(KINDS))] = ()


class ModelList(Message, frozen=True):
    """Backend: the library's entries, of which ``left_out`` more would match; the user's folders, and sentences about what could
    not be read. ``has_token`` tells whether there is a token for the hub."""

    ticket: Name
    items: Annotated[tuple[LibraryItem, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()
    folders: Annotated[tuple[LibraryFolder, ...], msgspec.Meta(max_length=1000)] = ()
    notices: Annotated[tuple[Words, ...], msgspec.Meta(max_length=1000)] = ()
    left_out: Count = 0
    has_token: bool = False


class ShowModels(Message, frozen=True):
    """Client: send thumbnails of these entries. The answer is ``ModelPreviews``."""

    ticket: Name
    names: Annotated[tuple[LongText, ...], msgspec.Meta(max_length=MAX_PREVIEWS)]


class ModelPreviews(Message, frozen=True):
    """Backend: the thumbnails that there are. Array ``preview_0`` and so on (bytes,) uint8 is the PNG file of the first of
    ``names`` and so on, at most ``library.PREVIEW_SIDE`` pixels along a side."""

    ticket: Name
    names: Annotated[tuple[LongText, ...], msgspec.Meta(max_length=MAX_PREVIEWS)]


class GetModel(Message, frozen=True):
    """Client: get this entry of the library, or this repository of the hub. The answers are ``Progress`` in kilobytes and
    ``LibraryChanged``; it can be cancelled."""

    ticket: Name
    name: LongText


class ChangeLibrary(Message, frozen=True):
    """Client: do something to the library. ``action`` is add (read the folder ``name``), remove (an entry or a folder; ``files``
    deletes what lies in the user's folders as well), verify (an entry, all without a name), or token (``token`` is for the hub;
    an empty one is forgotten). The answer is ``LibraryChanged``."""

    ticket: Name
    action: Literal["add", "remove", "verify", "token"]
    name: LongText = ""
    files: bool = False
    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)] = ""

    def __repr__(self) -> str:
        """Without the token, wherever this is written."""
        return f"ChangeLibrary(ticket={self.ticket!r}, action={self.action!r}, name={self.name!r}, files={self.files!r})"


class LibraryChanged(Message, frozen=True):
    """Backend: what was asked for is done; ``sentence`` says what, ``warnings`` what is not as it should be."""

    ticket: Name
    sentence: Words
    warnings: Annotated[tuple[Words, ...], msgspec.Meta(max_length=1000)] = ()


class Accepted(Message, frozen=True):
    """Backend: the shot is job ``job`` of the store; frames that are on disk already follow at once."""

    ticket: Name
    job: FileName


class Cancel(Message, frozen=True):
    """Client: stop this piece of work, whatever its state; finished frames are kept."""

    ticket: Name


class Progress(Message, frozen=True):
    """Backend: where a piece of work stands. ``stage`` is a word for people; ``step`` of ``steps`` counts from 1."""

    ticket: Name
    state: TaskState
    stage: Words
    step: Count
    steps: Count


class Ping(Message, frozen=True):
    """Backend: are you still there? Needs no answer."""

    ticket: Name


class FrameResult(Message, frozen=True):
    """Backend: the frame at ``index`` of the request, scene frame ``frame``. Array ``png`` (bytes,) uint8 is the picture's file."""

    ticket: Name
    index: Index
    frame: int


class Draft(Message, frozen=True):
    """Backend: what these frames of the request look like by now. Array ``pictures`` (N, h, w, 3) uint8 holds them small
    (``shared.drafts``); they are ``finished``, or still being denoised."""

    ticket: Name
    indices: Annotated[tuple[Index, ...], msgspec.Meta(min_length=1, max_length=drafts.MOST)]
    finished: bool = False


class FrameTaken(Message, frozen=True):
    """Client: a frame has been stored; the next one may come."""

    ticket: Name


class Finished(Message, frozen=True):
    """Backend: every frame has been sent. ``report`` holds settings, timings and figures. Arrays ``texture_1`` and so on (bytes,)
    uint8 are PNG files: what the frames show of each character, on its texture map; transparent where none shows it. Of a shot that
    dresses a character, or shows a dressed one, they are those of its surfaces, and array ``costume`` (bytes,) uint8 is its file.
    Where only the look was asked for, array ``look`` (bytes,) uint8 is its file."""

    ticket: Name
    report: dict[str, Any]


class Cancelled(Message, frozen=True):
    """Backend: the work stopped because it was asked to."""

    ticket: Name


class Failed(Message, frozen=True):
    """Backend: a request was refused or a piece of work broke. ``code`` is for programs, ``message`` one sentence for people;
    ``ticket`` is empty for a message that names none."""

    code: Name
    message: Words
    ticket: Name = ""


AnyMessage = (
    Hello
    | Welcome
    | OpenSession
    | SessionOpen
    | Piece
    | PieceTaken
    | Heard
    | Pair
    | Paired
    | SubmitShot
    | FetchJob
    | DescribeModel
    | ModelDescribed
    | PassesWanted
    | PassesDigest
    | PassesKnown
    | SendPasses
    | MakeMotion
    | MotionMade
    | ListModels
    | ModelList
    | ShowModels
    | ModelPreviews
    | GetModel
    | ChangeLibrary
    | LibraryChanged
    | Accepted
    | Cancel
    | Progress
    | Ping
    | Draft
    | FrameResult
    | FrameTaken
    | Finished
    | Cancelled
    | Failed
)


class _ArraySpec(msgspec.Struct, frozen=True):
    name: FileName
    dtype: Name
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)], ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    #: bytes that it is packed into, 0 where it is not
    packed: Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)] = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def parts(self) -> int:
        """How many message parts carry it; an empty array has one, too."""
        return max(1, -(-(self.packed or self.size) // PART_BYTES))


class _Envelope(msgspec.Struct, frozen=True):
    protocol: int
    body: AnyMessage
    arrays: Annotated[tuple[_ArraySpec, ...], msgspec.Meta(max_length=MAX_ARRAYS)] = ()


class _Version(msgspec.Struct):
    protocol: int


class _Named(msgspec.Struct):
    ticket: Name = ""


class _Subject(msgspec.Struct):
    """As much of a message as says which piece of work it is about."""

    body: _Named


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Envelope)
_version_decoder = msgspec.msgpack.Decoder(_Version)
_subject_decoder = msgspec.msgpack.Decoder(_Subject)
#: what decoders raise
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def clean_words(text: str) -> str:
    """A text for people as it can be sent: not too long, and without the halves of characters that names of files may have."""
    return text[:MAX_WORDS].encode("utf-8", "replace").decode()


def read_previews(message: ModelPreviews, arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """name -> the PNG file of its thumbnail. Raises ``WireError`` for what is none, or too large."""
    if len(arrays) != len(message.names) or len(set(message.names)) != len(message.names):
        raise WireError("malformed", "The message has other thumbnails than it names.", message.ticket)
    found = {}
    for number, name in enumerate(message.names):
        array = arrays.get(f"preview_{number}")
        if array is None or array.dtype != np.uint8 or array.ndim != 1 or array.nbytes > MAX_PREVIEW_BYTES:
            raise WireError("malformed", "The message lacks a thumbnail that it names.", message.ticket)
        data = array.tobytes()
        if not is_intact_png(data) or max(read_png_size(data)) > PREVIEW_SIDE:
            raise WireError("malformed", "The message has a thumbnail that is no small picture.", message.ticket)
        found[name] = data
    return found


def encode(
    message: Message, arrays: Mapping[str, np.ndarray] | None = None, packed: Mapping[str, bytes | None] | None = None
) -> list[Any]:
    """The message parts for ``send_multipart``: header, then every array's bytes in parts of at most ``PART_BYTES``. ``packed`` are
    what ``pack`` made of arrays."""
    found = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    small = {name: data for name, data in (packed or {}).items() if data is not None}
    specs = tuple(_ArraySpec(name, str(array.dtype), array.shape, len(small.get(name, b""))) for name, array in found.items())
    parts: list[Any] = [_encoder.encode(_Envelope(PROTOCOL, message, specs))]  # type: ignore[arg-type]
    for name, array in found.items():
        if name in small:
            whole = memoryview(small[name])
            parts += [whole[start : start + PART_BYTES] for start in range(0, len(whole), PART_BYTES)]
        elif array.nbytes <= PART_BYTES:
            parts.append(array)
        else:
            data = array.reshape(-1).view(np.uint8)
            parts += [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    return parts


def encode_packed(message: Message, arrays: Mapping[str, np.ndarray] | None = None) -> list[Any]:
    """As ``encode``, with arrays packed where that makes them smaller."""
    found = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    return encode(message, found, {name: pack(array) for name, array in found.items()})


def receive_parts(socket: Any) -> list[Any]:
    """The parts of one message that waits at a ZeroMQ socket, as frames.

    What a message has beyond any that is known is let go of as it comes; ``decode`` refuses what is left.
    """
    parts: list[Any] = []
    size, more = 0, True
    while more:
        part = socket.recv(copy=False)
        size, more = size + len(part), part.more
        if size > MAX_BYTES + MAX_HEADER_BYTES:
            # the sender, where a ROUTER names it, the header, and as many parts as no message has
            parts[2:] = [b""] * MAX_PARTS
        elif len(parts) <= 1 + MAX_PARTS:
            parts.append(part)
    return parts


@dataclass(frozen=True)
class ArrivedArrays:
    """The arrays of a message, not unpacked yet. ``size`` is their bytes as they will be."""

    size: int
    #: the arrays, read-only; those of one part are views of it. Raises ``WireError``
    read: Callable[[], dict[str, np.ndarray]]


def decode(parts: Sequence[Buffer]) -> tuple[AnyMessage, dict[str, np.ndarray]]:
    """A message and its arrays, read-only; those of one part are views of it. Raises ``WireError`` as ``decode_header``."""
    message, arrived = decode_header(parts)
    return message, arrived.read()


def decode_header(parts: Sequence[Buffer]) -> tuple[AnyMessage, ArrivedArrays]:
    """A message, and its arrays for whoever has the time to unpack them.

    Nothing that a message claims is used before it has been compared with the bytes that came. Raises ``WireError`` with the
    code ``protocol`` for another version and ``malformed`` for anything unreadable.
    """
    if not parts or len(parts[0]) > MAX_HEADER_BYTES:
        raise WireError("malformed", "The message is empty, or its header larger than any.")
    if len(parts) > MAX_PARTS:
        raise WireError("malformed", "The message has more parts than any.", _read_ticket(parts[0]))
    try:
        version = _version_decoder.decode(parts[0]).protocol
    except _UNREADABLE as error:
        raise WireError("malformed", "The message has no readable header.") from error
    if version != PROTOCOL:
        raise WireError(
            "protocol",
            f"The other side speaks protocol {version}, this one {PROTOCOL}; "
            "update the extension and the backend to the same version.",
        )
    try:
        envelope = _decoder.decode(parts[0])
    except _UNREADABLE as error:
        reason = f"The message does not fit the protocol: {clean_words(str(error))[:200].rstrip('.')}."
        raise WireError("malformed", reason, _read_ticket(parts[0])) from error
    ticket = getattr(envelope.body, "ticket", "")
    try:
        sliced = _slice_parts(envelope.arrays, parts[1:])
    except WireError as error:
        error.ticket = ticket
        raise

    def read() -> dict[str, np.ndarray]:
        try:
            return {spec.name: _read_array(spec, own) for spec, own in sliced}
        except WireError as error:
            error.ticket = ticket
            raise

    arrived = ArrivedArrays(sum(spec.size for spec in envelope.arrays), read)
    if not any(spec.packed for spec in envelope.arrays):
        # what there is to find is found at once
        arrays = read()
        arrived = ArrivedArrays(arrived.size, lambda: arrays)
    return envelope.body, arrived


def _read_ticket(header: Buffer) -> str:
    """Which piece of work a message is about that does not fit otherwise; empty where that cannot be told."""
    try:
        return _subject_decoder.decode(header).body.ticket
    except _UNREADABLE:
        return ""


def _slice_parts(specs: Sequence[_ArraySpec], parts: Sequence[Buffer]) -> list[tuple[_ArraySpec, Sequence[Buffer]]]:
    """Each array with its own parts, whose bytes are as many as it claims."""
    if any(spec.dtype not in ALLOWED_DTYPES for spec in specs) or sum(max(spec.size, spec.packed) for spec in specs) > MAX_BYTES:
        raise WireError("malformed", "The message has arrays of a kind or size that is not allowed.")
    if len({spec.name for spec in specs}) != len(specs):
        raise WireError("malformed", "The message has two arrays of one name.")
    wanted = sum(spec.parts for spec in specs)
    if len(parts) != wanted:
        raise WireError("malformed", f"The message announces {wanted} parts of arrays but carries {len(parts)}.")
    found = []
    start = 0
    for spec in specs:
        own, start = parts[start : start + spec.parts], start + spec.parts
        size = sum(len(part) for part in own)
        if spec.packed and size != spec.packed:
            raise WireError("malformed", f"The array '{spec.name}' has {size} bytes, not the {spec.packed} that it is packed into.")
        if not spec.packed and size != spec.size:
            raise WireError("malformed", f"The array '{spec.name}' has {size} bytes, its shape needs {spec.size}.")
        found.append((spec, own))
    return found


def _read_array(spec: _ArraySpec, own: Sequence[Buffer]) -> np.ndarray:
    data = own[0] if len(own) == 1 else b"".join(own)
    if spec.packed:
        try:
            return unpack(data, spec.dtype, spec.shape)
        except ValueError as error:
            raise WireError("malformed", f"The array '{spec.name}' cannot be unpacked: {error}.") from error
    try:
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)
    except ValueError as error:  # an empty array with sides whose product overflows
        raise WireError("malformed", f"The array '{spec.name}' has a layout that is not allowed.") from error
