"""*Set Up* in the panel and on the command line: its buttons, what it shows, and the real process with packages of a few bytes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import command_line, online, preferences
from latentman.blender_addon import connection as connection_module
from latentman.blender_addon.operators import set_up as buttons
from latentman.blender_addon.panels import BackendPanel
from latentman.blender_addon.set_up import command, drawing, options
from latentman.blender_addon.set_up.state import STEPS, SetUp, SetUpState, Step, set_up
from latentman.shared.backend_environment import STAMP, find_current
from latentman.shared.redaction import Private, redact
from tests.checkout import ROOT
from tests.small_set_up import CHECK, SmallSetUp
from tests.small_wheels import find_uv

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the small uv is a script of sh"),
    # the process takes the best Python of the computer, which the small list of packages must be for
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the small list is for the Python of the backend's tests"),
]
#: what runs in place of backend/install.py: the same command with the small lock and the small check
START = """
import runpy, sys
from pathlib import Path
runpy.run_path({launcher!r})["load_package"]()
from latentman.backend.installation import command, index, lock_file, transfer, trial_run
lock_file.PACKAGE_LOCK = Path({lock!r})
trial_run.LAUNCHER = Path({check!r})
index.PAUSES = transfer.PAUSES = (0.01, 0.01)
sys.exit(command.main())
"""


class Drawn:
    """A layout that keeps what is drawn into it and into its rows."""

    def __init__(self):
        self.operators, self.texts, self.properties = [], [], []

    def operator(self, name, text="", **_):
        self.operators.append(name)
        self.texts.append(text)
        return SimpleNamespace()

    def label(self, text="", **_):
        self.texts.append(text)

    def prop(self, _, name, **__):
        self.properties.append(name)

    def progress(self, text="", **_):
        self.texts.append(text)

    def __getattr__(self, _):
        return lambda *_, **__: self


@pytest.fixture(scope="module")
def uv(tmp_path_factory):
    return find_uv(tmp_path_factory.mktemp("uv"))


@pytest.fixture
def small(tmp_path, uv, monkeypatch, registered_operators):
    """Nothing is set up; an index has what is needed."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    found = SmallSetUp(folder, uv)
    check, start = folder / "check.py", folder / "start.py"
    check.write_text(CHECK)
    launcher = str(ROOT / "backend" / "launch.py")
    start.write_text(START.format(launcher=launcher, lock=str(found.lock_path), check=str(check)))
    monkeypatch.setattr(options, "INSTALLER", start)
    monkeypatch.setattr(buttons, "is_online", lambda: True)
    monkeypatch.setattr(drawing, "is_online", lambda: True)
    for name, value in (
        ("LATENTMAN_DATA", str(folder)),
        ("LATENTMAN_LOGS", str(folder / "logs")),
        ("LATENTMAN_PACKAGE_INDEX", f"{found.index.address}/simple"),
        ("LATENTMAN_PYTHON_MIRROR", f"{found.index.address}/nowhere"),
    ):
        monkeypatch.setenv(name, value)
    for name in ("LATENTMAN_PYTHON", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # as Blender's own program, whose Python has no packages
    monkeypatch.setattr(preferences, "find_default_python", lambda: "")
    yield found
    set_up.cancel()
    set_up.close()
    set_up.files = None
    found.close()


@pytest.fixture
def started(monkeypatch):
    """The Pythons that a backend was started with."""
    pythons = []
    monkeypatch.setattr(connection_module.connection, "start", lambda python, *_, **__: pythons.append(python))
    return pythons


def wait(reached, seconds=60):
    end = time.monotonic() + seconds
    while not reached():
        set_up.poll()
        assert time.monotonic() < end, (set_up.state, set_up.message)
        time.sleep(0.01)


def draw_panel():
    """What the box *Backend* shows."""
    layout = Drawn()
    panel = SimpleNamespace(layout=layout)
    panel._draw_set_up = lambda context: BackendPanel._draw_set_up(panel, context)
    context = SimpleNamespace(
        region=SimpleNamespace(width=300), preferences=SimpleNamespace(addons={}, system=SimpleNamespace(ui_scale=1.0))
    )
    BackendPanel.draw(panel, context)
    return layout


def test_from_nothing_to_a_backend_by_two_buttons(small, started):
    assert draw_panel().operators == ["latentman.plan_set_up", "latentman.connect_backend"]
    assert bpy.ops.latentman.plan_set_up() == {"FINISHED"}
    assert set_up.state is SetUpState.PLANNING
    wait(lambda: not set_up.busy)
    assert set_up.state is SetUpState.PLANNED and not find_current(small.root)
    shown = draw_panel()
    assert "latentman.run_set_up" in shown.operators and "latentman.set_up_from_files" in shown.operators
    assert any(text.startswith("Install (") for text in shown.texts) and any("fetch" in text for text in shown.texts)
    assert not [path for path, _ in small.index.requests if path.startswith("/files")], "nothing is fetched before it is said"
    assert bpy.ops.latentman.run_set_up() == {"FINISHED"}
    assert "latentman.cancel_set_up" in draw_panel().operators
    wait(lambda: not set_up.busy)
    assert set_up.state is SetUpState.IDLE, set_up.message
    environment = find_current(small.root)
    assert started == [str(environment.python)] == [preferences.get_backend_python(bpy.context)]
    assert "latentman.start_backend" in draw_panel().operators


@pytest.mark.slow
def test_a_cancelled_one_ends_at_once_and_goes_on(small, started):
    small.index.piece, small.index.pause = 100, 0.05
    bpy.ops.latentman.plan_set_up()
    wait(lambda: not set_up.busy)
    bpy.ops.latentman.run_set_up()
    wait(lambda: set_up.step.name == "packages" and set_up.step.done > 200)
    process = set_up._process
    bpy.ops.latentman.cancel_set_up()
    assert set_up.state is SetUpState.IDLE and "goes on from there" in set_up.result
    assert process.wait(5.0), "the process is gone"
    assert not find_current(small.root) and not started
    small.index.pause, small.index.requests = 0.0, []
    bpy.ops.latentman.plan_set_up()
    wait(lambda: not set_up.busy)
    assert set_up.plan["present"] > 200
    bpy.ops.latentman.run_set_up()
    wait(lambda: not set_up.busy)
    sent = [asked for path, asked in small.index.requests if path.startswith("/files")]
    assert find_current(small.root) and (any(sent) or len(sent) < 4), "it asked for the rest only"


def test_a_failure_is_a_sentence_with_the_button_that_helps(small):
    small.index.status = 404
    bpy.ops.latentman.plan_set_up()
    wait(lambda: not set_up.busy)
    bpy.ops.latentman.run_set_up()
    wait(lambda: not set_up.busy)
    assert set_up.state is SetUpState.FAILED and set_up.message.endswith(".") and set_up.remedy == "network"
    shown, preferred = Drawn(), SimpleNamespace()
    drawing.draw_set_up(shown, SimpleNamespace(region=None, preferences=None), preferred)
    assert {"package_index", "torch_index", "proxy"} <= set(shown.properties)
    assert {"latentman.plan_set_up", "latentman.copy_diagnostics", "latentman.close_set_up"} <= set(shown.operators)
    bpy.ops.latentman.close_set_up()
    assert set_up.state is SetUpState.IDLE


@pytest.mark.slow
def test_repair_and_remove(small, started, monkeypatch):
    bpy.ops.latentman.plan_set_up()
    wait(lambda: not set_up.busy)
    bpy.ops.latentman.run_set_up()
    wait(lambda: not set_up.busy)
    environment = find_current(small.root)
    next(environment.folder.glob("venv/lib/*/site-packages/beta/__init__.py")).write_text("broken")
    assert bpy.ops.latentman.repair_backend() == {"FINISHED"}
    wait(lambda: not set_up.busy)
    assert set_up.result == "Repaired: beta."
    assert bpy.ops.latentman.remove_backend() == {"FINISHED"}
    wait(lambda: not set_up.busy)
    assert set_up.result.startswith("Removed") and not find_current(small.root) and not environment.folder.exists()


def test_offline_it_is_asked_for_and_nothing_is_fetched(small, monkeypatch):
    monkeypatch.setattr(buttons, "is_online", lambda: False)
    monkeypatch.setattr(drawing, "is_online", lambda: False)
    bpy.ops.latentman.plan_set_up()
    wait(lambda: not set_up.busy)
    assert "latentman.run_set_up" not in draw_panel().operators and "latentman.allow_online" in draw_panel().operators
    with pytest.raises(RuntimeError, match="Blender keeps extensions offline"):
        bpy.ops.latentman.run_set_up()
    # files need no internet
    assert bpy.ops.latentman.set_up_from_files("EXEC_DEFAULT", directory=str(small.simple)) == {"FINISHED"}
    wait(lambda: not set_up.busy)
    assert set_up.plan["files"] and "latentman.run_set_up" in draw_panel().operators


def test_online_access_is_blenders_own_switch(registered_operators):
    system = bpy.context.preferences.system
    before = system.use_online_access
    try:
        system.use_online_access = False
        assert not online.is_online()
        assert bpy.ops.latentman.allow_online() == {"FINISHED"}
        assert system.use_online_access
    finally:
        system.use_online_access = before


def test_a_backend_that_was_started_offline_is_started_again(registered_operators, monkeypatch):
    connection, started = connection_module.connection, []
    monkeypatch.setattr(connection, "process", object())
    monkeypatch.setattr(buttons, "start_backend", lambda context, connection: started.append(online.is_online()))
    system = bpy.context.preferences.system
    before = system.use_online_access
    try:
        system.use_online_access = False
        # it is told when it is started, and what it makes is not given up for that
        monkeypatch.setitem(connection._tasks, "shot", SimpleNamespace(is_background=False))
        assert bpy.ops.latentman.allow_online() == {"FINISHED"} and system.use_online_access and not started
        monkeypatch.delitem(connection._tasks, "shot")
        system.use_online_access = False
        assert bpy.ops.latentman.allow_online() == {"FINISHED"} and started == [True]
    finally:
        system.use_online_access = before


def run_command(capsys, *arguments):
    code = command_line.main(["setup", *arguments, "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_the_command_line(small, capsys, monkeypatch):
    monkeypatch.setattr(command, "is_online", lambda: False)
    assert run_command(capsys, "status")[0] == 1
    code, lines = run_command(capsys)
    assert code == 2 and lines[-1]["event"] == "failed" and "--online" in lines[-1]["message"]
    code, lines = run_command(capsys, "files")
    (plan,) = [one for one in lines if one["event"] == "plan"]
    assert code == 0 and all(len(one["sha256"]) == 64 for one in (*plan["tools"], *plan["packages"]))
    code, lines = run_command(capsys, "--online")
    assert code == 0 and lines[-1]["event"] == "done", lines[-1]
    assert {"step", "progress", "plan"} <= {one["event"] for one in lines}
    assert run_command(capsys, "status")[0] == 0
    assert run_command(capsys, "repair", "--online")[0] == 0
    code, lines = run_command(capsys, "move")
    assert code == 2 and "--to" in lines[-1]["message"]
    for arguments in (("plan", "--folder", "~nobody-of-this-name/x"), ("move", "--to", "~nobody-of-this-name/x")):
        code, lines = run_command(capsys, *arguments)
        assert code == 2 and "names the home of nobody; write the folder out" in lines[-1]["message"]
    stamp = find_current(small.root).folder / STAMP
    whole = stamp.read_bytes()
    stamp.unlink()
    code, lines = run_command(capsys, "status")
    assert code == 1 and "no longer whole" in lines[-1]["message"] and lines[-1]["message"].endswith("set it up again.")
    stamp.write_bytes(whole)
    code, lines = run_command(capsys, "move", "--to", str(small.folder / "there"))
    assert code == 0 and find_current(small.folder / "there")
    assert run_command(capsys, "remove", "--folder", str(small.folder / "there"))[0] == 0
    small.index.status = 500
    code, lines = run_command(capsys, "--online")
    assert code == 1 and lines[-1]["event"] == "failed" and lines[-1]["message"].endswith(".")


@pytest.mark.parametrize(
    ("step", "text", "fraction"),
    [
        (Step(), " ...", 0.0),
        (Step("packages", 50_000_000, 100_000_000, 2_500_000), "Fetching packages · 50 of 100 MB", 0.435),
        (Step("packages", 0, 100), "Fetching packages ...", 0.12),
        (Step("trying"), "Making a test frame ...", 0.92),
        (Step("moving", 300, 200), "Moving · 0 of 0 MB", 1.0),
    ],
)
def test_the_bar(step, text, fraction):
    assert step.text == text and step.fraction == pytest.approx(fraction)


def test_what_stands_below_the_bar():
    assert Step("packages", 5, 10, 2_500_000, "scipy 1.17.1").detail == "2.5 MB/s · scipy 1.17.1"
    assert Step("packages").detail == ""


def test_the_bar_never_goes_back():
    order = ["uv", "python", "resolving", "packages", "unpacking", "installing", "trying"]
    assert [STEPS[name][1] for name in order[1:]] == [STEPS[name][2] for name in order[:-1]] and STEPS[order[-1]][2] == 1.0


def test_a_process_that_ends_without_a_word_is_a_failure(tmp_path, monkeypatch):
    start = tmp_path / "start.py"
    start.write_text("import os; os._exit(5)")
    monkeypatch.setattr(options, "INSTALLER", start)
    monkeypatch.setenv("LATENTMAN_LOGS", str(tmp_path / "logs"))
    found = SetUp()
    found.make_plan(options.SetUpOptions(tmp_path))
    end = time.monotonic() + 30
    while found.busy and time.monotonic() < end:
        found.poll()
    assert found.state is SetUpState.FAILED and "goes on where it stopped" in found.message


@pytest.mark.parametrize(
    ("program", "prefix", "host"),
    [
        ("", "/usr", None),
        ("/usr/bin/blender", "/usr", None),
        ("/opt/blender-4.5/blender", "/opt/blender-4.5/4.5/python", "/opt/blender-4.5"),
        ("/Applications/Blender.app/Contents/MacOS/Blender", "/Applications/Blender.app/Contents/Resources/4.5/python", None),
    ],
)
def test_blenders_own_python_is_told_from_the_systems(monkeypatch, program, prefix, host):
    monkeypatch.setattr(options, "bpy", SimpleNamespace(app=SimpleNamespace(binary_path=program)))
    monkeypatch.setattr(options.sys, "base_prefix", prefix)
    found = options.find_host_folder()
    wanted = Path("/Applications/Blender.app/Contents") if program.endswith("MacOS/Blender") else host
    assert found == (Path(wanted) if wanted else None)


def test_passwords_are_neither_in_the_command_nor_in_the_diagnostics(tmp_path):
    variables = {"HTTPS_PROXY": "http://me:secret@proxy:1"}
    chosen = options.SetUpOptions(tmp_path, variables=variables)
    assert (
        "secret" not in " ".join(chosen.write_arguments("install"))
        and chosen.make_environment()["HTTPS_PROXY"] == variables["HTTPS_PROXY"]
    )
    assert "secret" not in redact("preference proxy  http://me:secret@proxy:1/x", Private())
