"""What operators say of the Actions that they have made, and of what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import bpy

from ...shared.motion import MotionError
from ..rigging.action_notes import read_notes
from ..translation import tr
from ..typed_access import OperatorResult

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import WmReportItems

OperatorType = TypeVar("OperatorType", bound=bpy.types.Operator)
Execute = Callable[[OperatorType, bpy.types.Context], OperatorResult]


def report(operator: bpy.types.Operator, kinds: set[WmReportItems], text: str) -> None:
    """Report a text of the extension in the window's language."""
    operator.report(kinds, tr(text))


def report_motion_errors(execute: Execute[OperatorType]) -> Execute[OperatorType]:
    """Let an operator's ``execute`` report a ``MotionError`` as an error, and cancel."""

    @wraps(execute)
    def report_errors(operator: OperatorType, context: bpy.types.Context) -> OperatorResult:
        try:
            return execute(operator, context)
        except MotionError as error:
            report(operator, {"ERROR"}, str(error))
            return {"CANCELLED"}

    return report_errors


def report_action(operator: bpy.types.Operator, action: bpy.types.Action, text: str, doubts: Sequence[str] = ()) -> None:
    """Report a new Action, what else was keyed for it, and as a warning what is wrong with it or doubtful."""
    notes, warnings = read_notes(action)
    report_with_warnings(operator, text, [*doubts, *warnings], notes)


def report_with_warnings(operator: bpy.types.Operator, text: str, warnings: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Report a text and further sentences, as a warning where there is something to warn of."""
    if warnings:
        report(operator, {"WARNING"}, " ".join([f"{text}. ", *warnings, *notes]).replace(".  ", ". "))
    else:
        report(operator, {"INFO"}, " ".join([f"{text}.", *notes]) if notes else text)
