"""Whoever started a backend as Blender does is killed: the backend ends, too, and the port is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..trial import Budget, Figures

#: how long a backend may outlive its owner; one that is still importing notices it when that is done
OUTLIVE_SECONDS = 30.0
#: the latest moment of a kill: some backends are still importing, others listen
MOST_SECONDS = 12.0
PROGRAM = """
import sys, time
from pathlib import Path
from latentman.blender_addon.backend_process import BackendProcess
process = BackendProcess(sys.executable, "tcp://127.0.0.1:0", Path(sys.argv[1]))
print(process.pid, flush=True)
while process.poll_endpoint() is None:
    time.sleep(0.05)
print("listening", flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is a program that starts a backend and is killed."""
    figures = Figures()
    figures.counts.update({"orphans": 0})
    for number, chance, folder in budget.trials():
        how = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT))
        owner = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder / "jobs")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        time.sleep(chance.uniform(0, MOST_SECONDS))
        os.kill(owner.pid, how)
        owner.wait()
        owner.stdout.close()
        figures.counts[f"owners ended by {how.name}"] += 1
        end = time.monotonic() + OUTLIVE_SECONDS
        while is_running(pid) and time.monotonic() < end:
            time.sleep(0.05)
        if is_running(pid):
            figures.counts["orphans"] += 1
            figures.fault(f"orphans --seed {budget.seed}, trial {number}: the backend {pid} outlives its owner ({how.name})")
            os.kill(pid, signal.SIGKILL)
    return figures
