"""Frames follow their file: beside it when it is saved for the first time, and by relative paths from then on.

Before a file is written its paths are set for the place that it is written to, and frames from before the first save are copied
there. Afterwards the originals are removed, or, where only a copy was saved or the disk was full, everything is put back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from ..shared import logs
from ..shared.costume_files import is_costume
from .compat import iter_strips
from .connection import connection
from .error_places import Place
from .event_handlers import EventHandlers
from .paths import find_output_folder, is_temporary, make_stored_path, resolve
from .properties import find_look_library, get_kept_look, get_scene_settings

logger = logs.get_logger(__name__)


@dataclass(frozen=True)
class PathHolder:
    """A path that a file stores, and how it is set; both are for the event at hand only."""

    stored: str
    set: Callable[[str], None]


@dataclass
class _Saving:
    """What was changed for a save that is not over yet."""

    target: str
    undo: list[Callable[[], None]] = field(default_factory=list)
    moves: dict[Path, Path] = field(default_factory=dict)
    made: list[Path] = field(default_factory=list)


_saving: _Saving | None = None
#: where folders went in this session: undo steps from before still name the old places
_moves: dict[Path, Path] = {}


def copy_folder(source: Path, target: Path) -> bool:
    """Copy a folder's files to where they are not yet, without using up the disk where it can share them; False when the target
    was there. Raises ``OSError``, and then nothing of the copy is left."""
    if target.exists():
        # the same job's frames, fetched or generated there before
        shutil.copytree(source, target, copy_function=_share, dirs_exist_ok=True)
        return False
    try:
        shutil.copytree(source, target, copy_function=_share)
    except OSError:
        remove_folder(target)
        raise
    return True


def _share(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def remove_folder(folder: Path) -> None:
    """Remove a folder with what is in it, as far as that is possible."""
    shutil.rmtree(folder, ignore_errors=True)


def remember_move(old: Path, new: Path) -> None:
    """Folder ``old`` is at ``new`` from now on; paths into it are changed, also after an undo."""
    _moves[old] = new
    _follow_moves()


def _iter_other_holders() -> Iterator[PathHolder]:
    """Strips and images, which name frames, movies and textures of results."""
    for scene in bpy.data.scenes:
        for strip in iter_strips(scene):
            if strip.type == "IMAGE":
                yield PathHolder(strip.directory, _make_setter(strip, "directory", "/"))
            elif strip.type == "MOVIE":
                yield PathHolder(strip.filepath, _make_setter(strip, "filepath"))
    for image in bpy.data.images:
        if image.source in ("FILE", "SEQUENCE") and image.filepath:
            yield PathHolder(image.filepath, _make_setter(image, "filepath"))


def _make_setter(owner: Any, name: str, end: str = "") -> Callable[[str], None]:
    return lambda path: setattr(owner, name, path if path.endswith(end) else path + end)


def _iter_result_holders() -> Iterator[tuple[PathHolder, str]]:
    """Every result's folder and every costume that is worn, and the output setting of the scene that it is in."""
    for scene in bpy.data.scenes:
        settings = get_scene_settings(scene)
        for result in settings.results:
            if result.folder:
                yield PathHolder(result.folder, _make_setter(result, "folder")), settings.output
    for one in bpy.data.objects:
        worn = get_kept_look(one)[0]
        # what is linked, or an override of it that wears the same, has its path from its own file
        if is_costume(worn) and find_look_library(one) is None:
            shown = next((scene for scene in bpy.data.scenes if scene.objects.get(one.name) == one), bpy.data.scenes[0])
            yield PathHolder(worn, _make_setter(one, "latentman_look")), get_scene_settings(shown).output


def _find_new_place(path: Path, moves: dict[Path, Path]) -> Path | None:
    for old, new in moves.items():
        if path == old or path.is_relative_to(old):
            return new / path.relative_to(old)
    return None


def _follow_moves() -> None:
    """Change every path that still names a folder's old place."""
    if not _moves:
        return
    for holder in [*(holder for holder, _ in _iter_result_holders()), *_iter_other_holders()]:
        new = _find_new_place(resolve(holder.stored), _moves)
        if new is not None and new.exists():
            holder.set(make_stored_path(new, ""))


def _is_project(path: str) -> bool:
    """Whether a file is somebody's work; the start-up file is saved without a name."""
    return bool(path) and Path(path).name not in ("startup.blend", "userpref.blend")


def _prepare(saving: _Saving) -> None:
    before, target = bpy.data.filepath, saving.target

    def change(holder: PathHolder, value: str) -> None:
        if value != holder.stored:
            saving.undo.append(lambda: holder.set(holder.stored))
            holder.set(value)

    for holder, output in _iter_result_holders():
        path = resolve(holder.stored)
        # a costume lies in the folder for textures of a result's folder, or of one of its own
        old = path.parent.parent if is_costume(holder.stored) else path
        if is_temporary(old.parent) and old.is_dir() and old not in saving.moves:
            new = find_output_folder(output, target) / old.name
            try:
                if copy_folder(old, new):
                    saving.made.append(new)
                saving.moves[old] = new
            except OSError as error:
                logger.exception("the frames in %s cannot be copied to %s", old, new)
                connection.errors.show(
                    Place.RESULT,
                    f"The frames in {old} could not be copied to {new} ({error.strerror or error}) and stay where they are; "
                    "make room there and save again.",
                    old.is_dir,
                )
    for holder, output in _iter_result_holders():
        old = resolve(holder.stored, before)
        new = _find_new_place(old, saving.moves) or old
        change(holder, make_stored_path(new, output if holder.stored.startswith("//") else "", target))
    # the rest Blender rewrites itself where a file is saved elsewhere
    for holder in _iter_other_holders():
        moved = _find_new_place(resolve(holder.stored, before), saving.moves)
        if moved is not None:
            # of a file without a name Blender makes no path relative by itself
            change(holder, make_stored_path(moved, "//", target) if not before else str(moved))


def _put_back(saving: _Saving) -> None:
    for undo in reversed(saving.undo):
        undo()


def _on_save_pre(path: str, *_: object) -> None:
    global _saving
    _saving = None
    if _is_project(path):
        _saving = _Saving(path)
        _prepare(_saving)


def _on_save_post(*_: object) -> None:
    global _saving
    saving, _saving = _saving, None
    if saving is None:
        return
    if bpy.data.filepath != saving.target:  # a copy: this Blender's own file is where it was
        _put_back(saving)
        return
    for old, new in saving.moves.items():
        _moves[old] = new
        remove_folder(old)


def _on_save_failed(*_: object) -> None:
    global _saving
    saving, _saving = _saving, None
    if saving is None:
        return
    _put_back(saving)
    for folder in saving.made:
        remove_folder(folder)
        with suppress(OSError):  # the output folder, if it was made for this
            folder.parent.rmdir()


def _on_undo(*_: object) -> None:
    _follow_moves()


_handlers = EventHandlers(
    save_pre=_on_save_pre,
    save_post=_on_save_post,
    save_post_fail=_on_save_failed,
    undo_post=_on_undo,
    redo_post=_on_undo,
    load_post=_on_undo,
)


def register() -> None:
    """Listen to saving, undo and the opening of files."""
    _handlers.register()


def unregister() -> None:
    """Stop listening."""
    _handlers.unregister()
    _moves.clear()
