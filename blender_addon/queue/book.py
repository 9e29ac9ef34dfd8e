"""The queue of the open file: the file in the user's folder is the truth, which another Blender with the same .blend file shares.
Nothing here uses bpy."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ...shared import logs
from .rows import Queue, QueuedShot, RowState, recover, rename
from .store import StoreError, UnreachableError, check_size, find_path, read_queue, write_queue

logger = logs.get_logger(__name__)

Change = Callable[[Queue], Queue]
#: how often a worker says that it is alive, and after how long without a word it is not
BEAT_SECONDS, SILENT_SECONDS = 60.0, 200.0


def works_elsewhere(queue: Queue) -> bool:
    """Whether another Blender that is alive makes the shots of a queue."""
    host = platform.node()
    if not queue.worker or (queue.worker, queue.host) == (os.getpid(), host):
        return False
    if queue.host == host and os.name != "nt":  # on Windows a signal would end the process
        try:
            os.kill(queue.worker, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's process
            pass
    return time.time() < queue.beat + SILENT_SECONDS


def set_worker(queue: Queue, *, works: bool) -> Queue:
    """The queue with this process as its worker, or without one."""
    pid, host, beat = (os.getpid(), platform.node(), time.time()) if works else (0, "", 0.0)
    return msgspec.structs.replace(queue, worker=pid, host=host, beat=beat)


def _put_aside(path: Path) -> Path | None:
    """Rename a queue's file that cannot be read, so that nothing takes its place, nor that of one which was put aside before; None
    where the disk does not let it."""
    names = (f"{path.name}.{n}.unread" if n > 1 else f"{path.name}.unread" for n in itertools.count(1))
    try:
        return path.rename(next(aside for aside in map(path.with_name, names) if not aside.exists()))
    except OSError:
        return None


class QueueBook:
    """The queue of one .blend file at a time; that of a file without a name is only in memory, until the file is saved."""

    def __init__(self) -> None:
        #: with the names that data-blocks have now, which the file may not have yet
        self.queue = Queue()
        #: as it is in the file
        self._kept = Queue()
        #: shots with the names of now, by the ids of rows
        self._shots: dict[str, QueuedShot] = {}
        #: the .blend file, "" for one that was never saved
        self.blend = ""
        #: why the queue cannot be read or kept, a sentence
        self.error = ""
        self._path: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self._is_readable = True

    def open(self, blend: str, running: str = "") -> None:
        """Have the queue of a .blend file, as it was left; ``running`` is the row that this process is making at the moment."""
        self.blend, self.error, self._shots = blend, "", {}
        self._take(Queue())
        self._path, self._stamp, self._is_readable = (find_path(blend) if blend else None), None, True
        self._read()
        if not self._is_readable or works_elsewhere(self._kept):
            return
        found = recover(self._kept, running)
        if not running:
            found = set_worker(found, works=False)
        self._keep(found)

    @property
    def is_readable(self) -> bool:
        """Whether ``queue`` is what its file holds; where it is not, nothing can be changed."""
        return self._is_readable

    def move_to(self, blend: str) -> bool:
        """The file was saved under a name: its queue goes with it, in place of what that name had; whether it did.

        What cannot be read stays where it is, and so does what another Blender works through: its rows are copied, or, where it
        is the new name's queue that another Blender works through, it keeps its own.
        """
        if blend == self.blend:
            return True
        self.refresh()
        if not self._is_readable:
            why = self.error
            self.open(blend)
            # what is left behind is said
            self.error = self.error or why
            return False
        aside = None
        try:
            other = read_queue(find_path(blend))
        except StoreError:
            aside = _put_aside(find_path(blend))
            if aside is None:
                self.open(blend)
                return False
            other = Queue()
        if works_elsewhere(other):
            self._leave(blend, other)
            return False
        is_copied = works_elsewhere(self.queue)
        if is_copied:
            self._take(set_worker(recover(self._kept), works=False))
        old, self.blend, self._path = self._path, blend, find_path(blend)
        self._write()
        # a file may have several names, as by links
        if old is not None and old != self._path and not is_copied and not self.error:
            old.unlink(missing_ok=True)
        if aside is not None and not self.error:
            self.error = f"The queue that {blend} had could not be read; it is kept in {aside}."
        return True

    def _leave(self, blend: str, other: Queue) -> None:
        """Go over to the queue of a .blend file that another Blender works through; what is in no file comes to its end, paused."""
        old, rows = self._path, recover(self.queue).rows
        self.open(blend)
        if rows and old is None:
            paused = tuple(row if row.state.ended else msgspec.structs.replace(row, state=RowState.PAUSED) for row in rows)
            self._keep(msgspec.structs.replace(self._kept, rows=(*self._kept.rows, *paused)))
        if not rows or self.error:
            return
        pid = other.worker
        if old is None:
            self.error = (
                f"Another Blender (process {pid}) works through the queue of {blend}; your shots are at the end of that, paused."
            )
        else:
            self.error = f"Another Blender (process {pid}) works through the queue of {blend}; your shots stay in {old}."

    def refresh(self) -> bool:
        """Read what another Blender has changed; whether there was something."""
        before = self.queue
        # what could not be reached is tried again and again
        is_unread = self._stamp is None and not self._is_readable
        if self._path is not None and (is_unread or self._read_stamp() != self._stamp):
            self._read()
        return self.queue != before

    def change(self, change: Change) -> Queue:
        """Change the queue, as it is on disk now, and keep it; returns it. Raises ``StoreError`` where it could not be read,
        and where shots are added to one that is too large."""
        self.refresh()
        if not self._is_readable:
            raise StoreError(self.error)
        found = change(self._kept)
        if len(found.rows) > len(self._kept.rows):
            check_size(found)
        self._keep(found)
        return self.queue

    def set_names(self, shots: Mapping[str, QueuedShot]) -> None:
        """Have rows show the names that their data-blocks have now: the shots by the rows' ids. The file keeps the names that the
        .blend file has, which would not be found again otherwise after a crash."""
        known = {**self._shots, **shots}
        self._shots = {row.id: known[row.id] for row in self._kept.rows if row.id in known}
        self.queue = rename(self._kept, self._shots)

    def keep_names(self) -> None:
        """The .blend file was saved, and with it the names; where another Blender works through the queue, its names stay."""
        self.change(lambda queue: queue if works_elsewhere(queue) else rename(queue, self._shots))

    def change_of(self, blend: str, change: Change) -> None:
        """Change the queue of a .blend file, be it this one or one that is closed."""
        if blend == self.blend:
            self.change(change)
            return
        other = QueueBook()
        other.blend, other._path = blend, find_path(blend) if blend else None
        if other._path is not None:
            other._read()
            other.change(change)

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino) if found is not None else None

    def _read(self) -> None:
        if self._path is None:
            return
        self._stamp = self._read_stamp()
        try:
            self._take(read_queue(self._path))
            self._is_readable, self.error = True, ""
        except UnreachableError as error:
            # what was read before may still be true
            self._stamp, self._is_readable, self.error = None, False, str(error)
        except StoreError as error:
            self._take(Queue())
            self._is_readable, self.error = False, str(error)

    def _take(self, queue: Queue) -> None:
        self._kept, self.queue = queue, rename(queue, self._shots)

    def _keep(self, queue: Queue) -> None:
        if queue != self._kept:
            self._take(queue)
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            write_queue(self._path, self.blend, self._kept)
            self.error = ""
        except (OSError, ValueError) as error:
            logger.exception("the queue cannot be kept")
            reason = getattr(error, "strerror", None) or error
            self.error = (
                f"The queue cannot be kept in {self._path} ({reason}), so that it is lost when Blender ends; make room there."
            )
        self._stamp = self._read_stamp()


book = QueueBook()
