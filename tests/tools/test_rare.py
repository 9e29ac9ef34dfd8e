"""What is left to the slow tests is a part of large matrices, and no whole file."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.checkout import ROOT
from tests.rare import RARE


@pytest.mark.parametrize("name", RARE)
def test_its_patterns_are_right_and_name_files_that_are_there(name):
    assert re.compile(RARE[name]) and list((ROOT / "tests").rglob(name))


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
