"""A backend that answers before PyTorch is imported: what waits meanwhile, and how it ends where the import fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from latentman.backend import missing  # noqa: E402
from latentman.backend.tasks.resources import LOADING, make_resources  # noqa: E402
from latentman.shared.folders import CONFIG_ENVIRONMENT  # noqa: E402
from latentman.shared.messages import (  # noqa: E402
    Cancel,
    Cancelled,
    DescribeModel,
    Failed,
    FetchJob,
    Finished,
    Hello,
    MakeMotion,
    ModelDescribed,
    MotionMade,
    Progress,
    SubmitShot,
    Welcome,
)
from latentman.shared.motion_request import MotionRequest  # noqa: E402
from latentman.shared.shot import ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.wire import RunningServer, WireClient  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


class HeldLoading:
    """Makes resources when it is allowed to."""

    def __init__(self, error=None) -> None:
        self.go_on, self._error = threading.Event(), error

    def __call__(self, jobs):
        assert self.go_on.wait(60)
        if self._error is not None:
            raise self._error
        return make_resources(jobs)


@pytest.fixture
def held(tmp_path):
    """(make, server, client): a server that imports nothing until ``make.go_on`` is set, and a client that it knows."""
    make = HeldLoading()
    server = RunningServer(tmp_path / "jobs", make)
    yield make, server, server.connect()
    make.go_on.set()
    server.close()


def _motion(ticket):
    return MakeMotion(ticket=ticket, request=MotionRequest("a person walks", 1.0, steps=1))


def _requests(tiny):
    return {
        "shot": SubmitShot(ticket="shot", request=samples.request(1, model=tiny, preset="per_frame", steps=1)),
        "job": FetchJob(ticket="job", job="0123456789abcdef"),
        "motion": _motion("motion"),
    }


def _collect_ends(client, tickets):
    """The messages with which pieces of work end, by their tickets."""
    found = {}
    while set(found) != set(tickets):
        message, _ = client.wait_for((Failed, Cancelled, Finished), seconds=10)
        found[message.ticket] = message
    return found


def test_it_says_who_it_is_at_once_and_what_it_runs_on_later(held):
    make, server, client = held
    client.send(Hello())
    assert client.wait_for(Welcome)[0].device == "" and not server.server.loader.ended
    make.go_on.set()
    told = client.wait_for(Welcome)[0]
    assert told.device and told.models
    # once
    assert client.hears_nothing()
    other = server.connect()
    other.send(Hello())
    assert other.wait_for(Welcome)[0].device == told.device
    assert other.hears_nothing()


def test_whatever_is_asked_for_meanwhile_waits_its_turn(held, tiny):
    make, _, client = held
    for ticket, request in _requests(tiny).items():
        client.send(request)
        assert client.wait_for(Progress, ticket)[0].stage == LOADING
    make.go_on.set()
    passes = samples.passes(1)
    client.go_on("shot", passes, Finished)
    heard = {m.ticket: m for m, _ in client.heard if isinstance(m, (Failed, MotionMade))}
    for ticket, kind in (("job", Failed), ("motion", MotionMade)):
        found = heard.get(ticket) or client.wait_for(kind, ticket)[0]
        assert isinstance(found, kind), found
        if kind is Failed:
            assert "does not have the shot" in found.message


def test_how_a_model_is_run_is_told_at_once(held):
    """Its files are read without PyTorch."""
    _, server, client = held
    client.send(DescribeModel(ticket="model", model="starter"))
    assert client.wait_for(ModelDescribed, "model")[0].profile.family
    client.send(DescribeModel(ticket="other", model="nosuch"))
    assert "There is no model 'nosuch'" in client.wait_for(Failed, "other")[0].message
    assert not server.server.loader.ended


def test_whatever_waits_can_be_cancelled(held, tiny):
    _, server, client = held
    for ticket, request in _requests(tiny).items():
        client.send(request)
        client.wait_for(Progress, ticket)
        client.send(Cancel(ticket=ticket))
        client.wait_for(Cancelled, ticket)
    # nothing of it is left to be done later
    assert server.alive and not server.server.loader.ended


def test_what_a_client_that_has_gone_wanted_does_not_hold_up_others(held):
    make, server, client = held
    client.send(_motion("a"))
    client.wait_for(Progress, "a")
    client.close()
    server._clients.remove(client)
    make.go_on.set()
    other = server.connect()
    other.send(_motion("b"))
    other.wait_for(MotionMade, "b")


def test_a_server_can_be_stopped_while_it_loads(tmp_path, tiny):
    make = HeldLoading()
    server = RunningServer(tmp_path / "jobs", make)
    client = server.connect()
    for ticket, request in _requests(tiny).items():
        client.send(request)
        client.wait_for(Progress, ticket)
    server.server.stop()
    server._thread.join(20)
    assert not server.alive and server.server.loader.working
    assert {type(end) for end in _collect_ends(client, _requests(tiny)).values()} == {Cancelled}
    make.go_on.set()
    server.close()


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ShotError("device", "The device 'cuda' is not there: buy one."), "device", "buy one"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "backend", "torch is not installed in this Python; install"),
        (ImportError("libcudart.so.12: cannot open shared object file"), "internal", "libcudart.so.12: cannot open"),
        (OSError("[WinError 1114] a DLL failed"), "disk", "WinError 1114"),
        (MemoryError(), "memory", "not enough memory"),
        (SystemExit("this library has had enough"), "internal", "has had enough"),
    ],
)
def test_where_loading_fails_everybody_is_told_and_it_ends(tmp_path, tiny, error, code, sentence):
    make = HeldLoading(error)
    server = RunningServer(tmp_path / "jobs", make)
    client = server.connect()
    for ticket, request in _requests(tiny).items():
        client.send(request)
        client.wait_for(Progress, ticket)
    make.go_on.set()
    for end in _collect_ends(client, _requests(tiny)).values():
        assert isinstance(end, Failed) and end.code == code and sentence in end.message
    server._thread.join(20)
    assert not server.alive and server.server.loader.error is not None
    server.close()


# -- processes --------------------------------------------------------------------------------------------------------


class Process:
    """``latentman serve`` in a process whose torch is a file of the test's own, or the real one for an empty text."""

    def __init__(self, folder, torch, *arguments) -> None:
        if torch:
            (folder / "fake" / "torch").mkdir(parents=True)
            (folder / "fake" / "torch" / "__init__.py").write_text(torch)
        self.began = folder / "began"
        path = [str(folder / "fake"), str(ROOT / "build" / "package"), *filter(None, sys.path)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "latentman.backend", "serve", "--endpoint", "tcp://127.0.0.1:0", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), CONFIG_ENVIRONMENT: str(folder / "config")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_event(self):
        """What it prints next. One that prints nothing for a minute is killed, so that nobody waits for it for ever."""
        timer = threading.Timer(60, self._process.kill)
        timer.start()
        try:
            return json.loads(self._process.stdout.readline())
        finally:
            timer.cancel()

    def close_input(self) -> None:
        """As when the program that started it has gone."""
        self._process.stdin.close()
        self._process.stdin = None

    def send_signal(self, number) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self):
        """(exit code, standard error) at its end."""
        _, said = self._process.communicate(timeout=60)
        return self._process.returncode, said

    def kill(self) -> None:
        """Whatever it does."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(torch, *arguments)`` starts a backend."""
    monkeypatch.setenv(CONFIG_ENVIRONMENT, str(tmp_path / "config"))
    started = []

    def start(torch, *arguments):
        started.append(Process(tmp_path, torch, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


#: a torch whose import never ends
ENDLESS = "import pathlib, time\npathlib.Path('began').touch()\nwhile True:\n    time.sleep(0.05)\n"


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "input"])
def test_it_ends_in_the_middle_of_an_import(start, way):
    process = start(ENDLESS, "--end-with-stdin")
    endpoint = process.read_event()["endpoint"]
    client = WireClient(endpoint)
    try:
        client.send(Hello())
        assert client.wait_for(Welcome)[0].device == ""
        client.send(_motion("m"))
        assert client.wait_for(Progress, "m")[0].stage == LOADING
        while not process.began.exists():
            assert client.receive(0.05) is None
        if way == "input":
            process.close_input()
        else:
            process.send_signal(getattr(signal, way))
        client.wait_for(Cancelled, "m", seconds=20)
    finally:
        client.close()
    assert process.end() == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch", "code", "said"),
    [
        ("raise ImportError('libtorch_cpu.so: cannot open shared object file')", 1, "ImportError: libtorch_cpu.so: cannot open"),
        ("import nothing_of_that_name", 2, "nothing_of_that_name is not installed in this Python"),
    ],
)
def test_a_broken_library_ends_it_and_says_why(start, torch, code, said):
    process = start(torch)
    assert process.read_event()["event"] == "listening"
    ended, words = process.end()
    assert ended == code and said in words


def test_a_device_that_is_none_is_told_before_it_listens(start):
    process = start(ENDLESS, "--device", "potato")
    code, said = process.end()
    assert code == 2 and said == "The device 'potato' is unknown; use auto, cuda, cuda:1, xpu, mps or cpu.\n"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() > 9, reason="there are ten of them")
def test_a_device_that_is_not_there_ends_it_with_a_sentence(start):
    process = start("", "--device", "cuda:9")
    assert process.read_event()["event"] == "listening"
    code, said = process.end()
    assert code == 2 and said.startswith("The device 'cuda:9' is not there") and said.count("\n") == 1


def test_what_runs_before_the_import_imports_none_of_it():
    """Nor does reading how a model is run import more than the hub's library."""
    program = (
        "import sys\n"
        "import latentman.backend.__main__, latentman.backend.server\n"
        "from latentman.backend.missing import SERVING\n"
        "print([name for name in SERVING if name in sys.modules])\n"
        "from latentman.backend.models.profiles import find_profile\n"
        "find_profile('starter'), find_profile('sd15')\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])\n"
    )
    path = os.pathsep.join([str(ROOT / "build" / "package"), *filter(None, sys.path)])
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split("\n")[:2] == ["[]", "[]"]


def test_packages_are_looked_for_without_importing_them(monkeypatch):
    for name in missing.SERVING:
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    missing.require()
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in missing.SERVING}
    with pytest.raises(ModuleNotFoundError) as caught:
        missing.require(("torch", "nothing_of_that_name"))
    assert caught.value.name == "nothing_of_that_name"
