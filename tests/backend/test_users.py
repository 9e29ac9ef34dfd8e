"""Several users of one backend: what one makes is not there for another, by whatever name."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bpy")

from latentman.shared import messages  # noqa: E402
from latentman.shared.manifest import FrameEntry  # noqa: E402
from latentman.shared.task import TaskState  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.far_studio import Studio  # noqa: E402
from tests.backend.wire import WireClient  # noqa: E402

SECRET, TICKET = "a xylophone of gold", "0123456789abcdef"


class Listener(WireClient):
    """Keeps every byte that it hears."""

    raw = b""

    def receive(self, seconds=60.0):
        if not self._socket.poll(int(seconds * 1000)):
            return None
        parts = self._socket.recv_multipart()
        self.raw += b"".join(parts)
        self.heard.append(messages.decode(parts))
        return self.heard[-1]


@pytest.fixture
def studio(tmp_path, monkeypatch):
    made = Studio(tmp_path, monkeypatch)
    yield made
    made.close()


def _connect(studio, name):
    keys = studio.become(name)
    return studio.watch(Listener(studio.running.server.endpoint, studio.key, (keys.client_public, keys.client_secret)))


def _fetch(client, job):
    """How a job's frames are refused."""
    ticket = f"fetch {len(client.heard)}"
    client.send(messages.FetchJob(ticket=ticket, job=job))
    message = client.wait_for((messages.Failed, messages.FrameResult, messages.Finished), ticket)[0]
    return getattr(message, "code", type(message).__name__)


def test_another_user_s_jobs_are_not_there(studio, tiny):
    request = samples.request(3, model=tiny, prompt=SECRET, preset="surface", steps=2)
    passes = samples.passes(3, shift=1)
    mine, other = _connect(studio, "user"), _connect(studio, "other")
    job = mine.run_shot("done", request, passes, messages.Finished)[0].report["job"]
    # one that waits for its passes, with drafts and progress, while the other asks for things
    mine.send(messages.SubmitShot(ticket=TICKET, request=samples.request(3, model=tiny, prompt=SECRET, seed=9), drafts=True))
    mine.wait_for(messages.PassesWanted, TICKET)
    (path,) = studio.jobs.glob(f"{job}/request.json")
    (incoming,) = (studio.jobs / "incoming").iterdir()
    guesses = [
        "",
        ".",
        "..",
        "*",
        "incoming",
        "in_use",
        f"incoming/{incoming.name}",
        incoming.name,
        f"../jobs/{job}",
        f"{job}/",
        f"./{job}",
    ]
    guesses += [job[:8], job[:-1], job.upper(), f"{job}\0", "0" * 24, str(path.parent), TICKET, "done"]
    for guess in guesses:
        assert _fetch(other, guess[:64]) in ("job", "malformed"), guess
    for number, look in enumerate([*guesses, "f" * 24]):
        if look:
            ticket = f"look {number}"
            other.send(messages.SubmitShot(ticket=ticket, request=samples.request(3, model=tiny, preset="surface", look=look)))
            assert other.wait_for((messages.Failed, messages.PassesWanted), ticket)[0].code == "look", look
    # what was said of the guesses repeats them
    guessing, other.raw = other.raw, b""
    # the name of somebody else's piece of work is good for nothing
    for message, arrays in (
        (messages.Cancel(ticket=TICKET), {}),
        (messages.FrameTaken(ticket=TICKET), {}),
        (messages.PassesDigest(ticket=TICKET, index=0, digest="0"), {}),
        (messages.SendPasses(ticket=TICKET, index=0, entry=FrameEntry()), passes.select([0]).arrays()),
    ):
        other.send(message, arrays)
    other.send(messages.SubmitShot(ticket=TICKET, request=samples.request(3, model=tiny)))
    assert other.wait_for(messages.Failed, TICKET)[0].code == "ticket"
    other.send(messages.ListModels(ticket="list"))
    other.wait_for(messages.ModelList, "list")
    assert not studio.running.server._tasks[TICKET].state.ended
    assert studio.running.server._tasks[TICKET].state is TaskState.PREPARING
    # both work at the same time: each hears of its own
    other.run_shot("own", samples.request(2, model=tiny, preset="per_frame", steps=1), samples.passes(2), messages.Finished)
    mine.send(messages.Cancel(ticket=TICKET))
    mine.wait_for(messages.Cancelled, TICKET)
    for secret in (SECRET, job, incoming.name):
        assert secret.encode() not in other.raw, "nothing of it was heard"
    assert SECRET.encode() not in guessing
    pictures = {path.read_bytes() for path in (studio.jobs / job / "frames").glob("*.png")}
    assert pictures and not any(picture in other.raw + guessing for picture in pictures)
    # who was told the name has the frames: a colleague with the file
    assert _fetch(other, job) == "FrameResult"
