"""Spreads the tests over processes by their files, and goes on when a process dies.

The scheduler of pytest-xdist 3.8 gives the finished files of a dead process to others again, as files without a test, and waits for
their end for ever; a process that takes another's place is given a single file, and waits as well.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


class FileScheduling(LoadFileScheduling):
    """Files, each to one process; what a process had not finished when it died goes to others."""

    def remove_node(self, node: Any) -> str | None:
        """Take a process out; returns the test that it died of, None where it had no more to do. That test is not run again."""
        left = _drop_finished(self.assigned_work.pop(node))
        if not left:
            return None
        tests = next(iter(left.values()))
        crashed = next(test for test, ended in tests.items() if not ended)
        tests[crashed] = True
        self.workqueue.update(_drop_finished(left))
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _assign_work_unit(self, node: Any) -> None:
        try:
            super()._assign_work_unit(node)
        except OSError:
            # it has died, which will be told later: the file is the process's until then, and goes to others with its other ones
            return

    def schedule(self) -> None:
        """Give every process files; a process runs a test when it knows the next one, or that there is none."""
        begins = self.collection is None
        super().schedule()
        for node in () if begins else self.nodes:
            self._reschedule(node)


def _drop_finished(files: dict[str, dict[str, bool]]) -> dict[str, dict[str, bool]]:
    """The files of which not all tests have ended."""
    return {file: tests for file, tests in files.items() if not all(tests.values())}


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """The scheduler of ``--dist loadfile``."""
    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
