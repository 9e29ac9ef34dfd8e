"""A queue's rows: what waits, what is made, and what has become of it. Functions return a new queue. Nothing here uses bpy."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping

import msgspec

from ...shared.shot import ShotRequest
from ...shared.task import new_ticket
from .marked import Span, write_span

#: rows that a queue may have
MOST_ROWS = 1000
INTERRUPTED = "It was interrupted; what is finished is kept, and it goes on from there when its turn comes."


class RowState(enum.Enum):
    """Where a row stands. A paused one is passed over until it is resumed; the last four are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the row."""
        return self not in (RowState.WAITING, RowState.RUNNING, RowState.PAUSED)


class QueuedShot(msgspec.Struct, frozen=True):
    """A shot as it was queued. The settings stay as they were then; what the scene holds is as it is when the shot's turn comes.

    ``name`` is what people call it. ``scene``, ``layer``, ``character`` and ``cameras`` are names; ``cameras`` are those that the
    frames are seen through, in order; with ``own_camera`` it is one, whatever the scene's are. ``first``, ``last`` and ``step`` are
    its scene frames. ``subjects`` and ``character_only`` are those of ``SceneOptions``. ``request`` has the settings, with the
    reference picture's path and without a look; ``size`` is the pictures' (width, height), 0 where it is left to the model, and is
    then of the scene's aspect with ``scene_aspect``. ``only_changed`` and ``look`` are the panel's switch and the look that the
    character kept, ``output`` the folder as the panel has it, ``panel`` all of the panel's settings as ``panel_memory`` writes
    them, ``queued`` the time.
    """

    name: str
    scene: str
    layer: str
    cameras: tuple[str, ...]
    first: int
    last: int
    step: int
    character: str
    subjects: str
    character_only: bool
    request: ShotRequest
    size: tuple[int, int]
    scene_aspect: bool
    only_changed: bool
    look: str
    output: str
    panel: str
    queued: str = ""
    own_camera: bool = False

    @property
    def span(self) -> Span:
        """The scene frames, from the first to the last."""
        return Span(self.first, self.last, max(self.step, 1))

    @property
    def frames(self) -> tuple[int, ...]:
        """The scene frames."""
        return tuple(self.span.frames)


class Row(msgspec.Struct, frozen=True):
    """A shot of the queue and what has become of it: ``count`` frames are there, of which ``made`` are new and ``kept`` are from
    before; ``message`` says why it failed or waits again, ``code`` the same for programs. ``seconds`` is how long it took."""

    id: str
    shot: QueuedShot
    state: RowState = RowState.WAITING
    message: str = ""
    code: str = ""
    count: int = 0
    made: int = 0
    kept: int = 0
    seconds: float = 0.0
    folder: str = ""
    ended: str = ""


class Queue(msgspec.Struct, frozen=True):
    """The rows in the order in which they are made. ``worker`` is the process that makes them, on the machine ``host``, 0 for none,
    which says so anew now and then (``beat``, seconds since 1970); ``message`` says why the queue has paused by itself."""

    rows: tuple[Row, ...] = ()
    worker: int = 0
    host: str = ""
    beat: float = 0.0
    message: str = ""

    def find(self, row_id: str) -> Row | None:
        """The row with an id."""
        return next((row for row in self.rows if row.id == row_id), None)

    @property
    def waiting(self) -> tuple[Row, ...]:
        """The rows that wait for their turn, in order."""
        return tuple(row for row in self.rows if row.state is RowState.WAITING)


def add_shots(queue: Queue, shots: Iterable[QueuedShot]) -> Queue:
    """The queue with shots at its end. Raises ``ValueError`` where it would be too long."""
    rows = (*queue.rows, *(Row(new_ticket(), shot) for shot in shots))
    if len(rows) > MOST_ROWS:
        raise ValueError(f"A queue has at most {MOST_ROWS} shots; clear the finished ones, or queue fewer.")
    return msgspec.structs.replace(queue, rows=rows)


def change_row(queue: Queue, row_id: str, **values: object) -> Queue:
    """The queue with some values of a row replaced; without that row nothing changes."""
    return msgspec.structs.replace(
        queue, rows=tuple(msgspec.structs.replace(row, **values) if row.id == row_id else row for row in queue.rows)
    )


def remove_rows(queue: Queue, ids: Collection[str]) -> Queue:
    """The queue without some rows; one that is being made stays."""
    return msgspec.structs.replace(
        queue, rows=tuple(row for row in queue.rows if row.id not in ids or row.state is RowState.RUNNING)
    )


def clear_ended(queue: Queue) -> Queue:
    """The queue without the rows that have ended."""
    return msgspec.structs.replace(queue, rows=tuple(row for row in queue.rows if not row.state.ended))


def move_row(queue: Queue, row_id: str, by: int) -> Queue:
    """The queue with a row ``by`` places further down (negative: up), as far as there are places."""
    rows = list(queue.rows)
    place = next((n for n, row in enumerate(rows) if row.id == row_id), None)
    if place is None:
        return queue
    row = rows.pop(place)
    rows.insert(min(max(place + by, 0), len(rows)), row)
    return msgspec.structs.replace(queue, rows=tuple(rows))


def switch_pause(queue: Queue, row_id: str) -> Queue:
    """The queue with a waiting row passed over, or a paused one waiting again; others stay as they are."""
    row = queue.find(row_id)
    if row is None or row.state not in (RowState.WAITING, RowState.PAUSED):
        return queue
    state = RowState.PAUSED if row.state is RowState.WAITING else RowState.WAITING
    return change_row(queue, row_id, state=state)


def repeat_row(queue: Queue, row_id: str) -> Queue:
    """The queue with an ended row waiting again, where it stands."""
    row = queue.find(row_id)
    if row is None or not row.state.ended:
        return queue
    return change_row(queue, row_id, state=RowState.WAITING, message="", code="", seconds=0.0, ended="")


def recover(queue: Queue, running: str = "") -> Queue:
    """The queue after its Blender has ended or its file was closed: what was being made waits again. ``running`` is the id of a
    row that this Blender is making at the moment."""
    rows = tuple(
        msgspec.structs.replace(row, state=RowState.WAITING, message=INTERRUPTED)
        if row.state is RowState.RUNNING and row.id != running
        else row
        for row in queue.rows
    )
    return msgspec.structs.replace(queue, rows=rows)


def rename(queue: Queue, shots: Mapping[str, QueuedShot]) -> Queue:
    """The queue with the names that the data-blocks of some rows have now: their shots by the rows' ids."""
    rows = tuple(
        row if shots.get(row.id, row.shot) == row.shot else msgspec.structs.replace(row, shot=shots[row.id]) for row in queue.rows
    )
    return queue if rows == queue.rows else msgspec.structs.replace(queue, rows=rows)


def describe_frames(shot: QueuedShot) -> str:
    """The frames of a shot in words, as ``write_span`` has it."""
    return write_span(shot.span)


def write_count(queue: Queue) -> str:
    """``2 of 5``: how many rows have ended; empty without rows."""
    return f"{sum(row.state.ended for row in queue.rows)} of {len(queue.rows)}" if queue.rows else ""


def summarise(queue: Queue) -> str:
    """``2 of 5 done, 1 failed``; empty without rows."""
    if not queue.rows:
        return ""
    counts = {state: sum(row.state is state for row in queue.rows) for state in RowState}
    parts = [f"{counts[RowState.DONE]} of {len(queue.rows)} done"]
    parts += [
        f"{counts[state]} {state.value}"
        for state in (RowState.PARTIAL, RowState.FAILED, RowState.CANCELLED, RowState.PAUSED)
        if counts[state]
    ]
    return ", ".join(parts)
