"""The box *Edit and Feet*: foot contacts, smoothing, loops, trimming, joining, fewer keys, IK. Every edit makes a new Action."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_PARENTS
from .. import properties
from ..character.rig import Rig
from ..compat import find_object_slot
from ..motion import editing, foot_contacts
from ..motion.foot_contacts import ContactSettings, FootContact
from ..motion.key_options import KeyOptions
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics
from ..rigging import ik, retiming
from ..rigging.action_notes import RATE, SOURCE, TEXT, write_foot_contacts
from ..rigging.action_reading import ActionMotion, read_place
from ..rigging.editable import check_editable
from ..rigging.keyframes import Edit, create_action, edit_to_channels
from ..rigging.nla import MotionPlace, get_motion_place
from ..rigging.retiming import Retime
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_scene
from .dialogs import show_settings_dialog
from .polls import NeedsMotion
from .reports import report, report_action, report_motion_errors, report_with_warnings


@dataclass(frozen=True)
class Edited:
    """An edited motion, the frame at which it starts, what becomes of the curves that are not the body's, and sentences about what
    was assumed for it."""

    motion: RigMotion
    start: int
    retime: Retime = retiming.keep
    assumed: tuple[str, ...] = ()


def _find_contacts(
    context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, settings: ContactSettings | None = None
) -> list[FootContact]:
    """The foot contacts of a motion at a place, in frames from its start."""
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    return foot_contacts.find_foot_contacts(joints, rig.joints, _get_rate(context, place), settings)


def _get_rate(context: bpy.types.Context, place: MotionPlace) -> float:
    """Frames of a place's Action per second."""
    return frame_rate(get_scene(context)) / place.spacing


class _EditOperator(NeedsMotion, bpy.types.Operator):
    """Reads the motion where it lies, edits it, and keys it as a new Action in the same place."""

    bl_options = {"REGISTER", "UNDO"}
    #: what the new Action's name ends with
    suffix = ""
    #: whether the path over the ground is taken away
    in_place = False

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """The edited motion; raises ``MotionError``."""
        raise NotImplementedError

    def make_key_options(self, context: bpy.types.Context) -> KeyOptions:
        """How the new keys are written: in the rotation modes that the bones have, unless others were chosen."""
        keying = properties.get_settings(context).keying
        chosen = keying.rotation if keying.is_property_set("rotation") else "KEEP"
        return KeyOptions(euler=chosen == "EULER", keep_modes=chosen == "KEEP", mute_overruling=keying.mute_overruling)

    def describe(self, before: RigMotion, after: RigMotion) -> str:
        """What the report says of the edited motion."""
        return f"{len(after.pelvis)} frames"

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Edit the motion and key it."""
        character = properties.get_settings(context).character
        check_editable(character)
        place = get_motion_place(character)
        original, strip = place.action, place.strip.name if place.strip is not None else ""
        source = read_place(character, place)
        rig, edited = source.rig, self.edit(context, source, place)
        channels = edit_to_channels(rig, source.motion, edited.motion, place, in_place=self.in_place)
        edit = Edit(place, source.start, edited.retime, (*source.assumed, *edited.assumed))
        name, options = f"{original.name} {self.suffix}", self.make_key_options(context)
        action = create_action(character, channels, edited.start, name, options, rig, edit=edit)
        for key in (TEXT, SOURCE, RATE):
            value = original.get(key)
            if value is not None:
                action[key] = value
        write_foot_contacts(action, _find_contacts(context, rig, edited.motion, place), edited.start)
        curves = MotionPlace(action, find_object_slot(action)).curves
        key_count = np.mean([len(curve.keyframe_points) for curve in curves])
        where = f" in the strip {strip}" if strip else ""
        text = f"'{action.name}'{where}: {self.describe(source.motion, edited.motion)}, {key_count:.0f} keys per curve"
        report_action(self, action, text)
        return {"FINISHED"}


class FindFootContacts(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.find_plants"
    bl_label = "Find Foot Contacts"
    bl_description = "List the frames in which the feet of the Action in use are on the ground, for editing"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Fill the list."""
        settings = properties.get_settings(context)
        place = get_motion_place(settings.character)
        source = read_place(settings.character, place)
        found = _find_contacts(context, source.rig, source.motion, place, settings.keying.make_contact_settings())
        if place.action.library is None:
            write_foot_contacts(place.action, found, source.start)
        settings.plants.clear()
        # the list has the frames of the scene, in which the user sees the feet
        for contact in found:
            item = settings.plants.add()
            ends = sorted(round(place.to_scene(source.start + frame)) for frame in (contact.start, contact.end))
            item.side, (item.start, item.end) = contact.side, ends
        report_with_warnings(self, f"{len(found)} foot contacts", source.assumed)
        return {"FINISHED"}


class EditFootContacts(bpy.types.Operator):
    bl_idname = "latentman.edit_plants"
    bl_label = "Edit Foot Contacts"
    bl_description = "Add a foot contact at the current frame, or remove one"
    bl_options = {"REGISTER", "UNDO"}

    change: StringProperty(name="Change", default="ADD", description="ADD, or the number of the foot contact to remove")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Change the list."""
        settings, frame = properties.get_settings(context), get_scene(context).frame_current
        if self.change == "ADD":
            item = settings.plants.add()
            item.start, item.end = frame, frame + 8
        elif self.change.isdigit() and int(self.change) < len(settings.plants):
            settings.plants.remove(int(self.change))
        else:
            report(self, {"ERROR"}, f"There is no foot contact {self.change}.")
            return {"CANCELLED"}
        return {"FINISHED"}


class LockFeet(_EditOperator):
    bl_idname = "latentman.lock_feet"
    bl_label = "Lock Feet"
    bl_description = "Keep the feet in place at the listed foot contacts, or at those that are found when the list is empty"
    suffix = "locked"

    mode: EnumProperty(
        name="Lock",
        description="How much of the sliding is removed",
        default="hard",
        items=(
            ("soft", "Soft", "Remove four fifths of the sliding"),
            ("hard", "Hard", "Feet in contact with the ground do not move at all"),
        ),
    )

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Lock the feet."""
        settings, contacts = properties.get_settings(context), []
        for one in settings.plants:
            ends = sorted(round(place.to_action(frame)) - source.start for frame in (one.start, one.end))
            contacts.append(foot_contacts.FootContact(one.side, *ends))
        if not contacts:
            contacts = _find_contacts(context, source.rig, source.motion, place, settings.keying.make_contact_settings())
        contacts.sort(key=lambda contact: contact.start)
        rate = _get_rate(context, place)
        return Edited(foot_contacts.lock_feet(source.motion, source.rig.joints, contacts, rate, self.mode), source.start)

    def describe(self, before: RigMotion, after: RigMotion) -> str:
        """Say how the body's path has changed."""
        paths = [foot_contacts.compute_path_length(motion.pelvis) for motion in (before, after)]
        return f"{super().describe(before, after)}, path {paths[0]:.2f} m, now {paths[1]:.2f} m"


class SmoothMotion(_EditOperator):
    bl_idname = "latentman.smooth_motion"
    bl_label = "Smooth"
    bl_description = "Remove small jitter from the motion"
    suffix = "smooth"

    frames: FloatProperty(
        name="Frames", default=1.5, min=0.1, max=20.0, description="Width of the smoothing filter: its standard deviation in frames"
    )

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Smooth the motion."""
        return Edited(editing.smooth_motion(source.motion, self.frames), source.start)


class LoopMotion(_EditOperator):
    bl_idname = "latentman.loop_motion"
    bl_label = "Make Loop"
    bl_description = "Blend the end of the motion into its beginning, so that it repeats without a visible seam"
    suffix = "loop"

    blend: IntProperty(name="Blend", default=12, min=2, max=500, description="Frames over which the end blends into the beginning")

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Make the motion loop."""
        retime = partial(retiming.close_loop, first=source.start, last=source.end, blend=self.blend)
        return Edited(editing.loop_motion(source.motion, self.blend), source.start, retime)


class TrimMotion(_EditOperator):
    bl_idname = "latentman.trim_motion"
    bl_label = "Trim"
    bl_description = "Keep a range of frames, by default the scene's"
    suffix = "trimmed"

    first: IntProperty(name="First", description="The first frame that stays")
    last: IntProperty(name="Last", description="The last frame that stays")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the range, starting from the scene's."""
        scene = get_scene(context)
        self.first, self.last = scene.frame_start, scene.frame_end
        return show_settings_dialog(self, context)

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Trim the motion."""
        ends = sorted(round(place.to_action(frame)) for frame in (self.first, self.last))
        first, last = max(ends[0], source.start), min(ends[1], source.end)
        trimmed = editing.trim_motion(source.motion, first - source.start, last - source.start)
        return Edited(trimmed, first, partial(retiming.cut, first=first, last=last))


def _list_other_actions(self: Any, context: bpy.types.Context, text: str) -> list[str]:
    place = properties.get_settings(context).find_motion()
    current = place.action if place is not None else None
    return [action.name for action in bpy.data.actions if action is not current]


class JoinMotions(_EditOperator):
    bl_idname = "latentman.join_motions"
    bl_label = "Join"
    bl_description = "Continue the Action in use with another one, from where it ends and in the direction it faces"
    suffix = "joined"

    other: StringProperty(name="Then", search=_list_other_actions, description="The Action that follows")
    overlap: IntProperty(name="Overlap", default=10, min=1, max=500, description="Frames over which one blends into the other")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the other Action."""
        return show_settings_dialog(self, context)

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Join the motions."""
        other = bpy.data.actions.get(self.other)
        if other is None:
            raise MotionError(f"There is no Action '{self.other}'; choose one that follows.")
        character = properties.get_settings(context).character
        following = MotionPlace(other, find_object_slot(other))
        second = read_place(character, following, source.rig)
        joined = editing.join_motions(source.motion, second.motion, self.overlap)
        retime = partial(
            retiming.append,
            others=following.curves,
            first=source.start,
            at=source.end + 1 - self.overlap,
            overlap=self.overlap,
            other_start=second.start,
            other_end=second.end,
        )
        return Edited(joined, source.start, retime, second.assumed)


class ReduceKeys(_EditOperator):
    bl_idname = "latentman.reduce_keys"
    bl_label = "Reduce Keys"
    bl_description = "Keep only the keys that are needed for hands, feet and head to stay within an error bound"
    suffix = "reduced"

    tolerance: FloatProperty(
        name="Bound", default=5.0, min=0.1, max=100.0, description="Largest error of hands, feet and head in millimetres"
    )

    def make_key_options(self, context: bpy.types.Context) -> KeyOptions:
        """Key with the error bound."""
        return replace(super().make_key_options(context), tolerance=self.tolerance / 1000)

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Leave the motion as it is; keying it reduces the keys."""
        return Edited(source.motion, source.start)


class MakeInPlace(_EditOperator):
    bl_idname = "latentman.make_in_place"
    bl_label = "Make In Place"
    bl_description = "Let the character stay where the motion begins; the body still moves up and down"
    suffix = "in place"
    in_place = True

    def edit(self, context: bpy.types.Context, source: ActionMotion, place: MotionPlace) -> Edited:
        """Take the path over the ground away."""
        return Edited(editing.hold_in_place(source.motion), source.start)


class AddIk(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.add_ik"
    bl_label = "FK to IK"
    bl_description = "Add IK controls with pole targets for hands and feet, keyed like the Action in use"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Build and key the controls."""
        action = ik.add_ik(context, properties.get_settings(context).character)
        report_action(self, action, f"'{action.name}'")
        return {"FINISHED"}


class RemoveIk(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.remove_ik"
    bl_label = "IK to FK"
    bl_description = "Bake the effect of the IK controls into a new Action and remove them"
    bl_options = {"REGISTER", "UNDO"}

    @report_motion_errors
    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Bake and remove the controls."""
        action = ik.remove_ik(context, properties.get_settings(context).character)
        report_action(self, action, f"'{action.name}'")
        return {"FINISHED"}


CLASSES = (
    FindFootContacts,
    EditFootContacts,
    LockFeet,
    SmoothMotion,
    LoopMotion,
    TrimMotion,
    JoinMotions,
    ReduceKeys,
    MakeInPlace,
    AddIk,
    RemoveIk,
)
