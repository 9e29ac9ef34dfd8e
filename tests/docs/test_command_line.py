"""``docs/command_line.md`` is what the code does: its schema fits real output, its table names every variable, every help explains
every argument, and every example can be parsed."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("bpy")

from latentman.backend.__main__ import make_parser as make_backend_parser
from latentman.blender_addon.command_line import make_parser as make_blender_parser
from latentman.shared import folders
from latentman.shared.environment_variables import VARIABLES
from latentman.shared.manifest import PassesManifest
from latentman.shared.passes_folder import save
from latentman.shared.shot import ShotError
from tests import samples
from tests.checkout import ROOT
from tools.write_command_line_page import PAGE, format_page, main

TEXT = PAGE.read_text(encoding="utf-8")
#: names of ours that are no variables: they call themselves so inside Blender
NOT_VARIABLES = {"LATENTMAN_PASSES", "LATENTMAN_CAPTURE", "LATENTMAN_"}
BACKEND_PYTHON = os.environ.get("LATENTMAN_PYTHON", sys.executable)


# -- the page -----------------------------------------------------------------------------------------------------------------


def test_the_page_is_up_to_date():
    assert format_page(TEXT) == TEXT, "run python -m tools.write_command_line_page"
    assert main(["--check"]) == 0


def list_constants():
    """Every text in the code of the product, but for docstrings."""
    for folder in ("shared", "backend", "blender_addon"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def test_the_table_names_every_variable_that_the_code_reads():
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", TEXT, re.M))
    named = {
        value
        for _, value in list_constants()
        if re.fullmatch(r"(LATENTMAN|HF|UV|PIP|SSL|PYTORCH|CUDA)_[A-Z_]+|HTTPS?_PROXY", value) and value not in NOT_VARIABLES
    }
    # those that a bug report shows, if they are set, and nobody here reads
    named -= {"PYTORCH_", "CUDA_VISIBLE_DEVICES", "UV_", "PIP_"}
    # set for a program that is started
    named = {name for name in named if name in table or not name.startswith(("UV_", "PIP_"))}
    assert named <= table, named - table
    assert table == {one.name for one in VARIABLES}
    assert {one.name for one in VARIABLES if one.is_own} <= named, "the table names what nobody reads"


@pytest.mark.parametrize(
    ("variable", "find"),
    [
        ("LATENTMAN_CONFIG", folders.config_folder),
        ("LATENTMAN_DATA", folders.data_folder),
        ("LATENTMAN_JOBS", folders.jobs_folder),
        ("LATENTMAN_MODELS", folders.models_folder),
        ("LATENTMAN_RESULTS", folders.results_folder),
        ("LATENTMAN_BACKEND", folders.backend_folder),
        ("LATENTMAN_LOGS", folders.log_folder),
        ("LATENTMAN_LORAS", lambda: folders.lora_folders()[0]),
    ],
)
def test_every_folder_follows_its_variable(monkeypatch, tmp_path, variable, find):
    for one in VARIABLES:
        monkeypatch.delenv(one.name, raising=False)
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(variable, str(tmp_path / "moved"))
    assert find() == tmp_path / "moved"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, "~/moved")
    assert sys.platform == "win32" or find() == tmp_path / "home" / "moved"
    monkeypatch.setenv(variable, "")
    assert find() != tmp_path / "moved"


@pytest.mark.parametrize("variable", ["LATENTMAN_JOBS", "LATENTMAN_DATA", "LATENTMAN_CONFIG", "LATENTMAN_LOGS", "LATENTMAN_LORAS"])
def test_a_variable_with_the_home_of_nobody_is_named(monkeypatch, capsys, variable):
    from latentman.backend.__main__ import main as backend

    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    find = {"LORAS": folders.lora_folders, "LOGS": folders.log_folder, "CONFIG": folders.config_folder}
    with pytest.raises(ShotError, match=f"^{variable}: ~nobody-of-this-name/x names the home of nobody; write the folder out.$"):
        find.get(variable.removeprefix("LATENTMAN_"), folders.jobs_folder)()
    if variable == "LATENTMAN_JOBS":
        assert backend(["jobs"]) == 2 and capsys.readouterr().err.startswith(variable)


# -- help ---------------------------------------------------------------------------------------------------------------------


def list_parsers(parser):
    """(words, parser) of every command below a parser, and of itself."""
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from list_parsers(below)


PARSERS = [*list_parsers(make_backend_parser()), *((f"blender {name}", one) for name, one in list_parsers(make_blender_parser()))]


@pytest.mark.parametrize(("name", "parser"), PARSERS, ids=[name for name, _ in PARSERS])
def test_every_argument_is_explained_and_every_example_works(name, parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            listed = {one.dest: one.help for one in action._choices_actions}
            assert set(listed) == set(action.choices) and all(listed.values()), f"{name} lists a command without words"
        else:
            assert action.help and action.help is not argparse.SUPPRESS, (
                f"{name} does not explain {action.option_strings or action.dest}"
            )
    text = parser.format_help()
    assert parser.description and "examples:" in text and len(parser.examples) > 0
    for line, words in parser.examples:
        assert words and line in text
        try_example(line)


def try_example(line):
    """Parse an example as the program that it names does."""
    words = shlex.split(line)
    parser = make_backend_parser() if words[0] == "latentman" else make_blender_parser()
    if words[0] == "python":
        assert words[:3] == ["python", "-m", "latentman.blender_addon"] and words[3].endswith(".blend")
        arguments = words[4:]
    else:
        arguments = words[words.index("latentman") + 1 :]
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(arguments)
        assert stop.value.code == 0
    else:
        parser.parse_args(arguments)


@pytest.mark.parametrize("path", ["docs/command_line.md", "README.md", "docs/method.md"])
def test_the_commands_of_the_pages_can_be_parsed(path):
    lines = re.findall(
        r"^ *((?:latentman|blender|python -m latentman\.blender_addon) .*?)(?: {2,}#.*| # .*)?$", (ROOT / path).read_text(), re.M
    )
    assert lines
    for line in lines:
        if "..." not in line and "COMMAND" not in line:
            try_example(line)


# -- events -------------------------------------------------------------------------------------------------------------------


def check(value, schema, whole):
    """Whether a value fits a JSON schema, as far as the page's goes: a validator of our own."""
    if "$ref" in schema:
        found = whole
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return check(value, found, whole)
    if "anyOf" in schema:
        return any(check(value, one, whole) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "const" in schema:
        return value == schema["const"]
    kinds = {"string": str, "boolean": bool, "object": dict, "array": list, "number": (int, float), "integer": int}
    kind = schema.get("type")
    if kind and (not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        return False
    if kind == "integer" and value < schema.get("minimum", value):
        return False
    if kind == "array":
        return all(check(one, schema.get("items", {}), whole) for one in value)
    if kind == "object":
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", {})
        if not set(schema.get("required", ())) <= set(value):
            return False
        return all(
            check(one, known[name], whole)
            if name in known
            else more is not False and check(one, more if isinstance(more, dict) else {}, whole)
            for name, one in value.items()
        )
    return True


SCHEMA = json.loads(re.search(r"```json\n(.*?)\n```", TEXT, re.S)[1])


def read_events(text):
    """The events of an output; each fits the page's schema."""
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for event in events:
        assert check(event, SCHEMA, SCHEMA), event
    return events


def test_the_schema_tells_events_from_others():
    for good in ({"event": "failed", "message": "x", "code": "y"}, {"event": "frame", "frame": -3, "index": 0}, {"event": "done"}):
        assert check(good, SCHEMA, SCHEMA)
    for bad in (
        {"event": "failed", "message": "x"},
        {"event": "failed", "message": "x", "code": 3},
        {"event": "frame", "frame": 1, "index": -1},
        {"event": "frame", "frame": 1, "index": 0, "more": 1},
        {"event": "nope"},
        {"message": "x"},
        [],
    ):
        assert not check(bad, SCHEMA, SCHEMA), bad


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of passes."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, samples.passes(3, 64), PassesManifest(64, 64, 20.0, (1, 2, 3), 1.0, 3.0))
    return folder


def start(program, *arguments, **environment):
    command = (
        [sys.executable, "-m", "latentman.blender_addon"] if program == "blender" else [BACKEND_PYTHON, "-m", "latentman.backend"]
    )
    if program == "backend":
        command = [BACKEND_PYTHON, str(ROOT / "backend" / "launch.py")]
    return subprocess.Popen(
        [*command, *map(str, arguments), "--json"],
        cwd=ROOT,
        env={**os.environ, "LATENTMAN_PYTHON": BACKEND_PYTHON, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(program, *arguments, **environment):
    process = start(program, *arguments, **environment)
    out, errors = process.communicate(timeout=200)
    assert "Traceback" not in errors, errors
    return process.returncode, read_events(out)


QUICK = ("--prompt", "a man", "--steps", "1", "--preset", "per_frame")


@pytest.mark.slow
def test_a_shot_that_is_made_says_so(saved, tmp_path):
    code, events = run("backend", "generate", saved, *QUICK, "--out", tmp_path / "out", "--jobs", tmp_path / "jobs")
    assert code == 0 and [one["frame"] for one in events if one["event"] == "frame"] == [1, 2, 3]
    assert [one["event"] for one in events[-2:]] == ["finished", "done"]
    code, events = run(
        "backend", "look", saved, "--prompt", "a man", "--steps", "1", "--out", tmp_path / "a.look", "--jobs", tmp_path / "jobs"
    )
    assert code == 0 and events[-1]["event"] == "done" and events[-1]["out"] == str(tmp_path / "a.look")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_last_event(saved, tmp_path, number):
    process = start(
        "backend", "generate", saved, "--prompt", f"a man {number}", "--steps", "500", "--preset", "per_frame",
        "--out", tmp_path / "out", "--jobs", tmp_path / "jobs",
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "denoising" in line:
            break
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    events = read_events("".join(lines) + rest)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert events[-1]["event"] == "interrupted" and events[-1]["signal"] == number.name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_backend_that_dies_is_an_event(blend, tmp_path):
    process = start(
        "blender", blend, "generate", "--prompt", f"a man {tmp_path}", "--steps", "500", "--preset", "per_frame", "--frames", "1-2",
        "--size", "64x64", "--out", tmp_path / "out",
    )  # fmt: skip
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "denoising" in line:
            break
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout
    (backend,) = [int(line.split()[0]) for line in found.splitlines() if "launch.py" in line]
    os.kill(backend, signal.SIGKILL)
    started = time.monotonic()
    rest, errors = process.communicate(timeout=90)
    events = read_events("".join(lines) + rest)
    assert process.returncode == 1 and events[-1]["event"] == "failed" and "Traceback" not in errors, (events[-1], errors)
    assert "backend" in events[-1]["message"].lower() and time.monotonic() - started < 60


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    """A file with a walking mannequin and a camera."""
    from tests.blender_addon.test_command_line import save_shot

    return save_shot(tmp_path_factory.mktemp("shot"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "latentman", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["--out", "--jobs"])
def test_a_full_disk_is_an_event(saved, tmp_path, small_disk, place):
    places = {"--out": tmp_path / "out", "--jobs": tmp_path / "jobs"} | {place: small_disk}
    (small_disk / "filling").write_bytes(bytes(50_000))
    code, events = run("backend", "generate", saved, *QUICK, *(word for pair in places.items() for word in pair))
    assert code == 1 and (events[-1]["event"], events[-1]["code"]) == ("failed", "disk")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--prompt", " "), "prompt", "is empty"),
        (("--prompt", ""), "prompt", "is empty"),
        ((), "arguments", "required: --prompt"),
        (("--prompt", "x", "--model", "nope"), "model", "no model 'nope'"),
        (("--prompt", "x", "--preset", "nope"), "arguments", "use one of"),
        (("--prompt", "x", "--scheduler", "nope"), "arguments", "use one of"),
        (("--prompt", "x", "--seed", "1e23"), "arguments", "not a whole number"),
        (("--prompt", "x", "--seed", "99999999999999999999999"), "arguments", "out of range"),
        (("--prompt", "x", "--seed", "-1"), "arguments", "out of range"),
        (("--prompt", "x", "--steps", "nan"), "arguments", "not a whole number"),
        (("--prompt", "x", "--guidance-scale", "nan"), "arguments", "out of range"),
        (("--prompt", "x", "--guidance-scale", "inf"), "arguments", "out of range"),
        (("--prompt", "x", "--steps", "0.5"), "arguments", "not a whole number"),
        (("--prompt", "x", "--plugin", "nope"), "plugin", "no technique 'nope'"),
        (("--prompt", "x", "--plugin", ":"), "arguments", "names no technique"),
        (("--prompt", "x", "--control-start", "0.9", "--control-end", "0.1"), "control_end", "the larger"),
        (("--prompt", "x", "--preset", "latentman", "--keyframes"), "method", "Key frames need fusion"),
        (("--prompt", "x", "--frames", "7"), "frames", "no passes of frame 7"),
        (("--prompt", "x", "--frames", "3-1"), "frames", "is empty"),
        (("--prompt", "x", "--frames", "one"), "frames", "not a frame range"),
        (("--prompt", "x", "--look", "nope"), "look", "cannot be read"),
        (("--prompt", "x", "--look", "~nobody-of-this-name/x"), "look", "home of nobody"),
        (("--prompt", "x", "--look", "0" * 24), "look", "does not have the kept look"),
        (("--prompt", "x", "--reference", "/no/such.png"), "reference", "no reference picture"),
        (("--prompt", "x", "--device", "nope"), "device", "nope"),
        (("--prompt", "x", "--dtype", "float8"), "arguments", "use one of"),
        (("--prompt", "x", "--promt", "y"), "arguments", "unrecognized"),
    ],
)
def test_wrong_input_is_an_event_and_found_before_anything_is_made(saved, tmp_path, capsys, arguments, code, words):
    from latentman.backend.__main__ import main as backend

    try:
        found = backend(
            ["generate", str(saved), *arguments, "--out", str(tmp_path / "out"), "--jobs", str(tmp_path / "jobs"), "--json"]
        )
    except SystemExit as stop:
        found = stop.code
    events = read_events(capsys.readouterr().out)
    assert found == 2 and [one["event"] for one in events] == ["failed"], events
    assert events[0]["code"] == code and words in events[0]["message"], events
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "kind",
    [
        "no folder",
        "no manifest",
        "damaged manifest",
        "a frame is missing",
        "a frame is damaged",
        "out is a file",
        "out is in a file",
    ],
)
def test_wrong_files_are_an_event(saved, tmp_path, capsys, kind):
    import shutil

    from latentman.backend.__main__ import main as backend

    passes = shutil.copytree(saved, tmp_path / "passes")
    out = tmp_path / "out"
    if kind == "no folder":
        passes = tmp_path / "nope"
    elif kind == "no manifest":
        (passes / "passes.json").unlink()
    elif kind == "damaged manifest":
        (passes / "passes.json").write_text('{"width": 1e400}')
    elif kind == "a frame is missing":
        (passes / "0002.exr").unlink()
    elif kind == "a frame is damaged":
        (passes / "0002.exr").write_bytes((passes / "0002.exr").read_bytes()[:-200])
    else:
        (tmp_path / "file").write_text("in the way")
        out = tmp_path / "file" / ("" if kind == "out is a file" else "below")
    found = backend(["generate", str(passes), *QUICK, "--out", str(out), "--jobs", str(tmp_path / "jobs"), "--json"])
    events = read_events(capsys.readouterr().out)
    assert events[-1]["event"] == "failed" and not list(tmp_path.rglob("*.png")), events
    assert (found, events[-1]["code"]) == (
        (2, "disk") if kind.startswith("out") else (1, "passes") if kind == "a frame is damaged" else (2, "passes")
    ), events
