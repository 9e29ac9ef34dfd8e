"""``generate --marked``: every marked shot of a scene, one after the other, and a table of what has become of each."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bpy
import msgspec

from ...shared import console, logs, shot
from ...shared.events import Shot
from ...shared.files import write_atomically
from ...shared.interrupts import SignalWatch
from ...shared.part_arguments import find_look_file
from ..connection import Connection
from ..passes.camera import list_cameras
from ..passes.engine import switch_on_cycles
from ..queue.finding import find_marked_shots
from ..queue.freezing import find_named_camera
from ..queue.marked import NOTHING, FoundShot, name_folders
from ..queue.rows import Queue, QueuedShot, Row, RowState, summarise
from ..queue.table import format_table
from ..scene_choice import use_scene
from .asking import Asked, complete, read_whole
from .backend import STOP_SECONDS, ask_profile, connect, wait_for_task
from .scene import read_costume_arguments, read_scene_options, warn_of_scripts
from .shot_tasks import make_shot_task

#: the table, in the folder of the shots
TABLE = "shots.txt"
logger = logs.get_logger(__name__)


@dataclass(frozen=True)
class _Marked:
    """A shot that was found, and the folder of its frames below the one of all."""

    found: FoundShot
    folder: str

    @property
    def frames(self) -> tuple[int, ...]:
        """The scene frames."""
        return tuple(self.found.span.frames)

    def find_camera(self, scene: bpy.types.Scene) -> bpy.types.Object | None:
        """The camera that takes the place of the scene's. Raises ``ShotError``."""
        return find_named_camera(scene, self.found.camera) if self.found.own_camera else None


def _read(args: argparse.Namespace, marked: _Marked) -> tuple[Asked, tuple[str, ...]]:
    """What is asked for, and the cameras. Raises ``ShotError`` for whatever can be seen to be wrong without a backend."""
    if marked.found.problem:
        raise shot.ShotError("scene", marked.found.problem)
    with use_scene(marked.found.scene, marked.found.layer or None) as scene:
        camera = marked.find_camera(scene)
        asked = read_whole(args, scene, marked.frames, camera)
        return asked, tuple(one.name for one in list_cameras(scene, marked.frames, camera))


def _make_row(args: argparse.Namespace, marked: _Marked, request: shot.ShotRequest, cameras: tuple[str, ...]) -> Row:
    found, options = marked.found, read_scene_options(args)
    queued = QueuedShot(
        name=found.name,
        scene=found.scene,
        layer=found.layer,
        cameras=cameras,
        first=found.span.first,
        last=found.span.last,
        step=found.span.step,
        character=args.character or "",
        subjects=options.subjects,
        character_only=options.character_only,
        request=request,
        size=(0, 0),
        scene_aspect=True,
        only_changed=False,
        look="",
        output=str(args.out / marked.folder),
        panel="",
        own_camera=found.own_camera,
    )
    return Row(marked.folder, queued)


def run_marked(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code: that of the first shot that is missing. Raises ``ShotError`` where no shot can be
    made, and ``Interrupted``."""
    if read_scene_options(args).frames:
        raise shot.ShotError("frames", "--marked finds the frames of its shots itself; leave --frames out.")
    if find_look_file(args.look) is not None:
        raise shot.ShotError("look", "A look's file is of one shot; with --marked give the job whose look is to be kept, or none.")
    # what is wrong with it is found before anything is made
    read_costume_arguments(args)
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        shots, notes = find_marked_shots(scene)
        if not shots:
            raise shot.ShotError("marked", " ".join([NOTHING, *notes]))
        for folder in filter(None, (args.out, args.save_passes)):
            console.check_writable(folder)
        for note in [*notes, *(one.note for one in shots if one.note)]:
            out.warn(note, code="marked")
        all_marked = [_Marked(one, name) for one, name in zip(shots, name_folders([one.name for one in shots]), strict=True)]
        rows, possible = _check_all(args, out, all_marked)
        warn_of_scripts(out)
        try:
            _make_all(args, out, watch, possible, rows)
        finally:
            _write_table(args.out, out, list(rows.values()))
        missing = [row for row in rows.values() if row.state is not RowState.DONE]
        summary = f"{summarise(Queue(tuple(rows.values())))}; {args.out / TABLE} says more."
        if missing:
            # what went wrong at work tells more than what could not be made in the first place
            code = next((row.code for row in missing if row.code in console.FAILURES), missing[0].code)
            return out.fail(code, summary)
        out.emit("done", message=summary, out=str(args.out))
        return 0


def _check_all(
    args: argparse.Namespace, out: console.Console, all_marked: list[_Marked]
) -> tuple[dict[str, Row], list[tuple[_Marked, Asked]]]:
    """A row for each shot, and what is asked for of those that can be made. Raises ``ShotError`` where none can."""
    rows: dict[str, Row] = {}
    possible: list[tuple[_Marked, Asked]] = []
    first: shot.ShotError | None = None
    for marked in all_marked:
        try:
            asked, cameras = _read(args, marked)
        except shot.ShotError as error:
            first = first or error
            row = _make_row(args, marked, shot.make_request("", marked.frames, 24.0), tuple(filter(None, (marked.found.camera,))))
            rows[marked.folder] = msgspec.structs.replace(row, state=RowState.FAILED, message=str(error), code=error.code)
        else:
            rows[marked.folder] = _make_row(args, marked, asked.request, cameras)
            possible.append((marked, asked))
    if first is not None and not possible:
        raise first
    for row in rows.values():
        if row.state.ended:
            out.warn(f"'{row.shot.name}' is left out: {row.message}", code=row.code)
    return rows, possible


def _make_all(
    args: argparse.Namespace,
    out: console.Console,
    watch: SignalWatch,
    possible: list[tuple[_Marked, Asked]],
    rows: dict[str, Row],
) -> None:
    """Make the shots, each with a backend that lives, and keep in ``rows`` what has become of them. Raises ``Interrupted``."""
    connection = Connection()
    try:
        connect(connection, args, watch)
        lost: shot.ShotError | None = None
        for marked, asked in possible:
            started = time.monotonic()
            row = rows[marked.folder]
            _tell(out, msgspec.structs.replace(row, state=RowState.RUNNING))
            try:
                if lost is None and not connection.connected:
                    lost = _connect_again(connection, args, watch)
                if lost is not None:
                    raise lost
                row = _make(args, out, watch, connection, marked, asked, row)
            except shot.ShotError as error:
                row = msgspec.structs.replace(row, state=RowState.FAILED, message=str(error), code=error.code)
            except BaseException:
                # it was interrupted: what is finished is kept, and the table says how much that is
                count = _count(args.out / marked.folder, marked)
                rows[marked.folder] = msgspec.structs.replace(
                    row, state=RowState.CANCELLED, count=count, folder=str(args.out / marked.folder), code="interrupted"
                )
                raise
            rows[marked.folder] = row = msgspec.structs.replace(row, seconds=time.monotonic() - started)
            _tell(out, row)
    finally:
        connection.stop(STOP_SECONDS)


def _connect_again(connection: Connection, args: argparse.Namespace, watch: SignalWatch) -> shot.ShotError | None:
    """Connect after a shot has ended its backend; returns why that is not possible, and is not to be tried for every shot. Raises
    ``Interrupted``."""
    try:
        connect(connection, args, watch)
    except shot.ShotError as error:
        return error
    return None


def _make(
    args: argparse.Namespace,
    out: console.Console,
    watch: SignalWatch,
    connection: Connection,
    marked: _Marked,
    asked: Asked,
    row: Row,
) -> Row:
    """Make one shot; returns its row as it ended. Raises ``ShotError`` and ``Interrupted``."""
    folder = args.out / marked.folder
    with use_scene(marked.found.scene, marked.found.layer or None) as scene:
        console.tell_completion(out, args, asked.request)
        costume = read_costume_arguments(args)
        completed = complete(asked, ask_profile(connection, asked.request.sampling.model, watch), scene)
        passes = args.save_passes / marked.folder if args.save_passes else None
        camera = marked.find_camera(scene)
        task = make_shot_task(args, out, connection, asked, completed, costume, folder, keep_passes=passes, camera=camera)
        wait_for_task(connection, connection.add(task), watch, out)
    count = _count(folder, marked)
    frames = (task.report or {}).get("frames") or {}
    values = {"count": count, "made": int(frames.get("made", count)), "kept": int(frames.get("kept", 0)), "folder": str(folder)}
    if task.succeeded and count == len(marked.frames):
        return msgspec.structs.replace(row, state=RowState.DONE, **values)
    message = task.error or f"{len(marked.frames) - count} frames are missing; generate the shot again."
    state = RowState.PARTIAL if task.frames else RowState.FAILED
    return msgspec.structs.replace(row, state=state, message=message, code=task.error_code or "generation", **values)


def _count(folder: Path, marked: _Marked) -> int:
    return sum((folder / f"{frame:04d}.png").exists() for frame in marked.frames)


def _tell(out: console.Console, row: Row) -> None:
    """Say where a shot is, as an event or as a line."""
    queued = row.shot
    event = Shot(
        name=queued.name,
        scene=queued.scene,
        camera=", ".join(queued.cameras),
        frames=len(queued.frames),
        state=row.state.value,
        first=queued.first,
        last=queued.frames[-1],
        made=row.made,
        kept=row.kept,
        seconds=round(row.seconds, 3),
        out=queued.output,
        message=row.message,
        code=row.code,
    )
    values = {name: value for name, value in msgspec.to_builtins(event).items() if name != "event" and value != ""}
    if not out.is_json:
        words = f": {row.message}" if row.message else ""
        values["message"] = f"'{queued.name}' ({queued.scene}, {len(queued.frames)} frames): {row.state.value}{words}"
    out.emit("shot", **values)


def _write_table(folder: Path, out: console.Console, rows: list[Row]) -> None:
    table = format_table(rows)
    out.write_text(table)
    try:
        write_atomically(folder / TABLE, table.encode("utf-8", "replace"))
    except OSError:
        logger.exception("the table could not be written")
        out.warn(f"{folder / TABLE} could not be written; make room there.", code="disk")
