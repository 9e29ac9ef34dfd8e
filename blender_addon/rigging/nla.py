"""Where an armature's motion lies: in the Action in use, in an NLA strip, or in the base below a layer of tweaks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ...shared.motion import MotionError
from ..compat import get_slot_fcurves, get_strip_slot, get_used_slot, list_action_strips, set_strip_action
from ..typed_access import get_animation_data

#: custom property that marks an Action as the layer for the animator's tweaks
LAYER = "latentman_layer"
#: what the name of a track begins with that holds the base below tweaks
BASE = "Base: "
#: a layer that keys fewer of the bones than this, compared with what lies below it, is no motion of its own
OVERLAY = 0.5

_BONE_PATH = re.compile(r'^pose\.bones\["((?:[^"\\]|\\.)*)"\]\.(.+)$')


def split_bone_path(path: str) -> tuple[str, str] | None:
    """(bone, property) of a curve's path; None for a path that leads to no pose bone."""
    found = _BONE_PATH.match(path)
    return (bpy.utils.unescape_identifier(found[1]), found[2]) if found else None


@dataclass(frozen=True)
class MotionPlace:
    """The Action that holds a motion, the slot of it that the armature uses (None before 4.4), and the NLA strip that plays it,
    None for the Action in use."""

    action: bpy.types.Action
    slot: Any
    strip: bpy.types.NlaStrip | None = None
    track: bpy.types.NlaTrack | None = None

    @property
    def curves(self) -> list[bpy.types.FCurve]:
        """The F-curves of the motion."""
        return get_slot_fcurves(self.action, self.slot)

    @property
    def spacing(self) -> float:
        """Scene frames between two frames of the Action."""
        return 1.0 if self.strip is None else abs(self.strip.scale) or 1.0

    def to_action(self, frame: float) -> float:
        """The frame of the Action that plays at a frame of the scene."""
        if self.strip is None:
            return frame
        at = (frame - self.strip.frame_start) / self.spacing
        if self.strip.use_reverse:
            return self.strip.action_frame_end - at
        return self.strip.action_frame_start + at

    def to_scene(self, frame: float) -> float:
        """The frame of the scene at which a frame of the Action plays for the first time."""
        if self.strip is None:
            return frame
        at = self.strip.action_frame_end - frame if self.strip.use_reverse else frame - self.strip.action_frame_start
        return self.strip.frame_start + at * self.spacing

    @property
    def is_base(self) -> bool:
        """Whether it is the base below a layer of tweaks."""
        return self.track is not None and self.track.name.startswith(BASE)


def count_moved_bones(curves: list[bpy.types.FCurve]) -> int:
    """How many bones curves turn or move."""
    found = {split_bone_path(curve.data_path) for curve in curves if not curve.mute}
    return len({one[0] for one in found if one and one[1].startswith(("rotation_", "location"))})


def _list_places(tracks: Iterable[bpy.types.NlaTrack]) -> list[MotionPlace]:
    """The strips on tracks that are not muted, those within meta strips, too."""
    return [
        MotionPlace(strip.action, get_strip_slot(strip), strip, track)
        for track in tracks
        for strip in list_action_strips(track.strips)
    ]


def _list_playing(data: bpy.types.AnimData) -> list[MotionPlace]:
    """The strips that play, the topmost track first."""
    if not data.use_nla:
        return []
    tracks = [track for track in data.nla_tracks if track.is_solo] or [track for track in data.nla_tracks if not track.mute]
    return _list_places(reversed(tracks))


def find_motion_place(armature: bpy.types.Object | None, frame: float | None = None) -> MotionPlace | None:
    """Where the motion of an armature lies; None where nothing moves it.

    It is the Action in use, unless that is a layer of tweaks above a strip that moves more of the body; else the topmost strip
    that plays at ``frame`` (the scene's current one), or the one nearest to it.
    """
    if armature is None or armature.animation_data is None:
        return None
    data = armature.animation_data
    frame = bpy.context.scene.frame_current if frame is None and bpy.context.scene else frame or 0.0
    if data.use_tweak_mode:
        tweaked = [place for place in _list_places(data.nla_tracks) if place.action == data.action]
        if tweaked:
            return next((place for place in tweaked if place.strip is not None and place.strip.active), tweaked[0])
    own = MotionPlace(data.action, get_used_slot(armature)) if data.action is not None else None
    places = [(place, count_moved_bones(place.curves)) for place in _list_playing(data)]
    places = [(place, bones) for place, bones in places if bones or any(c.data_path == "location" for c in place.curves)]
    if own is not None and not any(track.is_solo for track in data.nla_tracks):
        bones = count_moved_bones(own.curves)
        layered = bool(own.action.get(LAYER)) or data.action_blend_type != "REPLACE"
        most = max((count for _, count in places), default=0)
        if not places or not (layered or bones < OVERLAY * most):
            return own
    if not places:
        return own
    full = max(count for _, count in places)
    bodies = [place for place, bones in places if bones >= OVERLAY * full]

    def measure_distance(place: MotionPlace) -> float:
        strip = place.strip
        return max(strip.frame_start - frame, frame - strip.frame_end, 0.0) if strip is not None else 0.0

    return min(bodies, key=measure_distance)


def get_motion_place(armature: bpy.types.Object) -> MotionPlace:
    """Where the motion of an armature lies; ``MotionError`` where nothing moves it."""
    place = find_motion_place(armature)
    if place is None:
        raise MotionError(f"{armature.name} has no motion; make or import one first.")
    return place


def list_motion_curves(place: MotionPlace) -> list[bpy.types.FCurve]:
    """The curves that move bones or the object."""
    out = []
    for curve in place.curves:
        split = split_bone_path(curve.data_path)
        name = split[1] if split else curve.data_path
        if not curve.is_empty and name.startswith(("location", "rotation_")):
            out.append(curve)
    return out


def get_motion_range(place: MotionPlace) -> tuple[int, int]:
    """First and last frame of a motion in its Action, rounded outwards to whole frames.

    That is where bones or the object are keyed, within what a strip plays of it.
    """
    ends = [curve.range() for curve in list_motion_curves(place)]
    if place.strip is not None:
        first, last = place.strip.action_frame_start, place.strip.action_frame_end
    elif ends:
        first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    else:
        first, last = place.action.frame_range.to_tuple()
    # a frame that is off by a rounding error is that frame
    return int(np.floor(first + 1e-3)), int(np.ceil(last - 1e-3))


def add_strip(armature: bpy.types.Object, action: bpy.types.Action, slot: Any, start: float) -> bpy.types.NlaStrip:
    """Put an Action into a strip on a new track on top of the others."""
    track = get_animation_data(armature).nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, round(start), action)
    set_strip_action(strip, action, slot)
    strip.extrapolation = "HOLD_FORWARD"
    return strip


def add_base(armature: bpy.types.Object, action: bpy.types.Action, slot: Any, start: float) -> bpy.types.NlaStrip:
    """Put an Action on a track of its own and mute the earlier base, so that tweaks above it stay."""
    tracks = get_animation_data(armature).nla_tracks
    for track in tracks:
        if track.name.startswith(BASE):
            track.mute = True
    strip = add_strip(armature, action, slot, start)
    tracks[-1].name = f"{BASE}{action.name}"
    strip.extrapolation = "HOLD"
    return strip


def replace_strip(armature: bpy.types.Object, place: MotionPlace, action: bpy.types.Action, slot: Any) -> None:
    """Play an edited Action where a strip played the original: at the same place, scale and blending.

    A base below tweaks gets a new track above the old one, which is muted; any other strip plays the new Action itself.
    Raises ``MotionError`` where the strip cannot be changed.
    """
    data, strip = get_animation_data(armature), place.strip
    assert strip is not None and place.track is not None
    tweaking = data.use_tweak_mode
    if tweaking:
        data.use_tweak_mode = False
    first, last = (float(frame) for frame in get_motion_range(MotionPlace(action, slot)))
    begin = place.to_scene(last if strip.use_reverse else first)
    scale, repeat = strip.scale, strip.repeat
    try:
        if place.is_base:
            track = data.nla_tracks.new(prev=place.track)
            new = track.strips.new(action.name, round(begin), action)
            for name in ("blend_type", "extrapolation", "use_auto_blend", "blend_in", "blend_out", "use_reverse", "influence"):
                setattr(new, name, getattr(strip, name))
            place.track.mute = True
            track.name = f"{BASE}{action.name}"
            if place.track.is_solo:
                track.is_solo = True
        else:
            new = strip
        set_strip_action(new, action, slot)
        new.name = action.name
        new.action_frame_start, new.action_frame_end = first, last
        new.scale, new.repeat = scale, repeat
        new.frame_start_ui = begin
        new.frame_end_ui = begin + (last - first) * (abs(scale) or 1.0) * repeat
        new.scale, new.repeat = scale, repeat
    except (AttributeError, RuntimeError, TypeError) as error:
        raise MotionError(
            f"The strip {strip.name} cannot be changed, since it is linked from another file; put its Action into use instead."
        ) from error
    if tweaking:
        # the track's active strip is the one to tweak again
        new.select = True
        data.nla_tracks.active = next(track for track in data.nla_tracks if new in track.strips.values())
        data.use_tweak_mode = True
