"""A test process that dies takes one test with it, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from tests.file_scheduling import FileScheduling

ROOT = Path(__file__).resolve().parents[2]
DEADLY = "import os\ndef test_before(): pass\ndef test_deadly(): os._exit(1)\ndef test_after(): pass\n"
HARMLESS = "def test_one(): pass\ndef test_two(): pass\ndef test_three(): pass\n"


@pytest.mark.parametrize(("files", "processes"), [("hhdhh", 2), ("dd", 1), ("hdhh", 1)])
def test_the_others_are_run_to_their_end(tmp_path, files, processes):
    for n, kind in enumerate(files):
        (tmp_path / f"test_{n}.py").write_text(DEADLY if kind == "d" else HARMLESS)
    (tmp_path / "conftest.py").write_text("from tests.file_scheduling import pytest_xdist_make_scheduler\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes), "--dist", "loadfile"]
    # what the processes of this run are told is not for those of that one
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    deadly = files.count("d")
    assert re.search(rf"\b{deadly} failed, {3 * len(files) - deadly} passed", run.stdout), run.stdout
    assert run.stdout.count("crashed while running") >= deadly and run.returncode == 1


class DeadProcess:
    """A process whose end was not told yet: its pipe is broken."""

    def send_runtest_some(self, indices):
        raise OSError("cannot send (already closed?)")


def test_a_file_that_is_sent_to_a_dead_process_goes_to_others():
    scheduling, dead = FileScheduling.__new__(FileScheduling), DeadProcess()
    tests = {"test_a.py::test_one": False, "test_a.py::test_two": False}
    scheduling.workqueue, scheduling.assigned_work = OrderedDict({"test_a.py": dict(tests)}), OrderedDict()
    scheduling.registered_collections = {dead: list(tests)}
    scheduling._assign_work_unit(dead)
    assert not scheduling.workqueue and scheduling.assigned_work[dead] == {"test_a.py": tests}
    assert scheduling.remove_node(dead) == "test_a.py::test_one"
    assert scheduling.workqueue == {"test_a.py": {"test_a.py::test_one": True, "test_a.py::test_two": False}}
