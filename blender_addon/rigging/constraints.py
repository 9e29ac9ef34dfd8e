"""The constraints of a rig that have a say in where its bones are."""

from __future__ import annotations

from typing import Any

import bpy

from ..character.rig import Rig
from ..character.skeleton import get_ancestors
from ..motion.retarget import AIMS_AT
from .ik_controls import CONSTRAINT
from .stand_in import StandIn

#: constraints that put a bone somewhere; the others are left alone
POSING = {
    "IK",
    "SPLINE_IK",
    "ARMATURE",
    "CHILD_OF",
    "CLAMP_TO",
    "COPY_LOCATION",
    "COPY_ROTATION",
    "COPY_TRANSFORMS",
    "DAMPED_TRACK",
    "FLOOR",
    "FOLLOW_PATH",
    "FOLLOW_TRACK",
    "LIMIT_DISTANCE",
    "LIMIT_LOCATION",
    "LIMIT_ROTATION",
    "LOCKED_TRACK",
    "OBJECT_SOLVER",
    "PIVOT",
    "SHRINKWRAP",
    "STRETCH_TO",
    "TRACK_TO",
    "TRANSFORM",
    "TRANSFORM_CACHE",
    "GEOMETRY_ATTRIBUTE",
}


def list_posing(stand: StandIn, mapped: set[str]) -> list[tuple[str, bpy.types.Constraint]]:
    """(bone, constraint) of everything that is switched on and may pose a mapped bone: on itself or above it, or an IK chain
    with such a bone."""
    above = mapped | {bone.name for name in mapped for bone in stand.bones[name].parent_recursive}
    out = []
    for bone in stand.bones:
        for constraint in bone.constraints:
            if constraint.mute or constraint.type not in POSING:
                continue
            if bone.name in above or (constraint.type in ("IK", "SPLINE_IK") and above & set(list_chain(bone, constraint))):
                out.append((bone.name, constraint))
    return out


def list_chain(bone: bpy.types.PoseBone, constraint: Any) -> tuple[str, ...]:
    """The bones that an IK constraint turns, its own first."""
    above: bpy.types.PoseBone | None = bone if getattr(constraint, "use_tail", True) else bone.parent
    out: list[str] = []
    while above is not None and (not constraint.chain_count or len(out) < constraint.chain_count):
        out.append(above.name)
        above = above.parent
    return tuple(out)


def find_moved_children(stand: StandIn, rig: Rig) -> dict[int, int]:
    """Bone -> the bone at the end of its limb, where constraints on the latter, or between them, may move it."""
    out = {}
    for joint, child in AIMS_AT.items():
        bone, end = rig.joint_bones.get(joint), rig.joint_bones.get(child)
        if bone is None or end is None:
            continue
        above = get_ancestors(rig, end)
        between = above[: above.index(bone)] if bone in above else []
        constraints = [one for n in between for one in stand.bones[rig.bones[n]].constraints]
        if any(one.type in POSING and not one.name.startswith(CONSTRAINT) for one in constraints):
            out[bone] = end
    return out


def name_constraints(constraints: list[tuple[str, str]]) -> str:
    """Constraints (bone, name) as the beginning of a sentence."""
    named = [f"'{name}' on {bone}" for bone, name in constraints]
    more = f" and {len(named) - 4} more" if len(named) > 5 else ""
    listed = named[:4] if more else named
    text = ", ".join(listed[:-1]) + (" and " if len(listed) > 1 and not more else ", " if len(listed) > 1 else "") + listed[-1]
    return f"The constraint{'s' if len(named) > 1 else ''} {text}{more}"
