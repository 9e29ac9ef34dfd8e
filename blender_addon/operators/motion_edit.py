"""Motion as the animator edits it: feet, smoothing, cycles, trimming, joining, fewer keys, IK. Each makes a new Action."""

from __future__ import annotations

from collections.abc import Callable

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from ...shared.motion import MotionError
from ...shared.skeleton import SMPL_PARENTS
from .. import properties
from ..character.rig import Rig
from ..compat import fcurves_of
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


def _action(context: bpy.types.Context) -> bpy.types.Action | None:
    character = properties.of(context).character
    data = character.animation_data if character else None
    return data.action if data else None


def _has_action(cls, context) -> bool:
    cls.poll_message_set("The character has no Action; use a clip or import a motion first")
    character = properties.of(context).character
    return character is not None and character.type == "ARMATURE" and _action(context) is not None


class _Edit(bpy.types.Operator):
    """Reads the Action in use, changes the motion, writes a new Action."""

    bl_options = {"REGISTER", "UNDO"}
    suffix = ""

    @classmethod
    def poll(cls, context):
        """Needs an Action on the character."""
        return _has_action(cls, context)

    def change(self, context: bpy.types.Context, rig: Rig, motion: RigMotion, start: int) -> tuple[RigMotion, int]:
        """The changed motion and the frame it starts at; raises ``MotionError``."""
        raise NotImplementedError

    def key_options(self) -> KeyOptions:
        """How the new keys are written."""
        return KeyOptions()

    def execute(self, context):
        """Change and key."""
        character, source = properties.of(context).character, _action(context)
        try:
            rig, motion, start = read_body_motion(character, source)
            changed, start = self.change(context, rig, motion, start)
            root = "OBJECT" if any(c.data_path == "location" for c in fcurves_of(source)) else "BONE"
            options = self.key_options()
            action = create_action(
                character, motion_to_channels(rig, changed, root), start, f"{source.name} {self.suffix}", options, rig
            )
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for key in (TEXT, SOURCE, RATE):
            if key in source:
                action[key] = source[key]
        joints = forward_kinematics(changed.local_rotations, rig.joints, changed.pelvis, SMPL_PARENTS)
        write_foot_contacts(action, foot_contacts.find_foot_contacts(joints, rig.joints, frame_rate(context.scene)), start)
        curves = fcurves_of(action)
        keys = np.mean([len(curve.keyframe_points) for curve in curves])
        self.report({"INFO"}, f"'{action.name}': {len(changed.pelvis)} frames, {keys:.0f} keys a curve")
        return {"FINISHED"}


class FindFootContacts(bpy.types.Operator):
    """List where the feet of the Action in use are on the ground, for editing"""

    bl_idname = "latentman.find_plants"
    bl_label = "Find Foot Contacts"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs an Action on the character."""
        return _has_action(cls, context)

    def execute(self, context):
        """Fill the list."""
        settings, source = properties.of(context), _action(context)
        try:
            rig, motion, start = read_body_motion(settings.character, source)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
        found = foot_contacts.find_foot_contacts(joints, rig.joints, frame_rate(context.scene), settings.keying.contact_settings())
        write_foot_contacts(source, found, start)
        settings.plants.clear()
        for contact in read_foot_contacts(source):
            item = settings.plants.add()
            item.side, item.start, item.end = contact.side, contact.start, contact.end
        self.report({"INFO"}, f"{len(found)} foot contacts")
        return {"FINISHED"}


class EditFootContacts(bpy.types.Operator):
    """Add a foot contact at the current frame, or remove one"""

    bl_idname = "latentman.edit_plants"
    bl_label = "Edit Foot Contacts"
    bl_options = {"REGISTER", "UNDO"}

    change: StringProperty(name="Change", default="ADD", description="ADD, or the number of the foot contact to remove")

    def execute(self, context):
        """Change the list."""
        settings = properties.of(context)
        if self.change == "ADD":
            item = settings.plants.add()
            item.start, item.end = context.scene.frame_current, context.scene.frame_current + 8
        elif self.change.isdigit() and int(self.change) < len(settings.plants):
            settings.plants.remove(int(self.change))
        else:
            self.report({"ERROR"}, f"There is no foot contact {self.change}.")
            return {"CANCELLED"}
        return {"FINISHED"}


class LockFeet(_Edit):
    """Lock the feet to the listed foot contacts, or to those that are found when the list is empty"""

    bl_idname = "latentman.lock_feet"
    bl_label = "Lock Feet"
    suffix = "locked"

    mode: EnumProperty(
        name="Lock",
        default="hard",
        items=(("soft", "Soft", "Remove four fifths of the sliding"), ("hard", "Hard", "Feet on the ground do not move at all")),
    )

    def change(self, context, rig, motion, start):
        """Lock."""
        settings, rate = properties.of(context), frame_rate(context.scene)
        contacts = [foot_contacts.FootContact(p.side, p.start - start, p.end - start) for p in settings.plants]
        if not contacts:
            joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
            contacts = foot_contacts.find_foot_contacts(joints, rig.joints, rate, settings.keying.contact_settings())
        contacts.sort(key=lambda contact: contact.start)
        return foot_contacts.lock_feet(motion, rig.joints, contacts, rate, self.mode), start


class SmoothMotion(_Edit):
    """Take small jitter out of the motion"""

    bl_idname = "latentman.smooth_motion"
    bl_label = "Smooth"
    suffix = "smooth"

    frames: FloatProperty(name="Frames", default=1.5, min=0.1, max=20.0, description="How far the smoothing reaches")

    def change(self, context, rig, motion, start):
        """Smooth."""
        return editing.smooth_motion(motion, self.frames), start


class LoopMotion(_Edit):
    """Bring the end of the motion into its beginning, so that it can be repeated without a seam"""

    bl_idname = "latentman.loop_motion"
    bl_label = "Make Loop"
    suffix = "loop"

    blend: IntProperty(name="Blend", default=12, min=2, max=500, description="Frames over which the end turns into the start")

    def change(self, context, rig, motion, start):
        """Loop."""
        return editing.loop_motion(motion, self.blend), start


class TrimMotion(_Edit):
    """Keep a range of frames, by default the scene's"""

    bl_idname = "latentman.trim_motion"
    bl_label = "Trim"
    suffix = "trimmed"

    first: IntProperty(name="First")
    last: IntProperty(name="Last")

    def invoke(self, context, event):
        """Start from the scene's range."""
        self.first, self.last = context.scene.frame_start, context.scene.frame_end
        return context.window_manager.invoke_props_dialog(self)

    def change(self, context, rig, motion, start):
        """Trim."""
        last = min(self.last, start + len(motion.pelvis) - 1)
        return editing.trim_motion(motion, max(self.first, start) - start, last - start), max(self.first, start)


def _other_actions(self, context, text) -> list[str]:
    return [action.name for action in bpy.data.actions if action is not _action(context)]


class JoinMotions(_Edit):
    """Continue the Action in use with another one, where it stands and the way it faces"""

    bl_idname = "latentman.join_motions"
    bl_label = "Join"
    suffix = "joined"

    other: StringProperty(name="Then", search=_other_actions, description="The Action that follows")
    overlap: IntProperty(name="Overlap", default=10, min=1, max=500, description="Frames in which one turns into the other")

    def invoke(self, context, event):
        """Ask which one."""
        return context.window_manager.invoke_props_dialog(self)

    def change(self, context, rig, motion, start):
        """Join."""
        other = bpy.data.actions.get(self.other)
        if other is None:
            raise MotionError(f"There is no Action '{self.other}'; choose one that follows.")
        _, second, _ = read_body_motion(properties.of(context).character, other)
        return editing.join_motions(motion, second, self.overlap), start


class ReduceKeys(_Edit):
    """Keep only the keys that are needed for hands, feet and head to stay within a bound"""

    bl_idname = "latentman.reduce_keys"
    bl_label = "Reduce Keys"
    suffix = "reduced"

    tolerance: FloatProperty(name="Bound", default=5.0, min=0.1, max=100.0, description="Millimetres at hands, feet and head")

    def key_options(self):
        """With the bound."""
        return KeyOptions(tolerance=self.tolerance / 1000)

    def change(self, context, rig, motion, start):
        """Nothing; the keys do it."""
        return motion, start


def _rig_change(operator: bpy.types.Operator, context: bpy.types.Context, change: Callable) -> set[str]:
    try:
        action = change(context, properties.of(context).character)
    except MotionError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    operator.report({"INFO"}, f"'{action.name}'")
    return {"FINISHED"}


class AddIk(bpy.types.Operator):
    """Give hands and feet IK controls with pole targets, keyed like the Action in use"""

    bl_idname = "latentman.add_ik"
    bl_label = "FK to IK"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs an Action on the character."""
        return _has_action(cls, context)

    def execute(self, context):
        """Build and key the controls."""
        return _rig_change(self, context, ik.add_ik)


class RemoveIk(bpy.types.Operator):
    """Bake what the IK controls do into a new Action and remove them"""

    bl_idname = "latentman.remove_ik"
    bl_label = "IK to FK"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        """Needs an Action on the character."""
        return _has_action(cls, context)

    def execute(self, context):
        """Bake."""
        return _rig_change(self, context, ik.remove_ik)


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
