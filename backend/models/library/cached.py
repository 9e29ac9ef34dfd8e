"""What lies in the hub's cache on this machine, whoever put it there. Imports the hub's library only when it is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....shared.files import read_file
from ..registry import HUB_REVISIONS
from .catalogue import CatalogueEntry, read_catalogue

MAX_REPOSITORIES, MAX_FILES, MAX_CONFIGURATION = 2000, 5000, 1 << 20


@dataclass(frozen=True)
class CachedRepository:
    """A repository in the cache: its id, the folder of a commit, and the bytes of all that is kept of it."""

    name: str
    commit: str
    folder: Path
    size: int


def find_cache() -> Path | None:
    """The hub's cache; None where the hub's library is not installed."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return None
    return Path(constants.HF_HUB_CACHE)


def list_cached() -> Iterator[CachedRepository]:
    """Every repository with a commit that is there, at the commit that would be loaded."""
    cache = find_cache()
    try:
        folders = sorted(cache.glob("models--*--*"))[:MAX_REPOSITORIES] if cache else []
    except OSError:
        folders = []
    for folder in folders:
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        snapshot = _choose_snapshot(folder, name)
        if snapshot is not None:
            yield CachedRepository(name, snapshot.name, snapshot, _measure(folder))


def _choose_snapshot(folder: Path, name: str) -> Path | None:
    wanted = [HUB_REVISIONS.get(name), *(entry.revision for entry in read_catalogue().entries if entry.repository == name)]
    try:
        wanted.append((folder / "refs" / "main").read_text(encoding="utf-8").strip()[:64])
    except (OSError, UnicodeDecodeError):
        pass
    for commit in filter(None, wanted):
        if "/" not in commit and os.path.isdir(folder / "snapshots" / commit):
            return folder / "snapshots" / commit
    try:
        found = sorted(path for path in (folder / "snapshots").iterdir() if os.path.isdir(path))
    except OSError:
        return None
    return found[-1] if found else None


def _measure(folder: Path) -> int:
    size = 0
    for number, path in enumerate((folder / "blobs").glob("*")):
        try:
            size += path.stat().st_size
        except OSError:
            continue
        if number > MAX_FILES:
            break
    return size


def read_cached_configuration(folder: Path) -> dict[str, Any]:
    """A network's ``config.json`` in a repository's folder; empty for none that can be read."""
    try:
        found = json.loads(read_file(folder / "config.json", MAX_CONFIGURATION))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def find_entry_files(entry: CatalogueEntry) -> list[Path] | None:
    """The files of a catalogue's entry in the cache, None where some are missing, or the entry does not say which it has."""
    from ..hub_cache import find_cached_file

    if not entry.files:
        return None
    found = [find_cached_file(entry.repository, entry.revision, file.path) for file in entry.files]
    return None if any(path is None for path in found) else [path for path in found if path is not None]
