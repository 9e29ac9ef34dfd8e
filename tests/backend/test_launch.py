"""The launcher: the backend from any copy of the package, whatever its folder is called, and nothing beside it."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import signal
import subprocess
import sys
import tomllib

import pytest

from tests.checkout import ROOT, clean_environment, copy_checkout, old_pythons

LAUNCHER = ROOT / "backend" / "launch.py"
SHADOW = "raise SystemExit('a file that only lies around was imported: ' + __file__)\n"


@pytest.fixture(scope="module")
def launcher():
    """The launcher as a module, not run."""
    spec = importlib.util.spec_from_file_location("launcher", LAUNCHER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy under another name and with a version of its own, between files that are named like libraries."""
    beside = tmp_path_factory.mktemp("beside")
    folder = copy_checkout(beside / "anything goes", "__init__.py", "blender_manifest.toml", "backend", "blender_addon", "shared")
    manifest = folder / "blender_manifest.toml"
    manifest.write_text(re.sub(r'(?m)^version = ".*"$', 'version = "9.8.7"', manifest.read_text()))
    for place in (beside, folder, folder / "backend"):
        for name in ("numpy", "zmq", "msgspec", "platformdirs", "tqdm"):
            (place / f"{name}.py").write_text(SHADOW)
    return folder


def test_a_stop_before_anything_is_imported_is_a_sentence(launcher, monkeypatch, capsys):
    from latentman.backend import __main__ as command_line
    from latentman.backend import entry

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "main", stop)
    monkeypatch.setattr(launcher, "load_package", lambda: None)
    for program in (entry, launcher):
        assert program.main() == 130
        assert capsys.readouterr() == ("", "It was stopped before it began.\n")
    monkeypatch.setattr(sys, "argv", ["latentman", "generate", "--json"])
    for program in (entry, launcher):
        assert program.main() == 130
        said = json.loads(capsys.readouterr().out)
        assert (said["event"], said["signal"]) == ("interrupted", "SIGINT")


def test_any_copy_runs_from_any_folder(copy, tmp_path):
    pytest.importorskip("zmq")
    for cwd in (copy.parent, copy, copy / "backend", tmp_path):
        found = subprocess.run(
            [sys.executable, str(copy / "backend" / "launch.py"), "--version"],
            cwd=cwd,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (found.returncode, found.stdout.strip()) == (0, "9.8.7"), found.stderr


def test_a_copy_serves(copy, tmp_path):
    pytest.importorskip("torch")
    process = subprocess.Popen(
        [sys.executable, "launch.py", "serve", "--endpoint", "tcp://127.0.0.1:0"],
        cwd=copy / "backend",
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        event = json.loads(process.stdout.readline())
        assert event["event"] == "listening" and event["version"] == "9.8.7"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        process.stdout.close()


@pytest.mark.slow
def test_any_copy_renders_the_suites_shots(copy, tmp_path):
    """The add-on's half of the copy renders them in a process of its own, whatever lies in the current folder."""
    pytest.importorskip("torch")
    program = (
        f"import runpy; runpy.run_path({str(copy / 'backend' / 'launch.py')!r})['load_package']()\n"
        "from latentman.backend.metrics.reference_shots import render_shots\n"
        "(walk,) = render_shots(2, ['walk'])\n"
        "print(walk.name, walk.passes.mask.shape, walk.passes.mask.any())\n"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=copy.parent,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.stdout.strip() == "walk (2, 256, 256) True", found.stdout + found.stderr


def test_a_python_without_the_packages_is_told_in_a_sentence(tmp_path):
    found = subprocess.run(
        [sys.executable, "-S", str(LAUNCHER), "serve"],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1, found.stderr
    assert found.stderr.startswith(sys.executable) and "is not installed in this Python; install" in found.stderr


def test_an_old_python_can_read_it():
    ast.parse(LAUNCHER.read_text(encoding="utf-8"), feature_version=(3, 6))
    # what it imports before it has looked at the version is in every Python's library
    assert re.findall(r"(?m)^import (\w+)", LAUNCHER.read_text()) == ["importlib", "json", "os", "sys"]


@pytest.mark.parametrize("version", [(3, 6, 1), (3, 10, 9), (3, 15, 0)])
def test_another_python_is_told_in_a_sentence(launcher, monkeypatch, capsys, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert launcher.main() == 2
    said = capsys.readouterr().err
    assert f"Python {version[0]}.{version[1]} runs here" in said and "needs 3.11 to 3.14" in said and said.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["launch.py", "generate", "--json"])
    assert launcher.main() == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["code"], told["message"]) == ("failed", "environment", said.strip())


@pytest.mark.skipif(not old_pythons(), reason="there is no Python from 3.6 to 3.10 on this machine")
def test_old_interpreters_are_told_in_a_sentence(tmp_path):
    for python in old_pythons():
        found = subprocess.run(
            [python, str(LAUNCHER), "serve"],
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert found.returncode == 2 and "needs 3.11 to 3.14" in found.stderr and len(found.stderr.splitlines()) == 1, python


def test_the_range_is_the_one_that_pip_reads(launcher):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    (major, oldest), (_, newest) = launcher.OLDEST, launcher.NEWEST
    assert declared == f">={major}.{oldest},<{major}.{newest + 1}"
    assert f"Python {major}.{oldest} to {major}.{newest}" in (ROOT / "setup.py").read_text()
