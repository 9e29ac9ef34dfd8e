"""The life of a task: over a real socket, in every state, with clients that vanish and messages that make no sense."""

from __future__ import annotations

import io
import threading
import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.tasks import shot as shot_module  # noqa: E402
from latentman.backend.tasks.resources import ResourceLoader, Resources  # noqa: E402
from latentman.backend.tasks.shot import FRAMES_AHEAD, PASSES_AHEAD  # noqa: E402
from latentman.backend.tasks.task import Task  # noqa: E402
from latentman.backend.tasks.worker import Worker  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.messages import (  # noqa: E402
    Accepted,
    Cancel,
    Cancelled,
    Failed,
    Finished,
    FrameResult,
    Hello,
    PassesWanted,
    Progress,
    SubmitShot,
    Welcome,
)
from latentman.shared.motion_request import MotionRequest  # noqa: E402
from latentman.shared.overview import compute_overview_size, needs_overview  # noqa: E402
from latentman.shared.picture_size import Crop  # noqa: E402
from latentman.shared.task import StateMachine, TaskState  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.wire import RunningServer  # noqa: E402


def _running(message):
    return isinstance(message, Progress) and message.stage == "denoising"


def _wait_until_denoising(client, ticket):
    while not _running(client.wait_for(Progress, ticket)[0]):
        pass


def test_a_state_only_moves_forward():
    machine = StateMachine(TaskState.QUEUED)
    assert machine.advance(TaskState.PREPARING) and machine.advance(TaskState.RUNNING)
    assert not machine.advance(TaskState.PREPARING) and machine.state is TaskState.RUNNING
    assert machine.advance(TaskState.CANCELLING) and not machine.advance(TaskState.RUNNING)
    assert machine.advance(TaskState.CANCELLED) and not machine.advance(TaskState.FINISHED)
    assert [state for state in TaskState if state.ended] == [TaskState.CANCELLED, TaskState.FAILED, TaskState.FINISHED]


def test_a_shot_over_the_wire_and_once_more_from_disk(server, tiny):
    client, passes = server.connect(), samples.passes(6)
    request = samples.request(6, model=tiny, preset="per_frame", steps=1)
    finished, _ = client.run_shot("a", request, passes, Finished)
    job = finished.report["job"]
    assert sorted(client.frames("a")) == list(range(6)) and finished.report["frames"] == {"made": 6, "kept": 0}
    again = server.connect()
    finished, textures = again.run_shot("b", request, passes, Finished)
    assert again.frames("b") == list(range(6)) and finished.report["job"] == job
    assert not [m for m, _ in again.heard if _running(m)], "nothing is made twice"
    for (m, ours), (n, theirs) in zip(
        sorted((m.index, a["png"].tobytes()) for m, a in client.heard if isinstance(m, FrameResult)),
        sorted((m.index, a["png"].tobytes()) for m, a in again.heard if isinstance(m, FrameResult)),
        strict=True,
    ):
        assert m == n and ours == theirs
    assert all(Image.open(io.BytesIO(data.tobytes())).mode == "RGBA" for data in textures.values()) and textures


def test_characters_are_cut_out_on_request(server, tiny):
    client, passes = server.connect(), samples.passes(1)
    client.run_shot("a", samples.request(1, model=tiny, preset="per_frame", steps=1), passes, Finished, cut_out=True)
    (data,) = (arrays["png"] for message, arrays in client.heard if isinstance(message, FrameResult))
    alpha = np.asarray(Image.open(io.BytesIO(data.tobytes())))[..., 3]
    assert (alpha[passes.mask[0] == 0] < 255).all() and alpha[passes.mask[0] > 0].mean() > 200


def test_a_part_of_the_frames_is_sent_on_request(server, tiny):
    client, passes = server.connect(), samples.passes(1)
    request = samples.request(1, model=tiny, preset="per_frame", steps=1)
    (whole,) = _run_and_read(client, "whole", request, passes)
    (part,) = _run_and_read(client, "part", request, passes, crop=Crop(3, 5, 20, 10), cut_out=True)
    assert part.shape == (10, 20, 4) and np.array_equal(part[..., :3], whole[5:15, 3:23])
    client.run_shot("too large", request, passes, Failed, crop=Crop(3, 5, request.width, 10))
    failed = next(message for message, _ in client.heard if isinstance(message, Failed))
    assert failed.code == "size" and f"{request.width}x{request.height}" in failed.message


def _run_and_read(client, ticket, request, passes, **options):
    client.run_shot(ticket, request, passes, Finished, **options)
    answers = [arrays["png"] for message, arrays in client.heard if isinstance(message, FrameResult) and message.ticket == ticket]
    return [np.asarray(Image.open(io.BytesIO(data.tobytes()))) for data in answers]


def test_cancel_by_ticket_in_every_state(server, tiny):
    passes = samples.passes(3)
    client = server.connect()
    request = samples.request(3, model=tiny, preset="cross_frame", steps=900)
    # while it prepares, before anything was accepted
    client.send(SubmitShot(ticket="early", request=request))
    client.wait_for(PassesWanted, "early")
    client.send(Cancel(ticket="early"))
    client.wait_for(Cancelled, "early", 10)
    # in one breath with its submission
    client.send(SubmitShot(ticket="at once", request=request))
    client.send(Cancel(ticket="at once"))
    client.wait_for(Cancelled, "at once", 10)
    # while it runs; and one that is queued behind it is answered at once
    client.run_shot("running", request, passes, Accepted)
    _wait_until_denoising(client, "running")
    queued = msgspec.structs.replace(request, preset="per_frame")
    client.run_shot("queued", queued, passes, Accepted)
    client.send(Cancel(ticket="queued"))
    client.wait_for(Cancelled, "queued", 10)
    client.send(Cancel(ticket="running"))
    client.wait_for(Cancelled, "running", 30)
    # after its end, or never heard of
    client.send(Cancel(ticket="running"))
    client.wait_for(Cancelled, "running", 10)
    client.send(Cancel(ticket="nobody"))
    client.wait_for(Cancelled, "nobody", 10)
    assert not [m for m, _ in client.heard if isinstance(m, (Failed, Finished))]


def test_who_asked_for_a_job_that_someone_else_cancels_still_gets_it(server, tiny):
    passes = samples.passes(3)
    first, second = server.connect(), server.connect()
    request = samples.request(3, model=tiny, preset="cross_frame", steps=40)
    accepted, _ = first.run_shot("first", request, passes, Accepted)
    _wait_until_denoising(first, "first")
    same, _ = second.run_shot("second", request, passes, Accepted)
    assert same.job == accepted.job
    # a ticket is its owner's
    second.send(Cancel(ticket="first"))
    second.wait_for(Cancelled, "first", 10)
    first.send(Cancel(ticket="first"))
    first.wait_for(Cancelled, "first", 30)
    finished, _ = second.go_on("second", passes, Finished)
    assert sorted(second.frames("second")) == [0, 1, 2] and finished.report["job"] == accepted.job
    # and a submit while a cancel is being obeyed does not join the dying task
    first.run_shot("again", msgspec.structs.replace(request, preset="per_frame"), passes, Accepted)
    _wait_until_denoising(first, "again")
    first.send(Cancel(ticket="again"))
    first.run_shot("once more", msgspec.structs.replace(request, preset="per_frame"), passes, Finished)
    assert sorted(first.frames("once more")) == [0, 1, 2]


def test_the_socket_answers_while_a_task_reads_the_disk(server, tiny, monkeypatch):
    """A disk, or a model hub, that takes its time before it answers."""
    answers, check = threading.Event(), shot_module.check_shot

    def check_slowly(*arguments):
        assert answers.wait(60)
        check(*arguments)

    monkeypatch.setattr(shot_module, "check_shot", check_slowly)
    client = server.connect()
    client.send(SubmitShot(ticket="slow", request=samples.request(model=tiny)))
    client.send(Hello())
    while True:
        message, _ = client.receive()
        assert not isinstance(message, Failed), "the answer was kept waiting"
        if isinstance(message, Welcome):
            break
    client.send(Cancel(ticket="slow"))
    answers.set()
    client.wait_for(Cancelled, "slow", 10)


@pytest.mark.parametrize("size", [messages.PART_BYTES, 2 * messages.PART_BYTES + 5])
def test_an_array_as_large_as_a_part_and_larger_reaches_the_server(server, size):
    """It is for nobody, and ends nothing: not the connection either."""
    client = server.connect()
    client.send(Hello(), {"x": np.zeros(size, np.uint8)})
    assert client.wait_for(Welcome)
    client.send(messages.Ping(ticket="after"))
    client.send(Hello())
    assert client.wait_for(Welcome) and server.alive


def test_neither_passes_nor_frames_pile_up(server, tiny):
    client, passes = server.connect(), samples.passes(12)
    request = samples.request(12, model=tiny, preset="per_frame", steps=1)
    client.send(SubmitShot(ticket="a", request=request))
    asked = [client.wait_for(PassesWanted, "a")[0] for _ in range(PASSES_AHEAD)]
    assert client.hears_nothing(), "no more than a few are asked for"
    for wanted in asked:
        client.send_passes(wanted, passes)
    while not [m for m, _ in client.heard if isinstance(m, Accepted)]:
        message, _ = client.wait_for((PassesWanted, Accepted), "a")
        if isinstance(message, PassesWanted):
            client.send_passes(message, passes)
    for _ in range(FRAMES_AHEAD):
        client.wait_for(FrameResult, "a")
    while not client.hears_nothing(1.5):
        raise AssertionError("frames were sent that nobody had room for")
    for _ in range(FRAMES_AHEAD):
        client.send(messages.FrameTaken(ticket="a"))
    client.go_on("a", passes, Finished)
    assert sorted(client.frames("a")) == list(range(12))


def test_the_first_frames_are_made_while_later_passes_are_still_rendered(server, tiny):
    """The passes of the last frame are not sent before the first frames have come back."""
    size, count = 272, 12
    passes = samples.passes(count, size, 2)
    request = samples.request(count, size, model=tiny, preset="surface", steps=2)
    assert needs_overview(request) and compute_overview_size(size, size) == (256, 256)
    client = server.connect()
    client.send(SubmitShot(ticket="a", request=request))
    held, early = [], 0
    while early < 2:
        message, _ = client.wait_for((PassesWanted, FrameResult), "a")
        if isinstance(message, FrameResult):
            early += 1
            client.send(messages.FrameTaken(ticket="a"))
        elif not message.overview and message.index == count - 1:
            held.append(message)
        else:
            client.send_passes(message, passes)
    assert held and count - 1 not in client.frames("a")
    client.send_passes(held[0], passes)
    finished, _ = client.go_on("a", passes, Finished)
    assert sorted(client.frames("a")) == list(range(count)) and finished.report["frames"]["made"] == count
    # an identical one is told by its passes, and answered from disk
    again = server.connect()
    repeated, _ = again.run_shot("b", request, passes, Finished)
    assert repeated.report["job"] == finished.report["job"] and not [m for m, _ in again.heard if _running(m)]
    # one that differs in a single pixel is another job
    changed = samples.passes(count, size, 2)
    changed.uv[count - 1, 1, 1] += 0.25
    other = server.connect()
    different, _ = other.run_shot("c", request, changed, Finished)
    assert different.report["job"] != finished.report["job"]


@pytest.mark.slow
def test_a_client_that_vanishes_does_not_hold_up_others(server, tiny):
    size, count = 272, 10
    passes = samples.passes(count, size, 2)
    request = samples.request(count, size, model=tiny, preset="surface", steps=2)
    gone = server.connect()
    # the worker waits for passes that never come
    gone.run_shot("gone", request, passes, Accepted, withhold=range(count))
    gone.close()
    server._clients.remove(gone)
    client = server.connect()
    finished, _ = client.run_shot("here", samples.request(2, model=tiny, preset="per_frame", steps=1), samples.passes(2), Finished)
    assert finished.report["frames"]["made"] == 2
    # the job that was begun is no trap for the next one who asks for it
    client.run_shot("again", request, passes, Finished)
    assert sorted(client.frames("again")) == list(range(count))


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"", b"", b""],
        [b"\x00" * 40],
        [messages.encode(Hello())[0][:-3]],
        [messages.encode(Hello())[0], b"more"],
        [msgspec.msgpack.encode({"protocol": 99})],
        [msgspec.msgpack.encode({"protocol": messages.PROTOCOL, "body": {"type": "Cancel"}})],
        [msgspec.msgpack.encode({"protocol": messages.PROTOCOL, "body": {"type": "SendPasses", "ticket": 5}})],
    ],
)
def test_a_message_that_makes_no_sense_is_answered_and_the_server_goes_on(server, parts):
    client = server.connect()
    client.send_raw(parts)
    answer, _ = client.wait_for(Failed, seconds=20)
    assert answer.message.endswith(".") and answer.code in ("malformed", "protocol")
    client.send(Hello())
    client.wait_for(Welcome, seconds=20)
    assert server.alive


def test_a_ticket_is_used_once(server, tiny):
    client = server.connect()
    request = samples.request(2, model=tiny, steps=1)
    client.send(SubmitShot(ticket="a", request=request))
    client.wait_for(PassesWanted, "a")
    client.send(SubmitShot(ticket="a", request=request))
    assert client.wait_for(Failed, "a")[0].code == "ticket"
    client.send(messages.MakeMotion(ticket="a", request=MotionRequest("a person walks")))
    assert client.wait_for(Failed, "a")[0].code == "ticket"


def test_motions_are_made_and_cancelled_by_ticket(server):
    client = server.connect()
    client.send(messages.MakeMotion(ticket="m", request=MotionRequest("a person waves", 2.0, steps=4)))
    _, arrays = client.wait_for(messages.MotionMade, "m")
    assert arrays["vectors"].shape == (1, 40, 263)
    client.send(messages.MakeMotion(ticket="long", request=MotionRequest("a person waves", 9.0, variants=16)))
    client.wait_for(Progress, "long")
    client.send(Cancel(ticket="long"))
    client.wait_for(Cancelled, "long", 30)
    client.send(messages.MakeMotion(ticket="bad", request=MotionRequest("a person waves", model="/nowhere")))
    assert client.wait_for(Failed, "bad")[0].code == "motion"


def test_a_client_that_vanishes_while_frames_wait_for_it_leaves_no_task(server, tiny, monkeypatch):
    monkeypatch.setattr("latentman.backend.server.PING_SECONDS", 0.2)
    passes, request = samples.passes(12), samples.request(12, model=tiny, preset="per_frame", steps=1)
    gone = server.connect()
    gone.run_shot("a", request, passes, Accepted)
    for _ in range(FRAMES_AHEAD):
        gone.wait_for(FrameResult, "a")
    gone.close()
    server._clients.remove(gone)
    end = time.monotonic() + 60
    while server.server._tasks:
        assert time.monotonic() < end, "the task waits for ever"
        time.sleep(0.05)
    # what it asked for is there all the same
    client = server.connect()
    client.run_shot("b", request, passes, Finished)
    assert not [m for m, _ in client.heard if _running(m)]


def test_a_client_that_is_quicker_than_the_disk_gets_every_frame(tmp_path, tiny):
    """Very many frames are there already, and each is cut out, which takes a while: no room that the client gives is lost."""
    count = 60
    passes, request = samples.passes(count, 64, 0), samples.request(count, model=tiny, preset="per_frame", steps=1)
    store = JobStore(tmp_path / "jobs")
    job = store.open(request, passes)
    for index in range(count - 1):
        job.write_frame(index, np.full((64, 64, 3), index, np.uint8))
    server = RunningServer(tmp_path / "jobs")
    try:
        client = server.connect()
        client.run_shot("a", request, passes, Finished, cut_out=True)
        assert sorted(client.frames("a")) == list(range(count))
    finally:
        server.close()


def test_after_a_cancel_no_more_passes_are_asked_for(server, tiny):
    size, count = 272, 10
    passes, request = samples.passes(count, size, 2), samples.request(count, size, model=tiny, preset="surface", steps=300)
    client = server.connect()
    client.run_shot("a", request, passes, Accepted)
    while not [m for m, _ in client.heard if isinstance(m, Progress) and m.stage == "denoising"]:
        message, _ = client.wait_for((PassesWanted, Progress), "a")
        if isinstance(message, PassesWanted):
            client.send_passes(message, passes)
    client.send(Cancel(ticket="a"))
    client.wait_for(Cancelled, "a", 60)
    assert client.hears_nothing(1.0)


def test_shots_that_wait_come_in_fair_turns_and_previews_first():
    order, finished = [], threading.Event()

    class Waiting(Task):
        def run(self, worker):
            order.append(self.ticket)
            self.end(TaskState.FINISHED, Finished(ticket=self.ticket, report={}))
            if len(order) == 5:
                finished.set()

    loader = ResourceLoader(lambda: Resources(None, None, None))
    loader.start()
    worker = Worker(loader)
    outbox = SimpleNamespace(put=lambda *message: None)
    tasks = []
    for ticket, owner, priority in (("a1", b"a", 0), ("a2", b"a", 0), ("a3", b"a", 0), ("b1", b"b", 0), ("p", b"a", 2)):
        tasks.append(Waiting(ticket, b"", outbox))
        tasks[-1].owner, tasks[-1].priority = owner, priority
    for task in tasks:
        worker.submit(task)
    worker.start()
    assert finished.wait(60)
    worker.stop(30)
    assert order == ["p", "a1", "b1", "a2", "a3"]
