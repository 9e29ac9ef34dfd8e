"""Explains why a backend's process ended, from what it wrote and its return code. Nothing here uses bpy."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

INSTALL = "pip install 'latentman[backend]'"
#: return codes of crashed processes on Windows
_WINDOWS_CRASHES = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library that it needs was not found",
    0xC0000142: "a library that it needs could not start",
    0xC0000374: "damaged heap",
    0xC0000409: "aborted",
}
_WINDOWS_INTERRUPTED, _WINDOWS_MEMORY_SHORTAGE = 0xC000013A, 0xC0000017
_NEEDS_LESS_MEMORY = "close other programs, or choose a smaller model or fewer and smaller frames"
#: the line of an exception in a traceback; ``text`` is its name without the module, and its message
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*(?P<text>[A-Za-z_]\w*(?:: .*)?)")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \S+ (?P<level>[A-Z]+) \S+\[\d+\] (?P<message>.*)")
_PROGRESS_BAR = re.compile(r"\d+%\||\d+(?:\.\d+)?\s?(?:it/s|s/it|[kMG]?B/s)")


def _find_missing_module(text: str) -> str | None:
    found = re.findall(r"No module named '?([\w.]+)", text) or re.findall(r"(\w+) is not installed in ", text)
    if not found:
        return None
    name = found[-1]
    if name.split(".")[0] == "latentman":
        return f"its files are incomplete ({name} is missing); install the extension again"
    package = name.split(".")[0]
    return f"its Python has no {package}; install the backend's packages there ({INSTALL}), or choose another in the preferences"


def _find_broken_library(text: str) -> str | None:
    found = re.findall(
        r"ImportError: (DLL load failed.*|.*cannot open shared object file.*|.*undefined symbol.*|dlopen\(.*)"
        r"|OSError: (\[WinError (?:126|127|1114)\].*|.*cannot open shared object file.*|.*undefined symbol.*)",
        text,
    )
    if not found:
        return None
    words = _shorten(next(filter(None, found[-1])))
    return f"a library of its Python cannot be loaded ({words}); install the backend's packages again ({INSTALL})"


def _find_address_in_use(text: str) -> str | None:
    found = re.search(r"(?i)address (?:already )?in use|\[WinError 10048\]|only one usage of each socket address", text)
    if not found:
        return None
    address = re.findall(r"tcp://[^\s')]+", text)
    named = f"the address {address[-1].rstrip('.,;')}" if address else "its address"
    return f"another program uses {named}; connect to the backend that runs there, or choose another address in the preferences"


def _find_memory_shortage(text: str) -> str | None:
    if re.search(r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory|HIP out of memory", text):
        return f"the graphics card ran out of memory; {_NEEDS_LESS_MEMORY}"
    if re.search(r"(?m)^MemoryError|std::bad_alloc|can't allocate memory|Cannot allocate memory|\[WinError 1455\]", text):
        return f"memory ran out; {_NEEDS_LESS_MEMORY}"
    return None


def _find_full_disk(text: str) -> str | None:
    if re.search(r"No space left on device|\[Errno 28\]|\[WinError 112\]|Disk quota exceeded", text):
        return "the disk is full; free some space, or remove old jobs with `latentman jobs --remove-unused 30`"
    return None


def _find_driver_mismatch(text: str) -> str | None:
    found = re.findall(
        r"(?:RuntimeError|AssertionError|AcceleratorError): (.*(?:NVIDIA driver|CUDA driver|no kernel image).*)", text
    )
    return f"torch does not fit this graphics card's driver ({_shorten(found[-1])})" if found else None


#: what is searched for in the last exception or message, the most certain first
_SEARCHES: tuple[Callable[[str], str | None], ...] = (
    _find_missing_module,
    _find_broken_library,
    _find_address_in_use,
    _find_memory_shortage,
    _find_full_disk,
    _find_driver_mismatch,
)


def _shorten(text: str, max_length: int = 200) -> str:
    text = " ".join(text.split()).rstrip(".;")
    return text if len(text) <= max_length else text[: max_length - 3].rstrip() + "..."


def _find_last_exception(text: str) -> str:
    """The exception at the end of the last traceback and the lines after it, or "" when there is no traceback."""
    lines = text.rpartition("Traceback (most recent call last):")[2].splitlines() if "Traceback (most" in text else []
    for n, line in enumerate(lines):
        match = _EXCEPTION.fullmatch(line.rstrip())
        if match:
            return "\n".join([match["text"], *lines[n + 1 :]])
    return ""


def _find_last_message(text: str) -> str:
    """The last line that is not a progress bar, a warning or a line of source code."""
    for line in reversed(text.splitlines()):
        logged = _LOG_LINE.fullmatch(line.strip())
        message = logged["message"] if logged else line
        if logged and logged["level"] not in ("ERROR", "CRITICAL"):
            continue
        if message.strip() and not message[:1].isspace() and not _PROGRESS_BAR.search(message) and "Warning:" not in message:
            return message
    return ""


def _explain_return_code(code: int) -> str | None:
    """What a return code means when the process did not exit by itself; None when it did."""
    unsigned = code & 0xFFFFFFFF
    if unsigned in _WINDOWS_CRASHES:
        return f"it crashed ({_WINDOWS_CRASHES[unsigned]}, code 0x{unsigned:08X})"
    if unsigned == _WINDOWS_MEMORY_SHORTAGE:
        return f"memory ran out; {_NEEDS_LESS_MEMORY}"
    if unsigned == _WINDOWS_INTERRUPTED:
        return "it was interrupted from outside"
    # a shell that runs the process returns 128 plus the number of the signal
    number = -code if -64 <= code < 0 else code - 128 if 128 < code <= 192 else 0
    if not number:
        return None
    if number == 9:
        return f"it was killed (signal 9), probably because memory ran out; {_NEEDS_LESS_MEMORY}"
    if number in (1, 2, 15):
        return f"it was ended from outside (signal {number})"
    if number == 4:
        return "it crashed (signal 4, illegal instruction); this processor may be too old for its torch"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    return f"it crashed (signal {number}, {name})"


def explain(text: str, code: int | None) -> str:
    """Why a process ended: a clause without a full stop, from what it wrote last and its return code (None: unknown)."""
    by_code = _explain_return_code(code) if code is not None else None
    if by_code and by_code.startswith("it crashed"):
        # a memory shortage shows both in the text and as a crash; other errors in the text were survived
        return _find_memory_shortage("\n".join(text.splitlines()[-20:])) or by_code
    if by_code:
        return by_code
    last = _find_last_exception(text) or _find_last_message(text)
    for find in _SEARCHES:
        clause = find(last)
        if clause:
            return clause
    return _shorten(last.partition("\n")[0]) or ("the reason is unknown" if code is None else f"exit code {code}")


def describe(text: str, code: int | None, was_ready: bool, log: Path) -> str:
    """The sentence for the panel, which names the log. ``was_ready`` tells whether the backend had begun its work."""
    why = explain(text, code)
    if was_ready:
        return (
            f"The backend stopped: {why}. Finished frames are kept; start it and generate again to continue. Its output is in {log}"
        )
    return f"The backend did not start: {why}. Its output is in {log}"
