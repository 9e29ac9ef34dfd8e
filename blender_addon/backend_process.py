"""Starts and stops the backend as a separate process."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..shared import environment_variables, logs
from ..shared.load_options import LoadOptions, write_arguments
from .failures import describe
from .render_gate import gate
from .windows_job import tie_to_this_process

#: the program that runs the backend from this copy of the package, in the Python that has its dependencies
LAUNCHER = Path(__file__).resolve().parents[1] / "backend" / "launch.py"
#: the environment variable with the Python that has the backend's packages; the preferences come first
PYTHON_ENVIRONMENT = environment_variables.PYTHON
#: how often a long log is shortened, and how many of its last lines explain a failure
TRIM_SECONDS, READ_LINES = 5.0, 400
#: how long a process that was told to end may take before it is killed, and how often its end is looked for
KILL_SECONDS, LOOK_SECONDS = 10.0, 0.25
logger = logs.get_logger(__name__)


class BackendProcess:
    """A backend's process: starting, running or ended.

    What it writes to standard error goes to the file ``log``, which is kept after the end of the process and of Blender. The
    process ends with Blender, in whatever way that ends: this holds the other end of its standard input, which closes then.
    """

    def __init__(
        self,
        python: str,
        endpoint: str,
        jobs: Path | None = None,
        added: Mapping[str, str] | None = None,
        options: LoadOptions | None = None,
    ) -> None:
        """Start the process, with environment variables ``added`` to Blender's own; ``options`` say how models are run. Raises
        ``OSError`` when the Python cannot be run."""
        self.endpoint = endpoint
        folder = logs.prepare_folder(logs.BACKEND_OUTPUT)
        self.log, self._output = logs.open_output(folder or Path(tempfile.gettempdir()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | dict(added or {})
        command = [python, str(LAUNCHER), "serve", "--end-with-stdin", "--endpoint", endpoint]
        if jobs:
            command += ["--jobs", str(jobs)]
        command += write_arguments(options or LoadOptions())
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._output
            )
        except OSError as error:
            logger.error("The backend cannot be started with %s: %s", python, error)
            self._output.close()
            self.log.unlink(missing_ok=True)
            raise
        logger.info("Backend %s is started with %s; its output goes to %s", self.pid, python, self.log)
        self._job = tie_to_this_process(self.pid)
        self._is_ready = False
        #: when it was told to end
        self._stopped: float | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read_lines, self._wait_for_end)]
        for thread in self._threads:
            thread.start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with gate:
                if line.startswith(b"{"):
                    self._lines.put(line)
                else:
                    logger.debug("Backend %s printed %r", self.pid, line)

    def _wait_for_end(self) -> None:
        """Shorten the log when it grows too long, kill a process that was told to end and does not, and log how it ended."""
        trimmed = time.monotonic()
        code: int | None = None
        while code is None:
            time.sleep(LOOK_SECONDS)
            with gate:
                code, now = self._process.poll(), time.monotonic()
                if code is None and self._stopped is not None and now > self._stopped + KILL_SECONDS:
                    self._process.kill()
                if code is None and now > trimmed + TRIM_SECONDS:
                    trimmed = now
                    with suppress(OSError, ValueError):
                        logs.shorten(self.log, self._output)
        with gate:
            self._clear_up(code)

    def _clear_up(self, code: int) -> None:
        """After the end of the process."""
        if self._stopped is not None:
            logger.info("Backend %s was stopped and ended with code %s", self.pid, code)
        else:
            logger.error("Backend %s ended by itself with code %s; its output is in %s", self.pid, code, self.log)
            self._write_end(code)
        self._close_input()
        self._output.close()
        if self._job:
            self._job.close()
        if self._stopped is not None:
            with suppress(OSError):
                if self.log.stat().st_size == 0:
                    self.log.unlink()

    def _close_input(self) -> None:
        """Close the end of the pipe that says that this Blender is there."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

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
                return str(event["endpoint"])
            # it listens before it has imported its libraries, which may fail
            self._is_ready = self._is_ready or event.get("event") == "ready"
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
        self.poll_endpoint()
        return describe(logs.read_tail(self.log, READ_LINES), code, self._is_ready, self.log)

    def stop(self) -> None:
        """Tell the process to end, and return at once. It is killed when it does not within ``KILL_SECONDS``; should Blender end
        before, it does so by itself. An empty log is removed."""
        if self._stopped is not None or not self.running:
            return
        self._stopped = time.monotonic()
        self._close_input()
        # Windows knows no asking but the closed pipe: there this would end it in the middle of whatever it does
        if os.name != "nt":
            self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process and of what is written about it; False when the time runs out before."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
