"""Starts and ends the backend as a process of its own."""

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

#: runs the backend from this very copy of the package, in whatever Python has its dependencies
LAUNCHER = Path(__file__).resolve().parents[1] / "backend" / "launch.py"
#: names the Python that has the backend's packages, when the preferences do not
PYTHON_ENVIRONMENT = "LATENTMAN_PYTHON"
TRIM_SECONDS, READ_LINES = 5.0, 400
logger = logs.get_logger(__name__)


class BackendProcess:
    """A running (or starting, or ended) backend.

    Whatever it writes beside its answers goes to ``log``, which outlives it and this Blender.
    """

    def __init__(self, python: str, endpoint: str, jobs: Path | None = None) -> None:
        """Starts it; ``OSError`` when the Python cannot be run."""
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
        self._listened = self._told_to_stop = False
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._watch)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                self._lines.put(line)
            else:
                logger.debug("Backend %s printed %r", self.pid, line)

    def _watch(self) -> None:
        """Keep its log from growing without end, and write down how it ended."""
        while True:
            try:
                code = self._process.wait(TRIM_SECONDS)
                break
            except subprocess.TimeoutExpired:
                with suppress(OSError, ValueError):
                    logs.shorten(self.log, self._output)
        if self._told_to_stop:
            logger.info("Backend %s was stopped and ended with code %s", self.pid, code)
        else:
            logger.error("Backend %s ended by itself with code %s; its output is in %s", self.pid, code, self.log)
            self._note_end(code)

    def _note_end(self, code: int) -> None:
        """Let its output end with how it ended and where its own log is: a killed process says nothing itself."""
        own = [path.name for path in self.log.parent.glob(f"{logs.BACKEND}-*-{self.pid}.log")]
        text = f"Backend {self.pid} ended with code {code}; its own log: {', '.join(own) or 'none'}"
        record = logging.LogRecord(logger.name, logging.INFO, __file__, 0, text, None, None)
        with suppress(OSError, ValueError):
            self._output.write((logs.LineFormatter().format(record) + "\n").encode())

    def poll_endpoint(self) -> str | None:
        """The address it listens on, once it does."""
        while not self._lines.empty():
            try:
                event = json.loads(self._lines.get())
            except ValueError:
                continue
            if event.get("event") == "listening":
                self._listened = True
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

    def has_ended(self, seconds: float = 1.0) -> bool:
        """Whether it is gone; waits a moment, because its connection breaks before the system has its return code."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self) -> str:
        """One sentence about why it ended, and where its log is."""
        code = self._process.returncode if self.has_ended() else None
        return describe(logs.read_tail(self.log, READ_LINES), code, self._listened, self.log)

    def stop(self) -> None:
        """End it: politely, then firmly. Its log stays if there is anything in it."""
        if self.running:
            self._told_to_stop = True
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
