"""Every difference between Blender 4.2 LTS and 5.2 LTS, and nowhere else."""

from __future__ import annotations

from typing import Any

import bpy

SLOTTED_ACTIONS = bpy.app.version >= (4, 4, 0)
MEDIA_TYPES = bpy.app.version >= (5, 0, 0)
#: options of a property whose path may begin with ``//``; where they are missing, newer versions show such a path as wrong
RELATIVE_PATH = {"ANIMATABLE", *(("PATH_SUPPORTS_BLEND_RELATIVE",) if bpy.app.version >= (4, 5, 0) else ())}


def action_fcurves(owner: bpy.types.ID, action: bpy.types.Action) -> Any:
    """The F-curve collection of an action for one owner, which is made to use the action.

    From 4.4 on, curves live in a channelbag of a slot; without a slot the owner would silently stay still.
    """
    data = owner.animation_data or owner.animation_data_create()
    data.action = action
    if not SLOTTED_ACTIONS:
        return action.fcurves
    slot = action.slots[0] if action.slots else action.slots.new("OBJECT", owner.name)
    data.action_slot = slot
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True).fcurves


def curve_holders(action: bpy.types.Action) -> list[Any]:
    """Every collection of F-curves in an action: one before 4.4, one for each slot from then on."""
    if not SLOTTED_ACTIONS:
        return [action.fcurves]
    return [bag.fcurves for layer in action.layers for strip in layer.strips for bag in strip.channelbags]


def fcurves_of(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    """Every F-curve of an action, whatever it is for."""
    return [curve for holder in curve_holders(action) for curve in holder]


def put_in_group(action: bpy.types.Action, curve: bpy.types.FCurve, name: str) -> None:
    """Show a curve of an action in a named group of the channel list."""
    holder: Any = action
    if SLOTTED_ACTIONS:
        holder = action.layers[0].strips[0].channelbag(action.slots[0])
    curve.group = holder.groups.get(name) or holder.groups.new(name)


def sequences(scene: bpy.types.Scene) -> Any:
    """The strips of a scene's sequencer, which is made if there is none."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def set_multilayer_exr(settings: bpy.types.ImageFormatSettings) -> None:
    """32-bit multilayer EXR, one part with interleaved channels."""
    if MEDIA_TYPES:
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.color_depth = "32"
    settings.exr_codec = "NONE"
    if hasattr(settings, "use_exr_interleave"):
        settings.use_exr_interleave = True


def set_video(settings: bpy.types.ImageFormatSettings) -> None:
    """Video through FFmpeg."""
    if MEDIA_TYPES:
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
