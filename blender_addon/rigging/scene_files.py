"""Files of whole scenes (FBX, glTF, USD, VRM) as sources of motion, through Blender's own importers.

They import into a scene of their own in a window's place, and all that they made is removed again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from ...shared import logs
from ...shared.motion import MotionError
from ..compat import (
    assign_action,
    enable_addon,
    find_operator,
    get_action_slots,
    get_fcurves,
    get_slot_fcurves,
    get_strip_slot,
    get_used_fcurves,
)
from ..motion.scene_file_headers import SceneFileHeader, read_scene_file_header
from ..motion.skeleton_motion import SkeletonMotion
from ..timing import frame_rate
from ..typed_access import get_pose, get_scene
from .armature_source import sample_armature, sample_objects
from .scratch_scene import keep_unkeyed, make_scratch_scene

logger = logs.get_logger(__name__)

#: endings of the files that Blender's importers read, and of those that only an extension reads
SUFFIXES = (".fbx", ".glb", ".gltf", ".vrm", ".vrma", ".usd", ".usda", ".usdc", ".usdz")
MMD_SUFFIXES = (".vmd", ".pmx", ".pmd")
#: frames per second while a file that counts in seconds is imported: its keys lie at whole frames for every usual rate
IMPORT_RATE = 120
#: fewer objects than this, parented to each other, are no skeleton of a person
FEWEST_NODES = 13
#: clips that a sentence names
MAX_LISTED = 8
#: frames per second of MikuMikuDance
MMD_RATE = 30.0


@dataclass(frozen=True)
class SourceClip:
    """One motion in an imported file: which object plays which Action, with its slot, and what is sampled.

    ``armature`` is None where ``nodes``, objects that are parented to each other, are the skeleton.
    """

    name: str
    armature: bpy.types.Object | None
    nodes: tuple[bpy.types.Object, ...]
    actions: tuple[tuple[bpy.types.Object, bpy.types.Action, Any], ...]


@dataclass(frozen=True)
class ImportedScene:
    """What an importer made: the scene that holds it, its objects, and the motions among them."""

    path: Path
    scene: bpy.types.Scene
    objects: tuple[bpy.types.Object, ...]
    clips: tuple[SourceClip, ...]
    home: bpy.types.Scene
    #: data-blocks that are not removed at the end
    kept: set[bpy.types.ID]
    note: str = ""

    def choose(self, number: int) -> SourceClip:
        """Clip ``number``, counted from 0; ``MotionError`` when there is none."""
        if not 0 <= number < len(self.clips):
            raise MotionError(f"{self.path.name} has {len(self.clips)} clips, numbered from 0; there is no clip {number}.")
        return self.clips[number]

    def describe_choice(self, clip: SourceClip) -> tuple[str, ...]:
        """What there is to say about a file: what was guessed, and which of several motions was taken."""
        notes = (self.note,) if self.note else ()
        if len(self.clips) == 1:
            return notes
        names = ", ".join(f"{n} {one.name}" for n, one in enumerate(self.clips[:MAX_LISTED]))
        more = f" and {len(self.clips) - MAX_LISTED} more" if len(self.clips) > MAX_LISTED else ""
        return (
            *notes,
            f"clip {self.clips.index(clip)} of {len(self.clips)} ({names}{more})",
        )

    def keep_armature(self, clip: SourceClip) -> bpy.types.Object:
        """Leave a clip's armature in the user's scene, with its motion at that scene's rate and with what it is parented to.

        Raises ``MotionError`` for a clip without an armature.
        """
        armature = clip.armature
        if armature is None:
            raise MotionError(
                f"{self.path.name} has a skeleton without a skin, which Blender imports as Empties; there is no armature to keep."
            )
        self.play(clip)
        chain = [armature]
        while (above := chain[-1].parent) is not None:
            chain.append(above)
        factor = frame_rate(self.home) / frame_rate(self.scene)
        playing = {action for one, action, _ in clip.actions if one in chain}
        for action in playing:
            for curve in get_fcurves(action):
                _stretch(curve, factor)
        for one in chain:
            self.home.collection.objects.link(one)
            data = one.animation_data
            if data is not None:
                for track in list(data.nla_tracks):
                    data.nla_tracks.remove(track)
                data.use_nla = True
        self.kept.update(chain, playing, (one.data for one in chain if one.data is not None))
        return armature

    def play(self, clip: SourceClip) -> None:
        """Make the imported objects play a clip, and nothing else."""
        playing = {one: (action, slot) for one, action, slot in clip.actions}
        for one in self.objects:
            if one in playing:
                assign_action(one, *playing[one])
            elif one.animation_data:
                assign_action(one, None)
            if one.animation_data:
                one.animation_data.use_nla = False

    def sample(self, clip: SourceClip, fps: float = 0.0) -> SkeletonMotion:
        """A clip's motion in world space; ``fps`` overrides the file's rate when it is not 0. Raises ``MotionError``."""
        self.play(clip)
        if clip.armature is not None:
            motion = sample_armature(self.scene, clip.armature, keep_rate=True, tips=False)
        else:
            motion = sample_objects(self.scene, clip.nodes, self.path.name, keep_rate=True)
        return replace(motion, fps=fps or motion.fps, source=self.path.name)


def check_scene_file(path: Path) -> SceneFileHeader:
    """What a file says of itself; ``MotionError`` for one that is missing, damaged, or that needs an extension."""
    if path.suffix.lower() in MMD_SUFFIXES:
        # with MMD Tools, motions are read by sample_vmd
        raise MotionError(
            f"{path.name} is a file of MikuMikuDance, which Blender reads with the extension 'MMD Tools'; install it, import the "
            "model and its motion with File > Import, and choose its armature as Source."
        )
    return read_scene_file_header(path)


@contextmanager
def import_scene_file(context: bpy.types.Context, path: Path) -> Iterator[ImportedScene]:
    """Import a file for a while; afterwards, the user's data and scene are as they were, whatever happened.

    Only what ``keep_armature`` has taken over stays. Raises ``MotionError`` for a file that cannot be imported or has no motion.
    """
    header, home = check_scene_file(path), get_scene(context)
    with _remove_new_data() as before, _show_import_scene(context, header.rate or IMPORT_RATE) as (window, scene):
        _call_importer(window, path, header)
        made = [one for one in bpy.data.objects if one not in before]
        if not any(one.type == "ARMATURE" for one in made) and len(made) < FEWEST_NODES:
            raise MotionError(f"{path.name} contains no armature; choose a file with a skeleton and its motion.")
        clips = _list_clips(made, [action for action in bpy.data.actions if action not in before], header)
        if not clips:
            raise MotionError(f"{path.name} contains a skeleton without a motion; export it together with its animation.")
        yield ImportedScene(path, scene, tuple(made), clips, home, before, header.note)


def _stretch(curve: bpy.types.FCurve, factor: float) -> None:
    """Move a curve's keys, so that what took a frame takes ``factor`` frames."""
    for key in curve.keyframe_points:
        for name in ("co", "handle_left", "handle_right"):
            at, value = getattr(key, name)
            setattr(key, name, (at * factor, value))
    curve.update()


def _call_importer(window: bpy.types.Window, path: Path, header: SceneFileHeader) -> None:
    with ExitStack() as stack:
        importer, options = _find_importer(stack, path, header)
        if path.suffix.lower() in (".vrm", ".vrma"):
            # they are GLB files under a name that the importer might not know
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            path = Path(shutil.copyfile(path, folder / f"{path.stem}.glb"))
        stack.enter_context(bpy.context.temp_override(window=window))
        try:
            result = importer(filepath=str(path), **options)
        except Exception as error:
            # an importer that meets what it does not expect raises anything
            logger.exception("%s cannot be imported", path.suffix)
            raise MotionError(f"{path.name} cannot be read by Blender's {header.kind} importer ({_shorten(error)}).") from error
        if result != {"FINISHED"}:
            raise MotionError(f"{path.name} cannot be read by Blender's {header.kind} importer; export it again.")


def _shorten(error: Exception) -> str:
    """The line of an importer's error that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Location:")]
    return lines[-1].removeprefix("Error: ").rstrip(".")[:200] if lines else type(error).__name__


def _find_importer(stack: ExitStack, path: Path, header: SceneFileHeader) -> tuple[Callable[..., set[str]], dict[str, Any]]:
    """Blender's importer for a file, and its options; its add-on is enabled until ``stack`` ends."""
    if header.kind == "FBX":
        importer = find_operator("wm.fbx_import") if header.is_text else None
        if importer is None and not header.is_text:
            stack.enter_context(enable_addon("io_scene_fbx"))
            importer = find_operator("import_scene.fbx") or find_operator("wm.fbx_import")
        if importer is None and header.is_text:
            raise MotionError(
                f"{path.name} is an FBX file in text form, which this Blender does not read; export it as binary FBX, or import "
                "it with Blender 4.5 or newer."
            )
        wanted: dict[str, Any] = {"use_custom_normals": False, "use_image_search": False, "use_subsurf": False}
    elif header.kind == "glTF":
        stack.enter_context(enable_addon("io_scene_gltf2"))
        importer = find_operator("import_scene.gltf")
        wanted = {"disable_bone_shape": True, "import_select_created_objects": False}
    else:
        importer = find_operator("wm.usd_import")
        names = ("cameras", "curves", "lights", "materials", "points", "shapes", "volumes", "blendshapes", "subdiv")
        wanted = {f"import_{name}": False for name in names} | {"create_world_material": False}
    if importer is None:
        raise MotionError(
            f"This Blender has no importer for {header.kind}; enable its add-on in the preferences, then import {path.name} again."
        )
    known = importer.get_rna_type().properties
    return importer, {name: value for name, value in wanted.items() if name in known}


@contextmanager
def _remove_new_data() -> Iterator[set[bpy.types.ID]]:
    """Remove, at the end, every data-block that is new and was not kept, and give the others the names that they had."""
    names = {one: one.name for one in _iter_data()}
    before = set(names)
    try:
        yield before
    finally:
        bpy.data.batch_remove([one for one in _iter_data() if one not in before])
        for one, name in names.items():
            if one.name != name:
                one.name = name


def _iter_data() -> Iterator[bpy.types.ID]:
    for declared in bpy.data.bl_rna.properties:
        if isinstance(declared, bpy.types.CollectionProperty) and declared.identifier not in ("window_managers", "screens"):
            yield from getattr(bpy.data, declared.identifier)


@contextmanager
def _show_import_scene(context: bpy.types.Context, fps: float) -> Iterator[tuple[bpy.types.Window, bpy.types.Scene]]:
    """An empty scene for a while, in the place of the user's: importers change the frame range, the rate and the selection of the
    scene that is shown."""
    manager = context.window_manager
    window = context.window or (manager.windows[0] if manager is not None and len(manager.windows) else None)
    if window is None:
        raise MotionError("Blender has no window to import into; open one first.")
    shown, layer = window.scene, window.view_layer
    # the glTF importer keeps its notes on the first scene, in the order of their names
    with keep_unkeyed(_iter_data(), layer), make_scratch_scene(" LatentMan Import") as scene:
        scene.render.fps = max(1, round(fps))
        scene.render.fps_base = scene.render.fps / fps
        try:
            window.scene = scene
            yield window, scene
        finally:
            window.scene, window.view_layer = shown, layer


def _list_clips(
    made: Sequence[bpy.types.Object], actions: Sequence[bpy.types.Action], header: SceneFileHeader
) -> tuple[SourceClip, ...]:
    """The motions of imported objects: one for each armature and each animation that moves its bones."""
    playing: dict[str, dict[bpy.types.Object, tuple[bpy.types.Action, Any]]] = {}
    for one in made:
        for track in one.animation_data.nla_tracks if one.animation_data else ():
            for strip in track.strips:
                if strip.action is not None:
                    playing.setdefault(track.name, {})[one] = (strip.action, get_strip_slot(strip))
    in_tracks = {action for players in playing.values() for action, _ in players.values()}
    for action in actions:
        if action not in in_tracks:
            for one, slot in _find_players(action, made):
                playing.setdefault(action.name.removeprefix(f"{one.name}|"), {})[one] = (action, slot)
    order = {name: n for n, name in enumerate(header.animations)}
    names = sorted(playing, key=lambda name: order.get(name, order.get(name.split("|")[0], len(order))))
    # FBX names the layers of an animation, which says nothing where there is one
    short = [name.split("|")[0] for name in names]
    labels = {name: start if short.count(start) == 1 and start in order else name for name, start in zip(names, short, strict=True)}
    armatures = [one for one in made if one.type == "ARMATURE"]
    clips = []
    for name in names:
        players = tuple((one, action, slot) for one, (action, slot) in playing[name].items())
        for armature in armatures:
            if armature in playing[name] and _moves_bones(*playing[name][armature]):
                label = f"{labels[name]} · {armature.name}" if len(armatures) > 1 else labels[name]
                clips.append(SourceClip(label, armature, (), players))
        if not armatures:
            nodes = _find_largest_tree(made)
            if sum(one in playing[name] for one in nodes) and len(nodes) >= FEWEST_NODES:
                clips.append(SourceClip(labels[name], None, nodes, players))
    return tuple(clips)


def _find_players(action: bpy.types.Action, made: Sequence[bpy.types.Object]) -> list[tuple[bpy.types.Object, Any]]:
    """The objects that an importer made an Action for, each with its slot."""
    using = [one for one in made if one.animation_data and one.animation_data.action == action]
    slots = get_action_slots(action)
    if len(slots) > 1:
        named = {one.name: one for one in made}
        return [(named[slot.name_display], slot) for slot in slots if slot.name_display in named]
    slot = slots[0] if slots else None
    owner = next((one for one in made if action.name.startswith(f"{one.name}|")), None)
    # an Action that nothing uses yet belongs to the only armature whose bones it names
    armatures = [one for one in made if one.type == "ARMATURE"]
    players = using or ([owner] if owner else armatures if len(armatures) == 1 else [])
    return [(one, slot) for one in players]


def _moves_bones(action: bpy.types.Action, slot: Any) -> bool:
    return any(curve.data_path.startswith("pose.bones[") for curve in get_slot_fcurves(action, slot))


def _find_largest_tree(made: Sequence[bpy.types.Object]) -> tuple[bpy.types.Object, ...]:
    """The objects below the root that has the most, parents before their children."""
    children: dict[bpy.types.Object | None, list[bpy.types.Object]] = {}
    for one in made:
        children.setdefault(one.parent, []).append(one)

    def collect(root: bpy.types.Object) -> tuple[bpy.types.Object, ...]:
        out = [root]
        for one in out:
            out.extend(children.get(one, ()))
        return tuple(out)

    return max((collect(root) for root in children.get(None, ())), key=len, default=())


def has_vmd_importer() -> bool:
    """Whether the extension is installed that reads the motions of MikuMikuDance."""
    return find_operator("mmd_tools.import_vmd") is not None


def sample_vmd(context: bpy.types.Context, path: Path, model: bpy.types.Object | None, fps: float = 0.0) -> SkeletonMotion:
    """The motion of a .vmd file, which has no skeleton, on a copy of the armature of an MMD model, through MMD Tools.

    Raises ``MotionError`` without a model, and for a file that cannot be read.
    """
    if model is None:
        raise MotionError(
            f"{path.name} is a motion without a skeleton; import an MMD model (.pmx) first and choose its armature as Source."
        )
    with _remove_new_data(), _show_import_scene(context, MMD_RATE) as (window, scene):
        copy = model.copy()
        copy.animation_data_clear()
        for bone in get_pose(copy).bones:
            constraints: list[Any] = list(bone.constraints)
            for constraint in constraints:
                if getattr(constraint, "target", None) == model:
                    constraint.target = copy
        scene.collection.objects.link(copy)
        with bpy.context.temp_override(window=window):
            scene.view_layers[0].objects.active = copy
            copy.select_set(True)
            try:
                result = find_operator("mmd_tools.import_vmd")(filepath=str(path), update_scene_settings=False)
            except Exception as error:
                logger.exception("a .vmd file cannot be imported")
                raise MotionError(f"{path.name} cannot be read by MMD Tools ({_shorten(error)}).") from error
        if result != {"FINISHED"} or not get_used_fcurves(copy):
            raise MotionError(f"{path.name} moves no bone of '{model.name}'; choose the armature of an MMD model as Source.")
        motion = sample_armature(scene, copy, keep_rate=True)
        return replace(motion, fps=fps or motion.fps, source=path.name)
