"""A connection over TCP that breaks in the middle of everything: shots go on where they were, and nothing is sent twice."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bpy")

from latentman.backend import sessions as sessions_module  # noqa: E402
from latentman.blender_addon.client import ConnectionInterrupted, ConnectionLost  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.frame_digest import digest_frame  # noqa: E402
from latentman.shared.manifest import FrameEntry  # noqa: E402
from latentman.shared.overview import shrink_passes  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.streams import PIECE_BYTES, split_number  # noqa: E402
from latentman.shared.task import TaskState  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.far_studio import WINDOW, Studio  # noqa: E402
from tests.backend.wire import WireClient  # noqa: E402


@pytest.fixture
def studio(tmp_path, monkeypatch):
    made = Studio(tmp_path, monkeypatch)
    yield made
    made.close()


class Talk:
    """What one client says and hears, as a Blender would."""

    def __init__(self, client, passes) -> None:
        self.client, self._passes, self.heard, self.breaks = client, passes, [], 0
        self.sent_bytes, self.asked, self.sent, self.pictures = 0, [], [], {}

    def submit(self, ticket, request, **options):
        self.client.send(messages.SubmitShot(ticket=ticket, request=request, **options))

    def go_on(self, until, *, withhold=()):
        """Answer until a message of the kinds ``until`` comes, or the passes of a frame in ``withhold`` are asked for."""
        while True:
            event = self.client.events.get(timeout=60)
            if isinstance(event, ConnectionInterrupted):
                self.breaks += not event.is_over
                continue
            assert not isinstance(event, ConnectionLost), event
            message = event.message
            self.heard.append(message)
            if isinstance(message, messages.PassesWanted):
                self.asked.append((message.ticket, message.index, message.overview))
                if message.index in withhold and not message.overview:
                    return message
                self.answer(message)
            elif isinstance(message, messages.PassesKnown):
                if not message.known:
                    self.send(message)
            elif isinstance(message, messages.FrameResult):
                self.pictures[message.index] = event.arrays["png"]
                self.client.send(messages.FrameTaken(ticket=message.ticket))
            if isinstance(message, until):
                return message
            assert not isinstance(message, (messages.Failed, messages.Cancelled)), message

    def answer(self, wanted):
        """Send passes, or first their digest where the backend may have them."""
        if not wanted.is_there:
            self.send(wanted)
            return
        frame = self._passes.select([wanted.index])
        digest = digest_frame(shrink_passes(frame) if wanted.overview else frame, FrameEntry())
        self.client.send(messages.PassesDigest(ticket=wanted.ticket, index=wanted.index, digest=digest, overview=wanted.overview))

    def send(self, wanted):
        frame = self._passes.select([wanted.index])
        arrays = (shrink_passes(frame) if wanted.overview else frame).arrays()
        self.sent_bytes += sum(array.nbytes for array in arrays.values())
        self.sent.append((wanted.index, wanted.overview))
        self.client.send(
            messages.SendPasses(ticket=wanted.ticket, index=wanted.index, entry=FrameEntry(), overview=wanted.overview), arrays
        )


def _make_noise(count):
    """Passes that nothing makes smaller."""
    rng, plain = np.random.default_rng(1), samples.passes(count, shift=1)
    arrays = plain.arrays()
    uv = rng.random(arrays["uv"].shape, np.float32)
    return FramePasses(**{**arrays, "uv": uv, "rest_position": rng.random(arrays["rest_position"].shape, np.float32)})


def test_an_upload_that_is_cut_again_and_again_sends_nothing_twice(studio, tiny, monkeypatch):
    monkeypatch.setattr(messages, "pack", lambda array: None)
    count = 24
    passes, request = _make_noise(count), samples.request(count, model=tiny)
    # within the greeting, the handshake, the first message, and pieces of passes; and on the way back
    client, proxy = studio.connect(5, 300, 1500, 60_001, -9000, 200_003, -2500, 7, 400_001, -30_001, 500_009)
    talk = Talk(client, passes)
    talk.submit("a", request)
    talk.go_on((), withhold={count - 1})
    frame = talk.sent_bytes / (count - 1)
    print(f"{proxy.broken} cuts, {talk.breaks} noticed, {client.link.sent_bytes / talk.sent_bytes:.3f} of {talk.sent_bytes} bytes")
    assert proxy.broken == 11 and talk.breaks >= 6
    assert client.link.sent_bytes <= 1.1 * talk.sent_bytes + frame
    assert client.link.sent_bytes - talk.sent_bytes <= proxy.broken * WINDOW + 0.02 * talk.sent_bytes
    # encryption and the heads of pieces are in this, which are of the tests' small ones
    assert proxy.sent <= 1.1 * talk.sent_bytes + 2 * frame
    assert len(talk.asked) == len(set(talk.asked)) == count, "nothing is asked for twice"


def test_a_whole_shot_over_a_connection_that_breaks_both_ways(studio, tiny):
    count = 5
    passes, request = _make_noise(count), samples.request(count, model=tiny)
    one, _ = studio.connect()
    calm = Talk(one, passes)
    calm.submit("calm", request)
    calm.go_on(messages.Finished)
    studio.forget_jobs()
    client, proxy = studio.connect(2000, 150_001, -1200, 100_003, -2001, -5003, -15_001, -4001, -12_007)
    talk = Talk(client, passes)
    talk.submit("a", request)
    end = talk.go_on(messages.Finished)
    assert proxy.broken >= 6 and talk.breaks >= 4
    frames = [message.index for message in talk.heard if isinstance(message, messages.FrameResult)]
    assert sorted(frames) == list(range(count)), "each frame comes once"
    assert all(np.array_equal(talk.pictures[n], calm.pictures[n]) for n in range(count))
    assert end.report["frames"] == {"made": count, "kept": 0}
    assert len(talk.asked) == len(set(talk.asked)) == count
    # the same once more, from the disk, while it breaks
    proxy.cut()
    talk.submit("b", request)
    talk.heard.clear()
    talk.go_on(messages.Finished)
    assert sorted(message.index for message in talk.heard if isinstance(message, messages.FrameResult)) == list(range(count))


def test_a_client_that_does_not_come_back_is_let_go_of(studio, tiny, monkeypatch):
    client, proxy = studio.connect()
    talk = Talk(client, samples.passes(3, shift=1))
    talk.submit("a", samples.request(3, model=tiny))
    talk.go_on((), withhold={2})
    server = studio.running.server
    (task,) = server._tasks.values()
    proxy.close()
    studio.wait_until(lambda: server._sessions.list_gone())
    assert not task.state.ended, "it is waited for"
    monkeypatch.setattr(sessions_module, "KEEP_SECONDS", 0.0)
    studio.wait_until(lambda: task.gone)
    assert not server._sessions._sessions
    (left,) = (studio.jobs / "incoming").iterdir()
    assert (left / "0001.exr").exists(), "what had come is there for the next try"


@pytest.mark.parametrize("size", [64, 272])
def test_a_backend_that_was_started_again_has_what_had_come(studio, tiny, size):
    """Small frames name their job at the end; large ones have small copies, which name it before."""
    count = 4
    passes = samples.passes(count, size, 2)
    request = samples.request(count, size, model=tiny, preset="surface", steps=1)
    client, _ = studio.connect()
    first = Talk(client, passes)
    first.submit("a", request)
    last = first.go_on((), withhold={3})
    studio.wait_until(lambda: client.waiting_bytes == 0)
    had = set(first.sent)
    assert last.index == 3 and len(had) >= count - 1
    studio.start_again()
    # frame 1 is another one by now, where small copies do not look
    changed = FramePasses(**{name: array.copy() for name, array in passes.arrays().items()})
    changed.uv[1, 8, 8] += 0.25
    again, _ = studio.connect()
    second = Talk(again, changed)
    second.submit("b", request)
    second.go_on(messages.Finished)
    assert set(second.sent) == {(1, False), (3, False)}, "what is the same is not sent"
    # nothing is left of the first try
    studio.wait_until(lambda: not list((studio.jobs / "incoming").iterdir()))
    # and once more: all is there
    second.submit("c", request)
    second.sent.clear()
    second.go_on(messages.Finished)
    assert not second.sent
    # somebody else's try of the same shot is asked for everything that the job's small copies do not say
    studio.become("other")
    other, _ = studio.connect()
    third = Talk(other, passes)
    third.submit("c", request)
    third.go_on((), withhold={0})
    assert not any(message.is_there for message in third.heard if isinstance(message, messages.PassesWanted))


def test_passes_are_not_had_by_guessing(studio, tiny):
    """Who does not have a frame's passes does not get them taken for sent."""
    passes, request = samples.passes(3, shift=1), samples.request(3, model=tiny)
    client, _ = studio.connect()
    first = Talk(client, passes)
    first.submit("a", request)
    first.go_on((), withhold={2})
    studio.wait_until(lambda: client.waiting_bytes == 0)
    studio.start_again()
    again, _ = studio.connect()
    second = Talk(again, passes)
    second.submit("b", request)
    wanted = second.go_on((), withhold={0})
    assert wanted.is_there
    again.send(messages.PassesDigest(ticket="b", index=0, digest="0" * 32))
    assert not second.go_on(messages.PassesKnown).known
    # one that is not there, and one that was not asked for
    again.send(messages.PassesDigest(ticket="b", index=9, digest="0" * 32))
    assert second.go_on(messages.Failed).code == "passes"


def test_one_that_is_waited_for_does_not_hold_up_others(studio, tiny):
    """Its first frames are being made, for which passes are missing, while somebody else's shot waits."""
    size, count = 272, 3
    client, proxy = studio.connect()
    talk = Talk(client, samples.passes(count, size, 2))
    talk.submit("a", samples.request(count, size, model=tiny, preset="surface", steps=1))
    talk.go_on((), withhold={0, 1, 2})
    server = studio.running.server
    studio.wait_until(lambda: server._tasks["a"].state is TaskState.RUNNING)
    proxy.close()
    studio.wait_until(server._sessions.list_gone)
    assert not server._tasks["a"].state.ended, "nobody waits"
    other, _ = studio.connect()
    calm = Talk(other, samples.passes(2))
    calm.submit("b", samples.request(2, model=tiny, preset="per_frame", steps=1))
    calm.go_on(messages.Finished)


class Direct(WireClient):
    """A client with a session, by hand."""

    def open(self, session, *, resumes=False, heard=0):
        """The answer to opening a session."""
        self.send(messages.OpenSession(session=session, resumes=resumes, heard=heard))
        return self.hear()

    def hear(self):
        """The next message, with or without its number; those that say how far a stream has come also show every now and then
        that the client is there."""
        while True:
            assert self._socket.poll(20_000)
            self.number, parts = split_number(self._socket.recv_multipart())
            message = messages.decode(parts)[0]
            if not isinstance(message, messages.PieceTaken):
                return message


def _connect_by_hand(studio, name):
    keys = studio.become(name)
    return studio.watch(Direct(studio.running.server.endpoint, studio.key, (keys.client_public, keys.client_secret)))


def test_a_session_is_one_keys_and_one_connections(studio):
    name = "0123456789abcdef" * 2
    mine = _connect_by_hand(studio, "user")
    assert isinstance(mine.open(name), messages.SessionOpen) and mine.number == 0
    # somebody else who knows its name has nothing of it
    other = _connect_by_hand(studio, "other")
    assert other.open(name, resumes=True).code == "session"
    assert isinstance(other.open(name), messages.SessionOpen), "a session of that name of one's own is another one"
    # a second connection of the same client takes it over, and the first has none any more
    again = _connect_by_hand(studio, "user")
    assert isinstance(again.open(name, resumes=True), messages.SessionOpen)
    mine.send(messages.Heard(number=0))
    assert mine.hear().code == "session"
    # what is not a stream ends the session, and nothing else
    again.send(messages.Piece(stream=0, start=0), {"piece": np.zeros(2, np.uint8)})
    assert again.hear().code == "session"
    again.send(messages.Hello())
    assert isinstance(again.hear(), messages.Welcome) and again.number is None


def test_a_break_before_the_first_answer_does_no_harm(studio, monkeypatch):
    """The session is there, and its client does not know yet; also where there is no room for one more."""
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 1)
    name = "b" * 32
    _connect_by_hand(studio, "user").open(name)
    again = _connect_by_hand(studio, "user")
    assert isinstance(again.open(name), messages.SessionOpen)
    assert again.open("c" * 32).code == "malformed", "a connection has one session"
    assert len(studio.running.server._sessions.list_connected()) == 1


def test_a_connection_called_as_anothers_was_has_nothing_of_its_session():
    book = sessions_module.SessionBook()
    session = book.open(b"route", b"key", messages.OpenSession(session="a" * 32))
    assert book.find(b"route", b"key") is session and book.find(b"route", b"other") is None


@pytest.mark.parametrize(
    ("message", "arrays"),
    [
        (messages.Piece(stream=0, start=0), {}),
        (messages.Piece(stream=1, start=0), {"piece": np.zeros((2, 2), np.uint8)}),
        (messages.Piece(stream=1, start=0), {"piece": np.zeros(2, np.float32)}),
        (messages.Piece(stream=1, start=0), {"piece": np.zeros(PIECE_BYTES + 1, np.uint8)}),
    ],
)
def test_pieces_that_are_none_are_answered(studio, message, arrays):
    client = _connect_by_hand(studio, "user")
    client.open("a" * 32)
    client.send(message, arrays)
    assert client.hear().code == "malformed"


def test_there_are_not_more_sessions_than_anyone_needs(studio, monkeypatch):
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 2)
    found = [_connect_by_hand(studio, "user").open(letter * 32) for letter in "abc"]
    assert [isinstance(one, messages.SessionOpen) for one in found] == [True, True, False] and found[2].code == "session"
    assert isinstance(_connect_by_hand(studio, "other").open("a" * 32), messages.SessionOpen), "those of others do not count"


def test_who_comes_and_goes_finds_room(studio, monkeypatch):
    """Commands leave a session each."""
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 2)
    server = studio.running.server
    for number in range(5):
        client = _connect_by_hand(studio, "user")
        assert isinstance(client.open(f"{number:032x}"), messages.SessionOpen)
        client.close()
        studio.wait_until(lambda: not server._sessions.list_connected())
    assert len(server._sessions.list_gone()) == 2


def test_a_client_that_is_forgotten_is_told_once(studio, monkeypatch):
    client = _connect_by_hand(studio, "user")
    client.open("a" * 32)
    monkeypatch.setattr(studio.running.server._clients, "knows", lambda key: False)
    client.send(messages.Heard(number=0))
    assert client.hear().code == "forgotten" and client.number is None, "what has no number is not answered"
    assert not studio.running.server._sessions.list_connected()
