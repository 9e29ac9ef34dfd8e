"""A second Blender without a window, which opens a copy of the user's file or an empty one: started, watched and ended here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

from ...shared import logs
from ..compat import is_module
from ..render_gate import gate
from ..windows_job import KillOnClose, tie_to_this_process
from .capture import silence_handlers
from .quiet import silence_stdout
from .scene_bound import list_handlers

PROGRAM = Path(__file__).resolve().parent / "second_program.py"
COPY, OUTPUT = "copy.blend", "output.log"
#: how lines that are meant for the other side begin; scripts and Blender print others
MARK = b"latentman "
#: what command lines say of scripts: Blender's, and ours where it is a package
SCRIPTS = {"-y": True, "--enable-autoexec": True, "--enable-scripts": True, "-Y": False, "--disable-autoexec": False}
#: lines of its output that are kept for the log when it fails
KEPT_LINES = 20
logger = logs.get_logger(__name__)


class CopyError(Exception):
    """The copy of the file could not be written; the text says why."""


class SecondBlender:
    """A second Blender that works in a folder which exists and is removed by others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._tie: KillOnClose | None = None

    def start(self, module: str, *, piped: bool = False, opens_copy: bool = True, copy: Path | None = None) -> None:
        """Copy the file as it is now, and run ``module`` in another Blender that opens the copy: a module of this folder, or with
        dots one of the add-on. With ``piped`` its standard input and output are pipes; what it writes besides goes to a file.
        Without ``opens_copy`` nothing is copied, and it begins with an empty file and without the user's add-ons. ``copy`` is one
        that ``copy_file`` has written, which several may open.

        Raises ``CopyError``, and ``OSError`` where no second Blender can be run.
        """
        (self.folder / "paths.json").write_text(json.dumps(sys.path), encoding="utf-8")
        program = [sys.executable] if is_module() else [bpy.app.binary_path, "--background"]
        if not opens_copy and not is_module():
            program.append("--factory-startup")
        command = [*program, *(() if is_module() else ("--python",)), str(PROGRAM), "--", module, str(self.folder)]
        if opens_copy:
            if copy is None:
                copy = self.folder / COPY
                copy_file(copy)
            command.append(str(copy))
            if not bpy.app.autoexec_fail and _runs_scripts():
                command.append("scripts")
        # its own temporary folder goes with ours, however it ends
        places = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(self.folder))
        with (self.folder / OUTPUT).open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **places},
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output if piped else subprocess.STDOUT,
            )
        self._tie = tie_to_this_process(self.process.pid)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def tell(self, message: dict[str, Any]) -> bool:
        """Say something to one that is ``piped``; returns whether it could be said, as a Blender that has ended hears nothing."""
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            logger.debug("a second Blender takes nothing any more", exc_info=True)
            return False
        return True

    def listen(self, put: Callable[[dict[str, Any]], None]) -> None:
        """Hand on what one that is ``piped`` says, from a thread, and at last ``{"ended": True}``."""
        assert self.process is not None
        threading.Thread(target=_read_lines, args=(self.process, put), daemon=True).start()

    def log(self, what: str) -> None:
        """Write the end of its output into the log."""
        with contextlib.suppress(OSError):
            lines = (self.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
            logger.error("%s:\n%s", what, "\n".join(lines[-KEPT_LINES:]))

    def close(self) -> None:
        """End it at once: it holds nothing that would be lost, and its temporary files lie in the folder."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _read_lines(process: subprocess.Popen[bytes], put: Callable[[dict[str, Any]], None]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            with gate:
                if line.startswith(MARK):
                    put(json.loads(line.removeprefix(MARK)))
    except (OSError, ValueError):
        logger.debug("a second Blender cannot be read any more", exc_info=True)
    put({"ended": True})


def copy_file(path: Path) -> None:
    """Write the file as it is now to ``path``, and the caches that Blender looks for beside it. Raises ``CopyError``."""
    # rewriting paths marks some caches as outdated
    remap = bool(bpy.data.filepath) and any(name.startswith("//") for name in bpy.utils.blend_paths())
    try:
        # a part of the file, as a library holds it, would lack caches that are in memory
        with silence_handlers("depsgraph_update_pre"), _silence_saving(), _leave_out_preview(), silence_stdout():
            bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, check_existing=False, relative_remap=remap, compress=False)
    except RuntimeError as error:
        raise CopyError(" ".join(str(error).split())) from error
    mine = Path(bpy.data.filepath)
    beside = path.parent / f"blendcache_{path.stem}"
    caches = list((mine.parent / f"blendcache_{mine.stem}").glob("*.bphys")) if bpy.data.filepath else []
    if caches:
        beside.mkdir(exist_ok=True)
    for cache in caches:
        shutil.copy(cache, beside)


def _runs_scripts() -> bool:
    """Whether scripts of the open file were allowed to run."""
    preferences = bpy.context.preferences
    by_preferences = bool(preferences is not None and preferences.filepaths.use_scripts_auto_execute)
    return find_said_of_scripts(sys.argv, by_preferences) or bool(list_handlers())


def find_said_of_scripts(arguments: list[str], otherwise: bool) -> bool:
    """Whether the command line lets scripts run: the last of its arguments that says so counts, as for Blender."""
    said = [SCRIPTS[word] for word in arguments if word in SCRIPTS]
    return said[-1] if said else otherwise


@contextlib.contextmanager
def _leave_out_preview() -> Iterator[None]:
    """Within the block a file is saved without a picture of its scene, for which a window would draw it."""
    preferences = bpy.context.preferences
    if preferences is None:
        yield
        return
    paths, changed = preferences.filepaths, preferences.is_dirty
    before = paths.file_preview_type
    try:
        paths.file_preview_type = "NONE"
        yield
    finally:
        paths.file_preview_type = before
        # nobody has changed anything that would have to be saved
        preferences.is_dirty = changed


@contextlib.contextmanager
def _silence_saving() -> Iterator[None]:
    """Within the block no script runs because a file is saved: the file is not the user's."""
    lists: list[tuple[Any, list[Any]]] = []
    try:
        for name in ("save_pre", "save_post", "save_post_fail"):
            handlers: Any = getattr(bpy.app.handlers, name, None)
            if handlers is not None:
                lists.append((handlers, list(handlers)))
                handlers.clear()
        yield
    finally:
        for handlers, functions in lists:
            handlers[:] = functions
