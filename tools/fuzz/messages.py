"""Messages of every type, and changes to them: of single bytes, of the values in their headers, of their arrays and parts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from latentman.shared import messages
from latentman.shared.manifest import CameraEntry, FrameEntry, PartEntry, PassesHeader, PassesManifest, SurfaceEntry
from latentman.shared.model_profile import PRESET_PROFILES
from latentman.shared.motion_request import MotionRequest
from latentman.shared.passes import PASS_LAYOUT
from latentman.shared.shot import Fusion, Keyframes, Method, make_request
from latentman.shared.task import TaskState
from latentman.shared.version import PROTOCOL, VERSION

Parts = list[bytes]
#: pixels along a side of the passes
SIDE = 64
_IDENTITY = tuple(float(row == column) for row in range(4) for column in range(4))
_FLOAT32_NAN = np.float32("nan")


def _encode(message: messages.Message, arrays: dict[str, np.ndarray] | None = None) -> Parts:
    return [bytes(part) for part in messages.encode(message, arrays)]


def make_passes(rng: random.Random) -> dict[str, np.ndarray]:
    """The passes of one frame, (1, ``SIDE``, ``SIDE``, ...)."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    arrays = {}
    for name, (dtype, trailing) in PASS_LAYOUT.items():
        values = numbers.random((1, SIDE, SIDE, *trailing))
        arrays[name] = (values * 2 if dtype == "uint8" else values).astype(dtype)
    return arrays


def make_client_message(rng: random.Random, tickets: Sequence[str], model: str) -> Parts:
    """What a client may send: one that makes sense, about one of ``tickets`` or a new piece of work."""
    ticket = rng.choice([*tickets, f"new {rng.randrange(10**6)}"])
    kind = rng.randrange(15)
    if kind == 0:
        return _encode(messages.Hello())
    if kind == 1:
        return _encode(messages.Cancel(ticket=ticket))
    if kind == 2:
        return _encode(messages.FrameTaken(ticket=ticket))
    if kind == 3:
        motion = MotionRequest("a person walks", 2.0, rng.randrange(100), steps=1, model=model)
        joints, parts = np.zeros((40, 22, 3), np.float32), np.ones((40, 3), np.uint8)
        arrays: dict[str, np.ndarray] | None = {"joints": joints, "parts": parts} if rng.random() < 0.5 else None
        return _encode(messages.MakeMotion(ticket=ticket, request=motion), arrays)
    if kind == 4:
        frames = tuple(range(1, 1 + rng.randrange(1, 4)))
        manifest = PassesManifest(SIDE, SIDE, 20.0, frames, 1.0, 2.0, (CameraEntry(_IDENTITY, _IDENTITY),) * len(frames))
        method = Method(matching="surface", fusion=Fusion(), keyframes=Keyframes(), plugins={"nobody": {"strength": 0.5}})
        request = make_request("a man", frames, 20.0, width=SIDE, height=SIDE, model=model, steps=1, preset="per_frame")
        request = msgspec.structs.replace(
            request, manifest=manifest if rng.random() < 0.3 else None, method=method if rng.random() < 0.3 else None
        )
        header = PassesHeader(1.0, 2.0, (PartEntry(1, "hips", "pelvis"),))
        return _encode(messages.SubmitShot(ticket=ticket, request=request, header=header, cut_out=rng.random() < 0.5))
    if kind == 5:
        job = rng.choice([f"{rng.randrange(16**24):024x}", "no-job", ".", "a" * 200])
        return _encode(messages.FetchJob(ticket=ticket, job=job, cut_out=rng.random() < 0.5))
    if kind == 6:
        return _encode(messages.DescribeModel(ticket=ticket, model=rng.choice([model, "starter", "no such", "\0", "x" * 500])))
    if kind == 7:
        words = rng.choice(["", "few steps", "x" * 200])
        return _encode(messages.ListModels(ticket=ticket, search=words, kinds=rng.choice([(), ("lora",), ("no such",)])))
    if kind == 8:
        names = tuple(rng.choice(["starter", "/etc/passwd", "../x", "\n"]) for _ in range(rng.randrange(3)))
        return _encode(messages.ShowModels(ticket=ticket, names=names))
    if kind == 9:
        # nothing that could be got, or removed
        name = rng.choice(["no such", "", "starter", "/etc/passwd", "x" * 4000])
        if rng.random() < 0.5:
            return _encode(messages.GetModel(ticket=ticket, name=name))
        return _encode(messages.ChangeLibrary(ticket=ticket, action=rng.choice(["remove", "verify"]), name=name))
    if kind == 10:
        digest = rng.choice(["0" * 32, "", "../x"])
        return _encode(messages.PassesDigest(ticket=ticket, index=rng.randrange(5), digest=digest, overview=rng.random() < 0.2))
    if kind == 11:
        return rng.choice((_make_opening, _make_heard, _make_piece))(rng)
    entry = FrameEntry(CameraEntry(_IDENTITY, _IDENTITY), (SurfaceEntry(1, "body", 1),), ((1, ((1.0, 2.0, 3.0),) * 18),))
    message = messages.SendPasses(ticket=ticket, index=rng.randrange(3), entry=entry, overview=rng.random() < 0.2)
    if kind == 12:
        return [bytes(part) for part in messages.encode_packed(message, make_passes(rng))]
    return _encode(message, make_passes(rng))


def _make_opening(rng: random.Random) -> Parts:
    session = rng.choice("abc") * 32
    return _encode(messages.OpenSession(session=session, resumes=rng.random() < 0.7, heard=rng.randrange(3)))


def _make_heard(rng: random.Random) -> Parts:
    return _encode(messages.Heard(number=rng.randrange(5)))


def _make_piece(rng: random.Random) -> Parts:
    data = np.frombuffer(rng.randbytes(rng.randrange(40)), np.uint8)
    return _encode(messages.Piece(stream=rng.choice((0, 1)), start=rng.randrange(3)), {"piece": data})


def make_backend_message(rng: random.Random, tickets: Sequence[str]) -> Parts:
    """What a backend may send: one that makes sense, about one of ``tickets`` or about nobody's."""
    ticket = rng.choice([*tickets, "nobody"])
    picture = {"png": np.frombuffer(b"\x89PNG\r\n\x1a\n" + rng.randbytes(40), np.uint8)}
    index = rng.randrange(4)
    kind = rng.randrange(11)
    plain: list[messages.Message] = [
        messages.Accepted(ticket=ticket, job=f"{rng.randrange(16**24):024x}"),
        messages.Progress(ticket=ticket, state=rng.choice(list(TaskState)), stage="denoising", step=index, steps=4),
        messages.Ping(ticket=ticket),
        messages.PassesWanted(ticket=ticket, index=index, overview=rng.random() < 0.3),
        messages.Cancelled(ticket=ticket),
        messages.Failed(ticket=ticket, code="passes", message="They do not fit."),
    ]
    if kind < len(plain):
        return _encode(plain[kind])
    if kind == 6:
        return _encode(messages.FrameResult(ticket=ticket, index=index, frame=index + 1), picture)
    if kind == 7:
        return _encode(
            messages.Finished(ticket=ticket, report={"job": "x", "seconds": {"all": 1.5}}), {"texture_1": picture["png"]}
        )
    if kind == 8:
        return _encode(messages.MotionMade(ticket=ticket), {"vectors": np.zeros((1, 40, 263), np.float32)})
    if kind == 9:
        return _encode(messages.ModelDescribed(ticket=ticket, profile=PRESET_PROFILES["starter"]))
    # of another version: one that fits would leave nothing to lose
    return _encode(messages.Welcome(version=VERSION, device="cpu", models=("starter",)))


_ODD_VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: rng.choice([0, -1, 1, 255, 2**31, 2**62, 2**63 - 1, -(2**63), 2**64 - 1]),
    lambda rng: rng.choice([0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")]),
    lambda rng: rng.choice(["", "\0", "\0|\0", "a|b", "|", "../../x", "/dev/zero", "\u202e", "\U0001f600" * 70, "x" * 65, "nan"]),
    lambda rng: rng.choice("xy|") * rng.choice([64, 20_001, 1 << 20]),
    lambda rng: rng.choice([b"", b"\xff\xfe", bytes(1000)]),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [0] * rng.choice([1, 100, 10_001]),
    lambda rng: [[]] * 1000,
    lambda rng: {str(n): n for n in range(rng.choice([1, 100, 5000]))},
    lambda rng: _nest(rng.choice([2, 30, 400])),
)


def _nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _list_places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """Every (container, key) of a value that a header decodes to."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in items[:50]:
        found.append((value, key))
        _list_places(inner, found)


def _change_values(rng: random.Random, parts: Parts) -> Parts:
    """Values of the header replaced, removed, doubled or exchanged."""
    header = msgspec.msgpack.decode(parts[0])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        places: list[tuple[Any, Any]] = []
        _list_places(header, places)
        if not places:
            break
        container, key = rng.choice(places)
        action = rng.randrange(8)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.insert(key, container[key])
        elif action == 2:
            other, place = rng.choice(places)
            if (isinstance(other, dict) and place in other) or (isinstance(other, list) and place < len(other)):
                # by its bytes, since a value that holds itself has no end
                container[key] = msgspec.msgpack.decode(msgspec.msgpack.encode(other[place]))
        elif action == 3 and isinstance(container, dict):
            container[rng.choice(["", "type", "ticket", "x" * 100, "\0"])] = rng.choice(_ODD_VALUES)(rng)
        else:
            container[key] = rng.choice(_ODD_VALUES)(rng)
    return [msgspec.msgpack.encode(header), *parts[1:]]


_ODD_LEAVES: dict[type, Callable[[random.Random], Any]] = {
    bool: lambda rng: rng.random() < 0.5,
    int: lambda rng: rng.choice([0, 1, 2, 3, -1, 7, 63, 64, 10_000, 2**31 - 1, 2**62, 2**64 - 1, -(2**63)]),
    float: _ODD_VALUES[3],
    str: lambda rng: rng.choice([_ODD_VALUES[4](rng), _ODD_VALUES[5](rng), "surface", "latentman", "per_frame", "starter"]),
}


def _change_leaves(rng: random.Random, parts: Parts) -> Parts:
    """Numbers and texts replaced by others of their kind, so that the message still has its form."""
    header = msgspec.msgpack.decode(parts[0])
    places: list[tuple[Any, Any]] = []
    _list_places(header["body"], places)
    leaves = [(owner, key) for owner, key in places if type(owner[key]) in _ODD_LEAVES and key not in ("type", "ticket")]
    for owner, key in rng.sample(leaves, min(len(leaves), rng.choice([1, 1, 2, 4]))):
        owner[key] = _ODD_LEAVES[type(owner[key])](rng)
    return [msgspec.msgpack.encode(header), *parts[1:]]


def _change_bytes(rng: random.Random, parts: Parts) -> Parts:
    """Bytes of a part, mostly the header, replaced, removed or put in."""
    which = rng.randrange(len(parts)) if rng.random() < 0.2 else 0
    data = bytearray(parts[which])
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        action = rng.randrange(4)
        if action == 0:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del data[place : place + rng.choice([1, 2, 50])]
        elif action == 2:
            data[place:place] = rng.randbytes(rng.choice([1, 4, 30]))
        elif place < len(data):
            data[place] ^= 1 << rng.randrange(8)
    return [*parts[:which], bytes(data), *parts[which + 1 :]]


def _change_parts(rng: random.Random, parts: Parts) -> Parts:
    """Parts left out, added, doubled, exchanged, emptied, cut."""
    parts = list(parts)
    place = rng.randrange(len(parts))
    action = rng.randrange(7)
    if action == 0:
        del parts[place]
    elif action == 1:
        parts.insert(place, rng.choice([b"", rng.randbytes(20), parts[place]]))
    elif action == 2:
        rng.shuffle(parts)
    elif action == 3:
        parts[place] = b""
    elif action == 4:
        parts[place] = parts[place][: rng.randrange(len(parts[place]) + 1)]
    elif action == 5:
        parts += [b""] * rng.choice([1, 60, 128, 129, 130, 5000])
    else:
        parts = [b""] * rng.choice([1, 2, 3000])
    return parts or [b""]


def _change_arrays(rng: random.Random, parts: Parts) -> Parts:
    """Shapes, types and names of arrays that do not fit their bytes; values that are not numbers."""
    header = msgspec.msgpack.decode(parts[0])
    specs = header["arrays"] or [{"name": "x", "dtype": "uint8", "shape": [3]}]
    spec = rng.choice(specs)
    odd = (0, 1, -1, 2**31, 2**33, 2**62, 2**64 - 1, 1.5, "3", None)
    action = rng.randrange(7)
    if action == 0:
        spec["shape"] = [rng.choice(odd) for _ in range(rng.choice([0, 1, 3, 5, 6, 1000]))]
    elif action == 1:
        spec["shape"] = [0, 2**62, 2**62]
    elif action == 2:
        spec["dtype"] = rng.choice(
            ["object", "O", "float64", "uint16", "V8", "<U1000000", "", "uint8\0", "datetime64[ns]", "float16"]
        )
    elif action == 3:
        spec["name"] = rng.choice(["", "\0", "../x", "depth", "x" * 100])
    elif action == 4:
        specs = specs * rng.choice([2, 65, 1000])
    elif action == 5:
        spec["shape"] = spec["shape"][::-1]
    elif len(parts) > 1:
        data = bytearray(parts[1])
        data[:4] = _FLOAT32_NAN.tobytes()
        parts = [parts[0], bytes(data), *parts[2:]]
    header["arrays"] = specs
    return [msgspec.msgpack.encode(header), *parts[1:]]


_CHANGES = (
    _change_values,
    _change_values,
    _change_leaves,
    _change_leaves,
    _change_leaves,
    _change_leaves,
    _change_bytes,
    _change_bytes,
    _change_parts,
    _change_arrays,
)


def _nest_raw(rng: random.Random) -> Parts:
    """Lists or maps within each other, very many deep, alone or where the body should be."""
    inner = rng.choice([b"\x91", b"\x81\xa1a", b"\x92\x00", b"\xdc\x00\x01"]) * rng.choice([500, 10_000, 100_000])
    return [rng.choice([inner, b"\x82\xa8protocol" + bytes([PROTOCOL]) + b"\xa4body" + inner])]


def _claim_raw(rng: random.Random) -> Parts:
    """A few bytes that claim to be followed by very many."""
    claim = rng.choice(
        [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdc\xff\xff"]
    )
    return [rng.choice([claim, b"\x82\xa8protocol" + bytes([PROTOCOL]) + b"\xa4body" + claim])]


def _text_raw(rng: random.Random) -> Parts:
    """Text that is not UTF-8, as a key or as a value."""
    bad = rng.choice([b"\xa1\xff", b"\xa2\xc3\x28", b"\xa3\xed\xa0\x80", b"\xa4\xf0\x28\x8c\xbc"])
    whole = b"\x82\xa8protocol" + bytes([PROTOCOL]) + b"\xa4body"
    return [
        rng.choice(
            [b"\x82\xa8protocol\x05\xa1x", b"\x81" + bad + b"\x00", whole + b"\x82\xa4type\xa5Hello\xa7version" + bad, whole + bad]
        )
    ]


def _noise(rng: random.Random) -> Parts:
    return [rng.randbytes(rng.choice([0, 1, 10, 1000])) for _ in range(rng.choice([1, 1, 2, 5]))]


_RAW = (_nest_raw, _claim_raw, _text_raw, _noise)


def spoil(rng: random.Random, parts: Parts) -> Parts:
    """A message changed in one or two ways, or now and then replaced by one that never was any."""
    if rng.random() < 0.08:
        return rng.choice(_RAW)(rng)
    for _ in range(rng.choice([1, 1, 1, 2])):
        try:
            parts = rng.choice(_CHANGES)(rng, parts)
        except (msgspec.MsgspecError, UnicodeError, KeyError, TypeError, IndexError, RecursionError, ValueError):
            # an earlier change has left nothing that this one could work on
            parts = _change_bytes(rng, parts)
    return parts
