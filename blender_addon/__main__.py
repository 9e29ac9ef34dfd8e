"""``python -m blender_addon shot.blend generate ...``: the command line where Blender is a Python package."""

from __future__ import annotations

import sys

import bpy

from . import properties
from .command_line import main


def run() -> int:
    """Open the file, run the command."""
    arguments = sys.argv[1:]
    properties.register()
    if arguments and arguments[0].endswith(".blend"):
        try:
            bpy.ops.wm.open_mainfile(filepath=arguments.pop(0))
        except RuntimeError as error:
            print(f"The file cannot be opened: {error}", file=sys.stderr)
            return 2
    return main(arguments)


sys.exit(run())
