"""What operators say of the Actions that they have made, and of what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import bpy

from ...shared.motion import MotionError
from ..rigging.action_notes import read_notes
from ..typed_access import OperatorResult

OperatorType = TypeVar("OperatorType", bound=bpy.types.Operator)
Execute = Callable[[OperatorType, bpy.types.Context], OperatorResult]


def report_motion_errors(execute: Execute[OperatorType]) -> Execute[OperatorType]:
    """Let an operator's ``execute`` report a ``MotionError`` as an error, and cancel."""

    @wraps(execute)
    def report(operator: OperatorType, context: bpy.types.Context) -> OperatorResult:
        try:
            return execute(operator, context)
        except MotionError as error:
            operator.report({"ERROR"}, str(error))
            return {"CANCELLED"}

    return report


def report_action(operator: bpy.types.Operator, action: bpy.types.Action, text: str, doubts: Sequence[str] = ()) -> None:
    """Report a new Action, what else was keyed for it, and as a warning what is wrong with it or doubtful."""
    notes, warnings = read_notes(action)
    report_with_warnings(operator, text, [*doubts, *warnings], notes)


def report_with_warnings(operator: bpy.types.Operator, text: str, warnings: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Report a text and further sentences, as a warning where there is something to warn of."""
    if warnings:
        operator.report({"WARNING"}, " ".join([f"{text}. ", *warnings, *notes]).replace(".  ", ". "))
    else:
        operator.report({"INFO"}, " ".join([f"{text}.", *notes]) if notes else text)
