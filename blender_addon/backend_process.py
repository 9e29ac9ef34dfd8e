"""Starts and ends the backend as a process of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path

#: runs the backend from this very copy of the package, in whatever Python has its dependencies
LAUNCHER = Path(__file__).resolve().parents[1] / "backend" / "launch.py"
#: names the Python that has the backend's packages, when the preferences do not
PYTHON_ENVIRONMENT = "LATENTMAN_PYTHON"


class BackendProcess:
    """A running (or starting, or ended) backend."""

    def __init__(self, python: str, endpoint: str, jobs: Path | None = None) -> None:
        """Starts it; ``OSError`` when the Python cannot be run."""
        self._log = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it lives as long as the process
            "w+b", prefix="latentman-backend-", suffix=".log", delete=False
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        command = [python, str(LAUNCHER), "serve", "--endpoint", endpoint]
        if jobs:
            command += ["--jobs", str(jobs)]
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def poll_endpoint(self) -> str | None:
        """The address it listens on, once it does."""
        while not self._lines.empty():
            try:
                event = json.loads(self._lines.get())
            except ValueError:
                continue
            if event.get("event") == "listening":
                return str(event["endpoint"])
        return None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def failure(self) -> str:
        """One sentence about why it ended."""
        lines = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        last = lines[-1].strip() if lines else f"exit code {self._process.returncode}"
        if "No module named" in last:
            last += "; choose a Python with the packages of requirements.txt in the preferences"
        return f"The backend did not start: {last}."

    def stop(self) -> None:
        """End it: politely, then firmly."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=5)
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)
