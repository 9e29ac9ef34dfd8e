"""The extension's preferences: which Python runs the backend and on what device, where it listens, and the user's SMPL file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from ..shared import environment_variables
from ..shared.backend_environment import BackendEnvironment, find_current
from ..shared.endpoint import DEFAULT_ENDPOINT, EndpointError, normalise_endpoint
from ..shared.folders import backend_folder
from ..shared.load_options import LoadOptions
from ..shared.settings import list_settings
from .assets.drawing import draw_assets_page
from .backend_process import PYTHON_ENVIRONMENT
from .connection import find_default_python
from .declared_properties import DeclaredProperties, declare, read_values
from .online import is_online
from .panel_base import draw_text
from .set_up.drawing import draw_set_up_page
from .set_up.options import SetUpOptions
from .set_up.state import SetUpState, set_up
from .shortcuts import draw_shortcuts
from .translation import register_class
from .typed_access import get_layout

#: names Kimodo's command for the backend
KIMODO_ENVIRONMENT = environment_variables.KIMODO
PACKAGE = __package__.rpartition(".")[0] or __package__


def on_set_up_change(preferences: bpy.types.AddonPreferences, context: bpy.types.Context) -> None:
    """Plan anew where a plan or a failure is shown."""
    if set_up.state in (SetUpState.PLANNED, SetUpState.PLANNING, SetUpState.FAILED):
        set_up.make_plan(get_set_up_options(context, set_up.files))


@declare(LoadOptions)
class LatentManPreferences(DeclaredProperties, bpy.types.AddonPreferences):
    """What the user sets once for all files."""

    bl_idname = PACKAGE

    python: StringProperty(
        name="Backend Python",
        subtype="FILE_PATH",
        description="A Python that has the backend's packages (pip install 'latentman[backend]'); if empty, LATENTMAN_PYTHON, else "
        "what Set Up made",
    )
    backend_folder: StringProperty(
        name="Folder",
        subtype="DIR_PATH",
        description="Where Set Up keeps the backend's packages; if empty, a folder of its own in the user's data",
        update=on_set_up_change,
    )
    build: EnumProperty(
        name="Device",
        description="What the backend's packages are made for",
        items=(
            ("AUTO", "Best There Is", "The best device that was found"),
            ("cuda", "NVIDIA, CUDA 13", "Cards from 2018 on, with driver 580 or newer"),
            ("cuda-older", "NVIDIA, CUDA 12.6", "Older cards and drivers"),
            ("rocm", "AMD, ROCm", "On Linux"),
            ("xpu", "Intel, XPU", "Arc, and the graphics of Core Ultra"),
            ("metal", "Apple, Metal", "Apple's own processors"),
            ("cpu", "Processor Only", "Works everywhere, slowly"),
        ),
        default="AUTO",
        update=on_set_up_change,
    )
    package_index: StringProperty(
        name="Package Index",
        description="Where packages are fetched from, in place of https://pypi.org/simple",
        update=on_set_up_change,
    )
    torch_index: StringProperty(
        name="PyTorch Index",
        description="Where builds of PyTorch are fetched from, in place of https://download.pytorch.org/whl",
        update=on_set_up_change,
    )
    python_mirror: StringProperty(
        name="Python Mirror",
        description="Where Python is fetched from, in place of the releases of python-build-standalone on GitHub",
        update=on_set_up_change,
    )
    hub: StringProperty(name="Model Hub", description="Where models are fetched from, in place of https://huggingface.co")
    proxy: StringProperty(
        name="Proxy",
        description="A proxy for all of this, as http://host:port or http://user:password@host:port",
        update=on_set_up_change,
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
        draw_set_up_page(layout, context, self)
        layout.prop(self, "python")
        row = layout.row(align=True)
        row.prop(self, "endpoint")
        row.operator("latentman.pair_backend", icon="LINKED")
        try:
            normalise_endpoint(self.endpoint)
        except EndpointError as error:
            draw_text(layout, str(error), "ERROR")
        for declared in list_settings(LoadOptions):
            layout.prop(self, declared.name)
        layout.prop(self, "smpl")
        layout.prop(self, "kimodo")
        draw_assets_page(layout, context)
        draw_shortcuts(layout, context)
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
    environment = find_used_environment(context)
    return find_named_python(context) or (str(environment.python) if environment else "") or find_default_python()


def get_smpl_file(context: bpy.types.Context) -> str:
    """The user's own SMPL file, "" where none is named."""
    preferences = get_preferences(context)
    named = bpy.path.abspath(preferences.smpl) if preferences and preferences.smpl else ""
    return named or os.path.expanduser(os.environ.get(environment_variables.SMPL, ""))


def find_used_environment(context: bpy.types.Context) -> BackendEnvironment | None:
    """The environment of *Set Up* that *Start* would use; None where another Python is named or there is none."""
    return None if find_named_python(context) else find_current(get_backend_folder(context))


def find_named_python(context: bpy.types.Context) -> str:
    """The Python that the preferences or ``LATENTMAN_PYTHON`` name, empty where neither does."""
    preferences = get_preferences(context)
    chosen = preferences.python if preferences else ""
    return bpy.path.abspath(chosen) or os.path.expanduser(os.environ.get(PYTHON_ENVIRONMENT, ""))


def get_backend_folder(context: bpy.types.Context) -> Path:
    """Where *Set Up* keeps environments."""
    preferences = get_preferences(context)
    chosen = preferences.backend_folder if preferences else ""
    return Path(bpy.path.abspath(chosen)) if chosen else backend_folder()


def get_network_variables(context: bpy.types.Context) -> dict[str, str]:
    """The environment variables that the preferences' indexes, hub and proxy stand for; a proxy may hold a password, which would be
    seen in a command line."""
    preferences = get_preferences(context)
    if preferences is None:
        return {}
    named = {
        environment_variables.PACKAGE_INDEX: preferences.package_index,
        environment_variables.TORCH_INDEX: preferences.torch_index,
        environment_variables.PYTHON_MIRROR: preferences.python_mirror,
        "HF_ENDPOINT": preferences.hub,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), preferences.proxy),
    }
    return {name: value.strip() for name, value in named.items() if value.strip()}


def get_set_up_options(context: bpy.types.Context, files: Path | None = None) -> SetUpOptions:
    """What *Set Up* is to do, by the preferences; ``files`` is a folder that is used in place of the network."""
    preferences = get_preferences(context)
    build = preferences.build if preferences and preferences.build != "AUTO" else ""
    return SetUpOptions(get_backend_folder(context), build, "", files, get_network_variables(context))


def get_backend_environment(context: bpy.types.Context) -> dict[str, str]:
    """The environment variables that the backend is started with, beside those of Blender.

    A program that is run is named here, for all files, and never by a file or a message.
    """
    preferences = get_preferences(context)
    kimodo = preferences.kimodo if preferences else ""
    found = get_network_variables(context)
    if bpy.app.binary_path and not is_online():
        # as an extension of the program, the user's answer counts for what it starts, too
        found["HF_HUB_OFFLINE"] = "1"
    return found | ({KIMODO_ENVIRONMENT: bpy.path.abspath(kimodo)} if kimodo else {})


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
    register_class(LatentManPreferences)


def unregister() -> None:
    """Unregister the preferences."""
    bpy.utils.unregister_class(LatentManPreferences)
