"""``locks/setup.json``: every file that an environment may need, with its hash and its sizes."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ...shared.backend_environment import PACKAGE_LOCK
from .failures import InstallationError, Remedy

#: what a file unpacks to where the lock does not know it, and how large a build of torch is where nobody has said so
_UNPACKED_RATIO, _TORCH_SIZES = 2.2, {"cpu": 192_000_000}
_TORCH_SIZE, _OTHER_SIZE = 2_600_000_000, 40_000_000


def normalise(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def guess_size(folder: str) -> int:
    """The bytes of a file whose size nobody has told; ``folder`` is that of torch's index, empty for another package."""
    return _TORCH_SIZES.get(folder, _TORCH_SIZE) if folder else _OTHER_SIZE


def guess_unpacked(size: int) -> int:
    """The bytes that a file of so many unpacks to."""
    return int(size * _UNPACKED_RATIO)


@dataclass(frozen=True)
class LockedFile:
    """A file to fetch: its name, SHA-256, and bytes, as they come and unpacked. ``folder`` is that of torch's index which has it,
    empty for the package index. A ``size`` that is not ``exact`` is a guess."""

    name: str
    sha256: str
    size: int
    unpacked: int = 0
    folder: str = ""
    exact: bool = True

    @property
    def package(self) -> str:
        """The package's name as indexes write it."""
        return normalise(self.name.split("-")[0])

    @property
    def version(self) -> str:
        """The package's version."""
        return self.name.split("-")[1]


@dataclass(frozen=True)
class PythonBuild:
    """A Python to fetch: an archive with one folder ``python``."""

    version: str
    release: str
    file: LockedFile


@dataclass(frozen=True)
class SetupLock:
    """What may be fetched. ``environments`` is platform -> device -> Python -> names of files."""

    pythons: dict[str, PythonBuild]
    uv: dict[str, LockedFile]
    files: dict[str, LockedFile]
    environments: dict[str, dict[str, dict[str, tuple[str, ...]]]]
    #: hashes of builds of torch, whoever offers them
    known: dict[str, str] = field(default_factory=dict)

    def find_files(self, system: str, device: str, python: str) -> tuple[LockedFile, ...] | None:
        """The files of an environment; None where they are not locked."""
        names = self.environments.get(system, {}).get(device, {}).get(python)
        return tuple(self.files[name] for name in names) if names is not None else None


def _read_file(name: str, found: dict[str, Any]) -> LockedFile:
    folder = str(found.get("folder", ""))
    size, unpacked = int(found.get("size", 0)), int(found.get("unpacked", 0))
    exact = size > 0
    size = size or guess_size(folder)
    return LockedFile(name, str(found["sha256"]), size, unpacked or guess_unpacked(size), folder, exact)


def read_lock(path: Path | None = None) -> SetupLock:
    """The lock of this copy of the product. Raises ``InstallationError``."""
    try:
        found = json.loads((path or PACKAGE_LOCK).read_text(encoding="utf-8"))
        python = found["python"]
        lock = SetupLock(
            {
                system: PythonBuild(python["version"], python["release"], _read_file(build["name"], build))
                for system, build in python["builds"].items()
            },
            {system: _read_file(file["name"], file) for system, file in found["uv"].items()},
            {name: _read_file(name, file) for name, file in found["files"].items()},
            {
                system: {
                    device: {version: tuple(names) for version, names in versions.items()} for device, versions in devices.items()
                }
                for system, devices in found["environments"].items()
            },
            dict(found["known"]),
        )
        for devices in lock.environments.values():
            for versions in devices.values():
                for names in versions.values():
                    [lock.files[name] for name in names]
        return lock
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallationError(
            "lock", f"The extension is damaged: {path or PACKAGE_LOCK} cannot be read; install the extension again.", Remedy.REPORT
        ) from error


def make_key(files: tuple[LockedFile, ...], python: str) -> str:
    """The SHA-256 of what an environment consists of; ``python`` names its Python."""
    lines = sorted(f"{file.name} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join([python, *lines]).encode()).hexdigest()


@cache
def find_system() -> str:
    """This platform by the name that Blender has for it: ``linux-x64``, ``windows-arm64`` and so on."""
    machine = platform.machine().lower()
    architecture = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}.get(machine, machine)
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    return f"{system}-{architecture}"
