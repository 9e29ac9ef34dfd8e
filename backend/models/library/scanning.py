"""What lies in a folder: files of weights, and the folders that are models. Goes round in no circle, and waits for nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ....shared.files import UNFINISHED
from ....shared.model_name import WEIGHTS
from ....shared.shot import ShotError
from ..hub_cache import DENOISERS
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


@dataclass
class LeftOut:
    """What was not looked at below a folder: folders that may not be read, links of models that lead nowhere, a folder that lies
    too deep, and whether there were too many names."""

    unreadable: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    deep: Path | None = None
    is_cut: bool = False

    def explain(self, root: Path) -> list[str]:
        """A sentence for each kind of what was left out."""
        sentences = []
        if self.unreadable:
            sentences.append(
                f"{_count(self.unreadable, 'folder')} may not be read; change the permissions to see the models in there."
            )
        if self.broken:
            sentences.append(f"{_count(self.broken, 'link')} of a model leads nowhere; connect its disk, or delete it.")
        if self.deep is not None:
            sentences.append(
                f"{self.deep} lies more than {MAX_DEPTH} folders deep and is not looked at; add it as a folder of its own."
            )
        if self.is_cut:
            sentences.append(
                f"{root} holds more than {MAX_NAMES:,} names or {MAX_FOUND:,} models, of which the first are listed; add the "
                "folders with the models in it in its place."
            )
        return sentences


def _count(paths: list[Path], what: str) -> str:
    return f"The {what} {paths[0]}" if len(paths) == 1 else f"Each of {len(paths)} {what}s, such as {paths[0]},"


def scan(root: Path, check: Callable[[], None] = lambda: None, left_out: LeftOut | None = None) -> Iterator[Candidate]:
    """Candidates below a folder, in the order of their names. ``check`` is called between folders, and may raise to end it;
    ``left_out`` is told what was not looked at."""
    left_out = LeftOut() if left_out is None else left_out
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
        except FileNotFoundError:
            # deleted meanwhile, or the library's own folder before anything has come
            continue
        except OSError:
            left_out.unreadable.append(folder)
            continue
        names += len(entries)
        files, folders = _split(folder, entries, left_out)
        whole = _find_model_folder(folder, files, set(folders))
        if whole is not None:
            found += 1
            yield whole
        else:
            for name, state in files.items():
                if name.lower().endswith(WEIGHTS) and not name.startswith("."):
                    found += 1
                    yield Candidate(folder / name, state.st_size, f"{state.st_size} {state.st_mtime_ns}")
            deeper = [folder / name for name in sorted(folders, reverse=True) if name.lower() not in _SKIPPED]
            if depth < MAX_DEPTH:
                waiting += [(path, depth + 1) for path in deeper]
            elif deeper:
                left_out.deep = left_out.deep or deeper[-1]
        if names >= MAX_NAMES or found >= MAX_FOUND:
            left_out.is_cut = True
            return


def _split(folder: Path, entries: list[os.DirEntry[str]], left_out: LeftOut) -> tuple[dict[str, os.stat_result], list[str]]:
    """(regular files, folders) of a folder's entries; pipes, devices and links to nowhere are neither."""
    files, folders = {}, []
    for entry in entries:
        try:
            state = entry.stat()
        except OSError as error:
            is_link = entry.is_symlink()
            if isinstance(error, PermissionError) and not is_link:
                # names in it can be read, and nothing else
                if folder not in left_out.unreadable:
                    left_out.unreadable.append(folder)
            elif is_link and not entry.name.startswith(".") and (entry.name.lower().endswith(WEIGHTS) or "." not in entry.name):
                left_out.broken.append(Path(entry.path))
            continue
        if stat.S_ISDIR(state.st_mode) and not entry.name.startswith("."):
            folders.append(entry.name)
        elif stat.S_ISREG(state.st_mode) and not entry.name.endswith(UNFINISHED):
            files[entry.name] = state
    return files, folders


def _find_model_folder(folder: Path, files: dict[str, os.stat_result], folders: set[str]) -> Candidate | None:
    """The folder itself where it is one model: a pipeline, a network with its configuration, or a motion model."""
    if "model_index.json" in files and not folders.isdisjoint(DENOISERS):
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
                files, folders = _split(place, [entry for entry, _ in zip(listed, range(1000), strict=False)], LeftOut())
        except OSError:
            continue
        for state in files.values():
            size, newest, count = size + state.st_size, max(newest, state.st_mtime_ns), count + 1
        if deep and depth < 2:
            waiting += [(place / name, depth + 1) for name in folders]
    return Candidate(folder, size, f"{size} {newest} {count}", is_folder=True)
