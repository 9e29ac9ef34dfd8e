"""The second Blender's side of ``remote_render``: renders a shot's passes from a copy of the user's file, frame by frame, as it is
told on standard input, and says on standard output what it has done. Both speak JSON, one object on a line."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypedDict

import bpy
import msgspec
import numpy as np

from ...shared import shot
from ...shared.overview import compute_overview_size
from ...shared.passes import FramePasses
from ...shared.picture_size import Crop
from ..scene_choice import use_scene
from .played_scene import find_by_name, prepare
from .render import PassRender, RenderedFrame
from .second_blender import MARK

__all__ = ["prepare", "run"]

#: the file that says what to render
REQUEST = "render.json"
#: this Blender yields to the one with the window
NICENESS = 5


class RenderOptions(TypedDict, total=False):
    """The options of ``PassRender`` that say what its passes show, wherever they are rendered."""

    scope: str
    range_frames: tuple[int, ...]
    frame: Crop | None
    camera: bpy.types.Object | None
    motion_vectors: bool
    shadow: bool
    depth_range: tuple[float, float] | None
    plain_ground: bool
    ground: float | None


class RenderRequest(msgspec.Struct, frozen=True):
    """What a second Blender renders: names instead of data-blocks, otherwise as for ``PassRender``."""

    scene: str
    layer: str
    #: name and library of the character's object, None for a whole scene
    character: tuple[str, str] | None
    frames: tuple[int, ...]
    size: tuple[int, int]
    scope: str
    range_frames: tuple[int, ...]
    crop: Crop | None
    #: names that drivers may use
    driver_names: tuple[str, ...]
    #: name and library of the camera that takes the place of the scene's
    camera: tuple[str, str] | None = None
    motion_vectors: bool = False
    #: whether the characters' shadows are rendered, too; see ``PassRender`` for the ground that they fall on
    shadow: bool = False
    #: of a part of a shot
    depth_range: tuple[float, float] | None = None
    plain_ground: bool = False
    ground: float | None = None


def leave_passes(folder: Path, index: int, overview: bool, passes: FramePasses) -> None:
    """Write a frame's passes for the other side, whose ``folder`` a second Blender has."""
    own = _get_folder(folder, index, overview)
    own.mkdir(parents=True, exist_ok=True)
    for name, pixels in passes.arrays().items():
        np.save(own / f"{name}.npy", pixels)


def take_passes(folder: Path, index: int, overview: bool) -> FramePasses:
    """The passes that ``leave_passes`` has written, and remove their files."""
    own = _get_folder(folder, index, overview)
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in sorted(own.glob("*.npy"))}
    shutil.rmtree(own, ignore_errors=True)
    return FramePasses(**arrays)


def _get_folder(folder: Path, index: int, overview: bool) -> Path:
    return folder / "passes" / f"{index}{' overview' if overview else ''}"


def make_local_render(request: RenderRequest) -> PassRender:
    """The render of what is requested, in this Blender. Raises ``ShotError``."""
    return PassRender(
        bpy.context,
        find_by_name(*request.character) if request.character else None,
        request.frames,
        *request.size,
        scope=request.scope,
        range_frames=request.range_frames,
        motion_vectors=request.motion_vectors,
        shadow=request.shadow,
        keep_scenes=True,
        frame=request.crop,
        depth_range=request.depth_range,
        plain_ground=request.plain_ground,
        ground=request.ground,
        camera=find_by_name(*request.camera) if request.camera else None,
    )


def find_unknown_names(request: RenderRequest) -> list[str]:
    """The names that drivers of the file may use and that this Blender does not know."""
    return sorted(set(request.driver_names) - set(bpy.app.driver_namespace))


class BothSizes:
    """Renders whole frames and small copies of them, in any order; what the copies need is there only while they are asked for."""

    def __init__(self, whole: PassRender, size: tuple[int, int]) -> None:
        """``whole`` is measured before the first frame is rendered; ``size`` is that of its frames in pixels."""
        self._whole, self._size = whole, size
        self._small: PassRender | None = None

    def render(self, index: int, overview: bool) -> Iterator[RenderedFrame]:
        """The frame at ``index`` of the shot."""
        if not overview:
            self._close_small()
        elif self._small is None:
            self._small = self._whole.make_overview(*compute_overview_size(*self._size))
        return (self._small or self._whole).render_slice(iter((index, None)).__next__)

    def close(self) -> None:
        """Remove everything of ours from the file and from the disk."""
        self._close_small()
        self._whole.close()

    def _close_small(self) -> None:
        if self._small is not None:
            self._small.close()
            self._small = None


class _Worker:
    def __init__(self, folder: Path, say: Callable[[dict[str, Any]], None], lines: Iterator[bytes]) -> None:
        self._folder, self._say, self._lines = folder, say, lines
        self._request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=RenderRequest)

    def work(self) -> None:
        """Measure the shot, then render what is asked for until nothing more can be asked."""
        request = self._request
        unknown = find_unknown_names(request)
        if unknown:
            self._say({"unknown": unknown})
            return
        with use_scene(request.scene, request.layer):
            self._render_all()

    def _render_all(self) -> None:
        request = self._request
        render = make_local_render(request)
        for measured in render.measure():
            self._say({"measured": measured})
        self._say({"near": render.near, "far": render.far, "header": msgspec.to_builtins(render.header)})
        with closing(BothSizes(render, request.size)) as sizes:
            for line in self._lines:
                self._render(sizes, **json.loads(line))

    def _render(self, sizes: BothSizes, index: int, overview: bool) -> None:
        for frame in sizes.render(index, overview):
            leave_passes(self._folder, index, overview, frame.passes)
            self._say({"index": index, "overview": overview, "entry": msgspec.to_builtins(frame.entry)})


def run(folder: Path) -> None:
    """Render what the request in ``folder`` says."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    run_worker(lambda say, lines: _Worker(folder, say, lines).work())


def run_worker(work: Callable[[Callable[[dict[str, Any]], None], Iterator[bytes]], None]) -> None:
    """Do a second Blender's work with what tells the other side of it, and the lines that come from there; what goes wrong is told
    there, too."""
    # Blender's own log is kept from standard output while it renders, what is said here is not
    out = os.fdopen(os.dup(1), "wb", buffering=0)

    def say(message: dict[str, Any]) -> None:
        out.write(MARK + json.dumps(message).encode() + b"\n")

    try:
        work(say, iter(sys.stdin.buffer.readline, b""))
    except shot.ShotError as error:
        say({"failure": str(error), "code": error.code})
    except Exception as error:
        traceback.print_exc()
        say({"unable": f"{type(error).__name__}: {error}"})
