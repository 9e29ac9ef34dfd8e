"""Moving environments to another folder or disk, so that one of the two folders has all of them at every moment."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...shared.backend_environment import (
    CURRENT,
    DOWNLOADS,
    ENVIRONMENTS,
    LOCK,
    UNFINISHED,
    list_environments,
    list_made,
    read_json,
)
from ...shared.files import write_atomically
from ...shared.sizes import write_size
from .changing import drop_lock, find_strangers, hold, is_used
from .failures import InstallationError, Remedy, explain_os_error
from .folders import delete_tree, measure_folder, rename
from .planning import SPARE, measure_free
from .progress import Progress
from .pythons import is_inside

#: says in the new folder that a move to it has begun, and from where
MARK = "moving.json"


def move(root: Path, target: Path, progress: Progress) -> None:
    """Move everything of *Set Up* to another folder, and nothing else. Raises ``InstallationError``; then all is where it was.

    A move that was cut off is gone on with when the same is asked for again.
    """
    named, root, target = root, Path(os.path.realpath(root)), Path(os.path.realpath(target))
    try:
        _check(root, target)
        with hold(target):
            with hold(root):
                for found in list_environments(root):
                    if is_used(found.folder, found.python):
                        raise InstallationError("used", "A backend is running there; stop it in every Blender, then move it.")
                _move(root, target, progress)
                drop_lock(root)
            for path in (root / LOCK, root):
                with suppress(OSError):
                    path.unlink() if path != root else path.rmdir()
            if named.is_symlink() and not named.exists():
                named.unlink()
            (target / MARK).unlink()
    except OSError as error:
        raise explain_os_error(error, "moving", target) from error


def _check(root: Path, target: Path) -> None:
    """Raises ``InstallationError`` where nothing can be moved, or not to there."""
    if is_inside(target, root):
        raise InstallationError(
            "target", f"{target} is the folder that is to be moved, or inside it; choose another one.", Remedy.SPACE
        )
    if target.exists() and not target.is_dir():
        raise InstallationError("target", f"{target} is not a folder; choose another one.", Remedy.SPACE)
    is_going_on = read_json(target / MARK).get("from") == str(root)
    if not is_going_on and (find_strangers(target) or (target / ENVIRONMENTS).exists() or (target / CURRENT).exists()):
        raise InstallationError("target", f"{target} is not empty; choose an empty folder, or a new one.", Remedy.SPACE)
    if not is_going_on and not list_environments(root):
        raise InstallationError("nothing", "There is nothing to move: set up the backend first.")


def _move(root: Path, target: Path, progress: Progress) -> None:
    write_atomically(target / MARK, json.dumps({"from": str(root)}).encode())
    (target / ENVIRONMENTS).mkdir(exist_ok=True)
    found = [environment.folder for environment in list_environments(root)]
    progress.begin("moving", sum(map(measure_folder, found)))
    try:
        if not _rename_all(found, target / ENVIRONMENTS):
            _copy_all(found, target, progress)
    except BaseException:
        for folder in list_made(target):
            if folder.suffix == UNFINISHED:
                with suppress(OSError):
                    delete_tree(folder)
        with suppress(OSError):
            # not where something has come for good, with an earlier try
            (target / ENVIRONMENTS).rmdir()
            (target / MARK).unlink()
            drop_lock(target)
            target.rmdir()
        raise
    if (root / CURRENT).exists():
        write_atomically(target / CURRENT, (root / CURRENT).read_bytes())
    # from here on it is used from there
    (root / CURRENT).unlink(missing_ok=True)
    for folder in list_made(root):
        delete_tree(folder)
    delete_tree(root / DOWNLOADS)
    with suppress(OSError):
        (root / ENVIRONMENTS).rmdir()


def _rename_all(folders: list[Path], target: Path) -> bool:
    """Rename folders into another one; False, with all of them where they were, where that is on another disk."""
    moved: list[Path] = []
    try:
        for folder in folders:
            rename(folder, target / folder.name)
            moved.append(folder)
    except OSError:
        for folder in moved:
            rename(target / folder.name, folder)
        return False
    return True


def _copy_all(folders: list[Path], target: Path, progress: Progress) -> None:
    size = sum(map(measure_folder, folders))
    # an environment that has come before, and is no longer in the old folder, stays
    here = {folder.name for folder in folders}
    for leftover in list_made(target):
        if leftover.name in here or leftover.suffix == UNFINISHED:
            delete_tree(leftover)
    free = measure_free(target)
    if size + SPARE > free:
        raise InstallationError(
            "space",
            f"{write_size(size + SPARE)} are needed in {target}, and {write_size(free)} are free there; free some space, or choose "
            "another folder.",
            Remedy.SPACE,
        )
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress.advance(done)

    parts = [target / ENVIRONMENTS / f"{folder.name}{UNFINISHED}" for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        copy_tree(folder, part, report)
    for folder, part in zip(folders, parts, strict=True):
        rename(part, target / ENVIRONMENTS / folder.name)


def copy_tree(source: Path, target: Path, report: Callable[[int], None]) -> None:
    """Copy a folder; links stay links. Raises ``OSError`` at the first thing that cannot be copied, which ``shutil.copytree`` does
    only after it has tried all others."""
    target.mkdir()
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), path, report)
        else:
            shutil.copy2(entry.path, path, follow_symlinks=False)
            report(entry.stat(follow_symlinks=False).st_size)
