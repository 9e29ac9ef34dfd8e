"""Pairing with a backend on another machine: real processes, each with the keys of a user of its own, on several loopback hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("zmq")
pytest.importorskip("torch")

import zmq

from latentman.backend import pairing as server_side
from latentman.backend.clients import ClientList
from latentman.backend.pairing import MOST_GUESSES, MOST_TRIES, TRIES_SECONDS, Pairing, find_public_endpoint
from latentman.shared import curve_keys, key_entries, messages, pairing
from latentman.shared.curve_keys import KeysError
from latentman.shared.folders import CONFIG_ENVIRONMENT
from latentman.shared.invitation import Invitation, PairingError, read_invitation, write_invitation
from tests.backend.wire import WireClient

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")


def _command(folder, *arguments):
    return {
        "args": [sys.executable, str(ROOT / "backend" / "launch.py"), *arguments],
        "env": {**os.environ, **{f"LATENTMAN_{name}": str(folder / name.lower()) for name in ("CONFIG", "DATA", "LOGS")}},
        "cwd": folder,
        "text": True,
    }


class Machine:
    """A user on a machine, with keys of its own."""

    def __init__(self, folder, host) -> None:
        self.folder, self.host = folder, host
        folder.mkdir()
        self._process = None
        self.endpoint = self.text = ""

    def serve(self, *options, port=0):
        """Start a backend; with ``--pair`` its text is read."""
        arguments = ("serve", "--endpoint", f"tcp://{self.host}:{port}", "--end-with-stdin", *options)
        command = _command(self.folder, *arguments)
        self._process = subprocess.Popen(**command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        event = json.loads(self._process.stdout.readline())
        self.endpoint = event["endpoint"]
        self.text = self._process.stdout.readline().strip() if "--pair" in options else ""
        return self

    def stop(self):
        """End the backend; what it wrote to its standard error."""
        self._process.send_signal(signal.SIGTERM)
        _, said = self._process.communicate(timeout=60)
        return said

    def run(self, *arguments):
        """A command of ``latentman``."""
        return subprocess.run(**_command(self.folder, *arguments), capture_output=True, timeout=60, check=False)

    @property
    def keys(self):
        """The folder with its keys."""
        return self.folder / "config" / "keys"

    def close(self) -> None:
        """End what runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def machines(tmp_path):
    """``machines(name, host)`` makes one."""
    made = []

    def make(name, host="127.0.0.1"):
        made.append(Machine(tmp_path / name, host))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The test's own process becomes a user with keys of its own; its folder with keys."""
    monkeypatch.setenv(CONFIG_ENVIRONMENT, str(tmp_path / "user"))
    return tmp_path / "user" / "keys"


def _greets(endpoint, server_key=None, seconds=5.0):
    """Whether the backend at an address answers this process's own key."""
    client = WireClient(endpoint, server_key or key_entries.find_backend_key(endpoint))
    try:
        client.send(messages.Hello())
        answer = client.receive(seconds)
        return answer is not None and isinstance(answer[0], messages.Welcome)
    finally:
        client.close()


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_one_line_lets_one_client_in_for_good(machines, user):
    studio = machines("studio", "127.0.0.2").serve("--pair")
    assert re.fullmatch(r"latentman://127\.0\.0\.2:\d+\?key=[\w-]+", studio.text)
    assert not _greets(studio.endpoint, read_invitation(studio.text).server_public, 1.0), "a stranger has no answer"
    assert pairing.pair(studio.text) == studio.endpoint
    assert _greets(studio.endpoint)
    said, text = studio.stop(), studio.text
    assert "good for one client and 10 minutes" in said and text.partition("=")[2] not in said
    # another time, without --pair
    port = studio.endpoint.rpartition(":")[2]
    studio.serve(port=port)
    assert _greets(studio.endpoint)
    # what is stored is nobody else's
    for folder in (user, studio.keys):
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in _files(folder))
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (folder, *folder.iterdir()) if path.is_dir())
    secret = read_invitation(text).secret
    kept = b"".join(path.read_bytes() for path in (*_files(user), *_files(studio.folder)))
    assert secret not in kept and text.partition("=")[2].encode() not in kept, "the secret is nowhere"


def test_several_backends_and_the_own_one_each_keep_their_key(machines, user):
    first, second = (machines(name, host).serve("--pair") for name, host in (("a", "127.0.0.2"), ("b", "127.0.0.3")))
    for one in (first, second):
        pairing.pair(one.text)
    assert _greets(first.endpoint) and _greets(second.endpoint)
    keys = {key_entries.find_backend_key(one.endpoint) for one in (first, second)}
    assert len(keys) == 2 and None not in keys and key_entries.find_backend_key("tcp://127.0.0.1:48573") is None
    own = curve_keys.load_or_create(zmq.curve_keypair)
    assert own.server_public not in keys


def test_the_command_line_pairs_lists_and_forgets(machines):
    studio, laptop, other = machines("studio", "127.0.0.4").serve("--pair"), machines("laptop"), machines("other")
    done = laptop.run("pair", studio.text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Paired; the backend's address is {studio.endpoint.removeprefix('tcp://')}\n"
    refused = other.run("pair", studio.text)
    assert refused.returncode == 2 and refused.stdout == "" and refused.stderr == pairing.REFUSED + "\n"
    assert not (other.keys / "backends").exists()
    (line,) = studio.run("serve", "--list-clients").stdout.splitlines()
    fingerprint, day, _ = line.split("  ")
    assert re.fullmatch("[0-9a-f]{12}", fingerprint) and re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    assert "no client" in studio.run("serve", "--forget-client", "nobody").stderr.lower()
    done = studio.run("serve", "--forget-client", fingerprint)
    assert done.returncode == 0 and fingerprint in done.stdout
    assert "No other client is paired" in studio.run("serve", "--list-clients").stdout


def test_a_client_that_is_forgotten_is_out_at_once(machines, user):
    studio = machines("studio", "127.0.0.2").serve("--pair")
    pairing.pair(studio.text)
    client = WireClient(studio.endpoint, key_entries.find_backend_key(studio.endpoint))
    try:
        client.send(messages.Hello())
        client.wait_for(messages.Welcome)
        assert studio.run("serve", "--forget-client", pairing.get_client_name()).returncode == 0
        client.send(messages.Hello())
        failed = client.wait_for(messages.Failed)[0]
        assert failed.code == "forgotten" and "pair again" in failed.message
    finally:
        client.close()
    assert not _greets(studio.endpoint, seconds=1.0)


def test_nothing_is_opened_without_being_asked_for(machines, user):
    studio = machines("studio", "0.0.0.0")
    done = studio.run("serve", "--endpoint", "tcp://0.0.0.0:0")
    assert done.returncode == 2 and "none is paired; use --pair" in done.stderr and done.stderr.count("\n") == 1
    plain = machines("plain", "127.0.0.2").serve()
    # a text that somebody made up
    made_up = write_invitation(Invitation(plain.endpoint, _server_key(plain), bytes(16)))
    with pytest.raises(PairingError, match="does not take this text"):
        pairing.pair(made_up)
    assert not (plain.keys / "clients").exists() and not user.joinpath("backends").exists()
    assert "Only this machine can reach the address" in server_side.explain("tcp://127.0.0.1:48573", is_guess=False)


def _server_key(machine):
    return (machine.keys / "curve.txt").read_bytes().split()[0]


def test_beyond_loopback_the_text_names_an_address_that_others_reach(machines):
    studio = machines("studio", "0.0.0.0").serve("--pair")
    host = read_invitation(studio.text).endpoint.removeprefix("tcp://").rpartition(":")[0]
    assert host not in ("0.0.0.0", "") and f"The address {host} is guessed" in studio.stop()
    assert find_public_endpoint("tcp://127.0.0.9:5") == ("tcp://127.0.0.9:5", False)


def test_wrong_texts_are_a_sentence_and_leave_nothing(machines, user):
    studio, other = machines("studio", "127.0.0.2").serve("--pair"), machines("other", "127.0.0.3").serve("--pair")
    right = read_invitation(studio.text)
    wrong_secret = write_invitation(Invitation(studio.endpoint, right.server_public, bytes(16)))
    with pytest.raises(PairingError, match="does not take this text"):
        pairing.pair(wrong_secret)
    # another backend answers at that address
    with pytest.raises(PairingError, match=r"does not answer at tcp://127\.0\.0\.3"):
        pairing.pair(write_invitation(Invitation(other.endpoint, right.server_public, right.secret)), seconds=1.0)
    with pytest.raises(PairingError, match="does not answer"):
        pairing.pair(write_invitation(Invitation("tcp://127.0.0.5:9", right.server_public, right.secret)), seconds=0.5)
    with pytest.raises(PairingError, match=r"does not answer|cannot be connected"):
        pairing.pair(write_invitation(Invitation("tcp://no-such-host.invalid:9", right.server_public, right.secret)), seconds=0.5)
    assert not user.joinpath("backends").exists() and not (studio.keys / "clients").exists()
    # none of it has used the text up
    assert pairing.pair(studio.text) == studio.endpoint
    with pytest.raises(PairingError, match="used already"):
        pairing.pair(studio.text)


def _connect_with_text(text):
    invitation = read_invitation(text)
    public, secret = invitation.derive_keys(zmq.curve_public)
    return WireClient(invitation.endpoint, invitation.server_public, (public, secret))


def test_who_has_the_text_can_do_nothing_but_pair(machines, user):
    studio = machines("studio", "127.0.0.2").serve("--pair")
    client = _connect_with_text(studio.text)
    try:
        for message in (messages.Hello(), messages.DescribeModel(ticket="m", model="starter"), messages.Cancel(ticket="m")):
            client.send(message)
            failed = client.wait_for(messages.Failed)[0]
            assert failed.code == "pairing" and "nothing with it but pair" in failed.message
        for key in ("a" * 39 + "é", "'" * 40, "a" * 39 + "\n"):
            client.send(messages.Pair(key=key, name="x"))
            assert client.wait_for(messages.Failed)[0].code in ("pairing", "malformed")
        client.send_raw([b"\xc1"])
        assert client.wait_for(messages.Failed)[0].code == "malformed"
        assert not (studio.keys / "clients").exists()
        # it pairs all the same, and not twice, although it is still connected
        first, second = (zmq.curve_keypair()[0].decode() for _ in range(2))
        client.send(messages.Pair(key=first, name="a\n\x1b[31mb" + "c" * 50))
        client.wait_for(messages.Paired)
        client.send(messages.Pair(key=second, name="b"))
        assert "used already" in client.wait_for(messages.Failed)[0].message
        client.send(messages.Hello())
        assert client.wait_for(messages.Failed)[0].code == "pairing"
    finally:
        client.close()
    (entry,) = (json.loads(path.read_text()) for path in _files(studio.keys / "clients"))
    assert entry["key"] == first and entry["name"].isprintable() and len(entry["name"]) <= 64


@pytest.mark.slow
def test_of_many_at_once_one_is_let_in(machines, user):
    studio = machines("studio", "127.0.0.2").serve("--pair")
    clients = [_connect_with_text(studio.text) for _ in range(6)]
    keys = [zmq.curve_keypair()[0].decode() for _ in clients]
    try:
        barrier = threading.Barrier(len(clients))

        def attempt(client, key):
            barrier.wait()
            client.send(messages.Pair(key=key, name="x"))

        threads = [threading.Thread(target=attempt, args=pair) for pair in zip(clients, keys, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # those whose connection came later than the first one's message are not even let in
        kinds = [type(answer[0]) for client in clients if (answer := client.receive(3.0)) is not None]
    finally:
        for client in clients:
            client.close()
    assert kinds.count(messages.Paired) == 1 and len(_files(studio.keys / "clients")) == 1


# -- time and guesses, with a clock of the test's own -----------------------------------------------------------------


@pytest.fixture
def timed(user):
    """(pairing, clock): ``clock.now`` is the time; the text is good for 100 seconds."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    public, _ = zmq.curve_keypair()
    return Pairing(public, ClientList(set()), 100.0, clock), clock


def _own_key(pairing_):
    return read_invitation(pairing_.write_text("tcp://h:1")).derive_keys(zmq.curve_public)[0]


def test_a_text_expires(timed):
    one, clock = timed
    clock.now += 100.0
    assert one.admits(_own_key(one))
    clock.now += 0.1
    assert not one.admits(_own_key(one))
    # for one who had connected before
    with pytest.raises(PairingError, match="has expired; run latentman serve --pair again"):
        one.take(zmq.curve_keypair()[0], "late")
    assert key_entries.list_entries(key_entries.CLIENTS) == ([], [])


def test_guesses_are_slowed_down_and_counted(timed):
    one, clock = timed
    for _ in range(MOST_TRIES):
        assert not one.admits(zmq.curve_keypair()[0])
    assert not one.admits(_own_key(one)), "nobody pairs while somebody guesses"
    clock.now += TRIES_SECONDS + 0.1
    assert one.admits(_own_key(one))
    for _ in range(MOST_GUESSES):
        clock.now += 0.001
        one.admits(b"x" * 40)
    clock.now += TRIES_SECONDS + 0.1
    assert not one.admits(_own_key(one)), "the text is void"


def test_strangers_do_not_keep_known_clients_out(machines, user):
    studio = machines("studio", "127.0.0.2").serve("--pair")
    pairing.pair(studio.text)
    server_key = read_invitation(studio.text).server_public
    strangers = [WireClient(studio.endpoint, server_key, zmq.curve_keypair()) for _ in range(MOST_TRIES + 5)]
    try:
        assert _greets(studio.endpoint)
        assert all(one.receive(0.01) is None for one in strangers)
    finally:
        for one in strangers:
            one.close()


def test_a_key_that_cannot_be_stored_leaves_the_text_good(timed, user):
    one, _ = timed
    user.mkdir(parents=True)
    (user / "clients").write_text("in the way")
    with pytest.raises(KeysError, match="cannot be stored"):
        one.take(zmq.curve_keypair()[0], "x")
    (user / "clients").unlink()
    key = zmq.curve_keypair()[0]
    one.take(key, "x")
    assert ClientList(set()).knows(key)


@pytest.mark.parametrize("spoil", ["loose", "damaged", "no key", "huge", "link"])
def test_entries_that_others_may_have_written_are_not_trusted(user, spoil, tmp_path):
    key, _ = zmq.curve_keypair()
    known = ClientList(set())
    known.add(key, "good")
    assert known.knows(key)
    (path,) = _files(user / "clients")
    if spoil == "loose":
        path.chmod(0o644)
    elif spoil == "damaged":
        path.write_bytes(b'{"name"')
    elif spoil == "no key":
        path.write_text('{"name": "good", "key": "short"}')
    elif spoil == "huge":
        path.write_bytes(b" " * 10_000)
    else:
        (tmp_path / "elsewhere").write_bytes(path.read_bytes())
        path.unlink()
        os.mkfifo(path)
    assert not ClientList(set()).knows(key)
    entries, problems = key_entries.list_entries(key_entries.CLIENTS)
    assert entries == [] and len(problems) == 1 and str(path) in problems[0]


def test_a_paired_backends_damaged_entry_is_a_sentence(user):
    key_entries.add_entry(key_entries.BACKENDS, "tcp://box:1", zmq.curve_keypair()[0])
    (path,) = _files(user / "backends")
    path.write_text("x")
    with pytest.raises(KeysError, match=r"is damaged; delete the file and pair again"):
        key_entries.find_backend_key("tcp://box:1")
    assert key_entries.find_backend_key("tcp://box:2") is None
