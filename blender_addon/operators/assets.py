"""The asset library, assets made from takes and poses, and actions of assets on the character."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from ...shared.disk_errors import explain_disk_error, find_path
from ...shared.folders import assets_folder
from ...shared.motion import MotionError
from ...shared.shot import ShotError
from .. import properties
from ..assets import catalogs, library
from ..assets.building import build
from ..assets.contents import CLIP
from ..assets.marking import AssetWords, explain_place, mark_asset
from ..assets.pose_action import FRAME, list_pose_bones, make_pose_action
from ..assets.previews import draw_action, set_preview
from ..assets.references import LIBRARY_TYPES, ActionAsset, find_active_asset, find_asset
from ..compat import get_fcurves, get_slot_fcurves
from ..motion.readers import BUNDLED, read
from ..redrawing import redraw_panels
from ..rigging.action_notes import TEXT
from ..rigging.action_use import use_take
from ..rigging.editable import check_editable
from ..rigging.nla import split_bone_path
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_armature, get_scene
from .dialogs import ask
from .motion import key_motion
from .polls import NeedsArmature, NeedsMotion, Poll
from .reports import report, report_motion_errors, report_with_warnings

#: seconds between two looks at the Blender that makes the library
INTERVAL = 0.25
#: an Action that keys fewer of its bones on a rig than this was made for another rig
FITTING = 0.5


def _watch_build() -> float | None:
    if not build.poll():
        return INTERVAL
    redraw_panels()
    return None


class NeedsIdleBuild(Poll):
    """The asset library is not being made."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while it is."""
        if build.busy:
            return cls.refuse("The asset library is being made; wait a moment")
        return super().poll(context)


class InstallAssets(NeedsIdleBuild, bpy.types.Operator):
    bl_idname = "latentman.install_assets"
    bl_label = "Install Asset Library"
    bl_description = (
        "Make a library with the mannequin and the bundled clips in your data folder, by a second Blender, and name it in the "
        "preferences, so that the Asset Browser shows it; again, to renew it"
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin; without a window, wait until it is done."""
        try:
            build.start()
        except ShotError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        if not bpy.app.background:
            # a file that is opened meanwhile does not end it
            bpy.app.timers.register(_watch_build, first_interval=INTERVAL, persistent=True)
            report(self, {"INFO"}, "The asset library is being made")
            return {"FINISHED"}
        build.wait()
        report(self, {"ERROR" if build.has_failed else "INFO"}, build.sentence)
        return {"CANCELLED"} if build.has_failed else {"FINISHED"}


class RemoveAssets(NeedsIdleBuild, bpy.types.Operator):
    bl_idname = "latentman.remove_assets"
    bl_label = "Remove Asset Library"
    bl_description = "Delete the files of the asset library and take it out of the preferences; what was dragged out of it stays"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where there is none."""
        if not library.read_version() and not library.is_registered():
            return cls.refuse("The asset library is not installed")
        return super().poll(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask before files are deleted."""
        where = str(assets_folder())
        return ask(self, context, event, "Remove the Asset Library?", f"Its files in {where} are deleted.", "Remove")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Delete it."""
        try:
            others = library.delete_files()
        except OSError as error:
            folder = assets_folder()
            report(self, {"ERROR"}, explain_disk_error(error, find_path(error, folder), "deleted"))
            return {"CANCELLED"}
        if others:
            # somebody keeps assets of their own there
            named = ", ".join(others[:3])
            report(self, {"WARNING"}, f"Other files in {assets_folder()} stay, and so does its place in the preferences: {named}")
            return {"FINISHED"}
        library.forget_library()
        report(self, {"INFO"}, "The asset library is removed." + library.explain_saving())
        return {"FINISHED"}


class OpenAssetsFolder(Poll, bpy.types.Operator):
    bl_idname = "latentman.open_assets_folder"
    bl_label = "Open Folder of Asset Library"
    bl_description = "Show the folder of the asset library in the file browser of the system"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where there is none."""
        return bool(library.read_version()) or cls.refuse("The asset library is not installed")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open it."""
        folder = str(assets_folder())
        report(self, {"INFO"}, folder)
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=folder)
        return {"FINISHED"}


class _AssetMaker:
    """What the operators that make assets ask for."""

    author: StringProperty(name="Author", description="Who made it, for the Asset Browser", options={"SKIP_SAVE"})
    tags: StringProperty(
        name="Tags", description="Words that the Asset Browser finds it by, with commas between", options={"SKIP_SAVE"}
    )

    def list_tags(self, *own: str) -> tuple[str, ...]:
        """The asset's tags: our own and those of the user."""
        return (*own, *(tag for part in self.tags.split(",") if (tag := part.strip())))


class MarkTake(NeedsMotion, _AssetMaker, bpy.types.Operator):
    bl_idname = "latentman.mark_take"
    bl_label = "Mark Take as Asset"
    bl_description = (
        "Make the Action in use on the character an asset, with a catalog and a picture: of the current frame's pose, or of the "
        "Action's middle"
    )
    bl_options = {"REGISTER", "UNDO"}

    catalog: StringProperty(
        name="Catalog",
        default=catalogs.TAKES,
        description="Where the Asset Browser shows it, as names between slashes; made when the file is saved",
    )

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Mark it, or renew what it was marked with."""
        settings, scene = properties.get_settings(context), get_scene(context)
        armature, place = settings.find_armature(), settings.find_motion()
        if armature is None or place is None:
            return {"CANCELLED"}
        action: Any = place.action
        if place.strip is not None:
            raise MotionError(
                f"The motion of {armature.name} is played by the strip '{place.strip.name}' of the NLA; use its Action "
                f"'{action.name}' in the Action Editor, and mark that."
            )
        if action.library is not None:
            raise MotionError(f"The Action '{action.name}' is linked from another file; mark it there, or make it local.")
        curves = get_slot_fcurves(action, place.slot)
        if not curves:
            raise MotionError(f"The Action '{action.name}' has no keys for {armature.name}; make or import a motion first.")
        is_renewed = action.asset_data is not None
        start, end = (round(frame) for frame in action.frame_range[:])
        frame = scene.frame_current if start <= scene.frame_current <= end else (start + end) // 2
        rate = frame_rate(scene)
        words = f"{action.get(TEXT) or action.name}: {(end - start) / rate:.1f} seconds, keyed for {armature.name} at {rate:g} fps"
        mark_asset(action, AssetWords(words, self.catalog, self.list_tags("motion", "take"), self.author))
        set_preview(action, draw_action(armature, action, place.slot, frame))
        done = f"'{action.name}' was an asset already and is renewed." if is_renewed else f"'{action.name}' is an asset now."
        report(self, {"INFO"}, f"{done} {explain_place()}")
        return {"FINISHED"}


class MarkPose(NeedsArmature, _AssetMaker, bpy.types.Operator):
    bl_idname = "latentman.mark_pose"
    bl_label = "Mark Pose as Asset"
    bl_description = (
        "Make the character's pose at the current frame an asset of Blender's pose library, which applies it to a rig with the "
        "same bones, also flipped"
    )
    bl_options = {"REGISTER", "UNDO"}

    name: StringProperty(
        name="Name", description="What the pose is called; if empty, after the motion and the frame", options={"SKIP_SAVE"}
    )
    bones: EnumProperty(
        name="Bones",
        description="Which bones the pose has",
        items=(
            ("AUTO", "Selected Bones, or All", "In Pose Mode the selected bones, where there are any; otherwise all"),
            ("SELECTED", "Selected Bones", "Only bones that are selected"),
            ("ALL", "All Bones", "Every bone of the armature"),
        ),
    )
    catalog: StringProperty(
        name="Catalog",
        default=catalogs.POSES,
        description="Where the Asset Browser shows it, as names between slashes; made when the file is saved",
    )

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Make an Action of one frame, and mark it."""
        settings, scene = properties.get_settings(context), get_scene(context)
        armature = settings.find_armature()
        if armature is None:
            return {"CANCELLED"}
        if context.mode == "EDIT_ARMATURE":
            raise MotionError("Leave Edit Mode first (Tab); it shows the rest pose.")
        selected = list_selected_bones(context, armature)
        if self.bones == "SELECTED" and not selected:
            raise MotionError("No bone is selected; select some in Pose Mode, or choose All Bones.")
        only_selected = bool(selected) and self.bones != "ALL"
        bones = list_pose_bones(armature, selected, only_selected=only_selected)
        if not bones:
            raise MotionError(f"{armature.name} has no bones.")
        place = settings.find_motion()
        named = self.name.strip() or f"{place.action.name if place else armature.name}, frame {scene.frame_current}"
        action, slot = make_pose_action(named, armature, bones)
        words = f"{len(bones)} of the bones of {armature.name}" if only_selected else f"All bones of {armature.name}"
        mark_asset(action, AssetWords(words, self.catalog, self.list_tags("pose"), self.author))
        set_preview(action, draw_action(armature, action, slot, FRAME))
        report(self, {"INFO"}, f"'{action.name}' is a pose asset now. {explain_place()}")
        return {"FINISHED"}


def list_selected_bones(context: bpy.types.Context, armature: bpy.types.Object) -> set[str]:
    """The names of an armature's bones that are selected in Pose Mode; none in other modes."""
    if context.mode != "POSE" or armature.mode != "POSE":
        return set()
    pose: Any = armature.pose
    # from 5.0 on a pose has a selection of its own
    return {bone.name for bone in pose.bones if (bone.select if hasattr(bone, "select") else bone.bone.select)}


class _Click:
    """What the mouse button has used as it went down: Blender 5.2 calls an asset shelf's operator then, and once more as it goes
    up; other versions do it once."""

    def __init__(self) -> None:
        self._used = ""

    def is_over(self, asset: str, value: str) -> bool:
        """Whether the click has used the asset already; ``value`` is the event's."""
        used, self._used = self._used, asset if value == "PRESS" else ""
        return value != "PRESS" and used == asset


_click = _Click()


class UseActionAsset(NeedsArmature, bpy.types.Operator):
    bl_idname = "latentman.use_action_asset"
    bl_label = "Use on Character"
    bl_description = (
        "Have the character move by the Action asset that is chosen in the Asset Browser; a bundled clip is fitted to any rig, "
        "others need a rig with the same bones"
    )
    bl_options = {"REGISTER", "UNDO"}

    asset_library_type: EnumProperty(
        name="Library's Kind",
        items=LIBRARY_TYPES,
        description="Which kind of library the asset is in; an asset shelf sets it",
        options={"HIDDEN", "SKIP_SAVE"},
    )
    asset_library_identifier: StringProperty(
        name="Library", description="The name of the asset's library in the preferences", options={"HIDDEN", "SKIP_SAVE"}
    )
    relative_asset_identifier: StringProperty(
        name="Asset",
        description="The asset's place in its library, as in clips.blend/Action/Walk; if empty, the active asset",
        options={"HIDDEN", "SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse in an Asset Browser where no Action is active."""
        if context.area is not None and context.area.ui_type == "ASSETS" and find_active_asset(context) is None:
            return cls.refuse("Choose an Action in the Asset Browser first")
        return super().poll(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Use it once for a click in the shelf."""
        asset = self.relative_asset_identifier
        if asset and _click.is_over(asset, event.value):
            return {"CANCELLED"}
        return self.execute(context)

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Append the Action where it is in another file, and use it."""
        if self.relative_asset_identifier:
            asset = find_asset(self.asset_library_type, self.asset_library_identifier, self.relative_asset_identifier)
        else:
            asset = find_active_asset(context)
        if asset is None:
            raise MotionError("Choose an Action in an Asset Browser or an asset shelf first.")
        action, is_new = load_action(asset)
        number = action.get(CLIP)
        if isinstance(number, int):
            # it is fitted to the character's body, pace and place, as Use Clip does it
            if is_new:
                bpy.data.actions.remove(action)
            bundled = read(BUNDLED)
            if not 0 <= number < len(bundled.clips):
                raise MotionError("This clip is of another version of the extension; renew the asset library.")
            return key_motion(self, context, bundled.get_motion(number))
        try:
            return use_action(self, context, action)
        except BaseException:
            if is_new:
                bpy.data.actions.remove(action)
            raise


def load_action(asset: ActionAsset) -> tuple[bpy.types.Action, bool]:
    """The Action of an asset, and whether it was appended for that. Raises ``MotionError``."""
    if asset.file is None:
        found = bpy.data.actions.get(asset.name)
        if found is None:
            raise MotionError(f"This file has no Action '{asset.name}' any more; refresh the Asset Browser.")
        return found, False
    # the stubs say that loading returns nothing
    libraries: Any = bpy.data.libraries
    try:
        with libraries.load(str(asset.file), link=False) as (there, here):
            here.actions = [name for name in there.actions if name == asset.name]
    except OSError as error:
        raise MotionError(f"{asset.file.name} cannot be read; refresh the Asset Browser.") from error
    if not here.actions or here.actions[0] is None:
        raise MotionError(f"{asset.file.name} has no Action '{asset.name}' any more; refresh the Asset Browser.")
    loaded: Any = here.actions[0]
    if loaded.asset_data is not None:
        # the asset is where it was; this is a take
        loaded.asset_clear()
    return loaded, True


def use_action(operator: bpy.types.Operator, context: bpy.types.Context, action: bpy.types.Action) -> OperatorResult:
    """Have the character move by an Action. Raises ``MotionError``, and changes nothing then."""
    armature = properties.get_settings(context).find_armature()
    assert armature is not None
    check_editable(armature)
    if not is_fitting(armature, get_fcurves(action)):
        raise MotionError(
            f"'{action.name}' keys bones that {armature.name} does not have; put it on the rig that it was made for, choose that "
            "as Source, and press Use."
        )
    action.use_fake_user = True
    assumed = use_take(armature, action)
    report_with_warnings(operator, f"{armature.name} moves by '{action.name}'.", assumed)
    return {"FINISHED"}


def is_fitting(armature: bpy.types.Object, curves: Iterable[bpy.types.FCurve]) -> bool:
    """Whether an armature has most of the bones that curves are for."""
    keyed = {split[0] for curve in curves if (split := split_bone_path(curve.data_path))}
    bones = get_armature(armature).bones
    return bool(keyed) and sum(name in bones for name in keyed) >= FITTING * len(keyed)


def stop_build() -> None:
    """End the making of a library that is under way."""
    if bpy.app.timers.is_registered(_watch_build):
        bpy.app.timers.unregister(_watch_build)
    build.close()


CLASSES = (InstallAssets, RemoveAssets, OpenAssetsFolder, MarkTake, MarkPose, UseActionAsset)
