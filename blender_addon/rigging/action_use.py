"""Makes an armature play an Action: in use, in a strip, below a layer of tweaks, or where an edited one was."""

from __future__ import annotations

from typing import Any

import bpy

from ..compat import assign_action, ensure_curve_holder, find_object_slot, get_slot_fcurves, get_used_slot
from ..typed_access import get_animation_data, get_armature
from .nla import LAYER, MotionPlace, add_base, add_strip, replace_strip
from .rotation_modes import match_rotation_modes


def replace_edited(armature: bpy.types.Object, action: bpy.types.Action, slot: Any, place: MotionPlace) -> None:
    """Make an armature play an edited Action where the original was, which stays in the file."""
    if place.action.library is None:
        # nothing uses it any more
        place.action.use_fake_user = True
    if place.strip is not None:
        replace_strip(armature, place, action, slot)
    else:
        assign_action(armature, action, slot)


def use_action(armature: bpy.types.Object, action: bpy.types.Action, slot: Any, start: int, target: str) -> None:
    """Make an armature play a new Action as ``target``, one of ``key_options.TARGETS``, says; the one in use stays in the file."""
    data = armature.animation_data or armature.animation_data_create()
    if data.use_tweak_mode:
        data.use_tweak_mode = False
    before, before_slot = data.action, get_used_slot(armature)
    if before is not None and before.library is None:
        before.use_fake_user = True
    if target == "NLA":
        add_strip(armature, action, slot, start)
    elif target == "LAYER":
        data.action = None
        add_base(armature, action, slot, start)
        if before is not None and before.get(LAYER):
            assign_action(armature, before, before_slot)
        else:
            _add_tweaks(armature)
        data.action_blend_type = "COMBINE"
    else:
        assign_action(armature, action, slot)
        if data.action_blend_type == "COMBINE":
            data.action_blend_type = "REPLACE"


def _add_tweaks(armature: bpy.types.Object) -> None:
    """Make an armature use a new Action for the animator's tweaks."""
    tweaks = bpy.data.actions.new(f"{armature.name} tweaks")
    tweaks[LAYER] = True
    tweaks.use_fake_user = True
    _, slot = ensure_curve_holder(tweaks, armature.name)
    assign_action(armature, tweaks, slot)


def use_take(armature: bpy.types.Object, action: bpy.types.Action) -> tuple[str, ...]:
    """Make an armature use an earlier Action, in the rotation modes that it was keyed in; sentences about what was assumed."""
    data = armature.animation_data or armature.animation_data_create()
    if data.use_tweak_mode:
        data.use_tweak_mode = False
    slot = find_object_slot(action)
    assign_action(armature, action, slot)
    return match_rotation_modes(armature, get_slot_fcurves(action, slot))


def check_played(armature: bpy.types.Object, action: bpy.types.Action) -> list[str]:
    """Sentences about what keeps an Action from being seen: the armature's rest position, and the NLA."""
    if get_armature(armature).pose_position == "REST":
        resting = f"{armature.name} shows its rest position; switch to Pose Position in its data properties to see the motion."
        return [resting, *_check_layers(armature, action)]
    return _check_layers(armature, action)


def _check_layers(armature: bpy.types.Object, action: bpy.types.Action) -> list[str]:
    data = get_animation_data(armature)
    soloed = next((track for track in data.nla_tracks if track.is_solo), None)
    strips = [strip for track in data.nla_tracks for strip in track.strips if strip.action == action]
    if soloed is not None and not any(strip in soloed.strips.values() for strip in strips):
        return [f"The NLA track {soloed.name} is soloed, so the motion is not seen; switch its star off."]
    if strips and not data.use_nla:
        return [f"The NLA of {armature.name} is switched off, so the motion is not seen; switch it on."]
    if data.action == action and data.nla_tracks and data.action_influence < 1:
        return [f"The Action in use has an influence of {data.action_influence:.2g}, so the motion is seen only in part."]
    return []
