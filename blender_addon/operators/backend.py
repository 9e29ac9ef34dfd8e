"""Backend: start, connect, stop."""

from __future__ import annotations

import bpy

from ...shared.endpoint import EndpointError
from .. import preferences
from ..connection import connection


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


CLASSES = (StartBackend, ConnectBackend, StopBackend)
