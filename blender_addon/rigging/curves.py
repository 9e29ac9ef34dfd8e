"""F-curves of a motion: written from channels, and what of an edited Action is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ..motion.reduction import compute_slopes
from ..motion.rotations import encode_rotations
from .nla import split_bone_path
from .rotation_modes import ROTATIONS, get_rotation_attribute


def make_bone_path(bone: str, name: str) -> str:
    """The path of a property of a pose bone."""
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"].{name}'


@dataclass(frozen=True)
class KeyedPose:
    """What is keyed in F frames: the bones' own channels.

    ``rotations``: bone -> (F, 4) quaternions; ``locations``: bone -> (F, 3) location channels, in the axes that Blender gives
    them; ``object_location`` (F, 3): the object's location property, None to leave the object where it is.
    """

    rotations: dict[str, np.ndarray]
    locations: dict[str, np.ndarray]
    object_location: np.ndarray | None = None


@dataclass
class CurveWriter:
    """Writes poses into the curves of one slot of an Action, in each bone's rotation mode.

    ``holder`` has the slot's ``fcurves`` and ``groups``; ``frames`` (F,) are those of the keys; ``modes``: bone -> rotation
    mode; ``rows``: bone -> the frames to key of its rotation, or of its location where ``location_rows`` has it; every other
    curve is keyed on all frames. ``cycles`` are modifiers that curves of the same kind get again.
    """

    holder: Any
    frames: np.ndarray
    modes: dict[str, str]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    location_rows: dict[str, np.ndarray] = field(default_factory=dict)
    cycles: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def write(self, pose: KeyedPose) -> None:
        """Key a pose; curves of the same channels are replaced, and those of other rotation modes of its bones removed."""
        self.remove(pose)
        every = np.arange(len(self.frames))
        for bone, values in pose.locations.items():
            for axis in range(3):
                self._key(make_bone_path(bone, "location"), axis, values[:, axis], self.location_rows.get(bone, every), bone)
        for bone, values in pose.rotations.items():
            mode = self.modes[bone]
            encoded, path = encode_rotations(values, mode), make_bone_path(bone, get_rotation_attribute(mode))
            for axis in range(encoded.shape[1]):
                self._key(path, axis, encoded[:, axis], self.rows.get(bone, every), bone)
        if pose.object_location is not None:
            for axis in range(3):
                self._key("location", axis, pose.object_location[:, axis], every, "Object Transforms")

    def remove(self, pose: KeyedPose) -> None:
        """Remove the curves that a pose replaces."""
        paths = self.list_paths(pose)
        for curve in [curve for curve in self.holder.fcurves if curve.data_path in paths]:
            self.holder.fcurves.remove(curve)

    def list_paths(self, pose: KeyedPose) -> set[str]:
        """The paths of the curves that a pose replaces: rotations of every mode, and locations."""
        paths = {make_bone_path(bone, "location") for bone in pose.locations}
        paths |= {make_bone_path(bone, name) for bone in pose.rotations for name in ROTATIONS}
        return paths | ({"location"} if pose.object_location is not None else set())

    def remember_cycles(self, pose: KeyedPose) -> None:
        """Note which of the curves that a pose replaces repeat, so that the new ones repeat as well."""
        for curve in self.holder.fcurves:
            bone, _ = split_bone_path(curve.data_path) or ("", "")
            if bone not in pose.rotations and bone not in pose.locations and bone:
                continue
            for modifier in curve.modifiers:
                if modifier.type == "CYCLES" and not modifier.mute:
                    found = {one: getattr(modifier, one) for one in ("mode_before", "mode_after", "cycles_before", "cycles_after")}
                    self.cycles[_get_kind(curve.data_path, curve.array_index)] = found

    def _key(self, path: str, index: int, values: np.ndarray, rows: np.ndarray, group: str) -> None:
        curve = self.holder.fcurves.new(path, index=index)
        curve.group = self.holder.groups.get(group) or self.holder.groups.new(group)
        put_keys(curve, self.frames, values, rows)
        cycle = self.cycles.get(_get_kind(path, index))
        if cycle is not None:
            modifier = curve.modifiers.new("CYCLES")
            for one, value in cycle.items():
                setattr(modifier, one, value)


def _get_kind(path: str, index: int) -> tuple[str, int]:
    """What is the same for curves of the same kind: rotations of every mode count as one, locations axis by axis."""
    bone, name = split_bone_path(path) or ("", path)
    kind = "rotation" if name.startswith("rotation_") else name
    return f"{bone}.{kind}", index if kind == "location" else 0


def put_keys(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Key an empty curve with values (F,) at frames (F,), or only at ``rows`` of them with handles along the whole curve."""
    rows = np.arange(len(frames)) if rows is None else rows
    curve.keyframe_points.add(len(rows))
    curve.keyframe_points.foreach_set("co", np.column_stack([frames[rows], values[rows]]).astype(np.float32).ravel())
    # every frame keyed: straight lines between; few keys: Blender's own smooth curve
    few = len(rows) < len(frames)
    interpolation = _get_enum_value("interpolation", "BEZIER" if few else "LINEAR")
    curve.keyframe_points.foreach_set("interpolation", np.full(len(rows), interpolation, np.int32))
    if few:
        _set_handles(curve, frames, values, rows)
    curve.update()


def _get_enum_value(name: str, identifier: str) -> int:
    """The number that ``foreach_set`` takes for an item of one of the enums of keyframes."""
    declared = bpy.types.Keyframe.bl_rna.properties[name]
    assert isinstance(declared, bpy.types.EnumProperty)
    return declared.enum_items[identifier].value


def _set_handles(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, rows: np.ndarray) -> None:
    """Set Bezier handles along the slope of the whole curve, so that few keys keep its shape."""
    slope = compute_slopes(values, rows) / max(frames[1] - frames[0], 1e-9) if len(frames) > 1 else np.zeros(len(rows))
    at = frames[rows]
    before = np.diff(at, prepend=at[0] - 1) / 3
    after = np.diff(at, append=at[-1] + 1) / 3
    points, free = curve.keyframe_points, _get_enum_value("handle_left_type", "FREE")
    for side, offset in (("left", -before), ("right", after)):
        points.foreach_set(f"handle_{side}_type", np.full(len(rows), free, np.int32))
        points.foreach_set(
            f"handle_{side}", np.column_stack([at + offset, values[rows] + slope * offset]).astype(np.float32).ravel()
        )


def is_stepped(curve: bpy.types.FCurve) -> bool:
    """Whether a curve jumps from key to key, as switches and choices do."""
    return all(key.interpolation == "CONSTANT" for key in curve.keyframe_points)


def make_stepped(curve: bpy.types.FCurve) -> None:
    """Let a curve jump from key to key."""
    constant = _get_enum_value("interpolation", "CONSTANT")
    curve.keyframe_points.foreach_set("interpolation", np.full(len(curve.keyframe_points), constant, np.int32))
    curve.update()


def resample_curve(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray) -> None:
    """Key a curve anew at frames (F,); a curve that steps still does."""
    stepped = len(curve.keyframe_points) > 0 and is_stepped(curve)
    for modifier in list(curve.modifiers):
        curve.modifiers.remove(modifier)
    while len(curve.keyframe_points):
        curve.keyframe_points.remove(curve.keyframe_points[-1], fast=True)
    keep = np.ones(len(values), bool)
    # a run of equal values needs only its ends
    keep[1:-1] = (np.abs(np.diff(values)) > 1e-7)[:-1] | (np.abs(np.diff(values)) > 1e-7)[1:]
    put_keys(curve, frames[keep], values[keep])
    if stepped:
        make_stepped(curve)


def cut_curve(curve: bpy.types.FCurve, first: float, last: float) -> None:
    """Remove what a curve has outside of two frames; between them it goes on as it did."""
    points = curve.keyframe_points
    if not len(points) or (points[0].co.x >= first - 1e-3 and points[-1].co.x <= last + 1e-3):
        return
    frames = np.arange(np.ceil(first), np.floor(last) + 1)
    before = np.array([curve.evaluate(frame) for frame in frames])
    for frame in (first, last):
        points.insert(frame, curve.evaluate(frame), options={"NEEDED"})
    for key in [key for key in reversed(points) if not first - 1e-3 <= key.co.x <= last + 1e-3]:
        points.remove(key, fast=True)
    curve.update()
    after = np.array([curve.evaluate(frame) for frame in frames])
    if len(points) == 0 or np.abs(after - before).max(initial=0.0) > 1e-4 * max(1.0, np.abs(before).max(initial=0.0)):
        resample_curve(curve, frames, before)
