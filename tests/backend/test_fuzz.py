"""Messages that make no sense, from a seed that is printed: the backend answers, ends at most what they are about, and goes on."""

from __future__ import annotations

import logging
import os
import random
import threading

import msgspec
import numpy as np
import pytest
import zmq

torch = pytest.importorskip("torch")

from latentman.backend import server as server_module  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.manifest import CameraEntry, FrameEntry, PassesHeader, PassesManifest  # noqa: E402
from latentman.shared.messages import Accepted, Cancel, Failed, Finished, Hello, PassesWanted, SubmitShot, Welcome  # noqa: E402
from latentman.shared.motion_request import MotionRequest  # noqa: E402
from latentman.shared.version import PROTOCOL  # noqa: E402
from tests import samples  # noqa: E402
from tools.fuzz.backend import fuzz_backend  # noqa: E402
from tools.fuzz.messages import make_client_message, spoil  # noqa: E402

# the same every time; `make torture` draws others
SEED = int(os.environ.get("LATENTMAN_FUZZ_SEED") or 961414026)
MESSAGES = 3000
#: bytes of a header whose body follows
HEAD = b"\x82\xa8protocol" + bytes([PROTOCOL]) + b"\xa4body"


def _lives(server):
    client = server.connect()
    client.send(Hello())
    client.wait_for(Welcome, seconds=20)
    return server.alive


def test_thousands_of_spoiled_messages(server, tiny, caplog):
    print(f"seed {SEED}")
    with caplog.at_level(logging.ERROR):
        counts = fuzz_backend(server.server.endpoint, MESSAGES, SEED, tiny)
    print(sorted(counts.items()))
    assert server.alive and counts["heard Failed malformed"] > MESSAGES / 10 and counts["longest wait ms"] < 10_000
    assert counts["heard PassesWanted"], "no work was under way"
    unforeseen = [record for record in caplog.records if "could not be handled" in record.message or "unexpected" in record.message]
    assert not unforeseen, unforeseen[0].exc_text


def test_a_seed_gives_the_same_messages():
    def make(seed):
        rng = random.Random(seed)
        return [spoil(rng, make_client_message(rng, ["a"], "m")) for _ in range(50)]

    assert make(7) == make(7) != make(8)


@pytest.mark.parametrize(
    "parts",
    [
        [b"\x82\xa8protocol\x05\xa1x"],
        [b"\x91" * 100_000],
        [HEAD + b"\x91" * 100_000],
        [HEAD + b"\x81\xa1a" * 50_000],
        [HEAD + b"\x82\xa4type\xa5Hello\xa7version\xa2\xc3\x28"],
        [HEAD + b"\xdd\xff\xff\xff\xff"],
        [messages.encode(Hello())[0], *[b""] * 20_000],
        [b""] * 20_000,
        [b"\0" * (messages.MAX_HEADER_BYTES + 1)],
        [
            msgspec.msgpack.encode(
                {
                    "protocol": PROTOCOL,
                    "body": {"type": "Hello"},
                    "arrays": [{"name": "x", "dtype": "uint8", "shape": [0, 2**62, 2**62]}],
                }
            ),
            b"",
        ],
    ],
)
def test_one_message_ends_nobody(server, parts):
    client = server.connect()
    client.send_raw(parts)
    assert client.wait_for(Failed, seconds=20)[0].code in ("malformed", "protocol") and _lives(server)


@pytest.mark.parametrize("name", ["\0|\0", "x" * (1 << 20), "|", "x|y=z", "/dev/zero", "a/" * 5000])
def test_a_models_name_that_is_none(server, name):
    client = server.connect()
    client.send(SubmitShot(ticket="a", request=samples.request(model=name)))
    answer, _ = client.wait_for((Failed, PassesWanted), "a", 30)
    if isinstance(answer, Failed):
        assert answer.message and len(answer.message) <= messages.MAX_WORDS
    else:  # it has the form of a model's name; that there is none shows when it is loaded, after the passes
        client.send(Cancel(ticket="a"))
        client.wait_for(messages.Cancelled, "a", 30)
    client.send(messages.MakeMotion(ticket="b", request=MotionRequest("a person walks", model=name)))
    assert client.wait_for(Failed, "b", 30) and _lives(server)


@pytest.mark.parametrize("seconds", [1e308, -1e308, float("inf"), float("nan"), 0.0, 41.0])
def test_a_motion_of_no_length(server, seconds):
    client = server.connect()
    client.send(messages.MakeMotion(ticket="a", request=MotionRequest("a person walks", seconds)))
    assert client.wait_for(Failed, "a", 20)[0].code == "motion" and _lives(server)


def test_a_manifest_that_does_not_fit(server):
    client, frames = server.connect(), (1, 2, 3)
    for manifest in (
        PassesManifest(64, 64, 20.0, (*frames, 4), 1.0, 2.0),
        PassesManifest(65, 64, 20.0, frames, 1.0, 2.0),
        PassesManifest(64, 64, 20.0, frames, 1.0, 2.0, (CameraEntry((), ()),) * 2),
    ):
        client.send(SubmitShot(ticket="a", request=samples.request(3, manifest=manifest)))
        assert client.wait_for(Failed, "a", 20)[0].code == "passes"
    assert _lives(server)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_description_with_what_is_no_number_ends_its_shot(server, tiny, number):
    """JSON knows no such number: a file with it could never be read back, and others would wait for it."""
    client, passes, request = server.connect(), samples.passes(1), samples.request(1, model=tiny, preset="per_frame", steps=1)
    client.send(SubmitShot(ticket="a", request=request, header=PassesHeader(near=number)))
    assert client.wait_for(Failed, "a", 20)[0].code == "passes"
    client.send(SubmitShot(ticket="b", request=request))
    wanted, _ = client.wait_for(PassesWanted, "b", 20)
    entry = FrameEntry(CameraEntry((number,) * 16, (1.0,) * 16))
    client.send(messages.SendPasses(ticket="b", index=wanted.index, entry=entry), passes.select([0]).arrays())
    assert client.wait_for(Failed, "b", 20)[0].code == "passes"
    client.run_shot("c", request, passes, Finished)


def test_what_cannot_be_read_ends_the_work_that_it_is_about_and_no_other(server, tiny):
    client, other = server.connect(), server.connect()
    for ticket in ("a", "b"):
        client.send(SubmitShot(ticket=ticket, request=samples.request(2, model=tiny, steps=1)))
        client.wait_for(PassesWanted, ticket, 20)
    body = {"type": "SendPasses", "ticket": "a", "index": "first", "entry": {}}
    # nobody ends the work of others
    other.send_raw([msgspec.msgpack.encode({"protocol": PROTOCOL, "body": body})])
    assert other.wait_for(Failed, "a", 20)[0].code == "malformed" and client.hears_nothing_of_an_end()
    client.send_raw([msgspec.msgpack.encode({"protocol": PROTOCOL, "body": body})])
    assert client.wait_for(Failed, "a", 20)[0].code == "malformed"
    client.send(messages.SendPasses(ticket="b", index=0, entry=FrameEntry()), {"depth": np.zeros((1, 64, 64), np.float32)})
    assert client.wait_for(Failed, "b", 20)[0].code == "passes" and _lives(server)


def test_more_work_than_anybody_does_is_refused(server, tiny):
    client, most = server.connect(), server_module.MOST_TASKS
    for n in range(most + 1):
        client.send(SubmitShot(ticket=f"{n}", request=samples.request(2, model=tiny, steps=1)))
    assert client.wait_for(Failed, f"{most}", 30)[0].code == "busy"
    for n in range(most):
        client.send(Cancel(ticket=f"{n}"))
    client.wait_for(messages.Cancelled, f"{most - 1}", 30)
    client.run_shot("more", samples.request(1, model=tiny, preset="per_frame", steps=1), samples.passes(1), Finished)


def test_no_part_of_a_round_ends_the_service(server, monkeypatch, caplog):
    """Whatever is raised wherever: the next message is answered."""

    def explode(*_):
        raise MemoryError("nobody foresaw it")

    for owner, name in (
        (server.server, "_dispatch"),
        (server.server, "_send_waiting"),
        (server.server, "_look_after_tasks"),
        (server_module, "receive_parts"),
        (server_module, "encode"),
    ):
        client = server.connect()
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr(owner, name, explode)
            client.send(Hello())
            client.receive(1.0)
        # what could not be taken from the socket, and what was lost, is no one's loss but its sender's
        assert _lives(server), name
    assert "nobody foresaw it" in caplog.text


def test_a_job_with_a_truncated_frame_asked_for_twice_while_it_waits(server, tiny):
    client, passes = server.connect(), samples.passes(3)
    request = samples.request(3, model=tiny, preset="per_frame", steps=1)
    finished, _ = client.run_shot("first", request, passes, Finished)
    folder = server.server.jobs / finished.report["job"]
    for path in (folder / "frames" / "00001.png", folder / "passes" / "0002.exr", folder / "passes" / "0003.json"):
        path.write_bytes(path.read_bytes()[:50])
    # something else keeps the worker busy
    client.run_shot("busy", samples.request(2, model=tiny, preset="cross_frame", steps=300), passes.select([0, 1]), Accepted)
    found = [server.connect() for _ in range(2)]
    for n, one in enumerate(found):
        one.run_shot(f"{n}", request, passes, Accepted)
    client.send(Cancel(ticket="busy"))
    for n, one in enumerate(found):
        one.go_on(f"{n}", passes, Finished)
        assert sorted(one.frames(f"{n}")) == [0, 1, 2]
    assert _lives(server)


def test_a_stranger_with_wrong_keys_does_not_close_the_door(server):
    context = zmq.Context()
    for _ in range(30):
        stranger = context.socket(zmq.DEALER)
        stranger.linger = 0
        stranger.curve_serverkey, _ = zmq.curve_keypair()
        stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
        stranger.connect(server.server.endpoint)
        stranger.send(b"hello")
    assert _lives(server)
    context.destroy(0)
    assert _lives(server) and threading.active_count() < 200
