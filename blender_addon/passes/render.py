"""Renders a shot's passes, frame after frame, and gathers them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from ..character.build import character_meshes
from ..shared_link import normalise_depth, passes_folder, shot
from . import exr
from .scene_setup import pass_scene


def bodies_of(character: bpy.types.Object | None) -> list[bpy.types.Object]:
    """The meshes to render; ``ShotError`` says what is missing."""
    if character is None:
        raise shot.ShotError("character", "There is no character; add the mannequin or pick an armature or a mesh.")
    bodies = [character] if character.type == "MESH" else character_meshes(character)
    if not bodies:
        raise shot.ShotError("character", f"{character.name} deforms no mesh; pick the armature of a rigged mesh.")
    return bodies


def check_camera(scene: bpy.types.Scene) -> None:
    """``ShotError`` when the scene cannot be rendered."""
    if scene.camera is None:
        raise shot.ShotError("camera", "There is no camera in the scene; add one with Add > Camera.")


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block nothing reaches standard output: Blender writes its render log there, between our own lines."""
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


class PassRender:
    """Renders one frame a step, so that a caller can show progress or stop in between.

    ``steps`` yields the index of each finished frame; ``result`` is there afterwards. Depth is normalised over the
    whole shot, so it is known only at the end.
    """

    def __init__(self, context: bpy.types.Context, character: bpy.types.Object | None, frames: tuple[int, ...],
                 width: int, height: int) -> None:
        """Raises ``ShotError`` when there is nothing to render."""
        self._scene, self._view_layer = context.scene, context.view_layer
        self._bodies = bodies_of(character)
        check_camera(self._scene)
        self._frames, self._size = frames, (width, height)
        self._found: list[dict[str, np.ndarray]] = []
        #: planar camera distances in metres that became 1 and the far end of the range
        self.near, self.far = 0.0, 0.0

    def steps(self) -> Iterator[int]:
        """Render frame by frame; the scene is as before when the iterator ends or is closed."""
        scene, current = self._scene, self._scene.frame_current
        with tempfile.TemporaryDirectory(prefix="latentman-") as folder:
            path = str(Path(folder) / "pass.exr")
            try:
                for index, frame in enumerate(self._frames):
                    # the scene is lent only while a frame renders, so that the user never sees it changed
                    with pass_scene(scene, self._view_layer, self._bodies, *self._size, path):
                        scene.frame_set(frame)
                        with quiet():
                            bpy.ops.render.render(write_still=True, scene=scene.name, layer=self._view_layer.name)
                    self._found.append(exr.read(Path(path)))
                    yield index
            finally:
                scene.frame_set(current)

    def result(self) -> shot.FramePasses:
        """All passes; ``ShotError`` when the camera never sees the character."""
        stacked = {name: np.stack([found[name] for found in self._found]) for name in shot.PASS_LAYOUT}
        seen = stacked["mask"] > 0
        if not seen.any():
            raise shot.ShotError("camera", "The camera does not see the character in any frame; point it at the character.")
        depth = stacked["depth"]
        self.near, self.far = float(depth[seen].min()), float(depth[seen].max())
        stacked["depth"] = normalise_depth(depth, self.near, self.far)
        return shot.FramePasses(**stacked)

    def manifest(self, fps: float) -> passes_folder.PassesManifest:
        """What describes the passes beside them on disk; valid after ``result``."""
        return passes_folder.PassesManifest(*self._size, fps, self._frames, self.near, self.far)
