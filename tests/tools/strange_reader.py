"""A reader whose files say themselves what happens when they are read. A module of its own: another process imports it by its name,
which that of a test module depends on the folder that the checkout is in."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tools.torture.parts import files


def _misread(path: Path) -> None:
    data = path.read_bytes()
    if data[:4] == b"slow":
        time.sleep(60)
    if data[:4] == b"dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data[:4] == b"eats":
        bytearray(300 << 20)
    if data[:4] == b"odd ":
        raise ZeroDivisionError("nobody foresaw it")
    if data[:4] == b"bad ":
        raise ValueError("as it should be")


def read_strangely(job, number, seeds, folder, answers):
    """A reader's process whose files say themselves what happens."""
    contents = iter([b"fine", b"slow", b"odd ", b"dies", b"bad ", b"eats", b"fine"][7 - len(seeds) :])
    files.make_readers = lambda job: [files.Reader("x", b"fine", _misread, (ValueError,), lambda chance, data: next(contents))]
    files._read_all(job, number, seeds, folder, answers)
