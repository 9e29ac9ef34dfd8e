"""The user's own settings: which Python runs the backend, and where it listens."""

from __future__ import annotations

import os

import bpy
from bpy.props import StringProperty

from ..shared.endpoint import DEFAULT_ENDPOINT, EndpointError, normalise_endpoint
from .backend_process import PYTHON_ENVIRONMENT
from .connection import default_python

PACKAGE = __package__.rpartition(".")[0] or __package__


class LatentManPreferences(bpy.types.AddonPreferences):
    """Preferences of the extension."""

    bl_idname = PACKAGE

    python: StringProperty(
        name="Backend Python",
        subtype="FILE_PATH",
        description="A Python that has the backend's packages (pip install 'latentman[backend]'); empty tries LATENTMAN_PYTHON",
    )
    endpoint: StringProperty(name="Address", default=DEFAULT_ENDPOINT, description="Where the backend listens, as host:port")
    smpl: StringProperty(
        name="SMPL Model", subtype="FILE_PATH", description="Your own SMPL .pkl or .npz file, offered by Load SMPL"
    )

    def draw(self, context):
        """The preferences' layout."""
        self.layout.prop(self, "python")
        self.layout.prop(self, "endpoint")
        try:
            normalise_endpoint(self.endpoint)
        except EndpointError as error:
            self.layout.label(text=str(error), icon="ERROR")
        self.layout.prop(self, "smpl")
        row = self.layout.row(align=True)
        row.operator("latentman.copy_diagnostics", icon="COPYDOWN")
        row.operator("latentman.open_log_folder", icon="FILE_FOLDER")


def of(context: bpy.types.Context) -> LatentManPreferences | None:
    """The preferences, or None where the add-on runs without being installed."""
    addon = context.preferences.addons.get(PACKAGE)
    return addon.preferences if addon else None


def backend_python(context: bpy.types.Context) -> str:
    """The Python that runs the backend, empty when none is known."""
    preferences = of(context)
    chosen = preferences.python if preferences else ""
    return bpy.path.abspath(chosen) or os.environ.get(PYTHON_ENVIRONMENT, "") or default_python()


def endpoint(context: bpy.types.Context) -> str:
    """The backend's address."""
    preferences = of(context)
    return preferences.endpoint if preferences else DEFAULT_ENDPOINT


def register() -> None:
    """Add the preferences."""
    bpy.utils.register_class(LatentManPreferences)


def unregister() -> None:
    """Take them away again."""
    bpy.utils.unregister_class(LatentManPreferences)
