"""Plays the user's file in a second Blender, where its frames depend on the scene itself: on physics that is computed from frame to
frame, on drivers that read the scene, on scripts that run on every frame.

The second Blender opens a copy of the file, goes through the frames in their order and writes what a render of them shows. So the
user's scene, its caches and its window stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...shared import logs, shot
from ..compat import is_module
from ..windows_job import KillOnClose, tie_to_this_process
from .capture import silence_handlers
from .cutouts import CutOuts
from .frame_files import PATTERN, read_frame
from .padding import Padding
from .played_scene import DONE, FAILURE, FRAMES, REQUEST, get_name
from .quiet import silence_stdout
from .render_set import RenderSet
from .scene_bound import SceneBound, list_handlers
from .spool import Spool

PROGRAM = Path(__file__).resolve().parent / "play.py"
COPY = "copy.blend"
#: how long a second Blender that was told to end may take
END_SECONDS = 10.0
#: lines of its output that are kept for the log when it fails
KEPT_LINES = 20
logger = logs.get_logger(__name__)


class Playback:
    """A second Blender that plays the file, from ``start`` until ``close``."""

    def __init__(self, folder: Path, bound: SceneBound) -> None:
        """``folder`` is where everything goes; it exists, and is removed by others."""
        self._folder, self._bound = folder, bound
        self._process: subprocess.Popen[bytes] | None = None
        self._tie: KillOnClose | None = None
        self.spool = Spool(folder / FRAMES)
        #: frames that have been taken
        self.taken: set[int] = set()

    def start(
        self,
        scene: bpy.types.Scene,
        view_layer: bpy.types.ViewLayer,
        render_set: RenderSet,
        generated_uvs: dict[int, np.ndarray],
        people: Iterable[int],
        frames: Iterable[int],
        kept: Iterable[int],
        sizes: Iterable[tuple[int, int]],
        padding: Padding | None,
        metres: float,
        *,
        whole_scene: bool,
        measure_surroundings: bool,
        find_ground: bool,
        triangulate: bool,
    ) -> None:
        """Copy the file and start to play it. Of ``frames`` those that are not ``kept`` are only measured. Raises
        ``ShotError`` where a second Blender cannot be run."""
        request: dict[str, Any] = dict(
            scene=scene.name,
            layer=view_layer.name,
            first=self._bound.first,
            frames=sorted(frames),
            kept=sorted(kept),
            sizes=list(sizes),
            padding=None if padding is None else {"width": padding.width, "height": padding.height},
            metres=metres,
            whole_scene=whole_scene,
            measure_surroundings=measure_surroundings,
            find_ground=find_ground,
            triangulate=triangulate,
            handlers=[name for _, name in list_handlers()],
            bakes=list(_list_bakes()),
            people={number: get_name(render_set.armatures[number - 1]) for number in people},
            objects=[
                {
                    "object": get_name(one.object),
                    "index": one.index,
                    "character": one.character,
                    "metres_per_unit": one.metres_per_unit,
                }
                for one in render_set.objects
            ],
        )
        if padding is not None:
            frame = padding.frame
            request["padding"]["frame"] = {name: getattr(frame, name) for name in ("left", "top", "width", "height")}
        for one in render_set.objects:
            if one.face_parts is not None:
                np.save(self._folder / f"parts {one.index}.npy", one.face_parts)
        for index, uv in generated_uvs.items():
            np.save(self._folder / f"uv {index}.npy", uv)
        (self._folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        (self._folder / "paths.json").write_text(json.dumps(sys.path), encoding="utf-8")
        self._copy_file()
        self._run()

    def _copy_file(self) -> None:
        """Write the file as it is now, and the caches that Blender looks for beside it."""
        path = self._folder / COPY
        # rewriting paths marks some caches as outdated
        remap = bool(bpy.data.filepath) and any(name.startswith("//") for name in bpy.utils.blend_paths())
        try:
            # a part of the file, as a library holds it, would lack caches that are in memory
            with silence_handlers("depsgraph_update_pre"), _silence_saving(), silence_stdout():
                bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True, check_existing=False, relative_remap=remap)
        except RuntimeError as error:
            raise shot.ShotError(
                "passes",
                f"The copy of the file that must be played could not be written ({' '.join(str(error).split())}); make room.",
            ) from error
        mine = Path(bpy.data.filepath)
        beside = self._folder / f"blendcache_{path.stem}"
        caches = list((mine.parent / f"blendcache_{mine.stem}").glob("*.bphys")) if bpy.data.filepath else []
        if caches:
            beside.mkdir(exist_ok=True)
        for cache in caches:
            shutil.copy(cache, beside)

    def _run(self) -> None:
        scripts = not bpy.app.autoexec_fail and _runs_scripts()
        path, folder = str(self._folder / COPY), str(self._folder)
        program = [sys.executable] if is_module() else [bpy.app.binary_path, "--background", "--python"]
        command = [*program, str(PROGRAM), "--", folder, path, *(["scripts"] if scripts else [])]
        environment = dict(os.environ)
        try:
            with (self._folder / "output.log").open("wb") as output:
                self._process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            self._tie = tie_to_this_process(self._process.pid)
        except OSError as error:
            raise shot.ShotError("scene", self._bound.reason) from error

    def take(self, cut_outs: CutOuts) -> list[int]:
        """Take the frames that have been played since the last call; returns their numbers.

        Raises ``ShotError`` when the second Blender has failed.
        """
        assert self._process is not None
        is_over = self._process.poll() is not None
        new = []
        for path in self._folder.glob(PATTERN):
            frame = int(path.stem.removeprefix("frame "))
            if frame not in self.taken:
                cut_outs.unpack(read_frame(self.spool, self._folder, frame))
                self.taken.add(frame)
                new.append(frame)
        if is_over:
            self._check()
        return sorted(new)

    @property
    def is_running(self) -> bool:
        """Whether the second Blender still plays."""
        return self._process is not None and self._process.poll() is None

    def _check(self) -> None:
        failure = self._folder / FAILURE
        if failure.exists():
            found = json.loads(failure.read_text(encoding="utf-8"))
            if found["code"]:
                raise shot.ShotError(found["code"], found["message"])
            self._log()
            raise shot.ShotError("scene", f"{self._bound.reason.rstrip('.')} (playing it failed: {found['message'].rstrip('.')}).")
        if not (self._folder / DONE).exists():
            self._log()
            raise shot.ShotError("scene", f"{self._bound.reason.rstrip('.')} (the Blender that played it ended early).")

    def _log(self) -> None:
        with contextlib.suppress(OSError):
            lines = (self._folder / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()
            logger.error("the Blender that played the file has failed:\n%s", "\n".join(lines[-KEPT_LINES:]))

    def wait(self, cut_outs: CutOuts, seconds: float) -> list[int]:
        """Wait for a moment if nothing has been played, then take what has."""
        new = self.take(cut_outs)
        if not new and self.is_running:
            time.sleep(seconds)
            new = self.take(cut_outs)
        return new

    def close(self) -> None:
        """End the second Blender."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None


def _list_bakes() -> Iterator[tuple[tuple[str, str], str, int | None, str]]:
    """(object, modifier, bake, folder) of geometry nodes' bakes that lie beside the user's file; bake is None for the modifier's
    own folder."""
    for found in bpy.data.objects:
        for modifier in found.modifiers:
            if not isinstance(modifier, bpy.types.NodesModifier):
                continue
            entries: list[tuple[int | None, str]] = [(None, modifier.bake_directory)]
            entries += [(bake.bake_id, bake.directory) for bake in modifier.bakes if bake.use_custom_path]
            for number, folder in entries:
                if folder:
                    yield get_name(found), modifier.name, number, bpy.path.abspath(folder, library=found.library)


def _runs_scripts() -> bool:
    """Whether scripts of the open file were allowed to run."""
    preferences = bpy.context.preferences
    return bool(preferences is not None and preferences.filepaths.use_scripts_auto_execute) or bool(list_handlers())


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
