"""Plays the user's file in a second Blender, where its frames depend on the scene itself: on physics that is computed from frame to
frame, on drivers that read the scene, on scripts that run on every frame.

The second Blender opens a copy of the file, goes through the frames in their order and writes what a render of them shows. So the
user's scene, its caches and its window stay as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...shared import shot
from .cutouts import CutOuts
from .frame_files import PATTERN, read_frame
from .padding import Padding
from .played_scene import DONE, FAILURE, FRAMES, REQUEST, get_name
from .render_set import RenderSet
from .scene_bound import SceneBound, list_handlers
from .second_blender import CopyError, SecondBlender
from .spool import Spool

#: the module that plays the copy
MODULE = "played_scene"
FAILED = "the Blender that played the file has failed"


class Playback:
    """A second Blender that plays the file, from ``start`` until ``close``."""

    def __init__(self, folder: Path, bound: SceneBound) -> None:
        """``folder`` is where everything goes; it exists, and is removed by others."""
        self._folder, self._bound = folder, bound
        self._second = SecondBlender(folder)
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
        camera: bpy.types.Object | None = None,
    ) -> None:
        """Copy the file and start to play it. Of ``frames`` those that are not ``kept`` are only measured; ``camera`` takes the
        place of the scene's. Raises ``ShotError`` where a second Blender cannot be run."""
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
            camera=get_name(camera) if camera is not None else None,
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
        self._run()

    def _run(self) -> None:
        try:
            self._second.start(MODULE)
        except CopyError as error:
            raise shot.ShotError(
                "passes", f"The copy of the file that must be played could not be written ({error}); make room."
            ) from error
        except OSError as error:
            raise shot.ShotError("scene", self._bound.reason) from error

    def take(self, cut_outs: CutOuts) -> list[int]:
        """Take the frames that have been played since the last call; returns their numbers.

        Raises ``ShotError`` when the second Blender has failed.
        """
        is_over = not self._second.is_running
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
        return self._second.is_running

    def _check(self) -> None:
        failure = self._folder / FAILURE
        if failure.exists():
            found = json.loads(failure.read_text(encoding="utf-8"))
            if found["code"]:
                raise shot.ShotError(found["code"], found["message"])
            self._second.log(FAILED)
            raise shot.ShotError("scene", f"{self._bound.reason.rstrip('.')} (playing it failed: {found['message'].rstrip('.')}).")
        if not (self._folder / DONE).exists():
            self._second.log(FAILED)
            raise shot.ShotError("scene", f"{self._bound.reason.rstrip('.')} (the Blender that played it ended early).")

    def wait(self, cut_outs: CutOuts, seconds: float) -> list[int]:
        """Wait for a moment if nothing has been played, then take what has."""
        new = self.take(cut_outs)
        if not new and self.is_running:
            time.sleep(seconds)
            new = self.take(cut_outs)
        return new

    def close(self) -> None:
        """End the second Blender."""
        self._second.close()


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
