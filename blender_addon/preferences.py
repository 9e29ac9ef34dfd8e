"""The extension's preferences: which Python runs the backend and on what device, where it listens, and the user's SMPL file."""

from __future__ import annotations

import os
from typing import Any

import bpy
from bpy.props import StringProperty

from ..shared.endpoint import DEFAULT_ENDPOINT, EndpointError, normalise_endpoint
from ..shared.load_options import LoadOptions
from ..shared.settings import list_settings
from .backend_process import PYTHON_ENVIRONMENT
from .connection import find_default_python
from .declared_properties import DeclaredProperties, declare, read_values
from .typed_access import get_layout

#: names Kimodo's command for the backend
KIMODO_ENVIRONMENT = "LATENTMAN_KIMODO"
PACKAGE = __package__.rpartition(".")[0] or __package__


@declare(LoadOptions)
class LatentManPreferences(DeclaredProperties, bpy.types.AddonPreferences):
    """What the user sets once for all files."""

    bl_idname = PACKAGE

    python: StringProperty(
        name="Backend Python",
        subtype="FILE_PATH",
        description="A Python that has the backend's packages (pip install 'latentman[backend]'); if empty, LATENTMAN_PYTHON",
    )
    endpoint: StringProperty(name="Address", default=DEFAULT_ENDPOINT, description="Where the backend listens, as host:port")
    smpl: StringProperty(
        name="SMPL Model", subtype="FILE_PATH", description="Your own SMPL .pkl or .npz file, offered by Load SMPL"
    )
    kimodo: StringProperty(
        name="Kimodo",
        subtype="FILE_PATH",
        description="Kimodo's kimodo_gen, the Python that has Kimodo, or the folder of its environment, for the motion model "
        "'kimodo'; if empty, LATENTMAN_KIMODO, or kimodo_gen on the search path",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the preferences, and what is wrong with the address."""
        layout = get_layout(self)
        layout.prop(self, "python")
        row = layout.row(align=True)
        row.prop(self, "endpoint")
        row.operator("latentman.pair_backend", icon="LINKED")
        try:
            normalise_endpoint(self.endpoint)
        except EndpointError as error:
            layout.label(text=str(error), icon="ERROR")
        for declared in list_settings(LoadOptions):
            layout.prop(self, declared.name)
        layout.prop(self, "smpl")
        layout.prop(self, "kimodo")
        row = layout.row(align=True)
        row.operator("latentman.copy_diagnostics", icon="COPYDOWN")
        row.operator("latentman.open_log_folder", icon="FILE_FOLDER")


def get_preferences(context: bpy.types.Context) -> LatentManPreferences | None:
    """The preferences, or None where the add-on runs without being installed."""
    addon = context.preferences.addons.get(PACKAGE) if context.preferences else None
    found: Any = addon.preferences if addon else None
    return found


def get_backend_python(context: bpy.types.Context) -> str:
    """The Python that runs the backend, empty when none is known."""
    preferences = get_preferences(context)
    chosen = preferences.python if preferences else ""
    return bpy.path.abspath(chosen) or os.path.expanduser(os.environ.get(PYTHON_ENVIRONMENT, "")) or find_default_python()


def get_backend_environment(context: bpy.types.Context) -> dict[str, str]:
    """The environment variables that the backend is started with, beside those of Blender.

    A program that is run is named here, for all files, and never by a file or a message.
    """
    preferences = get_preferences(context)
    kimodo = preferences.kimodo if preferences else ""
    return {KIMODO_ENVIRONMENT: bpy.path.abspath(kimodo)} if kimodo else {}


def get_load_options(context: bpy.types.Context) -> LoadOptions:
    """How the backend that is started runs models."""
    preferences = get_preferences(context)
    return LoadOptions(**read_values(preferences, LoadOptions)) if preferences else LoadOptions()


def get_endpoint(context: bpy.types.Context) -> str:
    """The backend's address."""
    preferences = get_preferences(context)
    return preferences.endpoint if preferences else DEFAULT_ENDPOINT


def register() -> None:
    """Register the preferences."""
    bpy.utils.register_class(LatentManPreferences)


def unregister() -> None:
    """Unregister the preferences."""
    bpy.utils.unregister_class(LatentManPreferences)
