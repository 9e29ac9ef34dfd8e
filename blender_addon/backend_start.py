"""Starts the backend as the preferences say: for the button, and for what needs one by itself."""

from __future__ import annotations

import bpy

from . import preferences
from .connection import Connection


def start_backend(context: bpy.types.Context, connection: Connection) -> None:
    """Connect to a backend that runs, or start the process, as the preferences say. Raises ``OSError`` and ``EndpointError``."""
    connection.start(
        preferences.get_backend_python(context),
        preferences.get_endpoint(context),
        environment=preferences.get_backend_environment(context),
        options=preferences.get_load_options(context),
    )
