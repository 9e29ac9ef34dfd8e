"""An environment: the Python that it begins with, and the stamp that says that it is complete and what it was made of."""

from __future__ import annotations

import json
import posixpath
import sys
import tarfile
import zlib
from pathlib import Path

from ...shared.backend_environment import CURRENT, STAMP, hash_lock, read_json
from ...shared.files import write_atomically
from ...shared.version import VERSION
from .failures import InstallationError, Remedy
from .lock_file import LockedFile
from .planning import Plan
from .transfer import hash_file
from .wholeness import PYTHON_FOLDER, PYTHON_LIST, hash_records


def unpack_python(archive: Path, folder: Path, platform: str = sys.platform) -> Path:
    """Unpack a fetched Python into a folder, with a list of its files beside it; returns the path of its program. Raises
    ``InstallationError``, and ``OSError`` for the disk."""
    try:
        with tarfile.open(archive) as stream:
            # nothing may come to lie outside of the folder, whatever the archive says
            if hasattr(tarfile, "data_filter"):
                stream.extractall(folder, filter="data")
            else:
                stream.extractall(folder, members=[check_member(member) for member in stream.getmembers()])
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InstallationError("python", f"{archive.name} cannot be unpacked ({error}); try again.") from error
    inside = folder / PYTHON_FOLDER
    python = inside / ("python.exe" if platform == "win32" else "bin/python3")
    if not python.exists():
        raise InstallationError("python", f"{archive.name} holds no Python; install the extension again.", Remedy.REPORT)
    files = [path for path in sorted(inside.rglob("*")) if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"]
    listed = {path.relative_to(inside).as_posix(): hash_file(path) for path in files}
    write_atomically(folder / PYTHON_LIST, json.dumps(listed, indent=0).encode())
    return python


def check_member(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """What the filter of newer Pythons does: ``tarfile.TarError`` for what would come to lie outside of the folder, or is no file,
    folder or link."""
    targets = [member.name]
    if member.issym():
        targets.append(posixpath.join(posixpath.dirname(member.name), member.linkname))
    elif member.islnk():
        targets.append(member.linkname)
    elif not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name} is neither a file nor a folder")
    for target in targets:
        is_outside = posixpath.isabs(target) or posixpath.normpath(target).split("/")[0] == ".."
        if is_outside or member.linkname.startswith("/") or "\\" in target or ":" in target:
            raise tarfile.TarError(f"{member.name} leads out of the folder")
    return member


def write_stamp(folder: Path, python: Path, plan: Plan, key: str, files: tuple[LockedFile, ...]) -> None:
    """Say that an environment is complete, and what it was made of."""
    stamp = {
        "format": 1,
        "python": python.relative_to(folder).as_posix(),
        "key": key,
        "device": plan.build,
        "version": VERSION,
        "packages": len(files),
        "lock": hash_lock(),
        "python_source": plan.python_name,
        "files": [{field: getattr(file, field) for field in ("name", "sha256", "folder", "size", "exact")} for file in files],
        "records": hash_records(folder),
    }
    write_atomically(folder / STAMP, json.dumps(stamp, indent=1).encode())


def change_stamp(folder: Path, **values: object) -> None:
    """Change what the stamp of a complete environment says."""
    write_atomically(folder / STAMP, json.dumps(read_json(folder / STAMP) | values, indent=1).encode())


def renew_stamp(folder: Path) -> None:
    """Say that an environment is what this version of the product needs."""
    change_stamp(folder, version=VERSION, lock=hash_lock())


def read_files(folder: Path) -> tuple[LockedFile, ...]:
    """The files that an environment was made of, as its stamp says. Raises ``ValueError``."""
    try:
        return tuple(
            LockedFile(str(file["name"]), str(file["sha256"]), int(file["size"]), 0, str(file["folder"]), bool(file["exact"]))
            for file in read_json(folder / STAMP)["files"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError("the stamp does not say what the environment consists of") from error


def switch(root: Path, name: str) -> None:
    """Use another environment from now on."""
    write_atomically(root / CURRENT, json.dumps({"format": 1, "environment": name}).encode())
