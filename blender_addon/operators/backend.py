"""The box *Backend*: start, connect and stop it, and what a bug report needs."""

from __future__ import annotations

import os

import bpy

from ...shared.endpoint import EndpointError
from ...shared.files import make_private_folder, write_atomically
from ...shared.folders import log_folder
from .. import preferences
from ..backend_start import start_backend
from ..connection import connection
from ..diagnostics import write_diagnostics
from ..typed_access import OperatorResult
from .polls import Poll
from .reports import report

DIAGNOSTICS = "diagnostics.txt"


class StartBackend(Poll, bpy.types.Operator):
    bl_idname = "latentman.start_backend"
    bl_label = "Start"
    bl_description = "Connect to the diffusion backend that runs on this machine, or start one"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while there is a backend."""
        return not connection.running or cls.refuse("A backend is running or starting already")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Connect to a running backend, or start the process; the timer connects once it listens."""
        if not preferences.get_backend_python(context):
            report(
                self,
                {"ERROR"},
                "The backend is not set up; press Set Up, or choose a Python that has its packages in the preferences.",
            )
            return {"CANCELLED"}
        try:
            start_backend(context, connection)
        except (OSError, EndpointError) as error:
            report(self, {"ERROR"}, f"The backend cannot be started: {error}")
            return {"CANCELLED"}
        if connection.client is not None:
            report(self, {"INFO"}, f"A backend of yours is running at {connection.client.endpoint} already; it is used")
        return {"FINISHED"}


class ConnectBackend(Poll, bpy.types.Operator):
    bl_idname = "latentman.connect_backend"
    bl_label = "Connect"
    bl_description = "Connect to a backend that is already running"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse while there is a backend."""
        return not connection.running or cls.refuse("A backend is connected already")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Begin to connect; the timer receives the answer."""
        try:
            connection.connect(preferences.get_endpoint(context))
        except EndpointError as error:
            report(self, {"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class StopBackend(Poll, bpy.types.Operator):
    bl_idname = "latentman.stop_backend"
    bl_label = "Stop"
    bl_description = "Disconnect from the backend, and end it if it was started here; finished frames are kept"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where there is no backend."""
        return connection.running or cls.refuse("No backend is running")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Close the connection and end the process."""
        connection.stop()
        return {"FINISHED"}


class CopyDiagnostics(bpy.types.Operator):
    bl_idname = "latentman.copy_diagnostics"
    bl_label = "Copy Diagnostics"
    bl_description = (
        "Copy what a bug report needs: versions, backend, preferences and the last lines of the logs, without prompts and user name"
    )

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Copy the text; where there is no clipboard, write it beside the logs."""
        text = write_diagnostics(context)
        manager = context.window_manager
        # Blender in the background has no clipboard, and some desktops lose what is put there
        if manager is not None and not bpy.app.background:
            manager.clipboard = text
            if manager.clipboard.replace("\r\n", "\n").strip() == text.strip():
                report(self, {"INFO"}, "The diagnostics are in the clipboard; paste them into the bug report.")
                return {"FINISHED"}
        path = log_folder() / DIAGNOSTICS
        try:
            make_private_folder(path.parent)
            write_atomically(path, text.encode("utf-8", "replace"), private=True)
        except OSError as error:
            report(self, {"ERROR"}, f"There is no clipboard, and {path} cannot be written ({error.strerror}).")
            return {"CANCELLED"}
        report(self, {"INFO"}, f"There is no clipboard; the diagnostics are in {path}")
        return {"FINISHED"}


class OpenLogFolder(bpy.types.Operator):
    bl_idname = "latentman.open_log_folder"
    bl_label = "Open Log Folder"
    bl_description = "Show the folder with the logs of the extension and of the backend"

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open it in the system's file browser."""
        folder = log_folder()
        try:
            make_private_folder(folder)
        except OSError as error:
            report(self, {"ERROR"}, f"The log folder {folder} cannot be created ({error.strerror}).")
            return {"CANCELLED"}
        report(self, {"INFO"}, f"The logs are in {folder}")
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=os.fspath(folder))
        return {"FINISHED"}


CLASSES = (StartBackend, ConnectBackend, StopBackend, CopyDiagnostics, OpenLogFolder)
