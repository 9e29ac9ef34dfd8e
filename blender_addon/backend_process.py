"""Starts and stops the backend as a separate process."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from ..shared import logs
from .failures import describe

#: the program that runs the backend from this copy of the package, in the Python that has its dependencies
LAUNCHER = Path(__file__).resolve().parents[1] / "backend" / "launch.py"
#: the environment variable with the Python that has the backend's packages; the preferences come first
PYTHON_ENVIRONMENT = "LATENTMAN_PYTHON"
#: how often a long log is shortened, and how many of its last lines explain a failure
TRIM_SECONDS, READ_LINES = 5.0, 400
logger = logs.get_logger(__name__)


class BackendProcess:
    """A backend's process: starting, running or ended.

    What it writes to standard error goes to the file ``log``, which is kept after the end of the process and of Blender.
    """

    def __init__(self, python: str, endpoint: str, jobs: Path | None = None) -> None:
        """Start the process. Raises ``OSError`` when the Python cannot be run."""
        folder = logs.prepare_folder(logs.BACKEND_OUTPUT)
        self.log, self._output = logs.open_output(folder or Path(tempfile.gettempdir()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        command = [python, str(LAUNCHER), "serve", "--endpoint", endpoint]
        if jobs:
            command += ["--jobs", str(jobs)]
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=self._output, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            logger.error("The backend cannot be started with %s: %s", python, error)
            self._output.close()
            self.log.unlink(missing_ok=True)
            raise
        logger.info("Backend %s is started with %s; its output goes to %s", self.pid, python, self.log)
        self._has_listened = self._is_stopping = False
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read_lines, self._wait_for_end)]
        for thread in self._threads:
            thread.start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                self._lines.put(line)
            else:
                logger.debug("Backend %s printed %r", self.pid, line)

    def _wait_for_end(self) -> None:
        """Shorten the log when it grows too long, and log how the process ended."""
        while True:
            try:
                code = self._process.wait(TRIM_SECONDS)
                break
            except subprocess.TimeoutExpired:
                with suppress(OSError, ValueError):
                    logs.shorten(self.log, self._output)
        if self._is_stopping:
            logger.info("Backend %s was stopped and ended with code %s", self.pid, code)
        else:
            logger.error("Backend %s ended by itself with code %s; its output is in %s", self.pid, code, self.log)
            self._write_end(code)

    def _write_end(self, code: int) -> None:
        """Write the return code and the name of the backend's own log behind its output: a killed process cannot do that itself."""
        own = [path.name for path in self.log.parent.glob(f"{logs.BACKEND}-*-{self.pid}.log")]
        text = f"Backend {self.pid} ended with code {code}; its own log: {', '.join(own) or 'none'}"
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, text, None, None)
        with suppress(OSError, ValueError):
            self._output.write((logs.LineFormatter().format(record) + "\n").encode())

    def poll_endpoint(self) -> str | None:
        """The address that the backend listens on, once it does."""
        while not self._lines.empty():
            try:
                event = json.loads(self._lines.get())
            except ValueError:
                continue
            if event.get("event") == "listening":
                self._has_listened = True
                return str(event["endpoint"])
        return None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def has_ended(self, seconds: float = 1.0) -> bool:
        """Whether the process has ended; waits a moment, because the connection breaks before the system has the return code."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def explain_failure(self) -> str:
        """One sentence that says why the process ended and where its log is."""
        code = self._process.returncode if self.has_ended() else None
        return describe(logs.read_tail(self.log, READ_LINES), code, self._has_listened, self.log)

    def stop(self) -> None:
        """Terminate the process, or kill it when it does not react. An empty log is removed."""
        if self.running:
            self._is_stopping = True
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=5)
        for thread in self._threads:
            thread.join(timeout=1)
        self._output.close()
        with suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()
