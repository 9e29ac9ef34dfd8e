"""Messages that no program of ours would send, in both directions, from peers that have the right keys."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import msgspec
import numpy as np
import zmq

from latentman.blender_addon.client import BackendClient, ConnectionInterrupted, ConnectionLost, Unreadable
from latentman.shared import curve_keys, messages
from latentman.shared.library import LibraryFolder, LibraryItem
from latentman.shared.manifest import FrameEntry
from latentman.shared.model_profile import PRESET_PROFILES
from latentman.shared.motion_request import MotionRequest
from latentman.shared.streams import split_number
from latentman.shared.task import TaskState

from ...fuzz.messages import make_backend_message, make_client_message, spoil
from ..mutation import mutate_bytes, mutate_value
from ..processes import Backend
from ..shots import make_shot
from ..trial import Budget, Figures

#: messages of one trial, all to the backend or all to the client
BATCH = 500
#: what takes longer hangs
HANG_SECONDS = 10.0
#: what the backend may grow by, beyond what a message holds
MOST_GROWTH_MB = 200
Parts = list[bytes]


def make_samples(model: str) -> list[Parts]:
    """Valid messages of every kind, with and without arrays, as the parts that go over the wire."""
    shot = make_shot(model, "key frames")
    pictures: dict[str, Any] = {"png": np.arange(300, dtype=np.uint8)}
    kept = {"joints": np.zeros((80, 22, 3), np.float32), "parts": np.zeros((80, 3), np.uint8)}
    passes = shot.passes.select([0]).arrays()
    item = LibraryItem(name="/models/a.safetensors", title="a", kind="lora", words=("ink",), is_here=True)
    found: list[tuple[messages.Message, dict[str, Any]]] = [
        (messages.Hello(), {}),
        (messages.Welcome(version="1", device="cpu", models=("starter",)), {}),
        (messages.Pair(key="a" * 40, name="x"), {}),
        (messages.Paired(), {}),
        (messages.OpenSession(session="0" * 32), {}),
        (messages.SessionOpen(taken=(0, 5)), {}),
        (messages.Piece(stream=1, start=0), {"piece": pictures["png"]}),
        (messages.PieceTaken(stream=0, taken=7), {}),
        (messages.Heard(number=2), {}),
        (messages.SubmitShot(ticket="a", request=shot.request), {}),
        (messages.FetchJob(ticket="c", job="0123"), {}),
        (messages.DescribeModel(ticket="d", model="starter"), {}),
        (messages.ModelDescribed(ticket="d", profile=PRESET_PROFILES["starter"]), {}),
        (messages.PassesWanted(ticket="a", index=0), {}),
        (messages.PassesDigest(ticket="a", index=0, digest="0" * 32), {}),
        (messages.PassesKnown(ticket="a", index=0, known=False), {}),
        (messages.SendPasses(ticket="a", index=0, entry=FrameEntry()), passes),
        (messages.MakeMotion(ticket="b", request=MotionRequest("a person walks", seconds=-1.0)), {}),
        (messages.MakeMotion(ticket="b", request=MotionRequest("a person walks", seconds=-1.0)), kept),
        (messages.MotionMade(ticket="b"), {"vectors": np.zeros((1, 80, 263), np.float32)}),
        (messages.ListModels(ticket="l", search="few steps", kinds=("lora",)), {}),
        (messages.ModelList(ticket="l", items=(item,), folders=(LibraryFolder(path="/models"),), left_out=3), {}),
        (messages.ShowModels(ticket="m", names=("/models/a.safetensors",)), {}),
        (messages.ModelPreviews(ticket="m", names=("/models/a.safetensors",)), {"preview_0": pictures["png"]}),
        # nothing that could be got, or removed
        (messages.GetModel(ticket="n", name="no such model"), {}),
        (messages.ChangeLibrary(ticket="o", action="verify", name="no such model"), {}),
        (messages.LibraryChanged(ticket="o", sentence="It is done.", warnings=("Almost.",)), {}),
        (messages.Accepted(ticket="a", job="0123"), {}),
        (messages.Cancel(ticket="a"), {}),
        (messages.Progress(ticket="a", state=TaskState.RUNNING, stage="x", step=1, steps=2), {}),
        (messages.Ping(ticket="a"), {}),
        (messages.FrameResult(ticket="a", index=0, frame=1), pictures),
        (messages.Draft(ticket="a", indices=(0,)), {"pictures": np.zeros((1, 8, 8, 3), np.uint8)}),
        (messages.FrameTaken(ticket="a"), {}),
        (messages.Finished(ticket="a", report={"seconds": {"x": 1.0}}), {"texture_1": pictures["png"]}),
        (messages.Cancelled(ticket="a"), {}),
        (messages.Failed(ticket="a", code="x", message="y"), {}),
    ]
    return [[bytes(part) for part in messages.encode(message, arrays)] for message, arrays in found]


def _mutate_header(chance: random.Random, parts: Parts) -> Parts:
    value = mutate_value(chance, msgspec.msgpack.decode(parts[0]))
    try:
        return [msgspec.msgpack.encode(value), *parts[1:]]
    except (OverflowError, ValueError):  # a number that msgpack has no place for
        return [mutate_bytes(chance, parts[0]), *parts[1:]]


def _mutate_bytes(chance: random.Random, parts: Parts) -> Parts:
    at = chance.randrange(len(parts)) if chance.random() < 0.3 else 0
    return [mutate_bytes(chance, part) if n == at else part for n, part in enumerate(parts)]


def _mutate_parts(chance: random.Random, parts: Parts) -> Parts:
    at = chance.randrange(len(parts))
    changed = (parts[:at] + parts[at + 1 :], parts + [parts[at]] * chance.choice((1, 70)), parts[::-1], [b"", *parts])
    return chance.choice(changed) or [b""]


def _nest(chance: random.Random, parts: Parts) -> Parts:
    opening = chance.choice((b"\x91", b"\x81\xa1x", b"\x82\xa8protocol\x05\xa1x", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"))
    deep = opening * chance.choice((1, 100, 100_000))
    return [deep if chance.random() < 0.5 else parts[0][: chance.randrange(len(parts[0]))] + deep, *parts[1:]]


def _claim_arrays(chance: random.Random, parts: Parts) -> Parts:
    header = msgspec.msgpack.decode(parts[0])
    sides = (0, 1, 2**31, 2**33, 2**62, 2**63 - 1, 2**64 - 1, -1)
    header["arrays"] = [
        [
            chance.choice(("depth", "png", "\0", "a" * 65)),
            chance.choice(("uint8", "float32", "float16", "object", "O", "V9", "<U9", "datetime64")),
            [chance.choice(sides) for _ in range(chance.randint(0, 6))],
        ]
        for _ in range(chance.choice((1, 2, 65)))
    ]
    return [msgspec.msgpack.encode(header), *parts[1:], *[b""] * chance.randint(0, 3)]


#: (generator of random numbers, a valid message) -> another message; more can be added
GENERATORS: list[Callable[[random.Random, Parts], Parts]] = [
    _mutate_header,
    _mutate_header,
    _mutate_bytes,
    _mutate_parts,
    _nest,
    _claim_arrays,
    spoil,
]
#: what some of the messages of the second kind are about, and the image model that they name
TICKETS, NO_MODEL = ("a", "b"), "/nowhere"


def make_messages(chance: random.Random, samples: list[Parts], to_backend: bool) -> Iterator[Parts]:
    """Changed messages for one of the sides, without end: half of them from ``samples``, half from what an honest peer might say in
    any state, and some of those as they are.

    Parts are cut where they are larger than any: ZeroMQ ends the connection at the first byte too many, and what follows would go
    unseen.
    """
    while True:
        if chance.random() < 0.5:
            yield _cut(chance.choice(GENERATORS)(chance, chance.choice(samples)))
            continue
        honest = make_client_message(chance, TICKETS, NO_MODEL) if to_backend else make_backend_message(chance, TICKETS)
        yield _cut(spoil(chance, honest)) if chance.random() < 0.9 else honest


def _cut(parts: Parts) -> Parts:
    return [part[: messages.PART_BYTES] for part in parts]


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is a batch of messages."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("deaths", f"hangs over {HANG_SECONDS:g} s"), 0))
    samples = make_samples(budget.model)
    backend = Backend(budget.work / "jobs")
    first = last = backend.read_status("VmHWM")
    keys = curve_keys.load_or_create(zmq.curve_keypair)
    try:
        for number, chance, _ in budget.trials():
            where = f"messages --seed {budget.seed}, batch {number}"
            if number % 4:
                _attack_backend(figures, chance, samples, backend, keys, where)
                if not backend.alive:
                    figures.counts["deaths"] += 1
                    figures.fault(f"{where}: the backend ended with code {backend.code}; see {backend.log}")
                    backend = Backend(budget.work / "jobs")
                    first = last = backend.read_status("VmHWM")
                last = max(last, backend.read_status("VmHWM"))
            else:
                _attack_client(figures, chance, samples, keys, where)
    finally:
        if not backend.stop():
            figures.fault("messages: the backend does not stop after them")
    grown = (last - first) / 1024
    figures.measures["most memory that the backend grew by"] = f"{grown:.0f} MB"
    if grown > MOST_GROWTH_MB + messages.MAX_PART_BYTES / 1e6:
        figures.fault(f"messages --seed {budget.seed}: the backend grew by {grown:.0f} MB")
    figures.counts["messages"] = figures.counts["to the backend"] + figures.counts["to the client"]
    return figures


def _attack_backend(
    figures: Figures, chance: random.Random, samples: list[Parts], backend: Backend, keys: curve_keys.CurveKeys, where: str
) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger, socket.sndhwm = 0, 0
    socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = (
        keys.server_public,
        keys.client_public,
        keys.client_secret,
    )
    socket.connect(backend.endpoint)
    try:
        for _, parts in zip(range(BATCH), make_messages(chance, samples, True), strict=False):
            socket.send_multipart(parts)
            figures.counts["to the backend"] += 1
            while socket.poll(0):
                socket.recv_multipart()
        socket.send_multipart(messages.encode(messages.Hello()))
        if not _wait_for_welcome(socket, backend):
            figures.counts[f"hangs over {HANG_SECONDS:g} s"] += backend.alive
            figures.fault(f"{where}: the backend no longer answers")
    finally:
        context.destroy(0)


def _wait_for_welcome(socket: zmq.Socket[bytes], backend: Backend) -> bool:
    """Whether the backend answers a greeting before it has been silent for too long; answers of earlier messages come first."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end and backend.alive:
        if not socket.poll(100):
            continue
        end = time.monotonic() + HANG_SECONDS
        if isinstance(messages.decode(split_number(socket.recv_multipart())[1])[0], messages.Welcome):
            return True
    return False


def _attack_client(figures: Figures, chance: random.Random, samples: list[Parts], keys: curve_keys.CurveKeys, where: str) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger, router.sndhwm = 0, 0
    router.curve_server = True
    router.curve_publickey, router.curve_secretkey = keys.server_public, keys.server_secret
    router.bind("tcp://127.0.0.1:0")
    client = BackendClient(router.getsockopt_string(zmq.LAST_ENDPOINT))
    try:
        if not router.poll(int(HANG_SECONDS * 1000)):
            figures.fault(f"{where}: the client does not connect")
            return
        identity = router.recv_multipart()[0]
        for _, parts in zip(range(BATCH), make_messages(chance, samples, False), strict=False):
            router.send_multipart([identity, *parts])
            figures.counts["to the client"] += 1
        mark = str(chance.random())
        router.send_multipart([identity, *messages.encode(messages.Welcome(version=mark, device="", models=()))])
        end = time.monotonic() + HANG_SECONDS
        while time.monotonic() < end:
            try:
                event = client.events.get(timeout=0.2)
            except Empty:
                continue
            if isinstance(event, (ConnectionInterrupted, Unreadable)):
                continue
            if isinstance(event, ConnectionLost):
                figures.counts["deaths"] += 1
                figures.fault(f"{where}: the client gave up: {event.reason}")
                return
            if isinstance(event.message, messages.Welcome) and event.message.version == mark:
                return
        figures.counts["deaths"] += 1
        figures.fault(f"{where}: the client's thread hears nothing any more")
    finally:
        client.close()
        context.destroy(0)
