"""Why a backend's process ended, in words: from what it wrote and how it ended. Nothing here touches bpy."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

INSTALL = "pip install 'latentman[backend]'"
#: how Windows says that a process crashed
_WINDOWS_CRASHES = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library that it needs was not found",
    0xC0000142: "a library that it needs could not start",
    0xC0000374: "damaged heap",
    0xC0000409: "aborted",
}
_WINDOWS_INTERRUPTED, _WINDOWS_NO_MEMORY = 0xC000013A, 0xC0000017
_LESS = "close other programs, or choose a smaller model or fewer and smaller frames"
#: where an exception's name, with its module or not, and its text begin
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*(?P<said>[A-Za-z_]\w*(?:: .*)?)")
_LEVEL = re.compile(r"\d{4}-\d\d-\d\d \S+ (?P<level>[A-Z]+) \S+\[\d+\] (?P<message>.*)")
_BAR = re.compile(r"\d+%\||\d+(?:\.\d+)?\s?(?:it/s|s/it|[kMG]?B/s)")


def _missing_module(text: str) -> str | None:
    found = re.findall(r"No module named '?([\w.]+)", text) or re.findall(r"(\w+) is not installed in ", text)
    if not found:
        return None
    name = found[-1]
    if name.split(".")[0] == "latentman":
        return f"its files are incomplete ({name} is missing); install the extension again"
    package = name.split(".")[0]
    return f"its Python has no {package}; install the backend's packages there ({INSTALL}), or choose another in the preferences"


def _broken_library(text: str) -> str | None:
    found = re.findall(
        r"ImportError: (DLL load failed.*|.*cannot open shared object file.*|.*undefined symbol.*|dlopen\(.*)"
        r"|OSError: (\[WinError (?:126|127|1114)\].*|.*cannot open shared object file.*|.*undefined symbol.*)",
        text,
    )
    if not found:
        return None
    words = _short(next(filter(None, found[-1])))
    return f"a library of its Python cannot be loaded ({words}); install the backend's packages again ({INSTALL})"


def _address_in_use(text: str) -> str | None:
    found = re.search(r"(?i)address (?:already )?in use|\[WinError 10048\]|only one usage of each socket address", text)
    if not found:
        return None
    address = re.findall(r"tcp://[^\s')]+", text)
    named = f"the address {address[-1].rstrip('.,;')}" if address else "its address"
    return f"another program uses {named}; connect to the backend that runs there, or choose another address in the preferences"


def _no_memory(text: str) -> str | None:
    if re.search(r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory|HIP out of memory", text):
        return f"the graphics card ran out of memory; {_LESS}"
    if re.search(r"(?m)^MemoryError|std::bad_alloc|can't allocate memory|Cannot allocate memory|\[WinError 1455\]", text):
        return f"memory ran out; {_LESS}"
    return None


def _no_space(text: str) -> str | None:
    if re.search(r"No space left on device|\[Errno 28\]|\[WinError 112\]|Disk quota exceeded", text):
        return "the disk is full; make room, or remove old jobs with `latentman jobs --remove-unused 30`"
    return None


def _no_driver(text: str) -> str | None:
    found = re.findall(
        r"(?:RuntimeError|AssertionError|AcceleratorError): (.*(?:NVIDIA driver|CUDA driver|no kernel image).*)", text
    )
    return f"torch does not fit this graphics card's driver ({_short(found[-1])})" if found else None


#: what is looked for in the last words, the surest first
_COMMON: tuple[Callable[[str], str | None], ...] = (
    _missing_module,
    _broken_library,
    _address_in_use,
    _no_memory,
    _no_space,
    _no_driver,
)


def _short(text: str, most: int = 200) -> str:
    text = " ".join(text.split()).rstrip(".;")
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


def _last_raised(text: str) -> str:
    """The exception at the end of the last traceback and what follows, or nothing."""
    lines = text.rpartition("Traceback (most recent call last):")[2].splitlines() if "Traceback (most" in text else []
    for n, line in enumerate(lines):
        raised = _RAISED.fullmatch(line.rstrip())
        if raised:
            return "\n".join([raised["said"], *lines[n + 1 :]])
    return ""


def _last_words(text: str) -> str:
    """The last line that says something: no progress bar, no warning, no source line."""
    for line in reversed(text.splitlines()):
        told = _LEVEL.fullmatch(line.strip())
        words = told["message"] if told else line
        if told and told["level"] not in ("ERROR", "CRITICAL"):
            continue
        if words.strip() and not words[:1].isspace() and not _BAR.search(words) and "Warning:" not in words:
            return words
    return ""


def _ended_by_signal(code: int) -> str | None:
    """What a return code says when the process did not end by itself."""
    unsigned = code & 0xFFFFFFFF
    if unsigned in _WINDOWS_CRASHES:
        return f"it crashed ({_WINDOWS_CRASHES[unsigned]}, code 0x{unsigned:08X})"
    if unsigned == _WINDOWS_NO_MEMORY:
        return f"memory ran out; {_LESS}"
    if unsigned == _WINDOWS_INTERRUPTED:
        return "it was interrupted from outside"
    # a shell around it adds the signal's number to 128
    number = -code if -64 <= code < 0 else code - 128 if 128 < code <= 192 else 0
    if not number:
        return None
    if number == 9:
        return f"it was killed (signal 9), probably because memory ran out; {_LESS}"
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
    """Why a process ended: a clause without a full stop, from what it wrote last and its return code (None: not known)."""
    ended = _ended_by_signal(code) if code is not None else None
    if ended and ended.startswith("it crashed"):
        # only want of memory shows both in the text and as a crash; all else there was survived
        return _no_memory("\n".join(text.splitlines()[-20:])) or ended
    if ended:
        return ended
    last = _last_raised(text) or _last_words(text)
    for find in _COMMON:
        clause = find(last)
        if clause:
            return clause
    return _short(last.partition("\n")[0]) or ("nothing is known" if code is None else f"exit code {code}")


def describe(text: str, code: int | None, listened: bool, log: Path) -> str:
    """The sentence for the panel; it ends with where to look. ``listened``: whether the backend had been ready."""
    why = explain(text, code)
    if listened:
        return (
            f"The backend stopped: {why}. Finished frames are kept; start it and generate again to go on. What it wrote is in {log}"
        )
    return f"The backend did not start: {why}. What it wrote is in {log}"
