"""Running Kimodo's command: how it is found, how far it is, and in one sentence why it did not do what it was asked."""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ....shared import environment_variables, logs
from ....shared.motion import MotionError

logger = logs.get_logger(__name__)
#: names Kimodo's command: ``kimodo_gen``, a Python that has Kimodo, the folder of its environment, or a command with arguments
ENVIRONMENT = environment_variables.KIMODO
NAME, MODULE = "kimodo_gen", "kimodo.scripts.generate"
#: after so many seconds without a word it is taken for stuck; a download tells how far it is
SILENT_SECONDS = 1800.0
#: how often whoever asked is asked whether to go on
LOOK_SECONDS = 0.25
#: seconds to end by itself when it is told to
END_SECONDS = 5.0
#: lines that are kept to tell why it failed
KEPT_LINES = 200
INSTALL = (
    "install Kimodo in an environment of its own (github.com/nv-tlabs/kimodo) and name its kimodo_gen in the preferences or in "
    f"{ENVIRONMENT}"
)
#: the prompts are known now: the bars before are those of downloads
_BEGINS = "Will generate motions"
_BAR = re.compile(r"(\d+)/(\d+) \[")
#: what the last lines hold -> what is wrong and what to do
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator|\bMemoryError\b",
        "Kimodo ran out of memory; ask for fewer variants, close what else uses the GPU, or start kimodo_textencoder elsewhere.",
    ),
    (
        r"GatedRepoError|gated repo|401 Client Error|403 Client Error|is not a valid model identifier|"
        r"access to model .* is restricted",
        "Kimodo's models need a login: accept their licences on huggingface.co, run 'hf auth login', and then kimodo_gen once in a "
        "terminal, which downloads them.",
    ),
    (
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|Could not resolve model|config\.yaml is missing|MaxRetryError|"
        r"ConnectionError|NameResolutionError|couldn't connect to",
        "Kimodo's models are not on this machine and cannot be downloaded; run kimodo_gen once in a terminal with a connection.",
    ),
    (r"No space left on device", "The disk is full; Kimodo's models need some 20 GB."),
    (
        r"ModuleNotFoundError: No module named '([\w.]+)'",
        "Kimodo's environment lacks the package '{}'; install Kimodo there again.",
    ),
    (r"unrecognized arguments: ([^\n]*)", "This version of Kimodo does not know the argument {}; update it."),
    (
        r"The model is not recognized|not found\. Available models|Unknown model",
        "Kimodo does not know this checkpoint; it lists those it has with an unknown one in a terminal.",
    ),
)


def find_command() -> list[str]:
    """The beginning of Kimodo's command line. Raises ``MotionError`` when there is none."""
    named = os.environ.get(ENVIRONMENT, "").strip()
    if not named:
        found = shutil.which(NAME)
        if found is None:
            raise MotionError(f"Kimodo is not set up; {INSTALL}.")
        return [found]
    path = Path(os.path.expanduser(named))
    if path.is_dir():
        inside = [folder / f"{NAME}{ending}" for folder in (path / "bin", path / "Scripts", path) for ending in ("", ".exe")]
        for one in inside:
            if one.is_file():
                return [str(one)]
        raise MotionError(f"{path} has no {NAME} in it; {INSTALL}.")
    if path.is_file():
        return [str(path), "-m", MODULE] if path.name.lower().startswith("python") else [str(path)]
    command = shlex.split(named, posix=sys.platform != "win32")
    if not command or shutil.which(command[0]) is None:
        raise MotionError(f"There is no program '{named[:200]}' ({ENVIRONMENT}); {INSTALL}.")
    return command


def run_command(
    command: list[str], folder: Path, steps: int, of: int, step_done: Callable[[int, int], None], silent: float = SILENT_SECONDS
) -> None:
    """Run a command in a folder until it ends. ``step_done`` is called with the steps so far of ``of`` bars of ``steps``, and again
    and again while nothing happens; when it raises, the command and all that it started are ended.

    Raises ``MotionError`` for a command that cannot be started, that fails, or that says nothing for ``silent`` seconds.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise MotionError(f"Kimodo cannot be started with '{command[0]}' ({error.strerror or error}); {INSTALL}.") from error
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_pieces, args=(process, pieces), daemon=True)
    reader.start()
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    progress, heard = _Progress(steps, of), time.monotonic()
    try:
        while True:
            try:
                piece = pieces.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() > heard + silent:
                    raise MotionError(
                        f"Kimodo said nothing for {silent / 60:.0f} minutes and was ended; try kimodo_gen in a terminal."
                    ) from None
            else:
                if piece is None:
                    break
                heard = time.monotonic()
                lines.append(piece)
                progress.read(piece)
            step_done(progress.step, steps * of)
        code = process.wait()
    finally:
        _end(process)
        reader.join(END_SECONDS)
        if process.stdout is not None and not reader.is_alive():
            process.stdout.close()
    if code:
        text = "\n".join(lines)
        logger.warning("Kimodo ended with %s:\n%s", code, text)
        raise MotionError(explain_end(code, text))


class _Progress:
    """How many steps were made, from the bars that the command draws: one after the other for each prompt."""

    def __init__(self, steps: int, of: int) -> None:
        self._steps, self._of, self._bar, self._last, self._begun = steps, of, 0, 0, False
        self.step = 0

    def read(self, piece: str) -> None:
        """Look at a line, or at a state of a bar."""
        self._begun |= _BEGINS in piece
        found = _BAR.search(piece)
        if not self._begun or found is None or int(found[2]) != self._steps:
            return
        at = int(found[1])
        if at < self._last:
            self._bar += 1
        self._last = at
        self.step = min(max(self.step, self._bar * self._steps + at), self._of * self._steps)


def _read_pieces(process: subprocess.Popen[bytes], pieces: queue.SimpleQueue[str | None]) -> None:
    """Lines, and the states of bars, which end with a return; None at the end."""
    assert process.stdout is not None
    rest = b""
    while data := os.read(process.stdout.fileno(), 1 << 16):
        *whole, rest = re.split(rb"[\r\n]+", (rest + data)[-(1 << 20) :])
        # a bar's state is only followed by a return when the next one is drawn
        for piece in filter(None, [*whole, rest if b"[" in rest else b""]):
            pieces.put(piece.decode("utf-8", "replace")[:2000])
    if rest:
        pieces.put(rest.decode("utf-8", "replace")[:2000])
    pieces.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    # what it started may live on without it
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal(process: subprocess.Popen[bytes], which: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, which)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError, OSError):
        pass


def explain_end(code: int, text: str) -> str:
    """One sentence for a command that failed, from its code and its last lines."""
    for pattern, sentence in _CAUSES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return sentence.format(*found.groups())
    if code in (-9, 137):
        return "Kimodo was killed, most likely because memory ran out; ask for fewer variants, or close other programs."
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    said = f" ({last[:300].rstrip('.')})" if last else ""
    return f"Kimodo failed with code {code}{said}; try kimodo_gen in a terminal, and see the log {logs.find_own()}."
