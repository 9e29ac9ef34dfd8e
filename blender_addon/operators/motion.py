"""The box *Motion*: bundled clips and motion files become keyframes in a new Action."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from ...shared.motion import MAX_FPS, Motion, MotionError
from .. import properties
from ..motion import bvh
from ..motion.readers import BUNDLED, SUFFIXES, MotionFile, ReadOptions, read
from ..rigging.keyframes import apply_motion
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_layout, get_scene
from .dialogs import ImportDialog
from .polls import NeedsArmature

FILE_FILTER = ";".join(f"*{suffix}" for suffix in SUFFIXES)


def key_motion(
    operator: bpy.types.Operator,
    context: bpy.types.Context,
    motion: Motion,
    notes: tuple[str, ...] = (),
    is_doubtful: bool = False,
) -> OperatorResult:
    """Key a motion on the character with the scene's settings, and report the new Action.

    ``notes`` say what was guessed of it; with a doubtful guess the report is a warning.
    """
    scene, settings = get_scene(context), properties.get_settings(context)
    try:
        options = settings.keying.make_key_options()
        action = apply_motion(settings.character, motion, scene.frame_start, frame_rate(scene), options)
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    said = "".join(f"; {note}" for note in notes)
    text = f"'{action.name}': {motion.frame_count} frames at {motion.fps:g} fps{said}"
    operator.report({"WARNING"} if is_doubtful else {"INFO"}, text)
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


#: what the file dialog shows about the chosen file and what it lets choose
_Description = tuple[list[str], frozenset[str]]
#: (path, change time, options) -> the description
_descriptions: dict[tuple[str, float, ReadOptions], _Description] = {}


def describe_motion_file(path: str, options: ReadOptions | None = None) -> list[str]:
    """The contents of a motion file, or why it cannot be used, in lines; a file is read again only after it has changed."""
    return inspect_motion_file(path, options)[0]


def inspect_motion_file(path: str, options: ReadOptions | None = None) -> _Description:
    """The contents of a motion file in lines, and which of its properties the user may choose."""
    file, options = Path(path), options or ReadOptions()
    if not path or not file.is_file():
        return [], frozenset()
    key = (path, file.stat().st_mtime, options)
    if key not in _descriptions:
        _descriptions.clear()
        try:
            if file.suffix.lower() == ".bvh":
                _descriptions[key] = bvh.describe(file), frozenset()
            else:
                found = read(file, options=options)
                _descriptions[key] = found.describe(), found.choices
        except MotionError as error:
            # a choice that does not fit must stay in sight
            chosen = {name for name, value in (("up_axis", options.up_axis), ("layout", options.layout)) if value != "GUESS"}
            _descriptions[key] = [str(error)], frozenset(chosen)
    return _descriptions[key]


UP_AXES = (
    ("GUESS", "Guess", "Found from feet, head and floor of the person in the file"),
    ("Y", "Y", "Y points up, as in SMPL's own space, HumanML3D and games"),
    ("Z", "Z", "Z points up, as in AMASS and Blender"),
    ("Y_DOWN", "-Y", "Y points down, as a camera sees it: results in a camera's space"),
)
LAYOUTS = (
    ("GUESS", "Guess", "Found from the numbers: how knees and elbows bend, and lengths that do not change"),
    ("POSITIONS", "Joint Positions", "Places of joints"),
    ("ROTATIONS", "Joint Rotations", "Rotations of SMPL's joints as axis-angle vectors"),
    ("ROWS", "6D, Rows", "Rotations as the first two rows of their matrices"),
    ("COLUMNS", "6D, Columns", "Rotations as the first two columns of their matrices"),
    ("INTERLEAVED", "6D, Interleaved", "Rotations as the first two columns of their matrices, number by number in turn"),
    ("WXYZ", "Quaternions, w First", "Rotations as quaternions w, x, y, z"),
    ("XYZW", "Quaternions, w Last", "Rotations as quaternions x, y, z, w"),
)


class ImportMotion(NeedsArmature, bpy.types.Operator, ImportDialog):
    bl_idname = "latentman.import_motion"
    bl_label = "Import Motion"
    bl_description = (
        "Import a motion file as keyframes on the character: MDM, HumanML3D, MoMask and others (.npy), "
        "AMASS, HY-Motion and Kimodo (.npz), results of pose estimators (.pt, .pkl, .npy, .json), BVH"
    )
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=FILE_FILTER, options={"HIDDEN"})
    clip: IntProperty(name="Clip", min=0, description="Which motion or person of a file with several, counted from 0")
    up_axis: EnumProperty(
        name="Up Axis", items=UP_AXES, default="GUESS", description="Which way is up in the file, where it does not say"
    )
    layout: EnumProperty(
        name="Layout",
        items=LAYOUTS,
        default="GUESS",
        description="What the file's numbers are, where they do not show it themselves",
    )
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
        lines, choices = inspect_motion_file(self.filepath, self.get_options())
        column.prop(self, "clip", text="Person" if "person" in choices else "Clip")
        for name in ("up_axis", "layout"):
            if name in choices:
                column.prop(self, name)
        for name in ("fps", "statistics"):
            column.prop(self, name)
        box = get_layout(self).box().column(align=True)
        for n, line in enumerate(lines[:12] or ["Choose a file to see what is in it"]):
            box.label(text=line, icon="INFO" if n == 0 else "BLANK1")

    def get_options(self) -> ReadOptions:
        """What the user says about the file."""
        return ReadOptions(self.up_axis, self.layout)

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action; earlier ones are kept."""
        notes: tuple[str, ...] = ()
        is_doubtful = False
        try:
            if self.filepath.lower().endswith(".bvh"):
                body = bvh.read_body(self.filepath, self.fps)
                motion = body.motion
                self.report({"INFO"}, " ".join(body.notes))
            else:
                statistics = Path(bpy.path.abspath(self.statistics)) if self.statistics else None
                file: MotionFile = read(self.filepath, statistics, self.get_options())
                motion, clip = file.get_motion(self.clip, self.fps), file.get_clip(self.clip)
                notes, is_doubtful = clip.list_notes(self.fps), clip.is_doubtful
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return key_motion(self, context, motion, notes, is_doubtful)


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
