"""Run by a second Blender: ``blender -b --python second_program.py -- MODULE FOLDER [copy.blend]``, or with Python where Blender
is a module: ``python second_program.py -- MODULE FOLDER [copy.blend]``. MODULE is a module of this folder, or with dots one of the
add-on, with ``run(folder)`` and perhaps ``prepare()``, which is called before the copy is opened; without a copy it begins with an
empty file. A last argument ``scripts`` lets the file's scripts run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
#: a name that is nobody's, as the add-on itself may be loaded, too
PACKAGE = "latentman_second"


def load_package() -> None:
    """Make the folder that this file is in importable, without running what registers the add-on."""
    spec = importlib.util.spec_from_loader(PACKAGE, loader=None, is_package=True)
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    package.__path__ = [str(ROOT)]
    sys.modules[PACKAGE] = package


def main(arguments: list[str]) -> None:
    """Open the file that is named, if one is, and do the work."""
    name, folder, *path = arguments[:3]
    module = load_module(name, Path(folder))
    if hasattr(module, "prepare"):
        module.prepare()
    import bpy

    if path:
        bpy.ops.wm.open_mainfile(filepath=path[0], use_scripts=arguments[3:] == ["scripts"])
    else:
        bpy.ops.wm.read_factory_settings(use_empty=True)
    module.run(Path(folder))


def load_module(name: str, folder: Path) -> ModuleType:
    """The module that does the work, with the packages of the Blender that has started this one."""
    paths = json.loads((folder / "paths.json").read_text(encoding="utf-8"))
    sys.path += [path for path in paths if path not in sys.path]
    load_package()
    return importlib.import_module(f"{PACKAGE}.blender_addon.{name if '.' in name else f'passes.{name}'}")


def remove_temporary_folder() -> None:
    """What Blender would do at its end, which is left out below."""
    import bpy

    folder = Path(bpy.app.tempdir)
    if folder.name.startswith("blender_"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main(sys.argv[sys.argv.index("--") + 1 :])
    finally:
        remove_temporary_folder()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Blender may crash or hang while it frees what scripts have registered
        os._exit(0)
