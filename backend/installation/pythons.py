"""Pythons that this machine has already, for where none can be fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .processes import Children, make_environment, read_last

#: the versions that may be used, the best first
VERSIONS = ("3.12", "3.11", "3.13", "3.14")
ANSWER_SECONDS = 15.0
_QUESTION = """
import json, sys, sysconfig
print()
print(json.dumps([sys.implementation.name, list(sys.version_info[:2]), sys.maxsize > 2**32,
                  bool(sysconfig.get_config_var("Py_GIL_DISABLED")), getattr(sys, "_base_executable", sys.executable),
                  sys.base_prefix]), flush=True)
"""
#: where Pythons are that a program which was not started from a terminal does not find
_USUAL = {
    "darwin": (
        "/opt/homebrew/bin",
        "/usr/local/bin",
        *(f"/Library/Frameworks/Python.framework/Versions/{version}/bin" for version in VERSIONS),
    ),
    "linux": ("/usr/bin", "/usr/local/bin"),
}
#: it asks whether the tools for developers shall be installed, in a window, where they are not
_APPLES_STUB = Path("/usr/bin")


@dataclass(frozen=True)
class FoundPython:
    """A Python of this machine."""

    path: Path
    version: str


def examine_python(path: Path, children: Children) -> FoundPython | None:
    """A Python that an environment can be made of, by any of its names; None for what cannot be used."""
    try:
        code, said = children.ask([str(path), "-I", "-c", _QUESTION], make_environment(), ANSWER_SECONDS, guard=False)
        kind, (major, minor), is_64_bit, is_threaded, base, prefix = read_last(said, list)
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None
    version = f"{major}.{minor}"
    if code or kind != "cpython" or not is_64_bit or is_threaded or version not in VERSIONS:
        return None
    # that of a virtual environment may name a link which its Python does not have
    names = (base, f"{prefix}/bin/python{version}", f"{prefix}/python.exe")
    program = next((Path(name) for name in names if name and os.path.isfile(name)), None)
    return FoundPython(program, version) if program else None


def list_candidates(children: Children, platform: str = sys.platform) -> Iterator[Path]:
    """Where Pythons may be, by their names on the search path and beyond it; ``platform`` as ``sys.platform`` has it."""
    search = os.pathsep.join([*filter(None, [os.environ.get("PATH", "")]), *_USUAL.get(platform, ())])
    names = [f"python{version}" for version in VERSIONS] + ["python3", "python"]
    for name in names:
        found = shutil.which(name, path=search)
        # a name that Windows' shop has put there starts the shop
        if found and "WindowsApps" not in found and not (platform == "darwin" and Path(found).parent == _APPLES_STUB):
            yield Path(found)
    if platform == "win32":
        with suppress(OSError, subprocess.TimeoutExpired):
            _, said = children.ask(["py", "-0p"], make_environment(), ANSWER_SECONDS, guard=False)
            yield from read_launcher(said)


def read_launcher(text: str) -> Iterator[Path]:
    """The Pythons that Windows' ``py -0p`` lists: `` -V:3.12 *        C:\\Program Files\\Python312\\python.exe``."""
    for line in text.splitlines():
        path = line.strip().partition(" ")[2].lstrip("* ").strip()
        if path.lower().endswith(".exe"):
            yield Path(path)


def find_python(children: Children, without: Path | None = None) -> FoundPython | None:
    """The best Python of this machine, None where there is none; ``without`` is the folder of a program whose own Python is not to
    be taken, because it goes with the program."""
    found: dict[str, FoundPython] = {}
    for path in list_candidates(children):
        if (python := examine_python(path, children)) is None or python.version in found:
            continue
        if without is not None and is_inside(python.path, without):
            continue
        found[python.version] = python
        if python.version == VERSIONS[0]:
            break
    return next((found[version] for version in VERSIONS if version in found), None)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, with its links followed, is in a folder."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
