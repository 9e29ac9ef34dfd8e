"""The command of *Set Up* as Blender runs it, in a process of its own that is killed, left alone by its owner, or run twice."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentman.backend.installation.processes import CANCELLED, NOT_STARTED, Children, get_code, read_last
from latentman.shared.backend_environment import ENVIRONMENTS, find_current, list_environments
from tests.checkout import ROOT, clean_environment, copy_checkout
from tests.small_set_up import BUILD, SmallSetUp, find_system_python, is_alive
from tests.small_wheels import find_uv
from tools import window_wheels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the small uv is a script of sh")
_FILES = ("__init__.py", "blender_manifest.toml")
_PARTS = ("backend/__init__.py", "backend/install.py", "backend/launch.py", "backend/missing.py", "backend/installation", "shared")
_PARTS += ("locks/backend.txt",)
#: what ``launch.py doctor --try`` runs in the environment that was made
_BACKEND = """
import json
import sys


def main():
    import alpha
    import beta

    print(json.dumps({"frame": f"{alpha.VERSION} {beta.VERSION}", "problems": [], "arguments": sys.argv[1:]}, indent=1))
    return 0
"""
_SECONDS = 30


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """A copy of the product with a backend of a few lines."""
    folder = tmp_path_factory.mktemp("product") / "latent man"
    folder.mkdir()
    whole = copy_checkout(tmp_path_factory.mktemp("all") / "checkout", "backend", "shared", "locks", *_FILES)
    for name in (*_FILES, *_PARTS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(whole / name, folder / name)
    (folder / "backend" / "__main__.py").write_text(_BACKEND)
    # the command itself leaves nothing in the product's folder
    compileall.compile_dir(folder, quiet=1)
    return folder


@pytest.fixture(scope="module")
def uv(tmp_path_factory):
    return find_uv(tmp_path_factory.mktemp("uv"))


class Command:
    """``backend/install.py``, with events as they come."""

    def __init__(self, product, set_up, *arguments):
        shutil.copy2(set_up.lock_path, product / "locks" / "setup.json")
        names = {"PACKAGE_INDEX": "package_index", "TORCH_INDEX": "torch_index", "PYTHON_MIRROR": "python_mirror"}
        variables = {f"LATENTMAN_{name}": getattr(set_up.network, field) for name, field in names.items()}
        variables |= {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(product / "backend" / "install.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
        )
        self.events = []

    def read(self):
        """The next event, None at the end."""
        line = self.process.stdout.readline()
        if line:
            self.events.append(json.loads(line))
        return self.events[-1] if line else None

    def read_until(self, event, **values):
        while (found := self.read()) is not None:
            if found["event"] == event and all(found.get(name) == value for name, value in values.items()):
                return found
        raise AssertionError((self.events, self.process.stderr.read().decode()))

    def finish(self):
        """Read to the end; returns (exit code, last event)."""
        while self.read():
            pass
        code = self.process.wait(_SECONDS)
        self.close()
        return code, self.events[-1]

    def kill(self):
        self.process.kill()
        self.process.wait(_SECONDS)
        self.close()

    def close(self):
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def make(tmp_path, uv, product):
    """Makes a *Set Up* whose uv runs some lines of sh first, and starts commands of it."""
    made = []

    def begin(before=""):
        folder = tmp_path / "Ordner mit ü" / str(len(made))
        folder.mkdir(parents=True)
        made.append(SmallSetUp(folder, uv, before=before))
        return made[-1]

    yield begin
    for found in made:
        found.close()


def start(product, set_up, command="install", *more):
    arguments = [command, "--root", str(set_up.root), *more]
    if command in ("install", "plan", "repair"):
        arguments += ["--build", BUILD, "--python", str(find_system_python().path)]
    return Command(product, set_up, *arguments)


def wait_for(condition):
    until = time.monotonic() + _SECONDS
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.mark.slow
def test_killed_at_every_step_and_run_again(make, product):
    """Again and again in the same folder, each time a step further; nothing half-done counts, and the last press ends well."""
    set_up = make()
    for step in ("uv", "packages", "unpacking", "installing", "trying"):
        command = start(product, set_up)
        command.read_until("step", step=step)
        command.kill()
        assert find_current(set_up.root) is None and not list_environments(set_up.root)
    code, last = start(product, set_up).finish()
    assert (code, last["event"]) == (0, "done")
    current = find_current(set_up.root)
    assert str(current.folder) == last["environment"] and len(list((set_up.root / ENVIRONMENTS).iterdir())) == 1
    # the same with an environment in use, which stays in use
    set_up.renew("2.0")
    for step in ("packages", "trying"):
        command = start(product, set_up)
        command.read_until("step", step=step)
        command.kill()
        assert find_current(set_up.root) == current
    code, last = start(product, set_up).finish()
    assert code == 0 and find_current(set_up.root).folder != current.folder
    assert len(list((set_up.root / ENVIRONMENTS).iterdir())) == 1


def test_killed_in_the_middle_of_a_file(make, product):
    set_up = make()
    set_up.index.piece, set_up.index.pause = 100, 0.02
    command = start(product, set_up)
    command.read_until("step", step="packages")
    command.read_until("progress", step="packages")
    command.kill()
    set_up.index.pause = 0.0
    set_up.index.requests.clear()
    code, _ = start(product, set_up).finish()
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "way"), [("unpacking", "input"), ("unpacking", "kill"), ("trying", "terminate"), ("trying", "interrupt")]
)
def test_its_programs_end_with_it(make, product, tmp_path, way, step):
    """uv and the check are ended, with what they have started, however the command ends."""
    said = tmp_path / "pids"
    waits = f"(sleep 600 & echo $! >> '{said}'; echo $$ >> '{said}'; wait)"
    set_up = make(before=waits if step == "unpacking" else "")
    if step == "trying":
        lines = ["import os, subprocess", "child = subprocess.Popen(['sleep', '600'])"]
        lines += [f"open({str(said)!r}, 'w').write(f'{{child.pid}} {{os.getpid()}}')", "child.wait()", ""]
        (product / "backend" / "__main__.py").write_text("\n".join(lines))
    try:
        command = start(product, set_up)
        command.read_until("step", step=step)
        assert wait_for(lambda: said.exists() and len(said.read_text().split()) == 2)
        programs = [int(word) for word in said.read_text().split()]
        assert all(map(is_alive, programs))
        if way == "input":
            command.process.stdin.close()
        else:
            number = {"terminate": signal.SIGTERM, "interrupt": signal.SIGINT, "kill": signal.SIGKILL}[way]
            command.process.send_signal(number)
        assert command.process.wait(_SECONDS) == (-signal.SIGKILL if way == "kill" else CANCELLED)
        assert wait_for(lambda: not any(map(is_alive, programs)))
        command.close()
        # the folder is free at once
        set_up.before = ""
        set_up.renew()
        (product / "backend" / "__main__.py").write_text(_BACKEND)
        assert start(product, set_up).finish()[0] == 0
    finally:
        (product / "backend" / "__main__.py").write_text(_BACKEND)


def test_a_second_one_at_the_same_time(make, product):
    set_up = make()
    set_up.index.piece, set_up.index.pause = 64, 0.05
    first = start(product, set_up)
    first.read_until("step", step="packages")
    for command in ("install", "remove"):
        code, last = start(product, set_up, command).finish()
        assert code == 1 and last["event"] == "failed" and last["code"] == "busy" and last["remedy"] == "retry"
    # a plan disturbs nobody
    assert start(product, set_up, "plan").finish()[0] == 0
    set_up.index.pause = 0.0
    assert first.finish()[0] == 0


def test_what_is_told(make, product):
    set_up = make()
    set_up.index.user = "anna:secret"
    address = set_up.index.address.replace("://", "://anna:secret@")
    set_up.network = type(set_up.network)(f"{address}/simple", f"{address}/whl", f"{address}/mirror")
    command = start(product, set_up, "plan")
    code, last = command.finish()
    (plan,) = [event for event in command.events if event["event"] == "plan"]
    assert code == 0 and last["event"] == "done" and not set_up.root.exists()
    assert plan["problem"] == plan["code"] == "" and plan["build"] == BUILD and len(plan["packages"]) == 3
    assert plan["free"] > 0 and plan["is_exact"] and not plan["is_current"] and not plan["is_python_fetched"]
    assert "secret" not in json.dumps(plan) and plan["package_index"] == f"{set_up.index.address}/simple"
    code, last = start(product, set_up).finish()
    assert code == 0
    command = start(product, set_up, "plan")
    command.finish()
    (plan,) = [event for event in command.events if event["event"] == "plan"]
    assert plan["is_current"] and plan["needed"] == 0 and plan["current"]
    (site,) = find_current(set_up.root).folder.glob("*/lib/python3*/site-packages")
    (site / "alpha" / "__init__.py").write_text("")
    assert start(product, set_up, "repair").finish()[1]["packages"] == ["alpha"]
    target = set_up.folder / "moved"
    assert start(product, set_up, "move", "--to", str(target)).finish() == (
        0,
        {"event": "done", "system": last["system"], "root": str(target)},
    )
    set_up.root = target
    assert start(product, set_up, "status").finish()[1]["current"] == str(find_current(target).folder)
    code, last = start(product, set_up, "remove").finish()
    assert code == 0 and last["bytes"] > 300_000 and not target.exists()


@pytest.mark.parametrize("root", ["~", "~/x/../x", "relative"])
def test_folders_in_all_their_spellings(make, product, tmp_path, monkeypatch, root):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    set_up = make()
    set_up.root = Path(root)
    code, last = start(product, set_up, "status").finish()
    assert (code, last["current"]) == (0, "")
    set_up.root = Path("~nobody-of-this-name/x")
    code, last = start(product, set_up, "status").finish()
    assert code == 1 and last["code"] == "path" and last["message"].endswith(".")


def test_what_nobody_expected_is_a_sentence_and_a_trace(make, product):
    set_up = make()
    set_up.lock_path.write_text("{}")
    code, last = start(product, set_up).finish()
    assert code == 1 and last["code"] == "lock" and "install the extension again" in last["message"]
    (product / "backend" / "installation" / "planning.py").rename(product / "planning.py")
    try:
        text = (product / "planning.py").read_text().replace("    system = system or find_system()\n", "    raise LookupError(1)\n")
        (product / "backend" / "installation" / "planning.py").write_text(text)
        set_up.renew()
        command = start(product, set_up)
        while command.read():
            pass
        said = command.process.stderr.read().decode()
        assert "LookupError" in said and "Traceback" in said
        assert command.events[-1]["code"] == "unexpected" and command.events[-1]["remedy"] == "report"
        command.finish()
    finally:
        shutil.move(product / "planning.py", product / "backend" / "installation" / "planning.py")


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", -11), ("print(1)", 0)]
)
def test_the_exit_code_of_a_program_comes_through(code, expected):
    children = Children()
    found, _ = children.ask([sys.executable, "-c", code], dict(os.environ), _SECONDS)
    assert found == expected


def test_programs_that_cannot_be_started(tmp_path):
    children = Children()
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    for program in (path, tmp_path / "none"):
        code, said = children.ask([str(program)], dict(os.environ), _SECONDS)
        assert code == NOT_STARTED and said.strip()
    process = children.start([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ))
    children.kill()
    process.wait(_SECONDS)
    assert get_code(process) == -9
    with pytest.raises(KeyboardInterrupt):
        children.start(["true"], {})


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ('{"a": 1}', dict, {"a": 1}),
        ('warning\n{"a": {"b": 2}}\n', dict, {"a": {"b": 2}}),
        ('{"first": 1}\n{\n "a": [\n  {\n   "b": 1\n  }\n ]\n}\nthe end', dict, {"a": [{"b": 1}]}),
        ('{"first": 1}\n{broken', dict, {"first": 1}),
        ('noise {"a": 1}', dict, None),
        ("[1, 2]\n{}", list, [1, 2]),
        ("", dict, None),
        ("[1", list, None),
    ],
)
def test_what_a_program_has_said_last(text, kind, found):
    assert read_last(text, kind) == found


def test_a_backend_that_runs_is_not_disturbed(make, product):
    """The backend says itself in which environment it runs, whoever has started it."""
    set_up = make()
    assert start(product, set_up).finish()[0] == 0
    current = find_current(set_up.root)
    waits = "import sys\n\n\ndef main():\n    print(1, flush=True)\n    sys.stdin.read()\n    return 0\n"
    (product / "backend" / "__main__.py").write_text(waits)
    try:
        command = [str(current.python), str(product / "backend" / "launch.py"), "serve"]
        backend = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert backend.stdout.readline().strip() == b"1"
        (product / "backend" / "__main__.py").write_text(_BACKEND)
        (site,) = current.folder.glob("*/lib/python3*/site-packages")
        (site / "alpha" / "__init__.py").unlink()
        for words in (("repair",), ("move", "--to", str(set_up.folder / "moved")), ("remove",)):
            code, last = start(product, set_up, *words).finish()
            assert (code, last["code"]) == (1, "used") and "stop it" in last["message"]
        # a new version comes beside it
        set_up.renew("2.0")
        assert start(product, set_up).finish()[0] == 0
        assert current.folder.exists() and find_current(set_up.root).folder != current.folder
        backend.communicate(timeout=_SECONDS)
        assert backend.returncode == 0
        assert start(product, set_up, "remove").finish()[0] == 0 and not set_up.root.exists()
    finally:
        (product / "backend" / "__main__.py").write_text(_BACKEND)


@pytest.mark.slow
def test_the_real_packages_make_a_real_frame(tmp_path, monkeypatch):
    """All of it with the product's own lock, torch and a frame: killed on the way, gone on with, repaired, moved, removed."""
    monkeypatch.setattr(window_wheels, "PAUSE", 0.0)
    beside = Path(sys.prefix).resolve().parent / "wheels" / "set-up"
    wheels = beside if beside.is_dir() else ROOT / "build" / "wheels" / "set-up"
    window_wheels.fetch_wheels(wheels)
    root, moved = tmp_path / "Ordner mit ü" / "backend", tmp_path / "moved"
    with window_wheels.serve_wheels(wheels) as variables:

        def call(command, *more, folder=root, until=None):
            arguments = [sys.executable, "-I", "-B", str(ROOT / "backend" / "install.py"), command, "--root", str(folder), *more]
            process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(tmp_path / "home") | variables
            )
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if until and events[-1].get("step") == until:
                    process.kill()
            process.wait(_SECONDS)
            return process.returncode, events[-1]

        chosen = ["--build", window_wheels.BUILD, "--python", str(find_system_python().path)]
        code, _ = call("install", *chosen, until="installing")
        assert code == -signal.SIGKILL and find_current(root) is None
        code, last = call("install", *chosen)
        assert code == 0, last
        current = find_current(root)
        assert current.packages > 40 and not current.is_outdated and len(list((root / ENVIRONMENTS).iterdir())) == 1
        (torch,) = current.folder.glob("*/lib/python3*/site-packages/torch/lib/libtorch_cpu.so")
        with torch.open("r+b") as stream:
            stream.seek(1 << 20)
            stream.write(b"damage")
        assert call("repair", *chosen)[1]["packages"] == ["torch"]
        assert call("move", "--to", str(moved))[0] == 0 and find_current(moved).name == current.name
        code, last = call("repair", *chosen, folder=moved)
        assert code == 0 and last["packages"] == []
        code, last = call("remove", folder=moved)
        assert code == 0 and last["bytes"] > 5e8 and not moved.exists()
