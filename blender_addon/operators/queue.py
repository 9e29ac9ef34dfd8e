"""The box *Queue*: shots that line up, in which order, and what is made of them."""

from __future__ import annotations

from typing import Any

import bpy
import msgspec
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, IntProperty, StringProperty

from ...shared.shot import ShotError
from ..compat import get_sequencer_scene
from ..connection import connection
from ..panel_base import draw_name, draw_text
from ..properties import get_settings
from ..queue.book import Change, book
from ..queue.finding import find_marked_shots
from ..queue.freezing import freeze_found, freeze_shot
from ..queue.marked import NOTHING, FoundShot, Span, write_span
from ..queue.row_list import find_active_row, update_rows
from ..queue.rows import (
    QueuedShot,
    Row,
    RowState,
    add_shots,
    clear_ended,
    move_row,
    remove_rows,
    repeat_row,
    summarise,
    switch_pause,
)
from ..queue.runner import runner
from ..queue.store import StoreError
from ..queue.text_block import NAME, show_table
from ..result_words import shorten
from ..translation import tr
from ..typed_access import OperatorResult, get_layout, get_scene
from .polls import NeedsCharacter, Poll
from .reports import report, report_with_warnings

#: a shot of the panel is called as its prompt begins
NAME_LENGTH = 60
#: what a file without a name is told
UNSAVED = "Save the file, so that the queue outlives Blender."


def _change(operator: bpy.types.Operator, change: Change, choose: str = "") -> OperatorResult:
    """Change the queue, and have the list show it; where it cannot be read, that is reported."""
    try:
        book.change(change)
    except (StoreError, ValueError) as error:
        report(operator, {"ERROR"}, str(error))
        return {"CANCELLED"}
    update_rows(choose)
    connection.redraw()
    return {"FINISHED"}


def _list_notes() -> list[str]:
    return [] if bpy.data.filepath else [UNSAVED]


def _add(operator: bpy.types.Operator, shots: list[QueuedShot]) -> OperatorResult:
    done = _change(operator, lambda queue: add_shots(queue, shots))
    if done == {"FINISHED"}:
        runner.follow_names()
        update_rows(book.queue.rows[-len(shots)].id)
    return done


class NeedsRow(Poll):
    """A shot of the queue is chosen."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without one."""
        if find_active_row() is None:
            return cls.refuse("The queue is empty; press Add to Queue first")
        return super().poll(context)

    @staticmethod
    def get_row() -> Row:
        """The chosen row, which ``poll`` has checked."""
        row = find_active_row()
        assert row is not None
        return row


class AddToQueue(NeedsCharacter, bpy.types.Operator):
    bl_idname = "latentman.queue_add"
    bl_label = "Add to Queue"
    bl_description = (
        "Have this shot made after those that wait. Its settings stay as they are now, whatever is changed in the panel later; the "
        "scene is rendered as it is when its turn comes"
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Queue the panel's shot."""
        settings, scene = get_settings(context), get_scene(context)
        frames = settings.get_frames(scene)
        if not frames:
            report(self, {"ERROR"}, "The range has no frames; let End be at least Start.")
            return {"CANCELLED"}
        try:
            shot, note = freeze_shot(scene, scene.name, Span(frames[0], frames[-1], settings.get_frame_step(scene)))
        except ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        name = shorten(shot.request.text.prompt, NAME_LENGTH) or scene.name
        done = _add(self, [msgspec.structs.replace(shot, name=name)])
        if done != {"FINISHED"}:
            return done
        waiting = len(book.queue.waiting)
        what = f"Queued {len(frames)} frames of '{scene.name}'; {waiting} wait in the queue"
        report_with_warnings(self, what, [note] if note else [], _list_notes())
        return done


class LatentManFoundShot(bpy.types.PropertyGroup):
    """A shot that was found, in the dialog of *Generate All Marked Shots*."""

    use: BoolProperty(name="Queue This Shot", description="Whether the shot is queued", default=True)
    scene: StringProperty(name="Scene", description="The scene that is rendered")
    camera: StringProperty(name="Camera", description="The cameras that the frames are seen through")
    first: IntProperty(name="First", description="The first frame")
    last: IntProperty(name="Last", description="The last frame")
    step: IntProperty(name="Step", description="Every which frame is made", default=1, min=1)
    problem: StringProperty(name="Problem", description="Why the shot cannot be queued; empty where it can")
    note: StringProperty(name="Note", description="What was guessed about the shot; empty for nothing")


class QueueMarked(Poll, bpy.types.Operator):
    bl_idname = "latentman.queue_marked"
    bl_label = "Generate All Marked Shots"
    bl_description = (
        "Find the shots of the film - one from each marker that binds a camera until the next, and one for each scene strip of the "
        "sequencer -, list them, and have them made one after the other"
    )

    settings: EnumProperty(
        name="Settings",
        description="Whose prompt, model and other settings the shots of other scenes are made with",
        items=(
            ("OWN", "Each Scene's Own", "Every scene's panel has the settings of its shots"),
            ("THIS", "This Scene's", "The panel as it is now has the settings of all shots; characters are those of each scene"),
        ),
    )
    start: BoolProperty(
        name="Start at Once", description="Begin with the first shot now; otherwise press Start later", default=True
    )
    found: CollectionProperty(
        type=LatentManFoundShot,
        name="Shots",
        description="The shots that were found; only the dialog fills it, without it all are queued",
        options={"SKIP_SAVE", "HIDDEN"},
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """List what is found."""
        if context.window_manager is None:
            return {"CANCELLED"}
        if not self._fill(context):
            return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self, width=640, confirm_text=tr("Queue These Shots"))

    def _find(self, context: bpy.types.Context) -> tuple[list[FoundShot], list[str]]:
        return find_marked_shots(get_scene(context), get_sequencer_scene(context))

    def _fill(self, context: bpy.types.Context) -> bool:
        """Have the dialog list the shots; False, and a report, where there are none."""
        shots, self._notes = self._find(context)
        if not shots:
            report(self, {"ERROR"}, " ".join([NOTHING, *self._notes]))
            return False
        self.found.clear()
        for shot in shots:
            item: Any = self.found.add()
            item.name, item.scene, item.first, item.last = shot.name, shot.scene, shot.span.first, shot.span.last
            item.step = shot.span.step
            queued, problem, item.note = self._freeze(context, shot)
            item.camera = ", ".join(queued.cameras) if queued is not None else shot.camera
            item.problem, item.use = problem, not problem
        return True

    def _freeze(self, context: bpy.types.Context, shot: FoundShot) -> tuple[QueuedShot | None, str, str]:
        """The shot as it is queued, or why it cannot be; and what was guessed."""
        try:
            queued, guess = freeze_found(shot, get_settings(context) if self.settings == "THIS" else None)
        except ShotError as error:
            return None, str(error), ""
        return queued, "", " ".join(filter(None, (shot.note, guess)))

    def check(self, context: bpy.types.Context) -> bool:
        """The choice of settings may mend or make problems."""
        # a shot that had a problem was not unticked by anybody
        chosen = {item.name: item.use for item in self.found if not item.problem}
        if self._fill(context):
            for item in self.found:
                item.use = chosen.get(item.name, True) and not item.problem
        return True

    def draw(self, context: bpy.types.Context) -> None:
        """List the shots: name, scene, camera, frames; below each that cannot be queued why."""
        layout = get_layout(self)
        layout.prop(self, "settings")
        column = layout.column(align=True)
        for item in self.found:
            line = column.row(align=True)
            line.enabled = not item.problem
            line.prop(item, "use", text=item.name, translate=False)
            draw_name(line, item.scene, "SCENE_DATA")
            draw_name(line, item.camera, "CAMERA_DATA")
            span = Span(item.first, item.last, item.step)
            draw_text(line, f"{write_span(span)} ({span.count})", "TIME")
            if item.problem or item.note:
                draw_text(column, item.problem or item.note, "ERROR" if item.problem else "INFO")
        for note in self._notes:
            draw_text(layout, note, "INFO")
        layout.prop(self, "start")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Queue them, and begin."""
        shots, notes = self._find(context)
        if not shots:
            report(self, {"ERROR"}, " ".join([NOTHING, *notes]))
            return {"CANCELLED"}
        left_out = {item.name for item in self.found if not item.use}
        queued: list[QueuedShot] = []
        warnings: list[str] = []
        for shot in shots:
            if shot.name in left_out:
                continue
            one, problem, note = self._freeze(context, shot)
            if one is not None:
                queued.append(one)
            warnings += filter(None, (problem, note))
        if not queued:
            report(self, {"ERROR"}, " ".join(["No shot was queued.", *warnings]))
            return {"CANCELLED"}
        done = _add(self, queued)
        if done != {"FINISHED"}:
            return done
        if self.start and not runner.is_going:
            try:
                runner.start()
            except StoreError as error:
                warnings.append(str(error))
        what = "1 shot" if len(queued) == 1 else f"{len(queued)} shots"
        report_with_warnings(self, f"Queued {what}", [*warnings, *(notes if not self.found else ())], _list_notes())
        return done


class RemoveFromQueue(NeedsRow, bpy.types.Operator):
    bl_idname = "latentman.queue_remove"
    bl_label = "Remove from Queue"
    bl_description = "Take the chosen shot out of the queue; frames that are finished stay, and so does its result"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for the shot that is being made."""
        if not super().poll(context):
            return False
        return cls.get_row().state is not RowState.RUNNING or cls.refuse("This shot is being made; cancel it first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take it out."""
        row = self.get_row()
        return _change(self, lambda queue: remove_rows(queue, {row.id}))


class MoveInQueue(NeedsRow, bpy.types.Operator):
    bl_idname = "latentman.queue_move"
    bl_label = "Move in Queue"
    bl_description = "Have the chosen shot made earlier or later"

    direction: EnumProperty(
        name="Direction",
        description="Where the shot goes",
        items=(
            ("UP", "Up", "One place earlier"),
            ("DOWN", "Down", "One place later"),
            ("TOP", "To the Top", "Before all others"),
            ("BOTTOM", "To the Bottom", "After all others"),
        ),
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Move it."""
        row, far = self.get_row(), len(book.queue.rows)
        by = {"UP": -1, "DOWN": 1, "TOP": -far, "BOTTOM": far}[self.direction]
        return _change(self, lambda queue: move_row(queue, row.id, by), row.id)


class PauseInQueue(NeedsRow, bpy.types.Operator):
    bl_idname = "latentman.queue_pause_row"
    bl_label = "Pause or Resume This Shot"
    bl_description = "Pass the chosen shot over, those behind it come first; pressed again, it waits for its turn as before"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for a shot whose turn has come."""
        if not super().poll(context):
            return False
        waits = cls.get_row().state in (RowState.WAITING, RowState.PAUSED)
        return waits or cls.refuse("This shot's turn has come already")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Pause or resume it."""
        row = self.get_row()
        return _change(self, lambda queue: switch_pause(queue, row.id))


class RepeatInQueue(NeedsRow, bpy.types.Operator):
    bl_idname = "latentman.queue_repeat"
    bl_label = "Queue Again"
    bl_description = "Have the chosen shot wait again, with the settings that it was queued with; what is finished is kept"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for a shot that has not ended."""
        if not super().poll(context):
            return False
        return cls.get_row().state.ended or cls.refuse("This shot has not ended yet")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Have it wait."""
        row = self.get_row()
        return _change(self, lambda queue: repeat_row(queue, row.id))


class CancelInQueue(NeedsRow, bpy.types.Operator):
    bl_idname = "latentman.queue_cancel"
    bl_label = "Cancel This Shot"
    bl_description = "Stop only the shot that is being made; finished frames are kept, and the next shot of the queue follows"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse for a shot that is not being made."""
        if not super().poll(context):
            return False
        return cls.get_row().id == runner.current_id or cls.refuse("This shot is not being made")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Cancel it."""
        runner.cancel_row(self.get_row().id)
        connection.redraw(at_once=True)
        return {"FINISHED"}


class StartQueue(Poll, bpy.types.Operator):
    bl_idname = "latentman.queue_start"
    bl_label = "Start Queue"
    bl_description = "Make the shots that wait, one after the other; one that fails does not stop the others"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the queue is going, and where nothing waits."""
        if runner.is_going:
            return cls.refuse("The queue is going already")
        return bool(book.queue.waiting) or cls.refuse("Nothing waits in the queue; press Add to Queue, or resume a paused shot")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin; the timer does the rest."""
        try:
            runner.start()
        except StoreError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        connection.redraw()
        return {"FINISHED"}


class PauseQueue(Poll, bpy.types.Operator):
    bl_idname = "latentman.queue_pause"
    bl_label = "Pause Queue"
    bl_description = "Begin no further shot; the one that is being made is finished"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the queue is not going."""
        return runner.is_going or cls.refuse("The queue is not going")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Pause."""
        runner.pause()
        connection.redraw()
        return {"FINISHED"}


class ClearQueue(Poll, bpy.types.Operator):
    bl_idname = "latentman.queue_clear"
    bl_label = "Clear Finished"
    bl_description = "Take the shots out of the list that are done, have failed or were cancelled; their frames and results stay"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where nothing has ended."""
        return any(row.state.ended for row in book.queue.rows) or cls.refuse("No shot of the queue has ended yet")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Take them out."""
        return _change(self, clear_ended)


class ShowQueueTable(Poll, bpy.types.Operator):
    bl_idname = "latentman.queue_table"
    bl_label = "Table"
    bl_description = f"Write a table of what has become of the shots into the text '{NAME}', which the Text editor shows"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a shot."""
        return bool(book.queue.rows) or cls.refuse("The queue is empty; press Add to Queue first")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write it."""
        show_table(book.queue)
        report(self, {"INFO"}, f"{summarise(book.queue)}; the table is in the text '{NAME}'")
        return {"FINISHED"}


CLASSES = (
    LatentManFoundShot,
    AddToQueue,
    QueueMarked,
    RemoveFromQueue,
    MoveInQueue,
    PauseInQueue,
    RepeatInQueue,
    CancelInQueue,
    StartQueue,
    PauseQueue,
    ClearQueue,
    ShowQueueTable,
)
