"""Log files: bounded, apart for each process, and never in the way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentman.shared import logs
from latentman.shared.folders import LOG_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log folder of the test's own; what was started is stopped."""
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "logs"))
    monkeypatch.delenv(logs.LEVEL_ENVIRONMENT, raising=False)
    yield tmp_path / "logs"
    logs.stop()


def test_a_line_says_when_how_bad_who_and_which_process(folder):
    path = logs.start(logs.BLENDER)
    logs.get_logger("latentman.shared.logs").warning("the répertoire is full")
    line = path.read_text(encoding="utf-8")
    stamp, level, rest = line.partition(" WARNING ")
    assert level and time.strftime("%Y-%m-%d ") in stamp and stamp[-6] in "+-"
    assert rest == f"latentman.shared.logs[{os.getpid()}] the répertoire is full\n"
    assert path.parent == folder and path.name.startswith("blender-")


def test_stopping_leaves_the_loggers_as_they_were(folder):
    logger, before = logging.getLogger("latentman"), logging.getLogger().handlers[:]
    handlers = logger.handlers[:]
    logs.start(logs.BLENDER)
    logs.start(logs.BLENDER)
    assert len(logger.handlers) == len(handlers) + 1 and logging.getLogger().handlers == before
    logs.stop()
    assert logger.handlers == handlers and logger.level == logging.NOTSET


@pytest.mark.parametrize(("value", "level"), [("", "INFO"), ("debug", "DEBUG"), (" Error ", "ERROR"), ("loud", "INFO")])
def test_the_environment_chooses_the_level(folder, monkeypatch, value, level):
    monkeypatch.setenv(logs.LEVEL_ENVIRONMENT, value)
    path = logs.start(logs.BLENDER)
    for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
        logs.get_logger("latentman.x").log(logging.getLevelName(name), "said")
    written = [line.split()[2] for line in path.read_text().splitlines()]
    assert written == ["DEBUG", "INFO", "WARNING", "ERROR"][["DEBUG", "INFO", "WARNING", "ERROR"].index(level) :]


def test_a_sentence_can_name_the_file(folder):
    assert logs.find_own() == folder
    path = logs.start(logs.BLENDER)
    assert logs.find_own() == path
    logs.stop()
    assert logs.find_own() == folder


def test_an_extensions_modules_log_below_latentman(monkeypatch):
    monkeypatch.setattr(logs, "_PACKAGE", "bl_ext.user_default.latentman")
    assert logs.get_logger("bl_ext.user_default.latentman.blender_addon.state").name == "latentman.blender_addon.state"
    assert logs.get_logger("bl_ext.user_default.latentman").name == "latentman"


def test_a_run_never_takes_more_than_its_files(tmp_path):
    path = tmp_path / "backend-20260101-000000-1.log"
    handler = logs.RunLog(path, max_bytes=2000, backups=2)
    for n in range(300):
        handler.handle(logging.LogRecord("latentman", logging.INFO, "", 0, "line %d", (n,), None))
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [path.name + end for end in ("", ".1", ".2")]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert path.read_text().endswith("line 299\n")
    # what was written last is found although the file has just been changed
    assert logs.read_tail(path, 20).splitlines()[0].endswith("line 280")


def _make_run(folder: Path, kind: str, number: int, age_days: float, process: int = 2**22 + 1) -> Path:
    path = folder / f"{kind}-20260101-{number:06d}-{process}.log"
    path.write_text("x\n")
    moment = time.time() - age_days * 24 * 3600
    os.utime(path, (moment, moment))
    return path


def test_old_runs_go_by_number_and_by_age(folder):
    folder.mkdir()
    young = [_make_run(folder, "backend", n, n / 100) for n in range(30)]
    old = _make_run(folder, "blender", 99, 40)
    other, strange = _make_run(folder, "backend-output", 1, 40), folder / "notes.log"
    strange.write_text("mine")
    logs.start(logs.BACKEND)
    assert [path.exists() for path in young] == [True] * logs.KEEP_RUNS + [False] * (30 - logs.KEEP_RUNS)
    assert old.exists() and other.exists() and strange.exists(), "only a run's own kind is tidied"
    logs.prepare_folder(logs.BLENDER)
    assert not old.exists() and other.exists()


@pytest.mark.skipif(os.name == "nt", reason="an open file protects itself there")
def test_the_file_of_a_living_process_stays(folder):
    folder.mkdir()
    mine = _make_run(folder, "backend", 1, 400, os.getpid())
    dead = _make_run(folder, "backend", 2, 400)
    logs.remove_old(folder, "backend", keep=0)
    assert mine.exists() and not dead.exists()


WRITER = """
import sys
from latentman.shared import logs
logs.start(logs.BACKEND)
for n in range(400):
    logs.get_logger("latentman.test").info("%s says %d", sys.argv[1], n)
"""


def test_two_processes_at_once_keep_their_lines(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "build" / "package"), *sys.path])}
    running = [subprocess.Popen([sys.executable, "-c", WRITER, name], env=environment) for name in ("one", "two")]
    assert [process.wait(60) for process in running] == [0, 0]
    files = sorted(folder.glob("backend-*.log"))
    assert len(files) == 2
    told = {lines[0].split("] ")[1].split()[0]: lines for lines in (file.read_text().splitlines() for file in files)}
    assert set(told) == {"one", "two"}
    for name, lines in told.items():
        assert [line.split("] ")[1] for line in lines] == [f"{name} says {n}" for n in range(400)]


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "file" / "logs"))
    assert logs.start(logs.BLENDER) is None and logs.start(logs.BLENDER) is None
    logs.get_logger("latentman.x").error("nobody hears it")
    logs.stop()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be written (Not a directory)" in said and LOG_ENVIRONMENT in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_once(folder, capsys, monkeypatch):
    monkeypatch.setattr(logs, "_warned", set())
    handler = logs.RunLog(Path("/dev/full"), max_bytes=0)
    for n in range(3):
        handler.handle(logging.LogRecord("latentman", logging.INFO, "", 0, "line %d", (n,), None))
    handler.stream = None
    handler.close()
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_childs_output_is_shortened_while_it_writes(tmp_path):
    path, stream = logs.open_output(tmp_path)
    again, other = logs.open_output(tmp_path)
    other.close()
    assert path != again, "two in one second"
    code = """
import sys
for n in range(3):
    print("x" * 60000, f"line {n}", sep="\\n", file=sys.stderr, flush=True)
    sys.stdin.readline()
"""
    child = subprocess.Popen([sys.executable, "-c", code], stderr=stream, stdin=subprocess.PIPE)
    for n in range(3):
        end = time.monotonic() + 30
        while f"line {n}\n".encode() not in path.read_bytes() and time.monotonic() < end:
            time.sleep(0.01)
        logs.shorten(path, stream, limit=10000)
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert child.wait(30) == 0
    child.stdin.close()
    stream.close()
    assert path.stat().st_size < 10000 and path.read_text().startswith("[earlier lines were removed]\n")
    assert path.read_text().endswith("line 2\n")


def test_the_last_runs_are_found_youngest_first(folder):
    folder.mkdir()
    runs = [_make_run(folder, "backend", n, 3 - n) for n in range(3)]
    (folder / "backend-20260101-000009-7.log").write_text("")
    assert logs.find_recent("backend") == [runs[2], runs[1]]
    assert logs.find_recent("blender") == [] and logs.find_recent("backend", folder / "missing") == []


def test_the_tail_is_readable_whatever_is_in_it(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(b"a\n" * 1000 + b"\0\0caf\xe9\r\n  1%|#\r 50%|#\r100%|# done\nlast")
    assert logs.read_tail(path, 4).splitlines() == ["a", "caf\ufffd", "100%|# done", "last"]
    assert logs.read_tail(tmp_path / "none.log", 3) == ""
