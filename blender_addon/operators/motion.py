"""The box *Motion*: bundled clips and motion files become keyframes in a new Action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ...shared.motion import MAX_FPS, Motion, MotionError
from .. import properties
from ..motion import bvh
from ..motion.body_from_skeleton import body_from_skeleton
from ..motion.readers import BUNDLED, SUFFIXES, MotionFile, ReadOptions, read
from ..motion.source_bones import UnknownBonesError
from ..panel_base import draw_text
from ..rigging import scene_files
from ..rigging.armature_source import sample_armature
from ..rigging.keyframes import apply_motion
from ..rigging.rigs import read_saved_mapping
from ..timing import frame_rate
from ..translation import CONTEXT
from ..typed_access import OperatorResult, get_layout, get_scene
from .dialogs import ImportDialog
from .polls import NeedsArmature
from .reports import report, report_action, report_motion_errors, report_with_warnings

#: endings of all files that can be imported
ALL_SUFFIXES = (*SUFFIXES, *scene_files.SUFFIXES, ".vmd")
FILE_FILTER = ";".join(f"*{suffix}" for suffix in ALL_SUFFIXES)


def key_motion(
    operator: bpy.types.Operator,
    context: bpy.types.Context,
    motion: Motion,
    notes: Sequence[str] = (),
    is_doubtful: bool = False,
) -> OperatorResult:
    """Key a motion on the character with the scene's settings, and report the new Action, with what else there is to say; where a
    guess is doubtful, as a warning. Raises ``MotionError``."""
    scene, settings = get_scene(context), properties.get_settings(context)
    options = settings.keying.make_key_options()
    action = apply_motion(settings.character, motion, scene.frame_start, frame_rate(scene), options)
    doubts = [note for note in notes if is_doubtful and "doubtful" in note]
    said = (note.rstrip(".") for note in notes if note not in doubts)
    text = "; ".join((f"'{action.name}': {motion.frame_count} frames at {motion.fps:g} fps", *said))
    report_action(operator, action, text, [f"{doubt[0].upper()}{doubt[1:]}." for doubt in doubts])
    return {"FINISHED"}


class UseClip(NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.use_clip"
    bl_label = "Use Clip"
    bl_description = "Key the chosen bundled motion on the character, starting at the scene's first frame"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action; earlier ones are kept."""
        return key_motion(self, context, read(BUNDLED).get_motion(int(properties.get_settings(context).clip or 0)))


class UseArmature(NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.use_armature"
    bl_label = "Motion from Armature"
    bl_description = (
        "Key the motion of the armature chosen as Source on the character, as Blender shows it, with all that animates it"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse without a source."""
        if not super().poll(context):
            return False
        return properties.get_settings(context).find_source() is not None or cls.refuse("Choose another armature as Source first")

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action; where bones are not recognised, the source's bone list opens."""
        settings = properties.get_settings(context)
        source = settings.find_source()
        if source is None:
            return {"CANCELLED"}
        skeleton = sample_armature(get_scene(context), source)
        try:
            # it moves as Blender shows it
            body = body_from_skeleton(skeleton, read_saved_mapping(source), skeleton.source, "Z")
        except MotionError as error:
            open_source_bones(settings, source)
            report(self, {"ERROR"}, describe_error(error))
            # what was opened is a change that an undo takes back
            return {"FINISHED"}
        return key_motion(self, context, body.motion, body.notes, body.is_doubtful)


def describe_error(error: MotionError) -> str:
    """What is wrong with the motion of an armature that is in the scene, and what helps there."""
    return error.describe_for_source() if isinstance(error, UnknownBonesError) else str(error)


def open_source_bones(settings: properties.LatentManSettings, source: bpy.types.Object) -> None:
    """Show the bone list of a source, so that its bones can be mapped."""
    settings.source = source
    settings.show_source_bones = True
    if source.is_editable and not properties.get_bone_slots(source):
        properties.set_bone_map(source, {})


def is_scene_file(path: str) -> bool:
    """Whether Blender's importers, or those of an extension, read a file."""
    return path.lower().endswith((*scene_files.SUFFIXES, *scene_files.MMD_SUFFIXES))


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
            if is_scene_file(path):
                _descriptions[key] = scene_files.check_scene_file(file).describe(), frozenset()
            elif file.suffix.lower() == ".bvh":
                _descriptions[key] = bvh.describe(file, SOURCE_AXES[options.up_axis]), frozenset({"up_axis"})
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
#: up axes as those of a skeleton's file are called
SOURCE_AXES = {"GUESS": None, "Y": "Y", "Z": "Z", "Y_DOWN": "-Y"}
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
        "AMASS, HY-Motion and Kimodo (.npz), results of pose estimators (.pt, .pkl, .npy, .json), BVH, "
        "and scenes with an animated skeleton (FBX, glTF, VRM, USD)"
    )
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=FILE_FILTER, description="Which files the dialog lists", options={"HIDDEN"})
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

    directory: StringProperty(
        name="Folder", subtype="DIR_PATH", description="The folder of several files", options={"HIDDEN", "SKIP_SAVE"}
    )
    files: CollectionProperty(
        type=bpy.types.OperatorFileListElement,
        name="Files",
        description="The names of several files in the folder; each becomes an Action, and the last one is used",
        options={"HIDDEN", "SKIP_SAVE"},
    )
    keep_armature: BoolProperty(
        name="Keep Armature",
        description="Leave the armature of an FBX, glTF or USD file in the scene as Source, to map its bones by hand",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Open the file dialog; for a dropped file only its settings are asked for."""
        return self.invoke_popup(context)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the settings and the file's description."""
        column = get_layout(self).column()
        column.use_property_split, column.use_property_decorate = True, False
        paths = self.list_paths()
        if len(paths) > 1:
            self._draw_several(column, paths)
            return
        lines, choices = inspect_motion_file(self.filepath, self.get_options())
        column.prop(self, "clip", text="Person" if "person" in choices else "Clip", text_ctxt=CONTEXT)
        for name in ("up_axis", "layout"):
            if name in choices:
                column.prop(self, name)
        for name in ("fps", "keep_armature" if is_scene_file(self.filepath) else "statistics"):
            column.prop(self, name)
        box = get_layout(self).box().column(align=True)
        for n, line in enumerate(lines[:12] or ["Choose a file to see what is in it"]):
            draw_text(box, line, "INFO" if n == 0 else "BLANK1")

    def _draw_several(self, column: bpy.types.UILayout, paths: list[str]) -> None:
        for name in ("up_axis", "fps"):
            column.prop(self, name)
        box = get_layout(self).box().column(align=True)
        for path in paths[:12]:
            lines, _ = inspect_motion_file(path, self.get_options())
            draw_text(box, ": ".join((Path(path).name, *lines[:1])), "ACTION")
        if len(paths) > 12:
            draw_text(box, f"and {len(paths) - 12} more", "BLANK1")

    def list_paths(self) -> list[str]:
        """The files that are chosen, as whole paths; one where the dialog or a script has named only that."""
        names = [file.name for file in self.files if file.name]
        if len(names) > 1 and self.directory:
            return [str(Path(bpy.path.abspath(self.directory)) / name) for name in names]
        return [self.filepath]

    def get_options(self) -> ReadOptions:
        """What the user says about the file."""
        return ReadOptions(self.up_axis, self.layout)

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Key a new Action for each file; earlier ones are kept."""
        paths = self.list_paths()
        if len(paths) == 1:
            return self._import_file(context, paths[0])
        failures = []
        for path in paths:
            try:
                self._import_file(context, path)
            except MotionError as error:
                failures.append(str(error) if Path(path).name in str(error) else f"{Path(path).name}: {error}")
        if len(failures) == len(paths):
            raise MotionError(" ".join(failures))
        done = f"{len(paths) - len(failures)} of {len(paths)} files are keyed; the arrows in the box Motion flip through them."
        report_with_warnings(self, done, failures)
        return {"FINISHED"}

    def _import_file(self, context: bpy.types.Context, filepath: str) -> OperatorResult:
        if is_scene_file(filepath):
            return self._import_scene_file(context, filepath)
        if filepath.lower().endswith(".bvh"):
            body = bvh.read_body(filepath, self.fps, up_axis=SOURCE_AXES[self.up_axis])
            return key_motion(self, context, body.motion, body.notes, body.is_doubtful)
        statistics = Path(bpy.path.abspath(self.statistics)) if self.statistics else None
        file: MotionFile = read(filepath, statistics, self.get_options())
        motion, clip = file.get_motion(self.clip, self.fps), file.get_clip(self.clip)
        return key_motion(self, context, motion, clip.list_notes(self.fps), clip.is_doubtful)

    def _import_scene_file(self, context: bpy.types.Context, filepath: str) -> OperatorResult:
        """Import the file for a while and key its motion; only an armature that is to be kept stays."""
        settings, path = properties.get_settings(context), Path(bpy.path.abspath(filepath))
        notes: tuple[str, ...] = ()
        kept = None
        try:
            if path.suffix.lower() == ".vmd" and scene_files.has_vmd_importer():
                skeleton = scene_files.sample_vmd(context, path, settings.find_source(), self.fps)
                body = body_from_skeleton(skeleton, read_saved_mapping(settings.source), path.stem, "Z")
            else:
                with scene_files.import_scene_file(context, path) as imported:
                    clip = imported.choose(self.clip)
                    notes = imported.describe_choice(clip)
                    skeleton = imported.sample(clip, self.fps)
                    if self.keep_armature:
                        kept = imported.keep_armature(clip)
                    body = body_from_skeleton(skeleton, None, clip.name, "Z")
        except MotionError as error:
            of_source = settings.find_source() if path.suffix.lower() in scene_files.MMD_SUFFIXES else None
            shown = kept or (of_source if isinstance(error, UnknownBonesError) else None)
            if shown is None:
                raise
            open_source_bones(settings, shown)
            report(self, {"ERROR"}, describe_error(error))
            return {"FINISHED"}
        if kept is not None:
            settings.source = kept
        return key_motion(self, context, body.motion, (*notes, *body.notes), body.is_doubtful)


CLASSES = (UseClip, UseArmature, ImportMotion)
