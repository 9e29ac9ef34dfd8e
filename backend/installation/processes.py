"""Starting programs: without a window of their own, without Blender's surroundings, and ended with their owner."""

from __future__ import annotations

import json
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
#: the exit code for a program that cannot be started
NOT_STARTED = 126
#: between this process and a program, so that the program ends even if this process is killed: its standard input ends then.
#: On Windows the whole of it is in a job of Blender's, which does the same.
_GUARD = f"""
import os, signal, subprocess, sys, threading
def watch():
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)
try:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
except OSError as error:
    print(error.strerror, flush=True)
    sys.exit({NOT_STARTED})
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""


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
        # a signal's handler ends them, whatever this thread holds at the moment
        self._lock = threading.RLock()
        self._ended = False

    def start(
        self, command: list[str], environment: dict[str, str], folder: Path | None = None, *, guard: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start a program whose output can be read; one that cannot be started ends with ``NOT_STARTED`` or raises ``OSError``.

        Without ``guard`` it is one that soon ends by itself, or watches its standard input.
        """
        more = make_hidden()
        if sys.platform != "win32":
            more["start_new_session"] = True
            if guard:
                command = [sys.executable, "-I", "-S", "-B", "-c", _GUARD, *command]
        with self._lock:
            if self._ended:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **more,
            )
            self._running.add(process)
        return process

    def ask(self, command: list[str], environment: dict[str, str], seconds: float, *, guard: bool = True) -> tuple[int, str]:
        """Run a program to its end; returns (exit code, minus the signal's number for one that a signal has ended; what it said).
        Raises ``OSError``, and ``subprocess.TimeoutExpired`` after it was ended."""
        process = self.start(command, environment, guard=guard)
        try:
            said = self.listen(process, seconds)
        finally:
            self.end(process)
        return get_code(process), said.decode("utf-8", "replace")

    def listen(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """What a program says until it ends. Raises ``subprocess.TimeoutExpired``. (``communicate`` would close its standard input,
        and end it with that.)"""
        assert process.stdout is not None
        stream, said = process.stdout, []
        reader = threading.Thread(target=lambda: said.append(stream.read()), daemon=True)
        reader.start()
        process.wait(seconds)
        # what it has started may hold its output open
        reader.join(1.0)
        return b"".join(said)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """It has ended, or does so now, with all that it has started."""
        with self._lock:
            self._running.discard(process)
            _kill(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def kill(self) -> None:
        """End all of them, with what they have started, and start no more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        elif process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


def get_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a program that has ended; minus the number of the signal that ended it."""
    code = process.returncode
    return 128 - code if sys.platform != "win32" and code > 128 else code


def read_last(text: str, kind: type[dict] | type[list]) -> Any:
    """The JSON object or list that a program has written last at the beginning of a line, whatever else it wrote; None without
    one."""
    bracket = "{" if kind is dict else "["
    end = len(text)
    while (start := text.rfind(bracket, 0, end)) >= 0:
        end = start
        if start and text[start - 1] != "\n":
            continue
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            continue
        if isinstance(found, kind):
            return found
    return None


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
