"""The box *Edit and Feet*: foot contacts, smoothing, loops, trimming, joining, fewer keys, IK. Every edit makes a new Action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics
from ..rigging import ik, retiming
from ..rigging.editable import check_editable
from ..rigging.keyframes import (
    RATE,
    SOURCE,
    TEXT,
    Edit,
    KeyOptions,
    create_action,
    edit_to_channels,
    read_place,
    write_foot_contacts,
)
from ..rigging.nla import MotionPlace, get_motion_place
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_scene
from .dialogs import show_settings_dialog
from .polls import NeedsMotion
from .reports import report_action

#: what becomes of the curves that are not the body's: called with what holds them and the paths of those that are replaced
Retime = Callable[[Any, set[str]], None]


class _EditOperator(NeedsMotion, bpy.types.Operator):
    """Reads the motion where it lies, edits it, and keys it as a new Action in the same place."""

    bl_options = {"REGISTER", "UNDO"}
    #: what the new Action's name ends with
    suffix = ""
    #: whether the path over the ground is taken away
    in_place = False

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """(the edited motion, the frame at which it starts, what becomes of other curves); raises ``MotionError``."""
        raise NotImplementedError

    def make_key_options(self, context: bpy.types.Context) -> KeyOptions:
        """How the new keys are written: in the rotation modes that the bones have, unless others were chosen."""
        keying = properties.get_settings(context).keying
        chosen = keying.rotation if keying.is_property_set("rotation") else "KEEP"
        return KeyOptions(euler=chosen == "EULER", keep_modes=chosen == "KEEP", mute_overruling=keying.mute_overruling)

    def describe(self, before: RigMotion, after: RigMotion) -> str:
        """What the report says of the edited motion."""
        return f"{len(after.pelvis)} frames"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Edit the motion and key it."""
        character = properties.get_settings(context).character
        try:
            check_editable(character)
            place = get_motion_place(character)
            source, strip = place.action, place.strip.name if place.strip is not None else ""
            rig, motion, first, assumed = read_place(character, place)
            edited, start, retime = self.edit(context, rig, motion, place, first)
            channels = edit_to_channels(rig, motion, edited, place, in_place=self.in_place)
            options = self.make_key_options(context)
            name = f"{source.name} {self.suffix}"
            action = create_action(character, channels, start, name, options, rig, edit=Edit(place, first, retime))
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for key in (TEXT, SOURCE, RATE):
            value = source.get(key)
            if value is not None:
                action[key] = value
        joints = forward_kinematics(edited.local_rotations, rig.joints, edited.pelvis, SMPL_PARENTS)
        rate = frame_rate(get_scene(context)) / place.spacing
        write_foot_contacts(action, foot_contacts.find_foot_contacts(joints, rig.joints, rate), start)
        keyed = find_object_slot(action)
        curves = MotionPlace(action, keyed).curves
        key_count = np.mean([len(curve.keyframe_points) for curve in curves])
        where = f" in the strip {strip}" if strip else ""
        report_action(
            self, action, f"'{action.name}'{where}: {self.describe(motion, edited)}, {key_count:.0f} keys per curve", assumed
        )
        return {"FINISHED"}


class FindFootContacts(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.find_plants"
    bl_label = "Find Foot Contacts"
    bl_description = "List the frames in which the feet of the Action in use are on the ground, for editing"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Fill the list."""
        settings = properties.get_settings(context)
        try:
            place = get_motion_place(settings.character)
            rig, motion, start, _ = read_place(settings.character, place)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
        rate = frame_rate(get_scene(context)) / place.spacing
        found = foot_contacts.find_foot_contacts(joints, rig.joints, rate, settings.keying.make_contact_settings())
        if place.action.library is None:
            write_foot_contacts(place.action, found, start)
        settings.plants.clear()
        # the list has the frames of the scene, in which the user sees the feet
        for contact in found:
            item = settings.plants.add()
            ends = sorted(round(place.to_scene(start + frame)) for frame in (contact.start, contact.end))
            item.side, (item.start, item.end) = contact.side, ends
        self.report({"INFO"}, f"{len(found)} foot contacts")
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
            self.report({"ERROR"}, f"There is no foot contact {self.change}.")
            return {"CANCELLED"}
        return {"FINISHED"}


class LockFeet(_EditOperator):
    bl_idname = "latentman.lock_feet"
    bl_label = "Lock Feet"
    bl_description = "Keep the feet in place at the listed foot contacts, or at those that are found when the list is empty"
    suffix = "locked"

    mode: EnumProperty(
        name="Lock",
        default="hard",
        items=(
            ("soft", "Soft", "Remove four fifths of the sliding"),
            ("hard", "Hard", "Feet in contact with the ground do not move at all"),
        ),
    )

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Lock the feet."""
        settings, rate = properties.get_settings(context), frame_rate(get_scene(context)) / place.spacing
        contacts = []
        for one in settings.plants:
            ends = sorted(round(place.to_action(frame)) - start for frame in (one.start, one.end))
            contacts.append(foot_contacts.FootContact(one.side, *ends))
        if not contacts:
            joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
            contacts = foot_contacts.find_foot_contacts(joints, rig.joints, rate, settings.keying.make_contact_settings())
        contacts.sort(key=lambda contact: contact.start)
        return foot_contacts.lock_feet(motion, rig.joints, contacts, rate, self.mode), start, retiming.keep

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

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Smooth the motion."""
        return editing.smooth_motion(motion, self.frames), start, retiming.keep


class LoopMotion(_EditOperator):
    bl_idname = "latentman.loop_motion"
    bl_label = "Make Loop"
    bl_description = "Blend the end of the motion into its beginning, so that it repeats without a visible seam"
    suffix = "loop"

    blend: IntProperty(name="Blend", default=12, min=2, max=500, description="Frames over which the end blends into the beginning")

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Make the motion loop."""
        last = start + len(motion.pelvis) - 1
        retime = partial(retiming.close_loop, first=start, last=last, blend=self.blend)
        return editing.loop_motion(motion, self.blend), start, retime


class TrimMotion(_EditOperator):
    bl_idname = "latentman.trim_motion"
    bl_label = "Trim"
    bl_description = "Keep a range of frames, by default the scene's"
    suffix = "trimmed"

    first: IntProperty(name="First")
    last: IntProperty(name="Last")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask for the range, starting from the scene's."""
        scene = get_scene(context)
        self.first, self.last = scene.frame_start, scene.frame_end
        return show_settings_dialog(self, context)

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Trim the motion."""
        ends = sorted(round(place.to_action(frame)) for frame in (self.first, self.last))
        first, last = max(ends[0], start), min(ends[1], start + len(motion.pelvis) - 1)
        edited = editing.trim_motion(motion, first - start, last - start)
        return edited, first, partial(retiming.cut, first=first, last=last)


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

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Join the motions."""
        other = bpy.data.actions.get(self.other)
        if other is None:
            raise MotionError(f"There is no Action '{self.other}'; choose one that follows.")
        character = properties.get_settings(context).character
        following = MotionPlace(other, find_object_slot(other))
        _, second, other_start, _ = read_place(character, following, rig)
        joined = editing.join_motions(motion, second, self.overlap)
        retime = partial(
            retiming.append,
            others=following.curves,
            first=start,
            at=start + len(motion.pelvis) - self.overlap,
            overlap=self.overlap,
            other_start=other_start,
            other_end=other_start + len(second.pelvis) - 1,
        )
        return joined, start, retime


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

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Leave the motion as it is; keying it reduces the keys."""
        return motion, start, retiming.keep


class MakeInPlace(_EditOperator):
    bl_idname = "latentman.make_in_place"
    bl_label = "Make In Place"
    bl_description = "Let the character stay where the motion begins; the body still moves up and down"
    suffix = "in place"
    in_place = True

    def edit(
        self, context: bpy.types.Context, rig: Rig, motion: RigMotion, place: MotionPlace, start: int
    ) -> tuple[RigMotion, int, Retime]:
        """Take the path over the ground away."""
        return editing.hold_in_place(motion), start, retiming.keep


def _convert_ik(
    operator: bpy.types.Operator,
    context: bpy.types.Context,
    convert: Callable[[bpy.types.Context, bpy.types.Object], bpy.types.Action],
) -> OperatorResult:
    try:
        action = convert(context, properties.get_settings(context).character)
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    report_action(operator, action, f"'{action.name}'")
    return {"FINISHED"}


class AddIk(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.add_ik"
    bl_label = "FK to IK"
    bl_description = "Add IK controls with pole targets for hands and feet, keyed like the Action in use"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Build and key the controls."""
        return _convert_ik(self, context, ik.add_ik)


class RemoveIk(NeedsMotion, bpy.types.Operator):
    bl_idname = "latentman.remove_ik"
    bl_label = "IK to FK"
    bl_description = "Bake the effect of the IK controls into a new Action and remove them"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Bake and remove the controls."""
        return _convert_ik(self, context, ik.remove_ik)


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
