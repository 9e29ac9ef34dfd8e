"""``backend``: a command of the backend, in the Python that has its packages, where only Blender is to be found."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

import bpy

from ...shared import console, shot
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from .. import preferences
from ..backend_process import LAUNCHER, PYTHON_ENVIRONMENT
from ..windows_job import tie_to_this_process
from .backend import STOP_SECONDS

#: seconds between two looks at whether the command is to stop
LOOK_SECONDS = 0.1


def run_backend(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code of the backend's. Raises ``ShotError`` and ``Interrupted``."""
    python = preferences.get_backend_python(bpy.context)
    if not python:
        raise shot.ShotError(
            "backend",
            f"The backend is not set up; run latentman setup, or name a Python that has its packages in {PYTHON_ENVIRONMENT}.",
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= preferences.get_backend_environment(bpy.context)
    sys.stdout.flush()
    try:
        process = subprocess.Popen([python, str(LAUNCHER), *args.arguments], env=environment, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise shot.ShotError("backend", f"The backend cannot be started with {python} ({error}); choose another Python.") from error
    tie = tie_to_this_process(process.pid)
    try:
        return _wait(process, watch)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if tie is not None:
            tie.close()


def _wait(process: subprocess.Popen[bytes], watch: SignalWatch) -> int:
    """The exit code, as shells report it where a signal has ended the process."""
    while True:
        try:
            code = process.wait(LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if not watch.requested:
                continue
        # it says itself what it keeps, and ends with the code for the signal
        if sys.platform == "win32":
            process.terminate()
        else:
            process.send_signal(watch.number)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            watch.check()
        break
    return code if code >= 0 else 128 - code


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    backend = add_parser(
        "backend",
        help="run a command of the backend, in the Python that Set Up has made or LATENTMAN_PYTHON names",
        examples=(
            ("blender -b --command latentman backend look saved_passes --prompt a --out shot.look", "as latentman look ..."),
            ("blender -b --command latentman backend models list", "as latentman models list"),
        ),
    )
    backend.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="a command of latentman, with its arguments"
    )
    backend.set_defaults(run=run_backend)
