"""Backend: start, connect, stop."""

from __future__ import annotations

import os

import bpy

from ...shared.endpoint import EndpointError
from ...shared.folders import log_folder
from .. import preferences
from ..connection import connection
from ..diagnostics import write_diagnostics

DIAGNOSTICS = "diagnostics.txt"


class StartBackend(bpy.types.Operator):
    """Start the diffusion backend on this machine and connect to it"""

    bl_idname = "latentman.start_backend"
    bl_label = "Start"

    @classmethod
    def poll(cls, context):
        """Only while none is running."""
        cls.poll_message_set("A backend is running or starting already")
        return not connection.running

    def execute(self, context):
        """Start the process; the timer connects once it listens."""
        python = preferences.backend_python(context)
        if not python:
            self.report({"ERROR"}, "No Python for the backend is known; choose one in the extension's preferences.")
            return {"CANCELLED"}
        try:
            connection.start(python, preferences.endpoint(context))
        except (OSError, EndpointError) as error:
            self.report({"ERROR"}, f"The backend cannot be started: {error}")
            return {"CANCELLED"}
        return {"FINISHED"}


class ConnectBackend(bpy.types.Operator):
    """Connect to a backend that is running already"""

    bl_idname = "latentman.connect_backend"
    bl_label = "Connect"

    @classmethod
    def poll(cls, context):
        """Only while not connected."""
        cls.poll_message_set("A backend is connected already")
        return not connection.running

    def execute(self, context):
        """Connect; the answer arrives through the timer."""
        try:
            connection.connect(preferences.endpoint(context))
        except EndpointError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class StopBackend(bpy.types.Operator):
    """Disconnect from the backend, and end it if it was started here; finished frames are kept"""

    bl_idname = "latentman.stop_backend"
    bl_label = "Stop"

    @classmethod
    def poll(cls, context):
        """Only while there is something to stop."""
        cls.poll_message_set("No backend is running")
        return connection.running

    def execute(self, context):
        """End the connection and the process."""
        connection.stop()
        return {"FINISHED"}


class CopyDiagnostics(bpy.types.Operator):
    """Copy what a bug report needs: versions, backend, preferences, last lines of the logs; no prompts, no user name"""

    bl_idname = "latentman.copy_diagnostics"
    bl_label = "Copy Diagnostics"

    def execute(self, context):
        """Copy the text; where there is no clipboard, write it beside the logs."""
        text = write_diagnostics(context)
        manager = context.window_manager
        # Blender in the background has none, and some desktops lose what is put there
        if not bpy.app.background:
            manager.clipboard = text
            if manager.clipboard.replace("\r\n", "\n").strip() == text.strip():
                self.report({"INFO"}, "The diagnostics are in the clipboard; paste them into the bug report.")
                return {"FINISHED"}
        path = log_folder() / DIAGNOSTICS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self.report({"ERROR"}, f"There is no clipboard, and {path} cannot be written ({error.strerror}).")
            return {"CANCELLED"}
        self.report({"INFO"}, f"There is no clipboard; the diagnostics are in {path}")
        return {"FINISHED"}


class OpenLogFolder(bpy.types.Operator):
    """Show the folder with the logs of Blender's side and of the backend"""

    bl_idname = "latentman.open_log_folder"
    bl_label = "Open Log Folder"

    def execute(self, context):
        """Open it in the system's file browser."""
        folder = log_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.report({"ERROR"}, f"The log folder {folder} cannot be made ({error.strerror}).")
            return {"CANCELLED"}
        self.report({"INFO"}, f"The logs are in {folder}")
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=os.fspath(folder))
        return {"FINISHED"}


CLASSES = (StartBackend, ConnectBackend, StopBackend, CopyDiagnostics, OpenLogFolder)
