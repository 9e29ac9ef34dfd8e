"""Making an environment out of files that have come, with uv, without the network; looking whether it is whole."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...shared.backend_environment import CURRENT, ENVIRONMENTS, STAMP, hash_lock
from ...shared.files import write_atomically
from ...shared.version import VERSION
from .failures import InstallationError, Remedy
from .lock_file import LockedFile
from .planning import Plan
from .processes import Children, make_environment

#: the folder of a fetched Python, as it stands in its archive
PYTHON_FOLDER = "python"
_LOOK_SECONDS = 0.5
#: the end of what a failed program has said
_SAID = 2000


def unpack_uv(wheel: Path, folder: Path) -> Path:
    """Take uv's program out of its wheel; returns its path. Raises ``InstallationError``."""
    name = "uv.exe" if sys.platform == "win32" else "uv"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        inner = next((entry for entry in archive.namelist() if entry.endswith(f".data/scripts/{name}")), None)
        if inner is None:
            raise InstallationError("uv", f"{wheel.name} does not hold uv; install the extension again.", Remedy.REPORT)
        path = folder / name
        with archive.open(inner) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    path.chmod(0o755)
    return path


def unpack_python(archive: Path, folder: Path) -> Path:
    """Unpack a fetched Python into a folder; returns the path of its program. Raises ``InstallationError``."""
    try:
        with tarfile.open(archive) as stream:
            # nothing may come to lie outside of the folder, whatever the archive says
            stream.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise InstallationError("python", f"{archive.name} cannot be unpacked ({error}); try again.") from error
    python = folder / PYTHON_FOLDER / ("python.exe" if sys.platform == "win32" else "bin/python3")
    if not python.exists():
        raise InstallationError("python", f"{archive.name} holds no Python; install the extension again.", Remedy.REPORT)
    return python


def get_venv_python(folder: Path) -> Path:
    """The program of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


class Uv:
    """Runs uv, with nothing of the user's own settings and caches."""

    def __init__(self, program: Path, cache: Path, children: Children) -> None:
        self._program, self._children = program, children
        self._environment = make_environment(UV_CACHE_DIR=str(cache), UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", NO_COLOR="1")

    def run(self, *arguments: str, what: str, watch: Callable[[], None] | None = None, **added: str) -> str:
        """Run a command, calling ``watch`` now and then; returns what it wrote. Raises ``InstallationError`` where it fails, with
        ``what``, as in "installing the packages"."""
        process = self._children.start([str(self._program), "--no-progress", *arguments], self._environment | added)
        said: list[bytes] = []
        assert process.stdout is not None
        stream = process.stdout
        reader = threading.Thread(target=lambda: said.append(stream.read()), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                reader.join(_LOOK_SECONDS)
                if watch:
                    watch()
        finally:
            self._children.forget(process)
        reader.join(_LOOK_SECONDS * 4)
        text = b"".join(said).decode("utf-8", "replace")
        if process.returncode:
            raise explain_uv_failure(text, what)
        return text

    def make_venv(self, folder: Path, python: Path) -> Path:
        """Make a virtual environment of a Python; returns its program."""
        self.run(
            "venv",
            "--no-project",
            "--offline",
            "--relocatable",
            "--python",
            str(python),
            str(folder),
            what="making the environment",
        )
        return get_venv_python(folder)

    def install(
        self, python: Path, requirements: Path, wheels: Path, watch: Callable[[], None], *, again: tuple[str, ...] = ()
    ) -> None:
        """Install the wheels that ``requirements`` names by version and hash; packages named in ``again`` are replaced."""
        more = [part for name in again for part in ("--reinstall-package", name)]
        # a fetched Python belongs to this environment alone
        self.run(
            *("pip", "install", "--offline", "--no-index", "--no-deps", "--require-hashes", "--break-system-packages"),
            *("--python", str(python), "--find-links", str(wheels), *more, "-r", str(requirements)),
            what="installing the packages",
            watch=watch,
        )


def explain_uv_failure(text: str, what: str) -> InstallationError:
    """What uv's last words mean."""
    lowered = text.lower()
    if "no space left" in lowered or "os error 28" in lowered or "os error 112" in lowered or "quota exceeded" in lowered:
        return InstallationError(
            "space",
            f"The disk became full while {what}; free some space, or choose another folder. What has come is kept.",
            Remedy.SPACE,
        )
    if "permission denied" in lowered or "access is denied" in lowered or "os error 5)" in lowered:
        return InstallationError(
            "permission",
            f"Something could not be written while {what}; stop other backends, close what looks into the folder (a virus scanner, "
            "perhaps), and try again.",
        )
    lines = [line.strip() for line in text[-_SAID:].splitlines() if line.strip()]
    last = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "nothing was said")
    return InstallationError("uv", f"{what[:1].upper()}{what[1:]} failed: {last.rstrip('.')}.", Remedy.REPORT)


def write_requirements(path: Path, files: tuple[LockedFile, ...]) -> None:
    """Write what uv installs: each package at one version, with the hash of the file that has come."""
    lines = [f"{file.package}=={file.version} --hash=sha256:{file.sha256}" for file in files]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_folder(folder: Path) -> int:
    """The bytes of the files in a folder."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(inner, name)).st_size
    return total


class Watch:
    """Tells, now and then, how much of an environment is there."""

    def __init__(self, folder: Path, report: Callable[[int], None], seconds: float = 1.0) -> None:
        self._folder, self._report, self._seconds = folder, report, seconds
        self._start, self._told = measure_folder(folder), 0.0

    def __call__(self) -> None:
        if time.monotonic() > self._told + self._seconds:
            self._report(max(0, measure_folder(self._folder) - self._start))
            self._told = time.monotonic()


def find_damage(folder: Path, report: Callable[[int], None] | None = None) -> dict[str, list[str]]:
    """Packages with files that are gone or changed: name -> the files. Compares every file with the record of its package."""
    damaged: dict[str, list[str]] = {}
    done = 0
    for site in find_site_folders(folder):
        for record in sorted(site.glob("*.dist-info/RECORD")):
            name = record.parent.name.partition("-")[0].replace("_", "-").lower()
            for row in csv.reader(io.StringIO(record.read_text(encoding="utf-8"))):
                if len(row) != 3 or not row[1].startswith("sha256="):
                    continue
                path = site / row[0]
                # programs are written for the place where they are
                if path.suffix in (".pyc", ".exe") or "bin" in Path(row[0]).parts or "Scripts" in Path(row[0]).parts:
                    continue
                try:
                    data = path.read_bytes()
                except OSError:
                    damaged.setdefault(name, []).append(row[0])
                    continue
                done += len(data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                if digest != row[1].partition("=")[2]:
                    damaged.setdefault(name, []).append(row[0])
                if report:
                    report(done)
    return damaged


def find_site_folders(folder: Path) -> list[Path]:
    """The folders of an environment that packages lie in."""
    return sorted(
        path for path in (*folder.glob("*/lib/python3*/site-packages"), *folder.glob("*/Lib/site-packages")) if path.is_dir()
    )


def list_installed(folder: Path) -> dict[str, str]:
    """The packages that are there: name -> version."""
    found = {}
    for site in find_site_folders(folder):
        for info in site.glob("*.dist-info"):
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            if (info / "RECORD").exists():
                found[name.replace("_", "-").replace(".", "-").lower()] = version
    return found


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
        "files": [{"name": file.name, "sha256": file.sha256, "folder": file.folder, "size": file.size} for file in files],
    }
    write_atomically(folder / STAMP, json.dumps(stamp, indent=1).encode())


def renew_stamp(folder: Path) -> None:
    """Say that an environment is what this version of the product needs."""
    stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    write_atomically(folder / STAMP, json.dumps(stamp | {"version": VERSION, "lock": hash_lock()}, indent=1).encode())


def switch(root: Path, name: str) -> None:
    """Use another environment from now on."""
    write_atomically(root / CURRENT, json.dumps({"format": 1, "environment": name}).encode())


def remove_folder(folder: Path) -> None:
    """Delete a folder; raises ``OSError`` where something of it stays."""
    if not folder.exists():
        return
    # first out of the way, so that nobody takes a half of it for a whole
    gone = folder.with_name(f"{folder.name}.gone")
    if folder.suffix != ".gone":
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(folder, gone)
    shutil.rmtree(gone if folder.suffix != ".gone" else folder)


def list_leftovers(root: Path) -> list[Path]:
    """Folders of environments that were never completed, or are half deleted."""
    try:
        return [path for path in (root / ENVIRONMENTS).iterdir() if path.suffix in (".part", ".gone", ".old")]
    except OSError:
        return []
