"""``python -m latentman.blender_addon shot.blend generate ...``: the command line where Blender is a Python package."""

from __future__ import annotations

import os
import sys

import bpy

from ..shared import logs
from ..shared.version import VERSION
from . import properties
from .command_line import main
from .passes.quiet import silence_stdout


def run() -> int:
    """Open the .blend file, if one is given, and run the command; returns the exit code."""
    arguments = sys.argv[1:]
    logs.start(logs.BLENDER)
    logs.get_logger(__package__).info("latentman %s in Blender %s as a package", VERSION, bpy.app.version_string)
    properties.register()
    if arguments and arguments[0].endswith(".blend"):
        try:
            with silence_stdout():
                bpy.ops.wm.open_mainfile(filepath=arguments.pop(0))
        except RuntimeError as error:
            properties.unregister()
            print(f"The file cannot be opened: {error}", file=sys.stderr)
            return 2
    try:
        return main(arguments)
    finally:
        # our classes must be gone when Blender frees its memory at exit, or it crashes
        properties.unregister()


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Blender 4.2 as a package crashes while the interpreter shuts down; everything is written by now
    os._exit(code)
