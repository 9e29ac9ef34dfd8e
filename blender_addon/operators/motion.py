"""The box *Motion*: bundled clips and motion files become keyframes in a new Action."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty

from ...shared.motion import MAX_FPS, Motion, MotionError
from .. import properties
from ..motion import bvh
from ..motion.readers import BUNDLED, SUFFIXES, MotionFile, read
from ..rigging.keyframes import apply_motion
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_layout, get_scene
from .dialogs import ImportDialog
from .polls import NeedsArmature
from .reports import report_action

FILE_FILTER = ";".join(f"*{suffix}" for suffix in SUFFIXES)


def key_motion(operator: bpy.types.Operator, context: bpy.types.Context, motion: Motion) -> OperatorResult:
    """Key a motion on the character with the scene's settings, and report the new Action."""
    scene, settings = get_scene(context), properties.get_settings(context)
    try:
        options = settings.keying.make_key_options()
        action = apply_motion(settings.character, motion, scene.frame_start, frame_rate(scene), options)
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    report_action(operator, action, f"'{action.name}': {motion.frame_count} frames at {motion.fps:g} fps")
    return {"FINISHED"}


class UseClip(NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.use_clip"
    bl_label = "Use Clip"
    bl_description = "Key the chosen bundled motion on the character, starting at the scene's first frame"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action; earlier ones are kept."""
        try:
            motion = read(BUNDLED).get_motion(int(properties.get_settings(context).clip or 0))
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return key_motion(self, context, motion)


#: what the file dialog shows about the chosen file: (path, change time) -> lines
_descriptions: dict[tuple[str, float], list[str]] = {}


def describe_motion_file(path: str) -> list[str]:
    """The contents of a motion file, or why it cannot be used, in lines; a file is read again only after it has changed."""
    file = Path(path)
    if not path or not file.is_file():
        return []
    key = (path, file.stat().st_mtime)
    if key not in _descriptions:
        _descriptions.clear()
        try:
            if file.suffix.lower() == ".bvh":
                _descriptions[key] = bvh.describe(file)
            else:
                _descriptions[key] = read(file).describe()
        except MotionError as error:
            _descriptions[key] = [str(error)]
    return _descriptions[key]


class ImportMotion(NeedsArmature, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.import_motion"
    bl_label = "Import Motion"
    bl_description = (
        "Import a motion file as keyframes on the character: MDM, HumanML3D, MoMask and others (.npy), "
        "AMASS and HY-Motion (.npz), BVH"
    )
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=FILE_FILTER, options={"HIDDEN"})
    clip: IntProperty(name="Clip", min=0, description="Which motion of a file with several, counted from 0")
    fps: FloatProperty(
        name="Rate",
        default=0.0,
        min=0.0,
        max=MAX_FPS,
        description="Frames per second of the motion, where the file's own value is wrong; 0 uses the file's value",
    )
    statistics: StringProperty(
        name="Mean and Std",
        subtype="DIR_PATH",
        description="Folder of HumanML3D's Mean.npy and Std.npy, for normalised vectors; if empty, the file's own folder",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Open the file dialog; for a dropped file only its settings are asked for."""
        return self.invoke_popup(context)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the settings and the file's description."""
        column = get_layout(self).column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in ("clip", "fps", "statistics"):
            column.prop(self, name)
        box = get_layout(self).box().column(align=True)
        for n, line in enumerate(describe_motion_file(self.filepath)[:12] or ["Choose a file to see what is in it"]):
            box.label(text=line, icon="INFO" if n == 0 else "BLANK1")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action; earlier ones are kept."""
        try:
            if self.filepath.lower().endswith(".bvh"):
                body = bvh.read_body(self.filepath, self.fps)
                motion = body.motion
                self.report({"INFO"}, " ".join(body.notes))
            else:
                statistics = Path(bpy.path.abspath(self.statistics)) if self.statistics else None
                file: MotionFile = read(self.filepath, statistics)
                motion = file.get_motion(self.clip, self.fps)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return key_motion(self, context, motion)


class MotionFileHandler(bpy.types.FileHandler):
    """Imports motion files that are dropped into the 3D viewport."""

    bl_idname = "LATENTMAN_FH_motion"
    bl_label = "LatentMan motion"
    bl_import_operator = "latentman.import_motion"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Accept files only where the character can be animated."""
        in_viewport = context.area is not None and context.area.type == "VIEW_3D"
        return in_viewport and properties.get_settings(context).find_armature() is not None


CLASSES = (UseClip, ImportMotion, MotionFileHandler)
