"""The buttons of *Set Up*: plan, install, cancel, repair, move, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ...shared.endpoint import EndpointError
from ...shared.sizes import write_size
from .. import preferences
from ..backend_start import start_backend
from ..connection import connection
from ..online import allow_online, is_online
from ..panel_base import draw_text
from ..set_up.state import SetUpState, set_up
from ..typed_access import OperatorResult, get_layout
from .dialogs import FolderDialog, show_settings_dialog
from .polls import Poll
from .reports import report


def start_new_backend() -> None:
    """Start the backend that has just been set up."""
    if connection.running:
        return
    try:
        start_backend(bpy.context, connection)
    except (OSError, EndpointError) as error:
        connection.error = f"The backend cannot be started: {error}"


class NeedsIdleSetUp(Poll):
    """Nothing is being set up."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while *Set Up* runs."""
        if set_up.state is SetUpState.RUNNING:
            return cls.refuse("Set Up is running; wait or cancel it")
        return super().poll(context)


class NeedsStoppedBackend(NeedsIdleSetUp):
    """This Blender runs no backend."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while the backend runs."""
        if connection.running:
            return cls.refuse("Stop the backend first")
        return super().poll(context)


class PlanSetUp(NeedsIdleSetUp, bpy.types.Operator):
    bl_idname = "latentman.plan_set_up"
    bl_label = "Set Up..."
    bl_description = "Look at this computer and show what the backend needs: nothing is fetched before you say so"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Make the plan; the panel shows it."""
        set_up.make_plan(preferences.get_set_up_options(context, set_up.files))
        return {"FINISHED"}


class RunSetUp(NeedsIdleSetUp, bpy.types.Operator):
    bl_idname = "latentman.run_set_up"
    bl_label = "Install"
    bl_description = "Fetch what the plan names, try it out with a tiny frame, and start the backend"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin; the timer shows how it goes."""
        if set_up.files is None and not is_online():
            report(
                self, {"ERROR"}, "Blender keeps extensions offline; allow online access in the preferences, or set up from files."
            )
            return {"CANCELLED"}
        if connection.running:
            connection.stop()
        set_up.start(preferences.get_set_up_options(context, set_up.files), "install", done=self._finish)
        return {"FINISHED"}

    @staticmethod
    def _finish(event: dict[str, Any]) -> None:
        set_up.files = None
        set_up.result = ""
        start_new_backend()


class SetUpFromFiles(FolderDialog, NeedsIdleSetUp, bpy.types.Operator):
    bl_idname = "latentman.set_up_from_files"
    bl_label = "From Files..."
    bl_description = "Choose a folder that holds the wheels, for a computer without internet"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Plan with the folder."""
        set_up.make_plan(preferences.get_set_up_options(context, Path(bpy.path.abspath(self.directory))))
        return {"FINISHED"}


class CancelSetUp(bpy.types.Operator):
    bl_idname = "latentman.cancel_set_up"
    bl_label = "Cancel"
    bl_description = "Stop at once; what has come is kept, and the next time goes on from there"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """End the process."""
        set_up.cancel()
        return {"FINISHED"}


class CloseSetUp(bpy.types.Operator):
    bl_idname = "latentman.close_set_up"
    bl_label = "Close"
    bl_description = "Do nothing"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Forget the plan."""
        set_up.files = None
        set_up.close()
        return {"FINISHED"}


class AllowOnline(bpy.types.Operator):
    bl_idname = "latentman.allow_online"
    bl_label = "Allow Online Access"
    bl_description = (
        "Switch on Blender's own preference System > Network > Allow Online Access; a backend that this Blender has started is "
        "started again, so that it knows"
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Switch it on. The backend was told when it was started."""
        allow_online(context)
        if connection.process is None:
            return {"FINISHED"}
        if connection.busy:
            report(
                self, {"WARNING"}, "The backend goes online when it is started the next time; press Stop and Start when it is done."
            )
            return {"FINISHED"}
        try:
            start_backend(context, connection)
        except (OSError, EndpointError) as error:
            report(self, {"ERROR"}, f"The backend cannot be started: {error}")
        return {"FINISHED"}


class RepairBackend(NeedsStoppedBackend, bpy.types.Operator):
    bl_idname = "latentman.repair_backend"
    bl_label = "Repair"
    bl_description = "Compare every file of the backend's packages with what was installed, and fetch what is damaged or gone"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin."""
        set_up.start(preferences.get_set_up_options(context), "repair", done=self._finish)
        return {"FINISHED"}

    @staticmethod
    def _finish(event: dict[str, Any]) -> None:
        names = [str(name) for name in event.get("packages", ())]
        set_up.result = f"Repaired: {', '.join(names)}." if names else "Nothing was damaged, and a test frame was made."


class MoveBackend(FolderDialog, NeedsStoppedBackend, bpy.types.Operator):
    bl_idname = "latentman.move_backend"
    bl_label = "Move..."
    bl_description = "Move the backend's packages to another folder or disk"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin."""
        found = preferences.get_preferences(context)
        if found is None:
            report(self, {"ERROR"}, "The folder is a preference of the installed extension; install it first.")
            return {"CANCELLED"}
        target = Path(bpy.path.abspath(self.directory)) / "latentman-backend"

        def finish(event: dict[str, Any]) -> None:
            moved = preferences.get_preferences(bpy.context)
            if moved is not None:
                moved.backend_folder = str(target)
            set_up.result = f"Moved to {target}."

        set_up.start(preferences.get_set_up_options(context), "move", "--to", str(target), done=finish)
        return {"FINISHED"}


class RemoveBackend(NeedsStoppedBackend, bpy.types.Operator):
    bl_idname = "latentman.remove_backend"
    bl_label = "Remove"
    bl_description = "Delete the backend's packages and everything that was fetched for them; models, jobs and frames stay"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> OperatorResult:
        """Ask first."""
        return show_settings_dialog(self, context)

    def draw(self, context: bpy.types.Context) -> None:
        """Say what goes and what stays."""
        layout = get_layout(self)
        draw_text(layout, f"Delete the backend's packages in {preferences.get_backend_folder(context)}?")
        draw_text(layout, "Models, jobs and frames stay.")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin."""
        set_up.start(preferences.get_set_up_options(context), "remove", done=self._finish)
        return {"FINISHED"}

    @staticmethod
    def _finish(event: dict[str, Any]) -> None:
        set_up.result = f"Removed; {write_size(int(event.get('bytes', 0)), 1)} are free again."


CLASSES = (
    PlanSetUp,
    RunSetUp,
    SetUpFromFiles,
    CancelSetUp,
    CloseSetUp,
    AllowOnline,
    RepairBackend,
    MoveBackend,
    RemoveBackend,
)
