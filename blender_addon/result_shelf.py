"""What lies in the results' folders, as far as it is known: the panels ask here and never read the disk themselves.

A folder is looked at on a thread of its own, since it may be on a slow disk, or on none; the window's timer takes what was found.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews

from ..shared import logs
from .redrawing import redraw_panels
from .tasks.frames_folder import LOOK_FOLDER, list_frames

logger = logs.get_logger(__name__)

TIMER_SECONDS = 0.25
#: a folder that is shown is looked at again after so long
FRESH_SECONDS = 5.0
#: folders that are looked at at a time
MOST_AT_ONCE = 8
#: folders that are remembered; with more, those that were not asked for longest are forgotten
MOST_FOLDERS = 2000


@dataclass(frozen=True)
class FolderState:
    """What a folder of frames holds: how many frames, the picture that stands for them, and whether there is a texture."""

    frames: int
    thumbnail: Path | None
    changed: float
    has_texture: bool


def look_into(folder: Path) -> FolderState:
    """The state of a folder; that of an empty one where there is none or it cannot be read."""
    found = list_frames(folder)
    middle = found[len(found) // 2] if found else None
    try:
        changed = middle.stat().st_mtime if middle is not None else 0.0
        has_texture = (folder / LOOK_FOLDER / "texture_1.png").is_file()
    except OSError:
        changed, has_texture = 0.0, False
    return FolderState(len(found), middle, changed, has_texture)


class Shelf:
    """The states of folders that were asked for, oldest question first, and the icons of their thumbnails."""

    def __init__(self) -> None:
        self._states: dict[Path, FolderState] = {}
        self._looked: dict[Path, float] = {}
        self._wished: dict[Path, None] = {}
        self._looking: dict[Path, Future[FolderState]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._icons: Any = None

    def find(self, folder: Path) -> FolderState | None:
        """What is known of a folder; None where nothing is yet. It is looked at (again) where that is not from just now."""
        if folder not in self._looking and time.monotonic() > self._looked.get(folder, float("-inf")) + FRESH_SECONDS:
            self._wished[folder] = None
        return self._states.get(folder)

    def find_icon(self, folder: Path) -> int:
        """The number of the icon of a folder's thumbnail; 0 where there is none, or none yet. Blender reads the file itself, in a
        job of its own, when it draws it."""
        state = self.find(folder)
        if state is None or state.thumbnail is None:
            return 0
        name = f"{state.thumbnail}:{state.changed}"
        try:
            if self._icons is None:
                self._icons = bpy.utils.previews.new()
            if name not in self._icons:
                self._icons.load(name, str(state.thumbnail), "IMAGE")
            return int(self._icons[name].icon_id)
        except (KeyError, ValueError, RuntimeError) as error:
            logger.info("A thumbnail cannot be shown (%s)", error)
            return 0

    def forget(self, folders: Iterable[Path]) -> None:
        """Look at folders anew, as something was done to them."""
        for folder in folders:
            self._looked.pop(folder, None)
            self._wished[folder] = None

    def update(self) -> bool:
        """Take what was found, and begin to look at what was asked for; whether anything is known that was not."""
        is_new = False
        for folder, future in list(self._looking.items()):
            if not future.done():
                continue
            del self._looking[folder]
            state = future.result()
            is_new |= self._states.pop(folder, None) != state
            self._states[folder] = state
        while self._wished and len(self._looking) < MOST_AT_ONCE:
            folder = next(iter(self._wished))
            del self._wished[folder]
            self._looked.pop(folder, None)
            self._looked[folder] = time.monotonic()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1, "latentman-results")
            self._looking[folder] = self._threads.submit(look_into, folder)
        while len(self._looked) > MOST_FOLDERS:
            oldest = next(iter(self._looked))
            del self._looked[oldest]
            self._states.pop(oldest, None)
        return is_new

    def close(self) -> None:
        """Let go of the thread, of what is known, and of the icons."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._icons is not None:
            bpy.utils.previews.remove(self._icons)
        self._states.clear()
        self._looked.clear()
        self._wished.clear()
        self._looking.clear()
        self._threads, self._icons = None, None


shelf = Shelf()


def _on_timer() -> float:
    try:
        if shelf.update():
            redraw_panels()
    except Exception:  # Blender would remove the timer
        logger.exception("the results' folders could not be looked at")
    return TIMER_SECONDS


def register() -> None:
    """Have the window's timer take what was found."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_on_timer):
        bpy.app.timers.register(_on_timer, first_interval=TIMER_SECONDS, persistent=True)


def unregister() -> None:
    """Let go of everything."""
    if bpy.app.timers.is_registered(_on_timer):
        bpy.app.timers.unregister(_on_timer)
    shelf.close()
