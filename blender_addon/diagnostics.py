"""What the extension knows when something fails, as one text for a bug report."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import bpy

from ..shared import diagnostics
from ..shared.redaction import PROMPT_NAMES, find_private
from ..shared.version import PROTOCOL, VERSION
from . import preferences
from .connection import connection
from .prompt_texts import PROMPTS
from .properties import get_scene_settings
from .rigging.action_notes import TEXT


def _describe_graphics() -> str:
    """The GPU and driver that draw the window; background Blender has none."""
    try:
        import gpu

        return " ".join((gpu.platform.vendor_get(), gpu.platform.renderer_get(), gpu.platform.version_get()))
    except (ImportError, SystemError, RuntimeError) as error:
        return f"not known ({error})"


def _make_blender_section() -> diagnostics.Section:
    app = bpy.app
    build = app.build_hash.decode("utf-8", "replace")
    return diagnostics.Section(
        "LatentMan in Blender",
        (
            ("latentman", f"{VERSION}, protocol {PROTOCOL}"),
            ("Blender", f"{app.version_string}, build {build}{', in the background' if app.background else ''}"),
            ("Python", platform.python_version()),
            ("graphics", _describe_graphics()),
            *diagnostics.list_machine_rows(),
            *diagnostics.list_folder_rows(),
        ),
    )


def _make_backend_section(context: bpy.types.Context) -> diagnostics.Section:
    process = connection.process
    started = "not started by this Blender"
    if process is not None:
        started = f"process {process.pid}, {'alive' if process.running else 'ended'}, output in {process.log}"
    found = preferences.get_preferences(context)
    chosen = tuple((name, str(getattr(found, name))) for name in found.__annotations__) if found else ()
    return diagnostics.Section(
        "Backend",
        (
            ("state", connection.status),
            ("process", started),
            ("last error", connection.error or "none"),
            ("Python", preferences.get_backend_python(context) or "none is known"),
            ("address", preferences.get_endpoint(context)),
            *((f"preference {name}", value) for name, value in chosen),
        ),
    )


def _iter_prompts(owner: bpy.types.bpy_struct) -> Iterator[str]:
    """The prompts in a group of settings and in the groups within it."""
    for declared in owner.bl_rna.properties:
        value = getattr(owner, declared.identifier, None)
        if declared.type == "STRING" and declared.identifier in PROMPT_NAMES:
            yield str(value or "")
        elif declared.type == "POINTER" and isinstance(value, bpy.types.PropertyGroup):
            yield from _iter_prompts(value)
        elif declared.type == "COLLECTION" and declared.identifier != "rna_type":
            for one in value or ():
                if isinstance(one, bpy.types.PropertyGroup):
                    yield from _iter_prompts(one)


def _find_prompts() -> tuple[str, ...]:
    """Every prompt in the file: of scenes, kept looks and motions."""
    scenes = [get_scene_settings(scene) for scene in bpy.data.scenes if hasattr(scene, "latentman")]
    looks = [getattr(one, "latentman_look_prompt", "") for one in bpy.data.objects]
    looks += [settings.read_prompt(prompt) for settings in scenes for prompt in PROMPTS]
    motions = [str(action.get(TEXT, "")) for action in bpy.data.actions]
    return tuple(filter(None, [*(text for settings in scenes for text in _iter_prompts(settings)), *looks, *motions]))


def write_diagnostics(context: bpy.types.Context) -> str:
    """The text for a bug report, without prompts and without the names of the user and of the home folder."""
    sections = [
        _make_blender_section(),
        _make_backend_section(context),
        diagnostics.make_environment_section(),
        *diagnostics.make_log_sections(),
    ]
    return diagnostics.compose(sections, find_private(_find_prompts()))
