"""What is left to the slow tests is a part of large matrices, and no whole file."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.checkout import ROOT
from tests.rare import RARE, RARE_ELSEWHERE, list_rare


@pytest.mark.parametrize(("table", "name"), [(table, name) for table in (RARE, RARE_ELSEWHERE) for name in table])
def test_its_patterns_name_tests_that_are_there(table, name):
    (path,) = (path for path in (ROOT / "tests").rglob(name) if path.parent.name in ("backend", "blender_addon"))
    tests = re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    # what stands in brackets is of parameters
    for words in re.findall(r"[a-z]+(?:_[a-z]+){2,}", table[name]):
        assert any(words in test for test in tests), words


def test_other_versions_of_blender_leave_out_more(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.2.0")
    assert list_rare("test_keys.py") == [RARE_ELSEWHERE["test_keys.py"]] and len(list_rare("test_kept_extents.py")) == 2
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.5.4")
    assert list_rare("test_keys.py") == [] and list_rare("test_kept_extents.py") == [RARE["test_kept_extents.py"]]


def test_a_file_keeps_some_of_its_tests(tmp_path):
    """Pytest, as make test and make test-slow call it, for one of the files."""
    found = {}
    for marks in ("not slow", "slow"):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-m", marks]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        run = subprocess.run(
            [*command, "tests/blender_addon/test_kept_extents.py"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found[marks] = {line for line in run.stdout.splitlines() if "::" in line}
    assert len(found["slow"]) >= 5 and len(found["not slow"]) >= 5 and not found["slow"] & found["not slow"]
    assert all(re.search(RARE["test_kept_extents.py"], line) for line in found["slow"])
