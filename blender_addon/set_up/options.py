"""What the user has chosen for *Set Up*, and how the process is told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bpy

INSTALLER = Path(__file__).resolve().parents[2] / "backend" / "install.py"


@dataclass(frozen=True)
class SetUpOptions:
    """Where environments are kept, which build of torch (empty for the one of the best device), with which Python (empty for one
    that is fetched), a folder of files in place of the network, and the environment variables that name indexes and proxies."""

    root: Path
    build: str = ""
    python: str = ""
    files: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def write_arguments(self, command: str, *more: str) -> list[str]:
        """The arguments of the process, after its Python."""
        found = ["-I", "-B", str(INSTALLER), command, "--root", str(self.root), *more]
        if command in ("plan", "install", "repair"):
            host = find_host_folder()
            pairs = (("--build", self.build), ("--python", self.python), ("--files", self.files or ""), ("--host", host or ""))
            found += [part for name, value in pairs if value for part in (name, str(value))]
        return found

    def make_environment(self) -> dict[str, str]:
        """The environment variables of the process."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | dict(self.variables)


def find_host_folder() -> Path | None:
    """Blender's own folder, where its Python lies in it and goes with it; None where Blender uses the system's."""
    program = bpy.app.binary_path
    if not program:
        return None
    folder = Path(os.path.realpath(program)).parent
    # on macOS the program is in Contents/MacOS, its Python in Contents/Resources
    folder = folder.parent if folder.name == "MacOS" else folder
    return folder if Path(os.path.realpath(sys.base_prefix)).is_relative_to(folder) else None


def find_installer_python() -> str:
    """A Python that can run the process: the one that runs here, which nothing is installed into; empty where there is none."""
    if "blender" not in Path(sys.executable).name.lower():
        return sys.executable
    names = ("bin/python3", f"bin/python3.{sys.version_info[1]}", "bin/python.exe", "python.exe")
    for path in (Path(sys.base_prefix) / name for name in names):
        if path.is_file():
            return str(path)
    return shutil.which("python3") or ""
