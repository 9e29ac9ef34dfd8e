"""The rotation modes of bones, the properties that hold their values, and what to do where keys are in another mode."""

from __future__ import annotations

from typing import Any

import bpy

from ..typed_access import get_pose
from .nla import split_bone_path

#: rotation mode -> the property that holds it; every Euler order has ``rotation_euler``
ATTRIBUTES = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
ROTATIONS = ("rotation_quaternion", "rotation_euler", "rotation_axis_angle")


def get_rotation_attribute(mode: str) -> str:
    """The property in which a rotation mode keeps its values."""
    return ATTRIBUTES.get(mode, "rotation_euler")


def match_rotation_modes(armature: bpy.types.Object, curves: list[bpy.types.FCurve]) -> tuple[str, ...]:
    """Give bones that are keyed only in another rotation mode than theirs a mode in which those keys count.

    A bone with keys of its own mode, among others, keeps it, as Blender plays them. Returns a sentence about those whose
    Euler order had to be assumed, if there are any.
    """
    keyed: dict[str, set[str]] = {}
    for curve in curves:
        split = split_bone_path(curve.data_path)
        name = split[1] if split else curve.data_path
        if name in ROTATIONS and not curve.mute:
            keyed.setdefault(split[0] if split else "", set()).add(name)
    assumed: list[str] = []
    for bone, names in keyed.items():
        owner: Any = armature if not bone else get_pose(armature).bones.get(bone)
        if owner is None or get_rotation_attribute(owner.rotation_mode) in names:
            continue
        name = next(name for name in ROTATIONS if name in names)
        owner.rotation_mode = {"rotation_quaternion": "QUATERNION", "rotation_axis_angle": "AXIS_ANGLE"}.get(name, "XYZ")
        if name == "rotation_euler":
            assumed.append(bone or armature.name)
    if not assumed:
        return ()
    listed = ", ".join(assumed[:4]) + (f" and {len(assumed) - 4} more" if len(assumed) > 4 else "")
    return (f"The Euler keys of {listed} were read in the order XYZ, since their rotation mode does not say one.",)
