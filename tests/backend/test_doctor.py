"""The doctor, with and without the backend's packages, and what the command line says when one is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from latentman.backend.failures import explain_failure
from latentman.backend.logs import keep_log
from latentman.backend.missing import BACKEND, CORE, explain_missing

ROOT = Path(__file__).resolve().parents[2]
#: what a Python without the extra ``backend`` has not
BLOCK = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {sorted(BACKEND)!r} else find(name, *rest)
"""


@pytest.fixture
def run(tmp_path):
    """``run(*arguments, bare=...)`` runs the command line from another folder; ``bare`` hides the backend's packages."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BLOCK)

    def run(*arguments, bare=False, **environment):
        path = [str(tmp_path / "bare")] if bare else []
        path += [str(ROOT / "build" / "package"), *filter(None, sys.path)]
        return subprocess.run(
            [sys.executable, "-m", "latentman.backend", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "LATENTMAN_LOGS": str(tmp_path / "logs"), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_the_packages_named_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(lines):
        return {re.match(r"[\w-]+", line)[0] for line in lines}

    assert names(project["optional-dependencies"]["backend"]) == set(BACKEND.values())
    assert names(project["dependencies"]) == set(CORE.values())


@pytest.mark.slow
def test_doctor_is_a_table_without_the_libraries_noise(run):
    pytest.importorskip("torch")
    answer = run("doctor")
    assert answer.returncode == 0 and answer.stderr == ""
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in answer.stdout.splitlines())
    assert rows["starter model"].startswith("loads") and "torch 2" in rows["backend packages"]
    assert "free" in rows["memory"] and "free" in rows["disk for jobs"] and rows["device"].split(",")[0] in ("cpu", "cuda", "mps")
    assert {"latentman", "Python", "platform", "configuration", "data", "logs", "keys", "optional packages"} <= set(rows)


def test_doctor_without_the_backend_says_what_to_install(run):
    answer = run("doctor", bare=True)
    assert answer.returncode == 1 and "Traceback" not in answer.stdout + answer.stderr and answer.stderr == ""
    last = answer.stdout.splitlines()[-1]
    assert "torch" in last and "diffusers" in last and last.endswith("pip install 'latentman[backend]'")
    found = json.loads(run("doctor", "--json", bare=True).stdout)
    assert found["ok"] is False and found["problems"] == [last] and found["disk_free"] > 0 and found["versions"]["numpy"]


def test_the_report_leaves_out_what_is_private(run, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "backend-20260101-000000-1.log").write_text(f"opened {tmp_path}/jane/x.png for prompt='a secret'\n")
    private = {"HOME": str(tmp_path / "jane"), "USER": "jane", "LOGNAME": "jane", "LATENTMAN_DATA": f"{tmp_path}/jane/data"}
    text = run("doctor", "--report", bare=True, **private).stdout
    assert "opened ~/x.png" in text and "~/data" in text and "secret" not in text and "jane" not in text
    assert "pip install" in text and "== Environment ==" in text
    full = run("doctor", "--report", "--include-private", bare=True, **private).stdout
    assert "jane/x.png for prompt='a secret'" in full


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("models",), ("jobs",), ("generate", "--help"), ("evaluate", "--help")]
)
def test_what_needs_no_model_works_without_the_backend(run, arguments):
    answer = run(*arguments, bare=True)
    assert answer.returncode == 0 and answer.stderr == "" and answer.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("generate", "passes", "--prompt", "x", "--out", "out"),
        ("motion", "a person waves", "--out", "m.npz"),
        ("evaluate",),
        ("measure", "passes", "frames"),
        ("export", "passes", "--out", "out"),
    ],
)
def test_a_missing_package_is_a_sentence(run, arguments):
    answer = run(*arguments, bare=True)
    (line,) = answer.stderr.splitlines()
    assert answer.returncode == 2 and line.endswith(
        "is not installed in this Python; install the backend's packages: pip install 'latentman[backend]'"
    )


def test_each_package_names_what_brings_it():
    assert explain_missing("PIL.Image").startswith("pillow is not installed") and "[backend]" in explain_missing("PIL.Image")
    assert "[blender]" in explain_missing("bpy") and explain_missing("zmq").endswith("pip install latentman")
    assert explain_missing("detectron2").startswith("detectron2 is not installed")


@pytest.mark.slow
def test_what_the_libraries_say_goes_to_the_file(run, tmp_path):
    pytest.importorskip("torch")
    answer = run("motion", "a person waves", "--seconds", "1", "--model", "nothing", "--out", "m.npz")
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) <= 2
    (log,) = (tmp_path / "logs").glob("backend-*.log")
    assert "INFO latentman.backend.logs" in log.read_text() and "waves" not in log.read_text()


CRASH = """
import os, signal, warnings, logging
from latentman.backend.logs import keep_log, quieten_libraries
with keep_log("test") as log:
    quieten_libraries()
    warnings.warn("an odd value")
    logging.getLogger("diffusers.models").warning("an unexpected key")
    logging.getLogger("latentman.test").error("a lost frame")
    print(log)
    {end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "traced"),
    [("os.kill(os.getpid(), signal.SIGSEGV)", True), ("os.kill(os.getpid(), signal.SIGKILL)", False), ("pass", False)],
)
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_process_that_crashes_leaves_its_log(tmp_path, end, traced):
    pytest.importorskip("torch")
    path = os.pathsep.join([str(ROOT / "build" / "package"), *filter(None, sys.path)])
    answer = subprocess.run(
        [sys.executable, "-u", "-c", CRASH.format(end=end)],
        env={**os.environ, "PYTHONPATH": path, "LATENTMAN_LOGS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.stderr == "a lost frame\n"
    written = Path(answer.stdout.strip()).read_text()
    assert all(text in written for text in ("an odd value", "an unexpected key", "a lost frame"))
    assert ("Fatal Python error: Segmentation fault" in written) == traced


def test_a_failure_that_nobody_foresaw_names_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LOGS", str(tmp_path))
    with keep_log("test") as log:
        try:
            raise ZeroDivisionError("no frames.")
        except ZeroDivisionError as error:
            code, sentence = explain_failure(error)
    assert code == "internal" and "(ZeroDivisionError: no frames)" in sentence and sentence.endswith(str(log))
    assert "Traceback" in log.read_text()
