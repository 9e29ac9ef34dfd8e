"""Dialogs: mixins of operators that choose a file or a folder, and the dialog of an operator's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..translation import tr
from ..typed_access import OperatorResult

if TYPE_CHECKING:
    # the stubs declare methods of ImportHelper and ExportHelper that contradict those of Operator

    class _FileDialog:
        filepath: str

        def invoke_popup(self, context: bpy.types.Context, confirm_text: str = "") -> OperatorResult: ...

    class ImportDialog(_FileDialog):
        """Mixin of an operator that reads a file: it opens a file dialog and puts the chosen path into ``filepath``."""

    class ExportDialog(_FileDialog):
        """Mixin of an operator that writes a file: it opens a file dialog and puts the chosen path into ``filepath``."""

else:
    ImportDialog, ExportDialog = ImportHelper, ExportHelper


class FolderDialog:
    """Mixin of an operator that takes a folder: it opens a file dialog and puts the chosen path into ``directory``."""

    directory: StringProperty(name="Folder", subtype="DIR_PATH", description="The folder that is meant", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, description="Whether the dialog lists folders", options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Open the file browser."""
        if context.window_manager is None:
            return {"CANCELLED"}
        operator: Any = self
        context.window_manager.fileselect_add(operator)
        return {"RUNNING_MODAL"}


def show_settings_dialog(operator: bpy.types.Operator, context: bpy.types.Context) -> OperatorResult:
    """Show a dialog with an operator's properties; the operator is executed when the user confirms."""
    if context.window_manager is None:
        return {"CANCELLED"}
    return context.window_manager.invoke_props_dialog(operator)


def ask(
    operator: bpy.types.Operator, context: bpy.types.Context, event: bpy.types.Event, title: str, message: str, yes: str
) -> OperatorResult:
    """Ask a question; the operator is executed when the user answers ``yes``, the word on the button."""
    if context.window_manager is None:
        return {"CANCELLED"}
    return context.window_manager.invoke_confirm(
        operator, event, title=tr(title), message=tr(message), confirm_text=tr(yes), icon="QUESTION"
    )
