"""Motion: clips and files become keyframes in a new Action."""

from __future__ import annotations

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from .. import properties
from ..motion.keyframes import apply_motion
from ..motion.readers import BUNDLED, read
from ..shared_link import HUMANML_FPS, MotionError


def _has_armature(cls, context) -> bool:
    character = properties.of(context).character
    cls.poll_message_set("Pick an armature as the character first, or add the mannequin")
    return character is not None and character.type == "ARMATURE"


def _apply(operator: bpy.types.Operator, context, path: str, clip: int, fps: float) -> set[str]:
    scene = context.scene
    try:
        motion = read(path).motion(clip, fps)
        action = apply_motion(properties.of(context).character, motion, scene.frame_start,
                              scene.render.fps / scene.render.fps_base)
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    operator.report({"INFO"}, f"'{action.name}': {motion.frame_count} frames at {motion.fps:g} fps")
    return {"FINISHED"}


class UseClip(bpy.types.Operator):
    """Key the chosen bundled motion on the character, from the first frame of the scene on"""

    bl_idname = "latentman.use_clip"
    bl_label = "Use Clip"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return _has_armature(cls, context)

    def execute(self, context):
        """Write a new Action; earlier ones are kept."""
        return _apply(self, context, str(BUNDLED), int(properties.of(context).clip or 0), HUMANML_FPS)


class ImportMotion(bpy.types.Operator, ImportHelper):
    """Import a motion file (MDM's results.npy or an array of joints) as keyframes on the character"""

    bl_idname = "latentman.import_motion"
    bl_label = "Import..."
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.npy", options={"HIDDEN"})
    clip: IntProperty(name="Clip", min=0, description="Which motion of a file that holds several")
    fps: FloatProperty(name="File's Rate", default=HUMANML_FPS, min=1.0, max=240.0,
                       description="Frames a second in the file; MDM and HumanML3D use 20")

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return _has_armature(cls, context)

    def execute(self, context):
        """Write a new Action; earlier ones are kept."""
        return _apply(self, context, self.filepath, self.clip, self.fps)


CLASSES = (UseClip, ImportMotion)
