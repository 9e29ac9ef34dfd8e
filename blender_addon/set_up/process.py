"""The process of *Set Up*: started, listened to, and ended at once when it is to be cancelled."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...shared import logs
from ..render_gate import gate
from ..windows_job import tie_to_this_process
from .options import SetUpOptions, find_installer_python

logger = logs.get_logger(__name__)
#: no console window for a child on Windows
_CREATE_NO_WINDOW = 0x08000000


class NoPythonError(OSError):
    """There is no Python that could run the process."""


class SetUpProcess:
    """One run of ``backend/install.py``. It ends when this Blender does: it watches the other end of its standard input."""

    def __init__(self, options: SetUpOptions, command: str, *more: str) -> None:
        """Start ``command`` (plan, install, repair, move or remove). Raises ``OSError``."""
        python = find_installer_python()
        if not python:
            raise NoPythonError("Blender's own Python cannot be found, and there is no python3 on the search path")
        folder = logs.prepare_folder(logs.SET_UP) or Path(tempfile.gettempdir())
        self.log, self._output = logs.open_output(folder, logs.SET_UP)
        hidden: dict[str, Any] = {"creationflags": _CREATE_NO_WINDOW} if os.name == "nt" else {}
        try:
            self._process = subprocess.Popen(
                [python, *options.write_arguments(command, *more)],
                env=options.make_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                **hidden,
            )
        except OSError:
            self._output.close()
            self.log.unlink(missing_ok=True)
            raise
        self._job = tie_to_this_process(self._process.pid)
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="latentman-set-up", daemon=True)
        self._thread.start()
        logger.info("Set Up: %s is process %s; what it says goes to %s", command, self._process.pid, self.log)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with gate:
                self._take_line(line)
        code = self._process.wait()
        with suppress(OSError, ValueError):
            self._output.write(f"ended with code {code}\n".encode())
        self._output.close()
        if self._job:
            self._job.close()

    def _take_line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        if event.get("event") not in ("progress", "plan"):
            with suppress(OSError, ValueError):
                self._output.write(line)
        self._events.put(event)

    def take_events(self) -> list[dict[str, Any]]:
        """What has been told since the last call."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    @property
    def running(self) -> bool:
        """Whether there may be more events."""
        return self._thread.is_alive() or not self._events.empty()

    def cancel(self) -> None:
        """End it at once; what has come stays for the next time."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(OSError):
            self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False when the time runs out before."""
        self._thread.join(seconds)
        return not self._thread.is_alive()
