"""A pose as an Action of one frame, as Blender's pose library understands it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy

from ..compat import ensure_curve_holder
from ..rigging.rotation_modes import get_rotation_attribute
from ..typed_access import get_pose

#: the frame of a pose's Action that is keyed
FRAME = 1


def list_pose_bones(armature: bpy.types.Object, selected: set[str], *, only_selected: bool) -> list[bpy.types.PoseBone]:
    """The bones of a pose: those that are ``selected`` by name, or with ``only_selected`` off all of them."""
    bones = list(get_pose(armature).bones)
    return [bone for bone in bones if bone.name in selected] if only_selected else bones


def make_pose_action(name: str, armature: bpy.types.Object, bones: Iterable[bpy.types.PoseBone]) -> tuple[bpy.types.Action, Any]:
    """A new Action with one key for every channel of these bones as they are posed now, and its slot (None before 4.4)."""
    action = bpy.data.actions.new(name)
    holder, slot = ensure_curve_holder(action, armature.name)
    for bone in bones:
        path = bone.path_from_id()
        for attribute in ("location", get_rotation_attribute(bone.rotation_mode), "scale"):
            for index, value in enumerate(getattr(bone, attribute)):
                curve = _add_curve(holder, f"{path}.{attribute}", index, bone.name)
                curve.keyframe_points.insert(FRAME, value, options={"FAST"})
                curve.update()
    return action, slot


def _add_curve(holder: Any, path: str, index: int, group: str) -> Any:
    if isinstance(holder, bpy.types.Action):
        return holder.fcurves.new(path, index=index, action_group=group)
    curve = holder.fcurves.new(path, index=index)
    curve.group = holder.groups.get(group) or holder.groups.new(group)
    return curve
