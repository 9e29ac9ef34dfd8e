"""The box *Edit and Feet*: foot contacts, smoothing, loops, trimming, joining, fewer keys, IK. Every edit makes a new Action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_PARENTS
from .. import properties
from ..character.rig import Rig
from ..compat import get_fcurves
from ..motion import editing, foot_contacts
from ..motion.channels import motion_to_channels
from ..motion.retarget import RigMotion
from ..motion.rotations import forward_kinematics
from ..rigging import ik
from ..rigging.keyframes import (
    RATE,
    SOURCE,
    TEXT,
    KeyOptions,
    create_action,
    read_body_motion,
    read_foot_contacts,
    write_foot_contacts,
)
from ..timing import frame_rate
from ..typed_access import OperatorResult, get_scene
from .dialogs import show_settings_dialog
from .polls import NeedsAction


def _get_action(context: bpy.types.Context) -> bpy.types.Action:
    """The Action in use on the character, which ``poll`` has checked."""
    action = properties.get_settings(context).find_action()
    assert action is not None
    return action


class _EditOperator(NeedsAction, bpy.types.Operator):
    """Reads the Action in use, edits the motion, and keys it as a new Action."""

    bl_options = {"REGISTER", "UNDO"}
    #: what the new Action's name ends with
    suffix = ""

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """The edited motion and the frame at which it starts; raises ``MotionError``."""
        raise NotImplementedError

    def make_key_options(self) -> KeyOptions:
        """How the new keys are written."""
        return KeyOptions()

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Edit the motion and key it."""
        character, source = properties.get_settings(context).character, _get_action(context)
        try:
            rig, motion, start = read_body_motion(character, source)
            edited, start = self.edit(context, rig, motion, start)
            root = "OBJECT" if any(c.data_path == "location" for c in get_fcurves(source)) else "BONE"
            options = self.make_key_options()
            action = create_action(
                character, motion_to_channels(rig, edited, root), start, f"{source.name} {self.suffix}", options, rig
            )
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for key in (TEXT, SOURCE, RATE):
            value = source.get(key)
            if value is not None:
                action[key] = value
        joints = forward_kinematics(edited.local_rotations, rig.joints, edited.pelvis, SMPL_PARENTS)
        write_foot_contacts(action, foot_contacts.find_foot_contacts(joints, rig.joints, frame_rate(get_scene(context))), start)
        key_count = np.mean([len(curve.keyframe_points) for curve in get_fcurves(action)])
        self.report({"INFO"}, f"'{action.name}': {len(edited.pelvis)} frames, {key_count:.0f} keys per curve")
        return {"FINISHED"}


class FindFootContacts(NeedsAction, bpy.types.Operator):
    bl_idname = "latentman.find_plants"
    bl_label = "Find Foot Contacts"
    bl_description = "List the frames in which the feet of the Action in use are on the ground, for editing"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Fill the list."""
        settings, source = properties.get_settings(context), _get_action(context)
        try:
            rig, motion, start = read_body_motion(settings.character, source)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
        found = foot_contacts.find_foot_contacts(
            joints, rig.joints, frame_rate(get_scene(context)), settings.keying.make_contact_settings()
        )
        write_foot_contacts(source, found, start)
        settings.plants.clear()
        for contact in read_foot_contacts(source):
            item = settings.plants.add()
            item.side, item.start, item.end = contact.side, contact.start, contact.end
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

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Lock the feet."""
        settings, rate = properties.get_settings(context), frame_rate(get_scene(context))
        contacts = [foot_contacts.FootContact(one.side, one.start - start, one.end - start) for one in settings.plants]
        if not contacts:
            joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
            contacts = foot_contacts.find_foot_contacts(joints, rig.joints, rate, settings.keying.make_contact_settings())
        contacts.sort(key=lambda contact: contact.start)
        return foot_contacts.lock_feet(motion, rig.joints, contacts, rate, self.mode), start


class SmoothMotion(_EditOperator):
    bl_idname = "latentman.smooth_motion"
    bl_label = "Smooth"
    bl_description = "Remove small jitter from the motion"
    suffix = "smooth"

    frames: FloatProperty(
        name="Frames", default=1.5, min=0.1, max=20.0, description="Width of the smoothing filter: its standard deviation in frames"
    )

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Smooth the motion."""
        return editing.smooth_motion(motion, self.frames), start


class LoopMotion(_EditOperator):
    bl_idname = "latentman.loop_motion"
    bl_label = "Make Loop"
    bl_description = "Blend the end of the motion into its beginning, so that it repeats without a visible seam"
    suffix = "loop"

    blend: IntProperty(name="Blend", default=12, min=2, max=500, description="Frames over which the end blends into the beginning")

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Make the motion loop."""
        return editing.loop_motion(motion, self.blend), start


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

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Trim the motion."""
        last = min(self.last, start + len(motion.pelvis) - 1)
        return editing.trim_motion(motion, max(self.first, start) - start, last - start), max(self.first, start)


def _list_other_actions(self: Any, context: bpy.types.Context, text: str) -> list[str]:
    current = properties.get_settings(context).find_action()
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

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Join the motions."""
        other = bpy.data.actions.get(self.other)
        if other is None:
            raise MotionError(f"There is no Action '{self.other}'; choose one that follows.")
        _, second, _ = read_body_motion(properties.get_settings(context).character, other)
        return editing.join_motions(motion, second, self.overlap), start


class ReduceKeys(_EditOperator):
    bl_idname = "latentman.reduce_keys"
    bl_label = "Reduce Keys"
    bl_description = "Keep only the keys that are needed for hands, feet and head to stay within an error bound"
    suffix = "reduced"

    tolerance: FloatProperty(
        name="Bound", default=5.0, min=0.1, max=100.0, description="Largest error of hands, feet and head in millimetres"
    )

    def make_key_options(self) -> KeyOptions:
        """Key with the error bound."""
        return KeyOptions(tolerance=self.tolerance / 1000)

    def edit(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """Leave the motion as it is; keying it reduces the keys."""
        return motion, start


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
    operator.report({"INFO"}, f"'{action.name}'")
    return {"FINISHED"}


class AddIk(NeedsAction, bpy.types.Operator):
    bl_idname = "latentman.add_ik"
    bl_label = "FK to IK"
    bl_description = "Add IK controls with pole targets for hands and feet, keyed like the Action in use"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Build and key the controls."""
        return _convert_ik(self, context, ik.add_ik)


class RemoveIk(NeedsAction, bpy.types.Operator):
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
    AddIk,
    RemoveIk,
)
