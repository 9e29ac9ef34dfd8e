"""The files of removed results: out of the way at once, back by an undo, and gone for good when the file was saved without them
and is closed.

They wait in a folder beside their own, on the same disk. What a crash leaves there is put back when a file is opened that still
names it. Only what a shot stores is taken: files that somebody else has put beside the frames stay.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..shared import logs
from .chosen_result import iter_results
from .event_handlers import EventHandlers
from .movie import MOVIE
from .moving import remove_folder
from .numbered_links import SEQUENCE_FOLDER
from .paths import get_result_folder
from .tasks.frames_folder import LOOK_FOLDER, REPORT, SHOT_FOLDER, get_frame_number

logger = logs.get_logger(__name__)

#: where removed files wait, beside the folders that they are from
WAITING_FOLDER = ".removed"
_OWN_NAMES = {LOOK_FOLDER, SHOT_FOLDER, SEQUENCE_FOLDER, REPORT, f"{MOVIE}.mp4", f"{MOVIE}.mov"}


@dataclass
class _Removed:
    """Files that are out of the way; ``is_saved`` tells whether the file was saved without their result."""

    folder: Path
    waiting: Path
    is_away: bool = True
    is_saved: bool = False


_removed: list[_Removed] = []


def is_own_file(path: Path) -> bool:
    """Whether a file or folder beside the frames is one that a shot stores."""
    return path.name in _OWN_NAMES or (path.suffix == ".png" and get_frame_number(path) is not None)


def _move(source: Path, target: Path) -> None:
    """Move what a shot stores from a folder to another on the same disk. Raises ``OSError``, and then all is where it was."""
    moved: list[tuple[Path, Path]] = []
    target.mkdir(parents=True, exist_ok=True)
    try:
        for path in sorted(source.iterdir()):
            if is_own_file(path):
                new = target / path.name
                os.rename(path, new)
                moved.append((path, new))
    except OSError:
        for old, new in reversed(moved):
            with suppress(OSError):
                os.rename(new, old)
        _remove_empty(target)
        raise
    _remove_empty(source)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else's files are in it
        folder.rmdir()


def _get_waiting(folder: Path) -> Path:
    return folder.parent / WAITING_FOLDER / folder.name


def remove_files(folder: Path) -> None:
    """Take a result's files out of the way. Raises ``OSError``, and then everything is where it was."""
    if not folder.is_dir():
        return
    waiting = _get_waiting(folder)
    # the same shot, removed before and made again since
    remove_folder(waiting)
    _removed[:] = [one for one in _removed if one.waiting != waiting]
    _move(folder, waiting)
    _removed.append(_Removed(folder, waiting))


def remove_copies(folder: Path) -> None:
    """Remove what a shot has stored in a folder, as the same is elsewhere; other files stay."""
    try:
        for path in folder.iterdir():
            if not is_own_file(path):
                continue
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink()
    except OSError:
        logger.exception("the copies in %s could not be removed", folder)
    _remove_empty(folder)


def _list_wanted() -> set[Path]:
    return {get_result_folder(result) for result in iter_results()}


def _put_back(one: _Removed) -> None:
    try:
        _move(one.waiting, one.folder)
        one.is_away = False
        _remove_empty(one.waiting.parent)
    except OSError:
        logger.exception("the files in %s could not be put back", one.waiting)


def _take_away(one: _Removed) -> None:
    try:
        _move(one.folder, one.waiting)
        one.is_away = True
    except OSError:
        logger.exception("the files in %s could not be removed again", one.folder)


def _follow_results(*_: object) -> None:
    """After an undo or redo: files are where their results are, in the list or not."""
    if not _removed:
        return
    wanted = _list_wanted()
    for one in _removed:
        if one.is_away and one.folder in wanted:
            _put_back(one)
        elif not one.is_away and one.folder not in wanted and one.folder.is_dir():
            _take_away(one)


def _on_save(path: str = "", *_: object) -> None:
    if path and path != bpy.data.filepath:  # a copy
        return
    for one in _removed:
        one.is_saved = one.is_away


def settle() -> None:
    """Remove for good what the file was saved without, and what a file that was never saved has removed; put back the rest."""
    for one in _removed:
        if one.is_away and not one.is_saved and bpy.data.filepath:
            # the file on disk still has the result
            _put_back(one)
        elif one.is_away:
            remove_folder(one.waiting)
            _remove_empty(one.waiting.parent)
    _removed.clear()


def _on_load_pre(*_: object) -> None:
    settle()


def _on_load(*_: object) -> None:
    """Put back what waits since a crash and belongs to a result of this file."""
    known: dict[Path, bool] = {}
    for folder in _list_wanted():
        waiting = folder.parent / WAITING_FOLDER
        if waiting not in known:
            known[waiting] = waiting.is_dir()
        if known[waiting] and not folder.exists() and (waiting / folder.name).is_dir():
            _put_back(_Removed(folder, waiting / folder.name))


_handlers = EventHandlers(
    undo_post=_follow_results, redo_post=_follow_results, save_post=_on_save, load_pre=_on_load_pre, load_post=_on_load
)


def register() -> None:
    """Listen to undo, saving and the opening of files."""
    _handlers.register()


def unregister() -> None:
    """Stop listening, as at the end of Blender."""
    _handlers.unregister()
    settle()
