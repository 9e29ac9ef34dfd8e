"""What operators say of the Actions that they have made."""

from __future__ import annotations

import bpy

from ..rigging.keyframes import read_notes


def report_action(operator: bpy.types.Operator, action: bpy.types.Action, text: str, assumed: list[str] | None = None) -> None:
    """Report a new Action, what else was keyed for it, and as a warning what is wrong with it."""
    notes, warnings = read_notes(action)
    warnings = (assumed or []) + warnings
    if warnings:
        operator.report({"WARNING"}, " ".join([f"{text}. ", *warnings, *notes]).replace(".  ", ". "))
    else:
        operator.report({"INFO"}, " ".join([f"{text}.", *notes]) if notes else text)
