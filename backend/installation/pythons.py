"""Pythons that this machine has already, for where none can be fetched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .processes import make_environment, make_hidden

#: the versions that may be used, the best first
VERSIONS = ("3.12", "3.11", "3.13", "3.14")
_SECONDS = 15.0
_QUESTION = """
import json, sys, sysconfig
print(json.dumps([sys.implementation.name, list(sys.version_info[:2]), sys.maxsize > 2**32,
                  bool(sysconfig.get_config_var("Py_GIL_DISABLED")), sys._base_executable, sys.base_prefix]))
"""


@dataclass(frozen=True)
class FoundPython:
    """A Python of this machine."""

    path: Path
    version: str


def examine_python(path: Path) -> FoundPython | None:
    """A Python that an environment can be made of, by any of its names; None for what cannot be used."""
    command = [str(path), "-I", "-c", _QUESTION]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=make_environment(),
            **make_hidden(),
            stdin=subprocess.DEVNULL,
        )
        kind, (major, minor), is_64_bit, is_threaded, base, _ = json.loads(done.stdout)
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None
    version = f"{major}.{minor}"
    if kind != "cpython" or not is_64_bit or is_threaded or version not in VERSIONS:
        return None
    return FoundPython(Path(base), version)


def _list_candidates() -> Iterator[Path]:
    names = [f"python{version}" for version in VERSIONS] + ["python3", "python"]
    for name in names:
        found = shutil.which(name)
        # a name that Windows' shop has put there starts the shop
        if found and "WindowsApps" not in found:
            yield Path(found)
    if sys.platform == "win32":
        with suppress(OSError, subprocess.TimeoutExpired):
            listed = subprocess.run(["py", "-0p"], capture_output=True, timeout=_SECONDS, check=False, **make_hidden())
            for line in listed.stdout.decode(errors="replace").splitlines():
                path = line.split(maxsplit=1)[-1].lstrip("* ").strip()
                if path.lower().endswith(".exe"):
                    yield Path(path)


def find_python(without: Path | None = None) -> FoundPython | None:
    """The best Python of this machine, None where there is none; ``without`` is the folder of a program whose own Python is not to
    be taken, because it goes with the program."""
    found: dict[str, FoundPython] = {}
    for path in _list_candidates():
        if (python := examine_python(path)) is None or python.version in found:
            continue
        if without is not None and is_inside(python.path, without):
            continue
        found[python.version] = python
    return next((found[version] for version in VERSIONS if version in found), None)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, with its links followed, is in a folder."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
