"""Motion from words: make new ones, keep parts and make the rest, flip through the takes."""

from __future__ import annotations

import bpy
import numpy as np
from bpy.props import EnumProperty, IntProperty

from ...shared.motion import MotionError
from ...shared.skeleton import HUMANML_FPS
from .. import properties
from ..compat import action_fcurves, fcurves_of
from ..connection import connection
from ..motion import inpainting
from ..rigging.keyframes import TEXT, read_body_motion
from ..tasks.motion import Edit, MotionTask
from ..timing import frame_rate
from .generate import is_free
from .motion import has_armature


def _ready(cls, context) -> bool:
    return is_free(cls, connection) and has_armature(cls, context)


def _begin(operator: bpy.types.Operator, context: bpy.types.Context, edit: Edit | None, seconds: float) -> set[str]:
    settings, scene = properties.of(context), context.scene
    try:
        task = MotionTask(
            settings.character,
            settings.motion.request(seconds),
            connection.client,
            scene.frame_start,
            frame_rate(scene),
            settings.keying.options(),
            edit,
        )
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    connection.add(task)
    return {"FINISHED"}


class MakeMotion(bpy.types.Operator):
    """Make motions from the sentence; each becomes an Action of its own"""

    bl_idname = "latentman.make_motion"
    bl_label = "Make Motion"

    @classmethod
    def poll(cls, context):
        """Needs a backend and an armature."""
        return _ready(cls, context)

    def execute(self, context):
        """Begin; the timer does the rest."""
        return _begin(self, context, None, properties.of(context).motion.seconds)


def selected_frames(action: bpy.types.Action) -> set[int]:
    """The frames of selected keyframes."""
    return {round(key.co.x) for curve in fcurves_of(action) for key in curve.keyframe_points if key.select_control_point}


class RemakeMotion(bpy.types.Operator):
    """Keep a part of the Action in use and make the rest from the sentence; the result is a new Action"""

    bl_idname = "latentman.remake_motion"
    bl_label = "Keep and Make the Rest"

    keep: EnumProperty(
        name="Keep",
        default="FRAMES",
        items=(
            ("FRAMES", "Selected Frames", "Poses of frames with selected keyframes stay; the frames between are made"),
            ("LEGS", "Legs and Path", "Only the upper body is made"),
            ("PATH", "Path", "The pelvis goes where it went; the body is made"),
        ),
    )

    @classmethod
    def poll(cls, context):
        """Needs a backend and an Action."""
        if not _ready(cls, context):
            return False
        data = properties.of(context).character.animation_data
        cls.poll_message_set("The character has no Action; make or import a motion first")
        return data is not None and data.action is not None

    def execute(self, context):
        """Read the Action, begin."""
        settings, scene = properties.of(context), context.scene
        action, fps = settings.character.animation_data.action, frame_rate(scene)
        try:
            rig, motion, start = read_body_motion(settings.character, action)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        count = len(motion.pelvis)
        kept = np.zeros(count, bool)
        kept[[frame - start for frame in selected_frames(action) if 0 <= frame - start < count]] = True
        seconds = (round((count - 1) / fps * HUMANML_FPS) + 1) / HUMANML_FPS
        return _begin(self, context, Edit(rig, motion, start, action.name, inpainting.KeepSelection(self.keep, kept)), seconds)


def takes() -> list[bpy.types.Action]:
    """The Actions that came from motions, in the order of their names."""
    return sorted((action for action in bpy.data.actions if TEXT in action), key=lambda action: action.name)


class StepTake(bpy.types.Operator):
    """Put another take on the character"""

    bl_idname = "latentman.step_take"
    bl_label = "Next Take"
    bl_options = {"REGISTER", "UNDO"}

    step: IntProperty(name="Step", default=1, description="1 for the next take, -1 for the one before")

    @classmethod
    def poll(cls, context):
        """Needs a take."""
        if not has_armature(cls, context):
            return False
        cls.poll_message_set("There is no motion yet; make or import one")
        return bool(takes())

    def execute(self, context):
        """Flip."""
        armature = properties.of(context).character
        found = takes()
        data = armature.animation_data or armature.animation_data_create()
        at = found.index(data.action) + self.step if data.action in found else 0
        action = found[at % len(found)]
        action_fcurves(armature, action)
        self.report({"INFO"}, f"'{action.name}', {at % len(found) + 1} of {len(found)}")
        return {"FINISHED"}


CLASSES = (MakeMotion, RemakeMotion, StepTake)
