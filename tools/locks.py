"""``python tools/locks.py lock|audit``: the files in ``locks/``, which name each package at one version with its files' hashes.

``lock`` resolves ``pyproject.toml`` for all platforms and Pythons at once; what is locked already stays, unless ``--upgrade``.
``audit`` asks a database for known vulnerabilities of what is locked. Both run the programs of ``locks/locking.txt`` in an
environment of their own. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
ENVIRONMENT = ROOT / "build" / "venv-locks"
#: file -> the extras and groups of pyproject.toml that it locks, after the Python that it starts from
CONTENTS: dict[str, tuple[str, list[str]]] = {
    # what the zip carries, for each Python of Blender
    "extension": ("3.11", ["--group", "bundled", "--no-deps"]),
    # what a Python needs to run the backend
    "backend": ("3.11", ["pyproject.toml", "--extra", "backend"]),
    # what make setup installs, and the same for the oldest and the newest Blender
    "development": ("3.11", ["pyproject.toml", *(f"--extra={name}" for name in ("backend", "ray", "blender", "dev", "docs"))]),
    "blender42": ("3.11", ["pyproject.toml", "--extra", "dev", "--group", "blender42"]),
    "blender52": ("3.13", ["pyproject.toml", "--extra", "dev", "--group", "blender52"]),
    "locking": ("3.11", ["--group", "locking"]),
}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
#: databases that pip-audit can ask
SERVICES = ("pypi", "osv")


class LockError(ValueError):
    """Files and lock do not fit each other; the text says what to do."""


@dataclass(frozen=True)
class LockedPackage:
    """One version of a package, and the SHA-256 of every file that it may come in."""

    name: str
    version: str
    hashes: frozenset[str]
    #: its lines in the lock
    text: str


def normalise(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> list[LockedPackage]:
    """The packages of a lock; one may be there in several versions, for several Pythons. ``LockError`` for one without a hash."""
    blocks: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and blocks:
            blocks[-1].append(line)
        else:
            blocks.append([line])
    found = []
    for block in blocks:
        text = "\n".join(block)
        pin = _PIN.match(text)
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", text))
        if not pin or not hashes:
            raise LockError(f"{path.name}: '{block[0].strip()}' is not one version with its hashes; run make lock.")
        found.append(LockedPackage(normalise(pin[1]), pin[2], hashes, text))
    return found


def check_files(files: Iterable[Path], packages: Iterable[LockedPackage]) -> None:
    """``LockError`` for a wheel that is not, byte for byte, one of those that are locked."""
    locked = {(package.name, package.version): package.hashes for package in packages}
    for file in files:
        name, version = file.name.split("-")[:2]
        hashes = locked.get((normalise(name), version))
        if hashes is None:
            raise LockError(f"{file} is not locked; delete it, or change pyproject.toml and run make lock.")
        if hashlib.sha256(file.read_bytes()).hexdigest() not in hashes:
            raise LockError(f"{file} is not the file that is locked: its hash is another; delete it and find out who changed it.")


def _run(*command: str | Path, quiet: bool = False) -> int:
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, stderr=subprocess.DEVNULL if quiet else None, check=False
    ).returncode


def prepare_programs() -> Path:
    """The folder of the locking programs, installed from their own lock."""
    folder = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin")
    lock = LOCKS / "locking.txt"
    stamp, wanted = ENVIRONMENT / ".locked", lock.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        if _run(folder / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", lock, quiet=True):
            sys.exit("The locking programs cannot be installed as locked in locks/locking.txt; is the package index reachable?")
        stamp.write_text(wanted, encoding="utf-8")
    return folder


def lock(upgrade: bool) -> int:
    """Write the locks; returns the exit code."""
    programs = prepare_programs()
    for name, (python, chosen) in CONTENTS.items():
        command: list[str | Path] = [
            programs / "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version",
            python,
            "--generate-hashes",
        ]
        command += ["--custom-compile-command", "make lock", "--output-file", f"locks/{name}.txt", *chosen]
        if _run(*command, *(["--upgrade"] if upgrade else [])):
            return 1
        packages = read_lock(LOCKS / f"{name}.txt")
        print(f"locks/{name}.txt: {len(packages)} packages, {sum(len(package.hashes) for package in packages)} hashes")
    # every file of locks/backend.txt by its name and size, for *Set Up*
    return 1 if _run(programs / "python", "tools/setup_lock.py") else 0


def audit(service: str) -> int:
    """Look for known vulnerabilities; 0 when every package was looked up and none has one, 1 when one has, 2 when nobody could be
    asked."""
    programs = prepare_programs()
    locks = [part for name in CONTENTS for part in ("-r", f"locks/{name}.txt")]
    # several locks name one package in several versions, so that each is audited alone; strict, because a package that the
    # database does not answer for would count as a sound one
    worst = 0
    for n in range(0, len(locks), 2):
        command = [programs / "pip-audit", "--strict", "--disable-pip", "--no-deps", "--progress-spinner=off", "-s", service]
        done = subprocess.run([*map(str, command), *locks[n : n + 2]], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            print(f"{locks[n + 1]}: no known vulnerability")
        elif re.search(r"^Name\s+Version\s+ID", done.stdout, re.MULTILINE):
            print(f"{locks[n + 1]}:\n{done.stdout}")
            worst = max(worst, 1)
        else:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            print(
                f"{locks[n + 1]} was NOT audited: the database '{service}' did not answer for it ({said[:200]}). "
                "Run make audit where it can be reached.",
                file=sys.stderr,
            )
            worst = 2
    return worst


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("lock", "audit"))
    parser.add_argument("--upgrade", action="store_true", help="lock: take the newest versions that pyproject.toml allows")
    parser.add_argument("--service", choices=SERVICES, default="osv", help="audit: the database that is asked")
    args = parser.parse_args()
    return lock(args.upgrade) if args.command == "lock" else audit(args.service)


if __name__ == "__main__":
    sys.exit(main())
