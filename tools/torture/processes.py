"""Backends and other programs as processes of their own, which can be killed at any moment.

They are forked from a server that has imported torch already: a backend starts in a moment instead of in seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "latentman.backend.__main__",
        "latentman.backend.server",
        "latentman.backend.models.loading",
        "diffusers.pipelines.controlnet",
        "tools.torture.client",
    ]
)
#: how long a backend may take until it listens, and a process until it ends when it was asked to
START_SECONDS, STOP_SECONDS = 120.0, 60.0


def _serve(jobs: Path, output: Connection, log: Path) -> None:
    os.dup2(output.fileno(), 1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    from latentman.backend.__main__ import main

    sys.exit(main(["serve", "--endpoint", "tcp://127.0.0.1:0", "--jobs", str(jobs)]))


class Program:
    """A function that runs in a process of its own."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = CONTEXT.Process(target=target, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def code(self) -> int | None:
        """How it ended; the negative number of a signal."""
        return self._process.exitcode

    def wait(self, seconds: float) -> bool:
        """Whether it ends in time."""
        self._process.join(seconds)
        return not self.alive

    def kill(self) -> bool:
        """End it at once, without a chance to do anything; False when it had ended already."""
        alive = self.alive
        if alive:
            os.kill(self.pid, signal.SIGKILL)
        self._process.join(STOP_SECONDS)
        return alive and self.code == -signal.SIGKILL

    def stop(self) -> bool:
        """Ask it to end; False when it had to be killed."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
        ended = self.wait(STOP_SECONDS)
        if not ended:
            self.kill()
        return ended


class Backend(Program):
    """A real backend, on a free port."""

    def __init__(self, jobs: Path, log: Path | None = None) -> None:
        """Waits until it listens; raises ``RuntimeError`` when it does not. Its output goes beside the folder ``jobs``, or to
        ``log``."""
        self.log = log or jobs.parent / "backend.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        reader, writer = CONTEXT.Pipe(duplex=False)
        super().__init__(_serve, jobs, writer, self.log)
        writer.close()
        self._output = reader
        self.endpoint = self._read_endpoint()

    def _read_endpoint(self) -> str:
        end, text = time.monotonic() + START_SECONDS, b""
        descriptor = self._output.fileno()
        while time.monotonic() < end and b"\n" not in text:
            if select.select([descriptor], [], [], 0.2)[0]:
                found = os.read(descriptor, 4096)
                if not found:
                    break
                text += found
        try:
            return str(json.loads(text.splitlines()[0])["endpoint"])
        except (ValueError, IndexError, KeyError):
            self.kill()
            raise RuntimeError(f"the backend did not start; its output is in {self.log}") from None

    def read_status(self, name: str) -> int:
        """A number from the system's account of the process, such as ``VmRSS`` in kB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise KeyError(name)

    def count_descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))
