"""The limbs whose directions are compared, each from joint to joint. No bpy."""

from __future__ import annotations

SIDED_LIMBS: tuple[tuple[str, str], ...] = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (
        ("hip", "knee"),
        ("knee", "ankle"),
        ("ankle", "foot"),
        ("collar", "shoulder"),
        ("shoulder", "elbow"),
        ("elbow", "wrist"),
    )
)
LIMBS: tuple[tuple[str, str], ...] = (*SIDED_LIMBS, ("neck", "head"), ("pelvis", "neck"))
