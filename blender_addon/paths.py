"""Where results lie on disk: folders that last, and paths that stay right when a project is moved."""

from __future__ import annotations

import os
from pathlib import Path

import bpy

from ..shared.costume_files import is_costume
from ..shared.folders import results_folder
from .properties import LatentManSettings, get_kept_look
from .result_properties import LatentManResult


def resolve(path: str, blend: str | None = None) -> Path:
    """The absolute path of one that may begin with ``//``, from the file ``blend`` or, by default, the open one."""
    start = os.path.dirname(bpy.data.filepath if blend is None else blend)
    return Path(os.path.abspath(bpy.path.abspath(path, start=start)))


def get_file_folder() -> Path | None:
    """The folder of the open file, which ``//`` stands for; None for a file that has never been saved."""
    return Path(bpy.data.filepath).parent if bpy.data.filepath else None


def make_stored_path(path: Path, output: str, blend: str | None = None) -> str:
    """How a path is stored in the file ``blend``: relative inside its folder, or where the setting ``output`` is relative."""
    blend = bpy.data.filepath if blend is None else blend
    if not blend or is_temporary(path):
        return str(path)
    folder = Path(blend).parent
    if not path.is_relative_to(folder) and not output.startswith("//"):
        return str(path)
    try:
        return "//" + Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return str(path)


def is_temporary(path: Path) -> bool:
    """Whether a folder is one of a file that has never been saved."""
    return path.is_relative_to(results_folder())


def get_output_folder(settings: LatentManSettings, blend: str | None = None) -> Path:
    """The folder for results; a file that has never been saved uses one below the user's data, which outlives Blender."""
    return find_output_folder(settings.output, blend)


def find_output_folder(output: str, blend: str | None = None) -> Path:
    """The folder that the setting ``output`` means in the file ``blend``, by default the open one, as ``get_output_folder``."""
    blend = bpy.data.filepath if blend is None else blend
    if output.startswith("//") and not blend:
        return results_folder()
    return resolve(output, blend)


def get_result_folder(result: LatentManResult) -> Path:
    """The folder of a result's frames, whether or not it is there."""
    return resolve(result.folder)


def find_worn_folder(character: bpy.types.Object) -> str:
    """The name of the folder of the costume that a character keeps, by which its images are known; "" where it keeps none."""
    kept = get_kept_look(character)[0]
    return resolve(kept).parent.parent.name if is_costume(kept) else ""
