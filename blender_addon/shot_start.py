"""Begins a shot of the window, with its live preview and its result: the same code for *Generate* and for the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import bpy
import numpy as np

from ..shared import messages, shot
from ..shared.picture_size import Crop
from .connection import Connection
from .live_preview import live
from .references import Reference, refer_to
from .results import add_result
from .shot_times import keep_time
from .tasks.shot import ShotTask
from .tasks.task import Task
from .typed_access import SceneContext, get_scene

#: which shots go before others where workers share them: those that nobody waits for after those of a window
IN_TURN, AT_ONCE, PREVIEW = 0, 1, 2


@dataclass(frozen=True)
class ShotPlan:
    """What is made: the finished request with the reference picture's file; who is seen (``subjects`` as in ``SceneOptions``),
    whether transparent around, and the part of the frames that is stored; where they go. ``range_frames`` decide the depth range,
    ``expected_seconds`` is how long such shots took, and ``panel`` are the settings that the result remembers. ``camera`` sees all
    frames, in place of the scene's cameras. ``costume`` are the files that the request names, of what the characters wear."""

    character: bpy.types.Object | None
    request: shot.ShotRequest
    reference: bytes
    subjects: str
    alpha: bool
    crop: Crop | None
    range_frames: tuple[int, ...]
    folder: Path
    expected_seconds: float | None
    panel: str
    camera: bpy.types.Object | None = None
    costume: Mapping[str, bytes] = field(default_factory=dict)


def make_task(
    place: SceneContext, plan: ShotPlan, connection: Connection, *, preview: bool = False, priority: int = AT_ONCE
) -> ShotTask:
    """The task of a shot of the scene and the view layer of ``place``, whichever a window shows; ``preview`` is of one frame, which
    is made quickly. Raises ``ShotError``."""
    return ShotTask(
        place,
        plan.character,
        plan.request,
        connection.get_client(),
        plan.folder,
        folder_per_job=True,
        scope=plan.subjects.upper(),
        range_frames=plan.range_frames,
        alpha=plan.alpha,
        quick=preview,
        crop=plan.crop,
        reference=plan.reference,
        expected_seconds=plan.expected_seconds,
        on_draft=None if preview else show_drafts,
        on_message=None if preview else partial(show_frame, connection),
        # a preview is quicker here
        elsewhere=not preview and not bpy.app.background,
        camera=plan.camera,
        costume=plan.costume,
        priority=PREVIEW if preview else priority,
    )


def begin_shot(place: SceneContext, plan: ShotPlan, connection: Connection, priority: int = AT_ONCE) -> ShotTask:
    """Begin a shot; when it ends, its frames are added to the results of its scene. ``priority`` is ``IN_TURN`` for one that
    nobody waits for. Raises ``ShotError``."""
    task = make_task(place, plan, connection, priority=priority)
    task.add_done_callback(partial(_add_result, scene=refer_to(get_scene(place)), file=bpy.data.filepath, panel=plan.panel))
    run(task, connection)
    return task


def run(task: ShotTask, connection: Connection) -> None:
    """Show a task in the window, and run it."""
    live.begin()
    connection.add(task)


def show_drafts(indices: Sequence[int], pictures: np.ndarray, finished: bool) -> None:
    """Show what frames look like by now; of finished ones the files follow."""
    live.show_small(list(pictures), only_icon=finished)


def show_frame(connection: Connection, message: messages.AnyMessage) -> None:
    """Show a frame that has arrived."""
    task = connection.shot_task
    if isinstance(message, messages.FrameResult) and task is not None and message.index in task.frames:
        live.show_file(task.frames[message.index])


def _add_result(task: Task, scene: Reference, file: str, panel: str) -> None:
    """Add finished frames to the scene's results, also those of a shot that was cancelled or failed."""
    if isinstance(task, ShotTask):
        add_result(task, scene, file, panel)
        keep_time(task)
