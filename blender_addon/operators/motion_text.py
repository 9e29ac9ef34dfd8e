"""The box *Motion*: generate motions from a sentence, keep parts and generate the rest, step through the takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import msgspec
import numpy as np
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_FPS
from .. import properties, undo_steps
from ..compat import get_fcurves
from ..connection import connection
from ..error_places import Place
from ..motion import inpainting
from ..motion_words import add_sentence
from ..rigging.action_notes import TEXT
from ..rigging.action_reading import read_place
from ..rigging.action_use import use_take
from ..rigging.editable import check_editable
from ..rigging.nla import get_motion_place
from ..scene_range import explain_others, find_motion_range, find_other_range, fit_range
from ..tasks.motion import MotionEdit, MotionTask
from ..tasks.task import Task
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_scene
from .polls import NeedsArmature, NeedsIdleConnection, NeedsMotion, Poll
from .reports import report, report_motion_errors, report_with_warnings


def _start_task(context: bpy.types.Context, edit: MotionEdit | None, seconds: float) -> OperatorResult:
    settings, scene = properties.get_settings(context), get_scene(context)
    request = settings.motion.make_request(seconds)
    if edit is not None:
        request = msgspec.structs.replace(request, loop=False, in_place=False)
    task = MotionTask(
        settings.character,
        request,
        connection.get_client(),
        scene.frame_start,
        frame_rate(scene),
        settings.keying.make_key_options(),
        edit,
    )
    task.add_done_callback(_make_undo_step)
    connection.add(task)
    return {"FINISHED"}


def _make_undo_step(task: Task) -> None:
    if isinstance(task, MotionTask) and task.succeeded:
        _fit_range(task)
        undo_steps.record("Make Motion", lambda: task.has_all_actions, task.key_motions)


def _fit_range(task: MotionTask) -> None:
    """Let the scenes that show the character last as long as its new motion."""
    armature = task.armature
    found = find_motion_range(armature) if armature is not None else None
    if armature is None or found is None:
        return
    for scene in armature.users_scene:
        sentence = fit_range(scene, armature, *found)
        if sentence:
            task.warnings = (*task.warnings, sentence)


@contextmanager
def _keep_error() -> Iterator[None]:
    """Let an error of starting a motion stand in the box until the next try."""
    connection.errors.dismiss(Place.MOTION)
    try:
        yield
    except MotionError as error:
        connection.errors.show(Place.MOTION, str(error))
        raise


class MakeMotion(NeedsIdleConnection, NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.make_motion"
    bl_label = "Make Motion"
    bl_description = "Generate motions from the sentence; each becomes a new Action"

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Start the task; the timer does the rest."""
        with _keep_error():
            return _start_task(context, None, properties.get_settings(context).motion.seconds)


def find_selected_frames(action: bpy.types.Action) -> set[int]:
    """The frames at which keyframes of an Action are selected."""
    return {round(key.co.x) for curve in get_fcurves(action) for key in curve.keyframe_points if key.select_control_point}


class RemakeMotion(NeedsIdleConnection, NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.remake_motion"
    bl_label = "Keep and Make the Rest"
    bl_description = "Keep a part of the Action in use and generate the rest from the sentence; the result is a new Action"

    keep: EnumProperty(
        name="Keep",
        description="What of the motion stays as it is",
        default="FRAMES",
        items=(
            ("FRAMES", "Selected Frames", "Frames with selected keyframes keep their poses; those between are generated"),
            ("LEGS", "Legs and Path", "Only the upper body is generated"),
            ("PATH", "Path", "The pelvis keeps its path; the body is generated"),
        ),
    )

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Read the Action and start the task."""
        with _keep_error():
            return self._start(context)

    def _start(self, context: bpy.types.Context) -> OperatorResult:
        settings, fps = properties.get_settings(context), frame_rate(get_scene(context))
        check_editable(settings.character)
        place = get_motion_place(settings.character)
        name, source = place.action.name, read_place(settings.character, place)
        count = len(source.motion.pelvis)
        kept = np.zeros(count, bool)
        selected = [frame - source.start for frame in find_selected_frames(place.action)]
        kept[[frame for frame in selected if 0 <= frame < count]] = True
        if settings.motion.loop or settings.motion.in_place:
            report(self, {"WARNING"}, "Loop and In Place are for new motions; here what is kept says where the body goes")
        for sentence in source.assumed:
            report(self, {"WARNING"}, sentence)
        seconds = (round((count - 1) / fps * HUMANML_FPS) + 1) / HUMANML_FPS
        edit = MotionEdit(source.rig, source.motion, source.start, name, inpainting.KeepSelection(self.keep, kept))
        return _start_task(context, edit, seconds)


def list_takes() -> list[bpy.types.Action]:
    """The Actions that were keyed from motions, sorted by name."""
    return sorted((action for action in bpy.data.actions if action.get(TEXT) is not None), key=lambda action: action.name)


class StepTake(NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.step_take"
    bl_label = "Next Take"
    bl_description = "Make the character use another take"
    bl_options = {"REGISTER", "UNDO"}

    step: IntProperty(name="Step", default=1, description="1 for the next take, -1 for the one before")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where no motion has been keyed yet."""
        if not super().poll(context):
            return False
        return bool(list_takes()) or cls.refuse("There is no motion yet; make or import one")

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Make the character use the next Action, or the previous one."""
        settings, takes = properties.get_settings(context), list_takes()
        current = settings.find_action()
        number = (takes.index(current) + self.step if current in takes else 0) % len(takes)
        check_editable(settings.character)
        assumed = use_take(settings.character, takes[number])
        report_with_warnings(self, f"'{takes[number].name}', {number + 1} of {len(takes)}", assumed)
        return {"FINISHED"}


class UseMotionRange(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.use_motion_range"
    bl_label = "Use the Motion's Range"
    bl_description = "Make the scene's frame range that of the character's motion"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where the scene has that range already."""
        if not super().poll(context):
            return False
        scene = get_scene(context)
        if not scene.is_editable:
            return cls.refuse("The scene is linked from another file")
        found = find_other_range(scene, properties.get_settings(context).find_armature())
        return found is not None or cls.refuse("The scene has the motion's range already")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Set the range, and say what else was animated outside of it."""
        scene, armature = get_scene(context), properties.get_settings(context).find_armature()
        found = find_other_range(scene, armature)
        if armature is None or found is None:
            return {"CANCELLED"}
        sentence = explain_others(scene, armature, *found)
        scene.frame_start, scene.frame_end = found
        report_with_warnings(self, f"The scene plays frames {found[0]} to {found[1]}", [sentence] if sentence else [])
        return {"FINISHED"}


class ChooseAction(Poll, bpy.types.Operator):
    bl_idname = "latentman.choose_action"
    bl_label = "Choose Action"
    bl_description = "Let the person do this; with Shift held, after what the text says already"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    sentence: StringProperty(name="Sentence", description="What the person does, such as: a person waves", options={"HIDDEN"})
    add: BoolProperty(name="Add", description="Put it after what the text says already", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """See whether Shift is held."""
        self.add = event.shift
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Write the sentence into the text field."""
        motion = properties.get_settings(context).motion
        motion.text = add_sentence(motion.text, self.sentence) if self.add else self.sentence
        return {"FINISHED"}


CLASSES = (MakeMotion, RemakeMotion, StepTake, UseMotionRange, ChooseAction)
