"""Taking a model away again: what the library has got, and, only where that is asked for, what lies in the user's folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ....shared.disk_errors import explain_disk_error, find_path
from ....shared.folders import models_folder
from ....shared.library import write_bytes
from ....shared.model_name import is_weight_file
from ....shared.shot import ShotError
from ..registry import is_hub_id, split_revision
from .cached import CachedRepository, find_cache, list_cached
from .catalogue import CatalogueEntry, find_entry
from .folders import read_folders, remove_folder
from .getting import list_paths
from .layouts import find_layout, list_places
from .naming import read_path
from .received import forget_received, read_received
from .scanning import scan


def remove(name: str, *, files: bool = False) -> str:
    """Remove a model, or have a folder read no more; returns the sentence for it. Without ``files`` nothing is deleted that the
    library has not got. Raises ``ShotError`` for what is not there, or must stay."""
    entry = find_entry(name)
    if entry is not None:
        return _remove_entry(entry, files)
    path = read_path(name)
    if path in read_folders():
        if files:
            raise ShotError(
                "library", f"A whole folder is not deleted; name the models in it, or leave --files out to read {path} no more."
            )
        remove_folder(path)
        return f"{path} is read no more; its files are as they were."
    if is_hub_id(name):
        return _remove_hub_id(name, files)
    return _remove_path(path, files)


def _remove_entry(entry: CatalogueEntry, files: bool) -> str:
    if entry.way in ("bundled", "page"):
        why = "comes with the extension" if entry.way == "bundled" else "is not got by the library"
        raise ShotError("library", f"'{entry.title}' {why} and cannot be removed.")
    if entry.way == "files":
        there = [path for path in list_paths(entry) if os.path.isfile(path)]
        if not there:
            raise ShotError("library", f"'{entry.title}' is not here; there is nothing to remove.")
        size = sum(path.stat().st_size for path in there)
        _unlink(there)
        return f"{entry.title} was removed ({write_bytes(size)})."
    found = next((one for one in list_cached() if one.name == entry.repository), None)
    if found is None:
        raise ShotError("library", f"'{entry.title}' is not here; there is nothing to remove.")
    return _remove_cached(found, entry.title, files, {file.path for file in entry.files})


def _remove_hub_id(name: str, files: bool) -> str:
    repository, _ = split_revision(name)
    found = next((one for one in list_cached() if one.name == repository), None)
    if found is None:
        raise ShotError("library", f"'{name}' is not in the hub's cache; there is nothing to remove.")
    return _remove_cached(found, repository, files, set())


def _remove_cached(found: CachedRepository, title: str, files: bool, wanted: set[str]) -> str:
    """Remove files of a repository from the hub's cache: those that the library has got, with ``files`` also those of others."""
    own = {Path(path) for path, file in read_received().items() if file.repository == found.name}
    snapshots = found.folder.parent
    there = [path for path in sorted(snapshots.rglob("*")) if os.path.isfile(path) or os.path.islink(path)]
    chosen = [path for path in there if not wanted or path.relative_to(snapshots).as_posix().partition("/")[2] in wanted]
    if not files:
        chosen = [path for path in chosen if path in own]
    if not chosen:
        raise ShotError(
            "library",
            f"'{title}' was put into the hub's cache by another program; with --files (Delete Files) it is deleted all the same.",
        )
    blobs = snapshots.parent / "blobs"
    targets = {path: path.resolve() for path in chosen}
    needed = {path.resolve() for path in there if path not in targets}
    size = 0
    for path, target in targets.items():
        if target.parent == blobs and target not in needed and os.path.exists(target):
            size += target.stat().st_size
            target.unlink()
        elif not os.path.islink(path):
            size += path.stat().st_size
        path.unlink(missing_ok=True)
    forget_received(chosen)
    _prune(snapshots)
    if not any(os.path.isfile(path) or os.path.islink(path) for path in snapshots.rglob("*")):
        cache = find_cache()
        # what is left are the cache's own notes about it
        if cache is not None and snapshots.parent.parent == cache:
            shutil.rmtree(snapshots.parent, ignore_errors=True)
    return f"{title} was removed ({write_bytes(size) or 'nothing was kept of it alone'})."


def _prune(folder: Path) -> None:
    for path in sorted((path for path in folder.rglob("*") if os.path.isdir(path)), reverse=True):
        with suppress(OSError):
            path.rmdir()


def _remove_path(path: Path, files: bool) -> str:
    if not os.path.lexists(path):
        raise ShotError("library", f"There is no {path} in the library; 'latentman models list' shows what there is.")
    if _is_inside(path, [models_folder()]):
        pass
    elif not _is_inside(path, _list_user_places()):
        raise ShotError("library", f"{path} is in none of the library's folders, so it stays.")
    elif not files:
        raise ShotError(
            "library",
            f"{path} lies in a folder of yours, so it stays; with --files (Delete Files) it is deleted for good.",
        )
    size = path.stat().st_size if os.path.isfile(path) else 0
    if os.path.islink(path) or (os.path.isfile(path) and is_weight_file(path.name)):
        # of a link only the link
        _unlink([path])
    elif os.path.isdir(path) and any(found.path == path for found in scan(path)):
        shutil.rmtree(path)
        forget_received([Path(one) for one in read_received() if Path(one).is_relative_to(path)])
    else:
        raise ShotError("library", f"{path} is no model, so it stays.")
    return f"{path.name} was deleted{f' ({write_bytes(size)})' if size else ''}."


def _list_user_places() -> list[Path]:
    return [place for folder in read_folders() for place in list_places(folder, find_layout(folder))[0]]


def _is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path lies below one of some folders, wherever links on the way lead."""
    parent = path.parent.resolve()
    return any(parent.is_relative_to(folder.resolve()) for folder in folders)


def _unlink(paths: list[Path]) -> None:
    try:
        for path in paths:
            path.unlink()
    except OSError as error:
        raise ShotError("disk", explain_disk_error(error, find_path(error, paths[0]), "deleted", "leave it")) from error
    forget_received(paths)
