"""Where *Set Up* keeps the Python environments that backends run in, and which of them is in use. Needs only the standard library.

::

    ROOT/current.json            which environment is in use
    ROOT/environments/NAME/      one environment; environment.json in it says that it is complete
    ROOT/set_up_files/           what has been fetched and is not installed yet
    ROOT/set_up.lock             held by whoever changes any of it; says that the folder is one of *Set Up*

Nothing else in ROOT is touched, whatever folder it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CURRENT, STAMP, LOCK = "current.json", "environment.json", "set_up.lock"
#: names that nobody else gives a folder: what lies in ``DOWNLOADS`` is deleted with it
ENVIRONMENTS, DOWNLOADS = "environments", "set_up_files"
#: the end of the name of an environment that is being made, and of one that is being deleted
UNFINISHED, GONE = ".part", ".gone"
_NAME = re.compile(r"[a-z]+(-[a-z]+)?-[0-9a-f]{12}(-[0-9a-f]{4})?")
_LEFT = re.compile(rf"(?:[0-9a-f]{{8}}|{_NAME.pattern})(?:{re.escape(UNFINISHED)}|{re.escape(GONE)})+")
#: held, shared, by every backend that runs in an environment
IN_USE = "in_use.lock"
#: characters of such a file
_MOST = 1 << 20
#: every file that an environment may need
PACKAGE_LOCK = Path(__file__).resolve().parents[1] / "locks" / "setup.json"


@cache
def hash_lock() -> str:
    """The SHA-256 of this version's list of packages; empty where it cannot be read."""
    try:
        return hashlib.sha256(PACKAGE_LOCK.read_bytes()).hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True)
class BackendEnvironment:
    """A complete environment.

    ``key`` is the SHA-256 of what was installed, ``device`` the kind of device that it is for, ``version`` the product's version
    that made it, ``packages`` the number of packages, ``lock`` the SHA-256 of the list that it was made from.
    """

    folder: Path
    python: Path
    key: str
    device: str
    version: str
    packages: int
    lock: str = ""

    @property
    def is_outdated(self) -> bool:
        """Whether this version of the product comes with another list of packages."""
        return self.lock != hash_lock()

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name


def read_json(path: Path) -> dict[str, Any]:
    """What a small JSON file holds; nothing where it cannot be read."""
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MOST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_environment(folder: Path) -> BackendEnvironment | None:
    """The environment in a folder; None where it is not complete or its Python is gone."""
    found = read_stamp(folder)
    return found if found is not None and os.path.exists(found.python) else None


def read_stamp(folder: Path) -> BackendEnvironment | None:
    """The environment in a folder as its stamp has it, though its Python may be gone; None without a stamp."""
    found = read_json(folder / STAMP)
    texts = [found.get(name) for name in ("python", "key", "device", "version")]
    packages = found.get("packages")
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(packages, int):
        return None
    inner, key, device, version = map(str, texts)
    python = folder / inner
    # the stamp may name only what lies in the folder; the Python itself may be a link to one of the system's
    if Path(inner).is_absolute() or ".." in Path(inner).parts:
        return None
    return BackendEnvironment(folder, python, key, device, version, packages, str(found.get("lock", "")))


def list_environments(root: Path) -> list[BackendEnvironment]:
    """All complete environments, by name."""
    return [found for folder in _list_folders(root, _NAME) if (found := read_environment(folder))]


def list_made(root: Path) -> list[Path]:
    """The folders of all environments that *Set Up* has made, complete or not, and of none that somebody else has put there."""
    return [*_list_folders(root, _NAME), *list_leftovers(root)]


def list_leftovers(root: Path) -> list[Path]:
    """Folders of environments that were never completed, or are half deleted."""
    return _list_folders(root, _LEFT)


def _list_folders(root: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(folder for folder in (root / ENVIRONMENTS).iterdir() if name.fullmatch(folder.name))
    except OSError:
        return []


def find_current(root: Path) -> BackendEnvironment | None:
    """The environment in use; None without one."""
    found = find_chosen(root)
    return found if found is not None and os.path.exists(found.python) else None


def find_chosen(root: Path) -> BackendEnvironment | None:
    """The environment that was in use last, though its Python may be gone; None without one."""
    name = read_json(root / CURRENT).get("environment")
    if not isinstance(name, str) or not name or Path(name).name != name:
        return None
    return read_stamp(root / ENVIRONMENTS / name)


def explain_loss(root: Path) -> str:
    """Why nothing can be used of what was set up in a folder, a sentence; empty where nothing was, or all is well."""
    if find_current(root) is not None:
        return ""
    chosen = find_chosen(root)
    if chosen is not None:
        return f"The Python of what was set up is gone ({chosen.python}); repair it, or set it up again."
    if _list_folders(root, _NAME):
        return f"What was set up in {root} is no longer whole: the file that says so is gone; set it up again."
    return ""


def has_traces(root: Path) -> bool:
    """Whether *Set Up* has begun there, whatever came of it."""
    return any(os.path.exists(root / name) for name in (CURRENT, ENVIRONMENTS, DOWNLOADS))
