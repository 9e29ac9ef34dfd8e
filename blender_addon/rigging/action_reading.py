"""The motion of an Action, read back as Blender plays it."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ..character.rig import Rig
from ..compat import find_object_slot, get_used_slot
from ..motion.retarget import RigMotion
from .editable import check_not_edited
from .nla import MotionPlace, find_motion_place, get_motion_range
from .poses import read_poses, read_reference, to_body_motion
from .rigs import read_rig
from .rotation_modes import match_rotation_modes
from .stand_in import StandIn


def find_place(armature: bpy.types.Object, action: bpy.types.Action) -> MotionPlace:
    """Where an Action plays on an armature, or would play if it were in use."""
    place = find_motion_place(armature)
    if place is not None and place.action == action:
        return place
    used = armature.animation_data is not None and armature.animation_data.action == action
    return MotionPlace(action, get_used_slot(armature) if used else find_object_slot(action))


@dataclass(frozen=True)
class ActionMotion:
    """A motion of a rig's body as Blender plays it, the frame of its Action at which it begins, and sentences about what was
    assumed."""

    rig: Rig
    motion: RigMotion
    start: int
    assumed: tuple[str, ...]

    @property
    def end(self) -> int:
        """The frame of its Action at which it ends."""
        return self.start + len(self.motion.pelvis) - 1


def read_place(armature: bpy.types.Object, place: MotionPlace, rig: Rig | None = None) -> ActionMotion:
    """The motion at a place. Raises ``MotionError`` for a rig that cannot be mapped."""
    check_not_edited(armature)
    rig = rig or read_rig(armature)
    start, end = get_motion_range(place)
    data = armature.animation_data
    with StandIn(armature) as stand:
        if data is None or (place.strip is None and place.action != data.action):
            # what another Action has left behind is not part of this one
            for bone in stand.bones:
                bone.matrix_basis.identity()
        assumed = match_rotation_modes(stand.armature, place.curves)
        stand.use(place.action, place.slot)
        frames = np.arange(start, end + 1, dtype=float)
        poses = read_poses(stand, rig, frames, read_reference(stand, start))
    return ActionMotion(rig, to_body_motion(rig, poses), start, assumed)


def read_body_motion(armature: bpy.types.Object, action: bpy.types.Action) -> tuple[Rig, RigMotion, int]:
    """(the rig, an Action as motion of its body, the frame it starts at); ``MotionError`` for a rig that cannot be mapped."""
    found = read_place(armature, find_place(armature, action))
    return found.rig, found.motion, found.start
