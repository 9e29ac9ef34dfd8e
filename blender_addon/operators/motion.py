"""Motion in: clips and files become keyframes in a new Action."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ...shared.motion import MAX_FPS, Motion, MotionError
from .. import properties
from ..motion.readers import BUNDLED, MotionFile, read
from ..rigging import bvh
from ..rigging.keyframes import apply_motion
from ..timing import frame_rate

EXTENSIONS = ".npy;.npz;.bvh"


def has_armature(cls, context) -> bool:
    """Poll: the character is an armature."""
    character = properties.of(context).character
    cls.poll_message_set("Pick an armature as the character first, or add the mannequin")
    return character is not None and character.type == "ARMATURE"


def key_motion(operator: bpy.types.Operator, context: bpy.types.Context, motion: Motion) -> set[str]:
    """Write a motion onto the character as the scene's settings say, and report."""
    scene = context.scene
    try:
        action = apply_motion(
            properties.of(context).character, motion, scene.frame_start, frame_rate(scene), properties.of(context).keying.options()
        )
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
        return has_armature(cls, context)

    def execute(self, context):
        """Write a new Action; earlier ones are kept."""
        try:
            motion = read(BUNDLED).get_motion(int(properties.of(context).clip or 0))
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return key_motion(self, context, motion)


#: what the file dialog shows about the file under the cursor: (path, change time) -> lines
_preview: dict[tuple[str, float], list[str]] = {}


def preview_lines(path: str) -> list[str]:
    """What is inside a motion file, or why it cannot be used; read once for each version of the file."""
    file = Path(path)
    if not path or not file.is_file():
        return []
    key = (path, file.stat().st_mtime)
    if key not in _preview:
        _preview.clear()
        try:
            if file.suffix.lower() == ".bvh":
                frames, rate = bvh.header(file)
                _preview[key] = ["BVH", f"{frames} frames at {rate:g} fps"]
            else:
                _preview[key] = read(file).describe()
        except MotionError as error:
            _preview[key] = [str(error)]
    return _preview[key]


class ImportMotion(bpy.types.Operator, ImportHelper):
    """Import a motion file as keyframes on the character: MDM, HumanML3D, MoMask and others (.npy), AMASS and HY-Motion
    (.npz), BVH"""

    bl_idname = "latentman.import_motion"
    bl_label = "Import Motion"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.npy;*.npz;*.bvh", options={"HIDDEN"})
    clip: IntProperty(name="Clip", min=0, description="Which motion of a file that holds several, counted from 0")
    fps: FloatProperty(
        name="Rate",
        default=0.0,
        min=0.0,
        max=MAX_FPS,
        description="Frames a second in the file, where the file is wrong; 0 takes the file's own",
    )
    statistics: StringProperty(
        name="Mean and Std",
        subtype="DIR_PATH",
        description="Folder of HumanML3D's Mean.npy and Std.npy, for normalised vectors; the file's own folder when empty",
    )

    @classmethod
    def poll(cls, context):
        """Needs an armature."""
        return has_armature(cls, context)

    def invoke(self, context, event):
        """The file dialog; a dropped file only asks for its settings."""
        return self.invoke_popup(context)

    def draw(self, context):
        """Settings, and what is in the file."""
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in ("clip", "fps", "statistics"):
            column.prop(self, name)
        box = self.layout.box().column(align=True)
        for n, line in enumerate(preview_lines(self.filepath)[:12] or ["Choose a file to see what is in it"]):
            box.label(text=line, icon="INFO" if n == 0 else "BLANK1")

    def execute(self, context):
        """Write a new Action; earlier ones are kept."""
        try:
            if self.filepath.lower().endswith(".bvh"):
                motion = bvh.read(context, self.filepath, self.fps)
            else:
                statistics = Path(bpy.path.abspath(self.statistics)) if self.statistics else None
                file: MotionFile = read(self.filepath, statistics)
                motion = file.get_motion(self.clip, self.fps)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return key_motion(self, context, motion)


class MotionFileHandler(bpy.types.FileHandler):
    """Motion files dropped into the 3D viewport"""

    bl_idname = "LATENTMAN_FH_motion"
    bl_label = "LatentMan motion"
    bl_import_operator = "latentman.import_motion"
    bl_file_extensions = EXTENSIONS

    @classmethod
    def poll_drop(cls, context):
        """Only where there is a body to move."""
        return context.area is not None and context.area.type == "VIEW_3D" and has_armature(ImportMotion, context)


CLASSES = (UseClip, ImportMotion, MotionFileHandler)
