"""Making an environment out of files that have come, with uv, without the network; looking whether it is whole."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import posixpath
import shutil
import stat
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from ...shared.backend_environment import CURRENT, GONE, STAMP, hash_lock, read_json
from ...shared.files import write_atomically
from ...shared.version import VERSION
from .failures import InstallationError, Remedy, explain_full_disk
from .lock_file import LockedFile, normalise
from .planning import Plan
from .processes import NOT_STARTED, Children, get_code, make_environment
from .transfer import hash_file

#: the folder of a fetched Python, as it stands in its archive, and the list of its files
PYTHON_FOLDER, PYTHON_LIST = "python", "python.json"
#: what a fetched Python is called where packages are
PYTHON_ITSELF = "Python"
_LOOK_SECONDS = 0.5
#: how often, and after how many seconds, it is tried again to rename what a virus scanner may be looking at
_ATTEMPTS, _PAUSE = 40, 0.25
#: the end of what a failed program has said
_SAID = 2000


def unpack_uv(wheel: Path, folder: Path, platform: str = sys.platform) -> Path:
    """Take uv's program out of its wheel; returns its path. ``platform`` is as ``sys.platform`` has it. Raises
    ``InstallationError``."""
    name = "uv.exe" if platform == "win32" else "uv"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        inner = next((entry for entry in archive.namelist() if entry.endswith(f".data/scripts/{name}")), None)
        if inner is None:
            raise InstallationError("uv", f"{wheel.name} does not hold uv; install the extension again.", Remedy.REPORT)
        path, part = folder / name, folder / f"{name}.part"
        with archive.open(inner) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    part.chmod(0o755)
    # one that another process still runs cannot be written
    os.replace(part, path)
    return path


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


def get_venv_python(folder: Path, platform: str = sys.platform) -> Path:
    """The program of a virtual environment."""
    return folder / ("Scripts/python.exe" if platform == "win32" else "bin/python")


class Uv:
    """Runs uv, with nothing of the user's own settings and caches."""

    def __init__(self, program: Path, cache: Path, children: Children) -> None:
        self._program, self._children = program, children
        self._environment = make_environment(UV_CACHE_DIR=str(cache), UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", NO_COLOR="1")

    def run(
        self, *arguments: str, what: str, watch: Callable[[], None] | None = None, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run a command with more environment variables, calling ``watch`` now and then; returns what it wrote. Raises
        ``InstallationError`` where it fails, with ``what``, as in "installing the packages"."""
        # without a folder of its own, uv would look for projects around the one that Blender was started in
        process = self._children.start(
            [str(self._program), "--no-progress", *arguments],
            {**self._environment, **(variables or {})},
            self._program.parent.parent,
        )
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
            self._children.end(process)
        reader.join(_LOOK_SECONDS * 4)
        text = b"".join(said).decode("utf-8", "replace")
        code = get_code(process)
        if code == NOT_STARTED:
            raise InstallationError(
                "start",
                f"{self._program} cannot be started ({text.strip().rstrip('.')}); choose a folder on a disk that programs can be "
                "run from.",
                Remedy.SPACE,
            )
        if code:
            raise explain_uv_failure(text, what, code)
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
        # a fetched Python belongs to this environment alone; uv would part an address at its commas
        self.run(
            *("pip", "install", "--offline", "--no-index", "--no-deps", "--require-hashes", "--break-system-packages"),
            *("--python", str(python), "--find-links", os.path.relpath(wheels, self._program.parent.parent), *more),
            *("-r", str(requirements)),
            what="installing the packages",
            watch=watch,
        )


def explain_uv_failure(text: str, what: str, code: int = 1) -> InstallationError:
    """What uv's last words mean; ``code`` is its exit code, minus the number of a signal."""
    lowered = text.lower()
    if any(words in lowered for words in ("no space left", "os error 28", "os error 112", "quota exceeded", "os error 122")):
        return explain_full_disk(what)
    if any(words in lowered for words in ("permission denied", "access is denied", "os error 5)", "os error 32)")):
        return InstallationError(
            "permission",
            f"Something could not be written while {what}; stop other backends, close what looks into the folder (a virus scanner, "
            "perhaps), and try again.",
        )
    last = find_last_words(text)
    if any(words in lowered for words in ("hash mismatch", "failed to read `", "invalid zip", "failed to extract")):
        return InstallationError("damaged", f"A file was damaged while {what} ({last}); try again, and it is fetched again.")
    if any(words in lowered for words in ("failed to fetch", "error sending request", "dns error", "http status", "certificate")):
        return InstallationError(
            "network",
            f"{what[:1].upper()}{what[1:]} failed: {last}; check the connection, the addresses and the proxy, and try again.",
            Remedy.NETWORK,
        )
    if code < 0:
        return InstallationError(
            "ended",
            f"The system ended the installer while {what}, perhaps for want of memory; close other programs, and try again.",
        )
    return InstallationError(
        "uv",
        f"{what[:1].upper()}{what[1:]} failed: {last}; try again, and if that does not help, copy the diagnostics and report it.",
        Remedy.REPORT,
    )


def find_last_words(text: str) -> str:
    """What a failed program says is the cause: its error and the deepest reason that it names, in one line."""
    lines = [line.strip(" \t│├╰─▶×").rstrip(".") for line in text[-_SAID:].splitlines()]
    lines = [line for line in lines if line]
    first = next((n for n, line in enumerate(lines) if line.lower().startswith("error")), None)
    causes = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("caused by:")]
    if first is None:
        # uv's reports of what cannot be resolved are several lines of one sentence
        return " ".join(lines[-3:]) or "nothing was said"
    words = [lines[first].partition(":")[2].strip() or lines[first], *causes[-1:]]
    return ": ".join(words)


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
    """Packages with files that are gone or changed: name -> the files. Compares every file with the record of its package, the
    records with the environment's stamp, and a fetched Python with the list that was made when it was unpacked."""
    check = _Check(report)
    records = read_json(folder / STAMP).get("records")
    records = records if isinstance(records, dict) else {}
    for site in find_site_folders(folder):
        for info in sorted(site.glob("*.dist-info")):
            name = normalise(info.name.partition("-")[0])
            try:
                data = (info / "RECORD").read_bytes()
                if name in records and hashlib.sha256(data).hexdigest() != records[name]:
                    raise ValueError("the record was changed")
                rows = read_record(data)
            except (OSError, ValueError):
                check.add(name, f"{info.name}/RECORD")
                continue
            for path, digest in rows.items():
                check.compare(name, site, path, digest)
    if (folder / PYTHON_FOLDER).is_dir():
        listed = read_python_list(folder)
        if listed is None:
            check.add(PYTHON_ITSELF, PYTHON_LIST)
        for path, digest in (listed or {}).items():
            check.compare(PYTHON_ITSELF, folder / PYTHON_FOLDER, path, digest)
    return check.damaged


def read_record(data: bytes) -> dict[str, str]:
    """A package's record: path -> SHA-256, for the files in the folder of packages. Programs lie outside, and are written for the
    place where they are. Raises ``ValueError``."""
    found = {}
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8")), strict=True):
            if len(row) != 3:
                raise ValueError("a record has three columns")
            path, digest = row[0], row[1]
            is_inside = not (
                PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or ".." in PurePosixPath(path).parts
            )
            if digest.startswith("sha256=") and is_inside and not path.endswith(".pyc"):
                found[path] = base64.urlsafe_b64decode(digest.partition("=")[2] + "==").hex()
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return found


def read_python_list(folder: Path) -> dict[str, str] | None:
    """The files of an environment's fetched Python: path -> SHA-256; None where the list cannot be read."""
    try:
        found = json.loads((folder / PYTHON_LIST).read_bytes())
    except (OSError, ValueError):
        return None
    return {str(path): str(digest) for path, digest in found.items()} if isinstance(found, dict) and found else None


class _Check:
    """Compares files with their hashes, and counts the bytes."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self.damaged: dict[str, list[str]] = {}
        self._report, self._done = report, 0

    def add(self, name: str, path: str) -> None:
        self.damaged.setdefault(name, []).append(path)

    def compare(self, name: str, folder: Path, path: str, digest: str) -> None:
        whole = Path(extend(folder / path))
        before = self._done

        def report(done: int) -> None:
            self._done = before + done
            if self._report:
                self._report(self._done)

        try:
            if hash_file(whole, report) != digest:
                self.add(name, path)
        except OSError:
            self.add(name, path)


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
                found[normalise(name)] = version
    return found


def hash_records(folder: Path) -> dict[str, str]:
    """Package -> the SHA-256 of its record, for an environment's packages."""
    return {
        normalise(record.parent.name.partition("-")[0]): hash_file(record)
        for site in find_site_folders(folder)
        for record in site.glob("*.dist-info/RECORD")
    }


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


def extend(path: PurePath, platform: str = sys.platform) -> str:
    """A path as Windows takes it when it is longer than 260 characters."""
    text = str(path)
    if platform != "win32" or text.startswith("\\\\?\\") or not path.is_absolute():
        return text
    text = text.replace("/", "\\")
    return f"\\\\?\\UNC\\{text[2:]}" if text.startswith("\\\\") else f"\\\\?\\{text}"


def delete_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, also what must not be written. Raises ``OSError`` where something stays."""

    tried: set[str] = set()

    def make_writable(function: Callable[[str], object], path: str, error: object) -> None:
        failed = error[1] if isinstance(error, tuple) else error
        if isinstance(failed, FileNotFoundError):
            return
        if path in tried and isinstance(failed, OSError):
            raise failed
        tried.add(path)
        for name in (os.path.dirname(path), path):
            if not os.path.islink(name):
                with suppress(OSError):
                    os.chmod(name, os.stat(name).st_mode | stat.S_IRWXU)
        if function in (os.unlink, os.rmdir, os.remove):
            function(path)
        else:
            # its names could not be read
            remove(path)

    def remove(path: str) -> None:
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=make_writable)
        else:
            shutil.rmtree(path, onerror=make_writable)

    if folder.is_symlink():
        folder.unlink()
    elif os.path.lexists(folder):
        remove(extend(folder))


def rename(source: Path, target: Path) -> None:
    """Rename a folder; on Windows as soon as nobody looks into it any more. Raises ``OSError``."""
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE)


def remove_folder(folder: Path) -> None:
    """Delete a folder; raises ``OSError`` where something of it stays."""
    if folder.suffix == GONE:
        delete_tree(folder)
    elif os.path.lexists(folder):
        # first out of the way, so that nobody takes a half of it for a whole
        gone = folder.with_name(folder.name + GONE)
        delete_tree(gone)
        rename(folder, gone)
        delete_tree(gone)
