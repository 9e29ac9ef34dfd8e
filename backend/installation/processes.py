"""Starting programs: without a window of their own, without Blender's surroundings, and ended with their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

#: variables of these beginnings are of the Python that runs here, or would change what uv does
_FOREIGN = ("PYTHON", "UV_", "VIRTUAL_ENV", "CONDA", "PIP_", "__PYVENV")
#: no console window for a child on Windows
_CREATE_NO_WINDOW = 0x08000000
CANCELLED = 130


def make_hidden() -> dict[str, Any]:
    """The arguments of ``subprocess`` that keep a program from opening a window on Windows."""
    return {"creationflags": _CREATE_NO_WINDOW} if sys.platform == "win32" else {}


def make_environment(**added: str) -> dict[str, str]:
    """The environment variables for a program, without those that concern another Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | added


class Children:
    """The programs that run at the moment, so that all of them can be ended at once."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def start(self, command: list[str], environment: dict[str, str], folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a program whose output can be read. Raises ``OSError``."""
        group: dict[str, Any] = make_hidden() if sys.platform == "win32" else {"start_new_session": True}
        with self._lock:
            if self._ended:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **group,
            )
            self._running.add(process)
        return process

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """It has ended."""
        with self._lock:
            self._running.discard(process)

    def kill(self) -> None:
        """End all of them, with what they have started, and start no more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                with suppress(OSError):
                    if sys.platform == "win32":
                        process.kill()
                    else:
                        os.killpg(process.pid, signal.SIGKILL)


def end_with_owner(children: Children) -> None:
    """End this process and its children as soon as its standard input ends or it is told to; whatever is half done is gone on with
    the next time."""

    def end(*_: object) -> None:
        children.kill()
        os._exit(CANCELLED)

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    threading.Thread(target=watch, name="owner", daemon=True).start()
