"""uv, the program that installs what has come: without the network, and with nothing of the user's own settings and caches."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from .failures import InstallationError, Remedy, explain_full_disk
from .lock_file import LockedFile
from .processes import NOT_STARTED, Children, get_code, make_environment

_LOOK_SECONDS = 0.5
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
