"""The scene's frame range, which follows a new motion where nothing else is animated."""

from __future__ import annotations

from collections.abc import Iterator

import bpy


def _iter_actions(owner: bpy.types.ID) -> Iterator[tuple[float, float]]:
    """The frames of an ID's own animation."""
    data = getattr(owner, "animation_data", None)
    if data is None:
        return
    if data.action is not None:
        yield tuple(data.action.frame_range)
    for track in data.nla_tracks:
        for strip in track.strips:
            yield strip.frame_start, strip.frame_end


def find_other_keys(scene: bpy.types.Scene, character: bpy.types.Object) -> tuple[float, float] | None:
    """The first and last frame at which anything of a scene but a character is animated; None where nothing is."""
    spans = list(_iter_actions(scene))
    for found in scene.objects:
        if found == character:
            continue
        for owner in (found, found.data, getattr(found.data, "shape_keys", None)):
            if owner is not None:
                spans += _iter_actions(owner)
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def fit_range(scene: bpy.types.Scene, character: bpy.types.Object, first: int, last: int) -> str:
    """Make the scene's range that of a motion. Where other things are animated outside of it, nothing is changed, and the sentence
    that is returned says so; empty otherwise."""
    if (scene.frame_start, scene.frame_end) == (first, last):
        return ""
    others = explain_others(scene, character, first, last)
    if others:
        kept = f"{scene.frame_start} to {scene.frame_end}"
        return (
            f"The motion lies in frames {first} to {last}; the scene's range stays {kept}. {others} Press Use the Motion's "
            "Range to play the motion alone."
        )
    scene.frame_start, scene.frame_end = first, last
    return ""


def explain_others(scene: bpy.types.Scene, character: bpy.types.Object, first: int, last: int) -> str:
    """What else is animated outside of a range, as a sentence; empty where nothing is."""
    others = find_other_keys(scene, character)
    if others is None or (others[0] >= first and others[1] <= last):
        return ""
    return f"Other things are animated from {others[0]:.0f} to {others[1]:.0f}."


def find_other_range(scene: bpy.types.Scene, armature: bpy.types.Object | None) -> tuple[int, int] | None:
    """The range of an armature's motion where the scene has another one; None where it has the same, or there is no motion."""
    found = find_motion_range(armature) if armature is not None else None
    # a scene's frames are not negative
    if found is None or found[0] < 0 or found[1] < found[0] or found == (scene.frame_start, scene.frame_end):
        return None
    return found


def find_motion_range(armature: bpy.types.Object) -> tuple[int, int] | None:
    """The first and last frame of an armature's own animation; None without any."""
    spans = list(_iter_actions(armature))
    return (round(min(start for start, _ in spans)), round(max(end for _, end in spans))) if spans else None
