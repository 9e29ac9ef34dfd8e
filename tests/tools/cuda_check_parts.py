"""Parts that go wrong, for ``test_cuda_check``; they are run in processes of their own."""

from __future__ import annotations

import os
import threading


def succeed(task) -> None:
    """Add what it was given."""
    task.recorder.tell(device_name="a stand-in")
    task.recorder.add("a cell", seconds_per_frame=0.5, device=task.device, scale=task.scale.name)


def fail(task) -> None:
    """Raise, after a row."""
    task.recorder.check("before", True, "to be kept", value=float("nan"))
    raise ValueError("the device\nis on fire")


def hang(task) -> None:
    """Never end, after a row and a second one that is begun."""
    task.recorder.check("before", True, "to be kept")
    task.recorder.begin("endless", seconds_per_frame=None)
    threading.Event().wait()


def crash(task) -> None:
    """End as a driver's fault ends a process."""
    os.abort()
