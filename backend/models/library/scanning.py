"""What lies in a folder: files of weights, and the folders that are models. Goes round in no circle, and waits for nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ....shared.files import UNFINISHED
from ....shared.model_name import WEIGHTS
from ....shared.shot import ShotError
from ..weight_forms import choose_form

#: names in a folder that are looked at, models that are found below one, and how deep they lie
MAX_NAMES, MAX_FOUND, MAX_DEPTH = 50_000, 5_000, 8
#: folders that hold no models, whatever is in them
_SKIPPED = ("__pycache__", "node_modules", "site-packages", "venv", "env")


@dataclass(frozen=True)
class Candidate:
    """A file or folder that may be a model. ``state`` is another text once it has changed; ``size`` in bytes."""

    path: Path
    size: int
    state: str
    is_folder: bool = False


def scan(root: Path, check: Callable[[], None] = lambda: None) -> Iterator[Candidate]:
    """Candidates below a folder, in the order of their names. ``check`` is called between folders, and may raise to end it."""
    seen: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    names = found = 0
    while waiting:
        check()
        folder, depth = waiting.pop()
        try:
            own = os.stat(folder)
            if (own.st_dev, own.st_ino) in seen:
                # a link that leads round in a circle, or to where we were
                continue
            seen.add((own.st_dev, own.st_ino))
            with os.scandir(folder) as listed:
                entries = sorted((entry for entry, _ in zip(listed, range(MAX_NAMES - names), strict=False)), key=lambda e: e.name)
        except OSError:
            continue
        names += len(entries)
        files, folders = _split(entries)
        whole = _find_model_folder(folder, files, set(folders))
        if whole is not None:
            found += 1
            yield whole
        else:
            for name, state in files.items():
                if name.lower().endswith(WEIGHTS) and not name.startswith("."):
                    found += 1
                    yield Candidate(folder / name, state.st_size, f"{state.st_size} {state.st_mtime_ns}")
            if depth < MAX_DEPTH:
                waiting += [(folder / name, depth + 1) for name in sorted(folders, reverse=True) if name.lower() not in _SKIPPED]
        if names >= MAX_NAMES or found >= MAX_FOUND:
            return


def _split(entries: list[os.DirEntry[str]]) -> tuple[dict[str, os.stat_result], list[str]]:
    """(regular files, folders) of a folder's entries; pipes, devices and links to nowhere are neither."""
    files, folders = {}, []
    for entry in entries:
        try:
            state = entry.stat()
        except OSError:
            continue
        if stat.S_ISDIR(state.st_mode) and not entry.name.startswith("."):
            folders.append(entry.name)
        elif stat.S_ISREG(state.st_mode) and not entry.name.endswith(UNFINISHED):
            files[entry.name] = state
    return files, folders


def _find_model_folder(folder: Path, files: dict[str, os.stat_result], folders: set[str]) -> Candidate | None:
    """The folder itself where it is one model: a pipeline, a network with its configuration, or a motion model."""
    if "model_index.json" in files and "unet" in folders:
        return _measure(folder, deep=True)
    if "config.json" in files and _has_weights(files):
        return _measure(folder, deep=False)
    if "args.json" in files and any(name.startswith("model") and name.endswith((".pt", ".safetensors")) for name in files):
        return _measure(folder, deep=False)
    return None


def _has_weights(files: dict[str, os.stat_result]) -> bool:
    try:
        return choose_form(files, half=True) is not None
    except ShotError:
        return True


def _measure(folder: Path, *, deep: bool) -> Candidate:
    size, newest, count = 0, 0, 0
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as listed:
                files, folders = _split([entry for entry, _ in zip(listed, range(1000), strict=False)])
        except OSError:
            continue
        for state in files.values():
            size, newest, count = size + state.st_size, max(newest, state.st_mtime_ns), count + 1
        if deep and depth < 2:
            waiting += [(place / name, depth + 1) for name in folders]
    return Candidate(folder, size, f"{size} {newest} {count}", is_folder=True)
