"""``python -m latentman.blender_addon shot.blend generate ...``: the command line where Blender is a Python package.

``--enable-scripts`` lets the Python drivers and scripts of the file run.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from ..shared import console, logs
from ..shared.interrupts import SignalWatch
from ..shared.version import VERSION


def run(arguments: list[str]) -> int:
    """Open the .blend file, if one is given, and run the command; returns the exit code."""
    with SignalWatch() as watch:
        # imported here, so that a Ctrl-C is answered while Blender loads, too
        import bpy

        from . import command_line, properties

        out = console.Console("--json" in arguments)
        logs.start(logs.BLENDER)
        logs.get_logger(__package__).info("latentman %s in Blender %s as a package", VERSION, bpy.app.version_string)
        properties.register()
        try:
            if arguments and _is_file(arguments[0]):
                failure = _open(arguments.pop(0), scripts=command_line.ENABLE_SCRIPTS in arguments)
                if failure and not watch.requested:
                    out.emit("failed", code="file", message=failure)
                    return 2
            if watch.requested:
                return console.report_interrupt(out, watch)
            return command_line.main(arguments)
        finally:
            # our classes must be gone when Blender frees its memory at exit, or it crashes
            properties.unregister()


def _is_file(argument: str) -> bool:
    """Whether an argument is meant to be a file: also ``shot.blend1``, which Blender keeps beside it."""
    return not argument.startswith("-") and (Path(argument).suffix.lower().startswith(".blend") or Path(argument).is_file())


def _open(path: str, *, scripts: bool) -> str:
    """Open a file; returns a sentence where that is not possible, else ""."""
    import bpy

    from .passes.quiet import silence_stdout

    try:
        with silence_stdout():
            if scripts:
                bpy.ops.wm.open_mainfile(filepath=path, use_scripts=True)
            else:
                # as the preferences have it
                bpy.ops.wm.open_mainfile(filepath=path)
    except RuntimeError as error:
        reason = " ".join(str(error).split()).removeprefix("Error: ").rstrip(".")
        return f"The file cannot be opened ({reason}); give another .blend file, or a backup of it (.blend1)."
    return ""


def _remove_temporary_folder() -> None:
    """What Blender would do at its end, which is left out below."""
    import bpy

    folder = Path(bpy.app.tempdir)
    if folder.name.startswith("blender_"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    code = run(sys.argv[1:])
    _remove_temporary_folder()
    for stream in (sys.stdout, sys.stderr):
        # a reader that is gone already is no reason to fail
        with suppress(OSError, ValueError):
            stream.flush()
    # Blender 4.2 as a package crashes while the interpreter shuts down; everything is written by now
    os._exit(code)
